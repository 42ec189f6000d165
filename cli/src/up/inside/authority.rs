//! Keeps the CA running, and enters this machine with it.

use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use ferrule_credentials::join::join;
use ferrule_daemon::clock::Clock;
use ferrule_daemon::logging::Chain;
use ferrule_wire::JoinToken;
use tokio::process::Child;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

use super::process::{self, ProcessError};
use super::sidecar::is_true;
use super::{InsideError, Mesh, Stopping, tell_unit};
use crate::up::control::{Unit, UnitState};
use crate::up::{parts, render};

/// Starts the CA, and enters this machine; what comes back keeps the CA running until it is told that nobody needs it.
pub(super) async fn start(
    mesh: Arc<Mesh>,
    left: watch::Receiver<bool>,
) -> Result<impl Future<Output = ()> + Send + 'static, InsideError> {
    let failed = |source: Box<dyn std::error::Error + Send + Sync>| InsideError::Authority { source };
    let mut child = spawn(&mesh).map_err(|error| failed(error.into()))?;
    tell_unit(
        &Unit::Authority,
        UnitState::Running {
            pid: child.id().unwrap_or_default(),
        },
    );
    let entered = tokio::select! {
        entered = enter(&mesh) => entered,
        status = child.wait() => {
            let how = process::how(&status);
            let log = mesh.places.part_log("ca");
            Err(format!("it ended ({how}); see {}", log.display()).into())
        }
        () = mesh.stop(Stopping::Orderly) => Err("it was told to stop".into()),
    };
    if let Err(error) = entered {
        let _ = process::end(&mut child, PATIENCE).await;
        return Err(failed(error));
    }
    tell_unit(&Unit::Authority, UnitState::Ready);
    Ok(keep(mesh, child, left))
}

async fn keep(mesh: Arc<Mesh>, mut child: Child, left: watch::Receiver<bool>) {
    loop {
        let how = tokio::select! {
            status = child.wait() => process::how(&status),
            () = is_true(left.clone()) => {
                let _ = process::end(&mut child, PATIENCE).await;
                return;
            }
        };
        tell_unit(&Unit::Authority, UnitState::Restarting { how });
        child = loop {
            tokio::select! {
                () = sleep(PAUSE) => {}
                () = is_true(left.clone()) => return,
            }
            match spawn(&mesh) {
                Ok(child) => break child,
                Err(error) => {
                    let how = Chain(&error).to_string();
                    tell_unit(&Unit::Authority, UnitState::Restarting { how });
                }
            }
        };
        tell_unit(
            &Unit::Authority,
            UnitState::Running {
                pid: child.id().unwrap_or_default(),
            },
        );
        // Its API answers a moment later; whoever asks it tries again by itself.
        tell_unit(&Unit::Authority, UnitState::Ready);
    }
}

fn spawn(mesh: &Mesh) -> Result<Child, ProcessError> {
    let path = mesh.places.part_log("ca");
    let failed = |source| ProcessError::File {
        path: path.clone(),
        source,
    };
    let log = process::log(&path).map_err(failed)?;
    let errors = log.try_clone().map_err(failed)?;
    let mut command = parts::command(mesh.is_tied(), "ca", ["serve", "--config"]);
    command.arg(mesh.places.authority_settings());
    command.stdin(Stdio::null()).stdout(log).stderr(errors);
    process::spawn(command, None)
}

/// Makes a join token for the namespaces of the plan, and uses it.
async fn enter(mesh: &Mesh) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let token = token(mesh).await?;
    let token: JoinToken = token.trim().parse()?;
    let host = timeout(LIMIT, join(&token, &Clock::system())).await??;
    host.write(&mesh.places.host())?;
    Ok(())
}

async fn token(mesh: &Mesh) -> Result<String, Box<dyn std::error::Error + Send + Sync>> {
    let mut namespaces: Vec<&str> = mesh
        .plan
        .workloads
        .iter()
        .map(|workload| workload.namespace.as_str())
        .collect();
    namespaces.sort_unstable();
    namespaces.dedup();
    let end = Instant::now() + LIMIT;
    loop {
        let mut command = parts::command(mesh.is_tied(), "ca", ["token", "create"]);
        for namespace in &namespaces {
            command
                .arg("--id")
                .arg(format!("spiffe://{}/ns/{namespace}/*", mesh.plan.trust_domain));
        }
        let directory = format!(
            "spiffe://{}/ns/ferrule-system/sa/ferrule-directory",
            mesh.plan.trust_domain
        );
        command.arg("--id").arg(directory);
        command
            .arg("--address")
            .arg(render::authority_address(&mesh.plan).to_string());
        command
            .arg("--lifetime")
            .arg("5m")
            .arg("--data")
            .arg(mesh.places.authority());
        let made = tokio::process::Command::from(command)
            .stdin(Stdio::null())
            .output()
            .await?;
        if made.status.success() {
            return Ok(String::from_utf8(made.stdout)?);
        }
        // The CA is being made at this moment.
        if Instant::now() > end {
            return Err(String::from_utf8_lossy(&made.stderr).trim().to_owned().into());
        }
        sleep(LOOK_AGAIN).await;
    }
}

/// How long the CA may take from its start to its first answer.
const LIMIT: Duration = Duration::from_secs(60);

/// Between the end of the CA and its next start.
const PAUSE: Duration = Duration::from_secs(1);

/// How long a CA that was told to stop may take.
const PATIENCE: Duration = Duration::from_secs(8);

const LOOK_AGAIN: Duration = Duration::from_millis(100);
