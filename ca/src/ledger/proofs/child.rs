//! Runs a test of this program again, in a process of its own that may be killed or starved.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The part that this process was told to play, and the folder to play it in; `None` in the test program itself.
pub(super) fn part() -> Option<(String, PathBuf)> {
    // Words that are no flags are filters to the test harness; these match no test.
    let mut parts = std::env::args().filter_map(|word| {
        let (part, folder) = word.strip_prefix("part=")?.split_once(',')?;
        Some((part.to_owned(), PathBuf::from(folder)))
    });
    parts.next()
}

/// The words that make this program run the calling test alone, in the given part.
pub(super) fn words(part: &str, folder: &Path) -> Vec<String> {
    let test = std::thread::current().name().unwrap().to_owned();
    let program = std::env::current_exe().unwrap();
    [
        program.to_str().unwrap(),
        "--exact",
        &test,
        "--include-ignored",
        "--nocapture",
        "--quiet",
        &format!("part={part},{}", folder.display()),
    ]
    .map(str::to_owned)
    .to_vec()
}

/// A process that runs the calling test in the given part, with its output to be read.
pub(super) fn command(part: &str, folder: &Path) -> Command {
    let words = words(part, folder);
    let mut command = Command::new(&words[0]);
    command
        .args(&words[1..])
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    command
}

/// The calling test's program and words as one line for a shell.
pub(super) fn shell_line(part: &str, folder: &Path) -> String {
    let quoted: Vec<_> = words(part, folder)
        .iter()
        .map(|word| format!("'{}'", word.replace('\'', "'\\''")))
        .collect();
    quoted.join(" ")
}
