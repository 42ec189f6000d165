//! Keeps a sidecar, or the directory, running.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use ferrule_daemon::logging::Chain;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::process::Child;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use super::process::{self, ProcessError};
use super::{Mesh, Stopping, tell_unit, write_private};
use crate::up::control::{Unit, UnitState};
use crate::up::parts;
use crate::up::space::Space;

/// A sidecar to be, or the directory.
pub(super) struct Sidecar {
    pub(super) unit: Unit,
    /// The part, and what it is told to do.
    pub(super) part: [&'static str; 2],
    pub(super) settings: String,
    /// What its settings file is called.
    pub(super) name: String,
    pub(super) log: PathBuf,
    pub(super) control: PathBuf,
    pub(super) space: Option<Arc<Space>>,
}

impl Sidecar {
    /// Keeps it running until `left` says that nobody needs it any more; `guarded` tells whether it is ready.
    pub(super) async fn keep(
        self,
        mesh: Arc<Mesh>,
        left: watch::Receiver<bool>,
        guarded: watch::Sender<bool>,
    ) {
        loop {
            let how = match self.live(&mesh, &left, &guarded).await {
                Ok(None) => return,
                Ok(Some(how)) => how,
                Err(error) => Chain(&error).to_string(),
            };
            guarded.send_replace(false);
            tell_unit(&self.unit, UnitState::Restarting { how });
            tokio::select! {
                () = sleep(PAUSE) => {}
                () = is_true(left.clone()) => return,
            }
        }
    }

    /// One life, with how it ended; `None` when it was told to.
    async fn live(
        &self,
        mesh: &Mesh,
        left: &watch::Receiver<bool>,
        guarded: &watch::Sender<bool>,
    ) -> Result<Option<String>, ProcessError> {
        let place = tokio::select! {
            place = mesh.starting.acquire() => place,
            () = is_true(left.clone()) => return Ok(None),
        };
        let mut child = self.start(mesh)?;
        tell_unit(
            &self.unit,
            UnitState::Running {
                pid: child.id().unwrap_or_default(),
            },
        );
        tokio::select! {
            () = until_ready(&self.control) => {
                tell_unit(&self.unit, UnitState::Ready);
                guarded.send_replace(true);
            }
            status = child.wait() => return Ok(Some(process::how(&status))),
            // One that takes long must not hold up the others.
            () = sleep(STARTING) => {}
            () = is_true(left.clone()) => {
                let _ = process::end(&mut child, PATIENCE).await;
                return Ok(None);
            }
        }
        drop(place);
        let late = async {
            if !*guarded.borrow() {
                until_ready(&self.control).await;
                tell_unit(&self.unit, UnitState::Ready);
                guarded.send_replace(true);
            }
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = late => Ok(None),
            status = child.wait() => Ok(Some(process::how(&status))),
            () = is_true(left.clone()) => {
                let at_once = *mesh.stopping.borrow() == Stopping::AtOnce;
                let _ = process::end(&mut child, if at_once { Duration::ZERO } else { PATIENCE }).await;
                Ok(None)
            }
        }
    }

    fn start(&self, mesh: &Mesh) -> Result<Child, ProcessError> {
        let settings = mesh.places.run().join(format!("{}.yaml", self.name));
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| ProcessError::File { path, source }
        };
        write_private(&settings, &self.settings).map_err(failed(&settings))?;
        let log = process::log(&self.log).map_err(failed(&self.log))?;
        let errors = log.try_clone().map_err(failed(&self.log))?;
        let mut command = parts::command(mesh.is_tied(), self.part[0], [self.part[1], "--config"]);
        command
            .arg(&settings)
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(errors);
        process::spawn(command, self.space.as_deref())
    }
}

/// Ends when `wanted` is true, and when nobody can make it so any more.
pub(super) async fn is_true(mut wanted: watch::Receiver<bool>) {
    let _ = wanted.wait_for(|wanted| *wanted).await;
}

/// Waits until the program behind a debug socket says that it is ready.
pub(super) async fn until_ready(socket: &Path) {
    while !is_ready(socket).await {
        sleep(LOOK_AGAIN).await;
    }
}

async fn is_ready(socket: &Path) -> bool {
    let ask = async {
        let mut stream = UnixStream::connect(socket).await?;
        stream
            .write_all(b"GET /ready HTTP/1.1\r\nhost: sidecar\r\nconnection: close\r\n\r\n")
            .await?;
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).await?;
        Ok::<_, std::io::Error>(answer == *b"HTTP/1.1 200")
    };
    matches!(timeout(ANSWER, ask).await, Ok(Ok(true)))
}

/// Between the end of a sidecar and its next start.
const PAUSE: Duration = Duration::from_millis(500);

/// How long a sidecar that was told to stop may take.
const PATIENCE: Duration = Duration::from_secs(8);

/// How long a starting sidecar may keep others from starting.
const STARTING: Duration = Duration::from_secs(10);

const LOOK_AGAIN: Duration = Duration::from_millis(50);

const ANSWER: Duration = Duration::from_secs(2);
