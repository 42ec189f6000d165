//! Builds Ferrule's own programs for the cluster, once for a test program.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use super::cluster::variable;

/// The path of a program of ours, built as the tests are.
pub fn program(name: &str) -> PathBuf {
    folder().join(name)
}

/// What the names of Ferrule's images begin with: `FERRULE_TEST_IMAGES`, or what the nodes of the tests' own have.
pub fn prefix() -> String {
    variable("FERRULE_TEST_IMAGES").unwrap_or_else(|| "localhost".to_owned())
}

/// Where the programs lie.
pub(super) fn folder() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let mut command = Command::new(env!("CARGO"));
        command.args(["build", "--quiet", "--bins"]);
        // Where all crates were built together, the same choice finds them built; any other has other features.
        if variable("FERRULE_TEST_WHOLE").is_some() {
            command.arg("--workspace");
        } else {
            command.args(PACKAGES.iter().flat_map(|package| ["--package", package]));
        }
        let done = command.current_dir(env!("CARGO_MANIFEST_DIR")).status().unwrap();
        assert!(done.success(), "the programs are built");
        // Test programs lie in `deps` beside the programs.
        let deps = env::current_exe().unwrap();
        let folder = deps.parent().and_then(Path::parent).unwrap();
        folder.canonicalize().unwrap()
    })
}

const PACKAGES: [&str; 6] = [
    "ferrule-proxy",
    "ferrule-ca",
    "ferrule-directory",
    "ferrule-injector",
    "ferrule-cli",
    "ferrule-tests",
];
