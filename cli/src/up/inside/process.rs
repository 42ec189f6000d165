//! Starts a process in its network, and ends it in order.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::Path;
use std::process::{Command, ExitStatus};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::process::Child;
use tokio::runtime::Handle;

use crate::up::space::{Space, SpaceError};

/// Starts `command`, in `space` where there is one.
///
/// # Errors
/// When the system refuses.
pub(super) fn spawn(command: Command, space: Option<&Space>) -> Result<Child, ProcessError> {
    let program = command.get_program().to_string_lossy().into_owned();
    let mut command = tokio::process::Command::from(command);
    command.kill_on_drop(true);
    let started = match space {
        None => command.spawn(),
        Some(space) => {
            let runtime = Handle::current();
            space.within(|| {
                let _inside = runtime.enter();
                command.spawn()
            })?
        }
    };
    started.map_err(|source| ProcessError::Start { program, source })
}

/// Asks a process to end, waits `patience`, and ends it.
pub(super) async fn end(child: &mut Child, patience: Duration) -> io::Result<ExitStatus> {
    if let Some(id) = child.id() {
        let pid = Pid::from_raw(id.cast_signed());
        // It may have ended meanwhile; nobody else can have its number before it is waited for.
        let _ = kill(pid, Signal::SIGTERM);
    }
    match tokio::time::timeout(patience, child.wait()).await {
        Ok(status) => status,
        Err(_) => {
            child.kill().await?;
            child.wait().await
        }
    }
}

/// A log that is only ever added to.
///
/// # Errors
/// When it cannot be opened.
pub(super) fn log(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}

/// How a process ended, in words.
pub(super) fn how(status: &io::Result<ExitStatus>) -> String {
    match status {
        Ok(status) => status.to_string(),
        Err(error) => format!("nobody knows how: {error}"),
    }
}

/// Why a process does not run.
#[derive(Debug, thiserror::Error)]
pub(super) enum ProcessError {
    /// It did not start.
    #[error("cannot start {program}")]
    Start {
        /// Which.
        program: String,
        /// Why.
        source: io::Error,
    },
    /// Its network cannot be entered.
    #[error(transparent)]
    Space(#[from] SpaceError),
    /// A file of its own cannot be used.
    #[error("cannot use {path}", path = path.display())]
    File {
        /// Which.
        path: std::path::PathBuf,
        /// Why.
        source: io::Error,
    },
}
