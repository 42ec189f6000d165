//! Builds Ferrule's own programs for tests that run them.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Builds programs as `cargo build` does with these arguments, and returns the folder that they are in.
///
/// Where all tests are run (`FERRULE_TEST_WHOLE`), the programs were built with them, and are found so by the same
/// choice alone: what tests ask of a dependency gives it other features than `cargo build` does.
///
/// # Panics
/// When they cannot be built: the first line names cargo's first error, below are its last lines.
pub fn build(arguments: &[&str]) -> PathBuf {
    let arguments = if of_a_whole_run() {
        vec!["build", "--workspace", "--bins", "--tests"]
    } else {
        [&["build"], arguments].concat()
    };
    let mut command = Command::new(env!("CARGO"));
    command.args(&arguments).arg("--quiet");
    let done = command.current_dir(env!("CARGO_MANIFEST_DIR")).output().unwrap();
    if !done.status.success() {
        let said = String::from_utf8_lossy(&done.stderr);
        let what = format!("cargo {}: {}", arguments.join(" "), done.status);
        panic!("{}", failure(&what, &said));
    }
    // Test programs lie in `deps` beside the programs.
    let deps = env::current_exe().unwrap();
    let folder = deps.parent().and_then(Path::parent).unwrap();
    folder.canonicalize().unwrap()
}

#[allow(
    clippy::disallowed_methods,
    reason = "no setting of a program: what tests/run tells the tests"
)]
fn of_a_whole_run() -> bool {
    env::var_os("FERRULE_TEST_WHOLE").is_some()
}

/// Why it failed in one line, and the end of what cargo said.
fn failure(what: &str, said: &str) -> String {
    let lines: Vec<&str> = said.lines().collect();
    let first = lines.iter().find(|line| line.starts_with("error"));
    let first = first.or(lines.last()).copied().unwrap_or("it said nothing");
    let last = &lines[lines.len().saturating_sub(LINES_SHOWN)..];
    format!("{what}: {first}\n{}", last.join("\n"))
}

const LINES_SHOWN: usize = 40;

#[cfg(test)]
mod tests {
    use super::failure;

    #[test]
    fn a_failure_names_the_first_error_and_shows_the_end() {
        let said =
            "warning: odd\nerror: no space left\n".to_owned() + &"note\n".repeat(50) + "error: aborting";
        let shown = failure("cargo build: exit status: 101", &said);
        let lines: Vec<&str> = shown.lines().collect();
        assert_eq!(lines[0], "cargo build: exit status: 101: error: no space left");
        assert_eq!((lines.len(), *lines.last().unwrap()), (41, "error: aborting"));
        assert_eq!(failure("x", ""), "x: it said nothing\n");
    }
}
