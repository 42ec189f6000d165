//! Runs programs: to their end, or beside the test until it is over.

use std::fs::{self, File};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::thread;

use rustix::process::{Pid, Signal, kill_process};

use crate::wait::{LIMIT, until};

/// A program that runs beside the test; what it writes goes to a file. Dropping it kills it.
pub struct Process {
    name: String,
    child: Child,
    output: PathBuf,
}

impl Process {
    /// Starts `command`; its output goes to `folder/name.log`, in the place of what is there.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn start(name: &str, command: &mut Command, folder: &Path) -> Self {
        File::create(folder.join(format!("{name}.log"))).unwrap();
        Self::go_on(name, command, folder)
    }

    /// As [`Process::start`], behind what is there.
    pub(super) fn go_on(name: &str, command: &mut Command, folder: &Path) -> Self {
        let output = folder.join(format!("{name}.log"));
        let file = File::options().create(true).append(true).open(&output).unwrap();
        let child = command
            .stdin(Stdio::null())
            .stdout(file.try_clone().unwrap())
            .stderr(file)
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {name}: {error}"));
        Self {
            name: name.to_owned(),
            child,
            output,
        }
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// All that it has written so far.
    pub fn said(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.output).unwrap()).into_owned()
    }

    /// Whether it still runs.
    pub fn runs(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        let id = Pid::from_raw(self.child.id().try_into().unwrap()).unwrap();
        kill_process(id, signal).unwrap();
    }

    /// Ends it the hard way, and waits until it is gone.
    pub fn kill(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        self.child.wait().unwrap();
    }

    /// Waits until it has ended by itself.
    ///
    /// # Panics
    /// When it does not within the limit.
    pub fn ended(&mut self) -> ExitStatus {
        until(&format!("the end of {}", self.name), || {
            self.child.try_wait().unwrap()
        })
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        if thread::panicking() {
            let said = self.said();
            let lines: Vec<&str> = said.lines().collect();
            let last = lines
                .get(lines.len().saturating_sub(LINES_SHOWN)..)
                .unwrap_or_default();
            eprintln!("--- {} said last:\n{}", self.name, last.join("\n"));
        }
    }
}

/// Runs `command` to its end with nothing to read, and returns what it wrote to its standard output.
///
/// # Panics
/// When it fails or takes longer than [`LIMIT`], with all that it wrote.
pub fn run(command: &mut Command) -> String {
    let done = finish(command);
    let said = String::from_utf8_lossy(&done.stdout).into_owned();
    assert!(
        done.status.success(),
        "{command:?}: {}\n{said}{}",
        done.status,
        String::from_utf8_lossy(&done.stderr)
    );
    said
}

/// Runs `command` to its end, however it ends, with nothing to read unless it says otherwise.
///
/// # Panics
/// When it cannot be started or takes longer than [`LIMIT`].
pub fn finish(command: &mut Command) -> Output {
    let shown = format!("{command:?}");
    let seconds = LIMIT.as_secs().to_string();
    let mut limited = Command::new("timeout");
    limited
        .args(["--signal", "KILL", &seconds])
        .arg(command.get_program())
        .args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => limited.env(name, value),
            None => limited.env_remove(name),
        };
    }
    let done = limited.stdin(Stdio::null()).output().unwrap();
    assert!(done.status.signal().is_none(), "not within {LIMIT:?}: {shown}");
    done
}

const LINES_SHOWN: usize = 12;
