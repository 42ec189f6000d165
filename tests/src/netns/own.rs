//! Gives one test namespaces of its own.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use super::Mesh;
use crate::programs;

/// Runs `test` in network, mount, process and IPC namespaces of its own, with an empty mesh. To be called by a
/// `#[test]` function with a closure written there, and by nothing else in it: the function's name is how the test
/// program finds it again.
///
/// Root gets namespaces as they are; anybody else a user namespace around them, in which only one user id is
/// mapped, so that sidecars are told by a socket mark there.
///
/// # Panics
/// When the test fails in there, with what it printed, or when there can be no namespaces.
pub fn alone<F: FnOnce(&mut Mesh)>(test: F) {
    let name = test_name::<F>();
    if variable(INSIDE).as_deref() == Some(name) {
        let folder = PathBuf::from(variable("TMPDIR").unwrap());
        let program = PathBuf::from(variable(PROXY).unwrap());
        return test(&mut Mesh::new(&folder, &program));
    }
    // A place for the file system that the second run mounts; empty again afterwards.
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new("setpriv");
    // Whoever ends this process ends everything that it started.
    command.args([
        "--pdeathsig",
        "KILL",
        "timeout",
        "--foreground",
        "--signal",
        "KILL",
        MOST_SECONDS,
    ]);
    command.args([
        "unshare",
        "--net",
        "--mount",
        "--pid",
        "--ipc",
        "--fork",
        "--kill-child",
        "--mount-proc",
    ]);
    if !rustix::process::geteuid().is_root() {
        command.args(["--user", "--map-root-user"]);
    }
    let done = command
        .arg(env::current_exe().unwrap())
        .args(["--include-ignored", "--exact", "--nocapture", name])
        .env(INSIDE, name)
        .env(PROXY, proxy())
        .env("TMPDIR", folder.path())
        .output()
        .expect("setpriv is installed");
    let said = String::from_utf8_lossy(&done.stdout) + String::from_utf8_lossy(&done.stderr);
    print!("{said}");
    assert!(
        done.status.success() && said.contains("test result: ok. 1 passed"),
        "it failed in its namespaces: {}",
        done.status
    );
}

/// The path of the test function in which the closure `F` is written, without the name of its program.
fn test_name<F>() -> &'static str {
    let (_, path) = std::any::type_name::<F>().split_once("::").unwrap();
    path.strip_suffix("::{{closure}}")
        .expect("a closure written in the test function")
}

/// The sidecar's program, built once for this run of tests, unless whoever runs it names one: somebody else than the
/// owner of the checkout cannot build.
///
/// # Panics
/// When it cannot be built.
pub fn proxy() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        if let Some(program) = variable(PROXY) {
            return PathBuf::from(program);
        }
        let folder = programs::build(&["--package", "ferrule-proxy", "--bin", "ferrule-proxy"]);
        folder.join("ferrule-proxy")
    })
}

#[allow(
    clippy::disallowed_methods,
    reason = "no setting: what a run of a test is told by the one before it"
)]
fn variable(name: &str) -> Option<String> {
    env::var(name).ok()
}

const INSIDE: &str = "FERRULE_TEST_ALONE";
const PROXY: &str = "FERRULE_TEST_PROXY";

/// More than any test takes, less than a person waits.
const MOST_SECONDS: &str = "600";
