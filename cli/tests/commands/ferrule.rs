//! Runs the program, for the other tests.

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Child, ChildStdout, Command, Output, Stdio};

/// The program with these arguments, in an environment of its own.
pub(crate) fn ferrule(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ferrule"));
    command
        .args(arguments)
        .env_clear()
        .env("FERRULE_STATE", "no-such-folder");
    command
}

/// What a run to its end gave.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

pub(crate) fn run(command: &mut Command) -> Ended {
    let Output {
        status,
        stdout,
        stderr,
    } = command.stdin(Stdio::null()).output().unwrap();
    Ended {
        code: status.code().unwrap(),
        out: String::from_utf8(stdout).unwrap(),
        err: String::from_utf8(stderr).unwrap(),
    }
}

/// A program that runs until this is dropped.
pub(crate) struct Running {
    child: Child,
    lines: Option<BufReader<ChildStdout>>,
}

impl Running {
    pub(crate) fn start(command: &mut Command) -> Self {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        let lines = Some(lines);
        Self { child, lines }
    }

    /// Runs it with its output, and what it says besides, in a file.
    pub(crate) fn logging(command: &mut Command, log: &std::path::Path) -> Self {
        let file = std::fs::File::create(log).unwrap();
        let child = command
            .stdin(Stdio::null())
            .stdout(file.try_clone().unwrap())
            .stderr(file);
        Self {
            child: child.spawn().unwrap(),
            lines: None,
        }
    }

    /// Runs it with an input that stays open until it is closed.
    pub(crate) fn piped(command: &mut Command) -> Self {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = Some(BufReader::new(child.stdout.take().unwrap()));
        Self { child, lines }
    }

    /// Ends its input.
    pub(crate) fn close_input(&mut self) {
        drop(self.child.stdin.take());
    }

    /// Waits for its end; its exit code.
    pub(crate) fn ended(&mut self) -> i32 {
        self.child.wait().unwrap().code().unwrap()
    }

    /// The next line that begins with `start`, without that; fails at the end of the output.
    pub(crate) fn line(&mut self, start: &str) -> String {
        let lines = self.lines.as_mut().expect("its output is not in a file");
        loop {
            let mut line = String::new();
            if lines.by_ref().read_line(&mut line).unwrap() == 0 {
                panic!("ended without a line that begins with {start:?}");
            }
            if let Some(rest) = line.trim_end().strip_prefix(start) {
                return rest.to_owned();
            }
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
