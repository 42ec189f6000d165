//! Keeps one copy of a workload's application running, as its restart policy says.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use ferrule_daemon::backoff::Backoff;
use ferrule_daemon::logging::Chain;
use ferrule_daemon::settings::environment;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

use super::process::{self, ProcessError};
use super::sidecar::is_true;
use super::{Mesh, Stopping, tell, tell_unit, write_private};
use crate::state::Capture;
use crate::up::control::{Event, Unit, UnitState};
use crate::up::document::Restart;
use crate::up::explicit::{self, Told};
use crate::up::listening::Listening;
use crate::up::parts::{self, HealthSpec, Mounts, Spec};
use crate::up::plan::{ReplicaPlan, WorkloadPlan};
use crate::up::render;
use crate::up::space::Space;
use crate::up::view;

/// A copy of an application to be.
pub(super) struct Application {
    /// The number of its workload in the plan.
    pub(super) workload: usize,
    pub(super) replica: ReplicaPlan,
    pub(super) space: Option<Arc<Space>>,
    /// Whether its sidecar is ready.
    pub(super) guarded: watch::Receiver<bool>,
}

/// How a life ended.
enum Life {
    /// Because everything ends.
    Told,
    /// By itself, well or not.
    Ended { how: String, well: bool },
}

impl Application {
    /// Keeps it running until everything ends; in its turn, after those that depend on it.
    pub(super) async fn keep(self, mesh: Arc<Mesh>) {
        let Some(workload) = mesh.plan.workloads.get(self.workload) else {
            return;
        };
        let unit = Unit::Application(self.replica.number);
        let wait = async {
            self.wait_for_others(&mesh, workload).await;
            is_true(self.guarded.clone()).await;
        };
        let mut told = tokio::select! {
            () = wait => false,
            () = mesh.stop(Stopping::Orderly) => true,
        };
        let mut failures = 0;
        while !told {
            let began = Instant::now();
            let (how, well) = match self.live(&mesh, workload, &unit).await {
                Ok(Life::Told) => break,
                Ok(Life::Ended { how, well }) => (how, well),
                Err(error) => (Chain(&error).to_string(), false),
            };
            let again = match workload.restart {
                Restart::Always => true,
                Restart::OnFailure => !well,
                Restart::Never => false,
            };
            if !again {
                tell_unit(&unit, UnitState::Ended { how });
                mesh.stop(Stopping::Orderly).await;
                break;
            }
            tell_unit(&unit, UnitState::Restarting { how });
            failures = if began.elapsed() > STEADY { 1 } else { failures + 1 };
            tokio::select! {
                () = sleep(BACKOFF.most(failures)) => {}
                () = mesh.stop(Stopping::Orderly) => told = true,
            }
        }
        if let Some(alive) = mesh.alive.get(self.workload) {
            alive.send_modify(|count| *count -= 1);
        }
    }

    async fn wait_for_others(&self, mesh: &Mesh, workload: &WorkloadPlan) {
        for other in &workload.after {
            if let (Some(ready), Some(plan)) = (mesh.ready.get(*other), mesh.plan.workloads.get(*other)) {
                let mut ready = ready.subscribe();
                let _ = ready.wait_for(|count| *count >= plan.replicas.len()).await;
            }
        }
    }

    /// Ends when it is this workload's turn to end: when those that depend on it have ended.
    async fn turn(&self, mesh: &Mesh) {
        mesh.stop(Stopping::Orderly).await;
        let dependants = async {
            for (workload, alive) in mesh.plan.workloads.iter().zip(&mesh.alive) {
                if workload.after.contains(&self.workload) {
                    let mut alive = alive.subscribe();
                    let _ = alive.wait_for(|count| *count == 0).await;
                }
            }
        };
        tokio::select! {
            () = dependants => {}
            () = mesh.stop(Stopping::AtOnce) => {}
        }
    }

    async fn live(&self, mesh: &Mesh, workload: &WorkloadPlan, unit: &Unit) -> Result<Life, ProcessError> {
        let mut child = self.start(mesh, workload)?;
        tell_unit(
            unit,
            UnitState::Running {
                pid: child.id().unwrap_or_default(),
            },
        );
        let orders = child.stdin.take();
        let said = child.stdout.take().map(|stdout| BufReader::new(stdout).lines());
        let readiness = Ready {
            count: mesh.ready.get(self.workload),
            counted: false,
        };
        let watching = self.watch(mesh, workload, unit, said, readiness);
        let life = tokio::select! {
            never = watching => match never {},
            status = child.wait() => {
                let well = status.as_ref().is_ok_and(std::process::ExitStatus::success);
                Life::Ended { how: process::how(&status), well }
            }
            () = self.turn(mesh) => {
                end(mesh, &mut child, orders).await;
                Life::Told
            }
        };
        Ok(life)
    }

    /// Says when it becomes ready, and when it is not any more.
    async fn watch(
        &self,
        mesh: &Mesh,
        workload: &WorkloadPlan,
        unit: &Unit,
        said: Option<Lines<BufReader<ChildStdout>>>,
        mut readiness: Ready<'_>,
    ) -> std::convert::Infallible {
        let Some(mut said) = said else {
            return std::future::pending().await;
        };
        // Before that, the process that is seen is not the application yet.
        let started = said.next_line().await;
        if workload.health.is_some() {
            while let Ok(Some(line)) = said.next_line().await {
                let is_ready = line == "healthy";
                if is_ready {
                    tell_unit(unit, UnitState::Ready);
                }
                readiness.set(is_ready);
            }
        } else if matches!(started, Ok(Some(_))) {
            let mut is_told = false;
            let mut listening = Listening::of(self.space.as_deref());
            loop {
                match self.listens(mesh, &workload.ports, &mut listening) {
                    Listens::Everywhere => break,
                    Listens::Nowhere => {}
                    Listens::OnLoopback(port, at) if !is_told => {
                        is_told = true;
                        let title = workload.title(&self.replica);
                        tell(&Event::Notice(format!(
                            "{title} is not ready: for port {port} somebody listens at {at} alone, where nobody in the \
                             mesh reaches it; if that is {title}, let it listen at every address, or at the one that HOST \
                             names where nothing is captured"
                        )));
                    }
                    Listens::OnLoopback(..) => {}
                }
                sleep(LOOK_AGAIN).await;
            }
            drop(listening);
            tell_unit(unit, UnitState::Ready);
            readiness.set(true);
        }
        std::future::pending().await
    }

    /// Where somebody listens on all `ports`. Nobody connects to find out: that would be a call to the application.
    fn listens(&self, mesh: &Mesh, ports: &[u16], listening: &mut Listening<'_>) -> Listens {
        let found = listening.now().unwrap_or_default();
        for port in ports {
            let at = || found.iter().filter(|at| at.port() == *port).map(SocketAddr::ip);
            // Where nothing is captured, the copies' own addresses are within loopback, too.
            let own = |ip: IpAddr| ip.is_unspecified() || self.replica.addresses.contains(&ip);
            if !at().any(own) {
                // Other addresses of loopback are other meshes'; our own published ports are there, too, where nothing is captured.
                let mut published = mesh.plan.publishers.iter().flat_map(|publisher| &publisher.ports);
                let is_ours = self.space.is_none() && published.any(|published| published.at == *port);
                let private = at()
                    .filter(|_| !is_ours)
                    .find(|ip| [IpAddr::from(Ipv4Addr::LOCALHOST), Ipv6Addr::LOCALHOST.into()].contains(ip));
                return private.map_or(Listens::Nowhere, |ip| Listens::OnLoopback(*port, ip));
            }
        }
        Listens::Everywhere
    }

    fn start(&self, mesh: &Mesh, workload: &WorkloadPlan) -> Result<Child, ProcessError> {
        let spec = self.spec(mesh, workload);
        let path = mesh.places.run().join(format!("{}.json", self.replica.number));
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| ProcessError::File { path, source }
        };
        let text = serde_json::to_string(&spec).map_err(|error| failed(&path)(error.into()))?;
        write_private(&path, &text).map_err(failed(&path))?;
        let log_path = mesh.places.log(workload, &self.replica);
        let log = process::log(&log_path).map_err(failed(&log_path))?;
        // Not tied to this process: at the end of its orders it ends what it keeps, which a signal would keep it from.
        let mut command = parts::command(false, "init", [&path]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(log);
        process::spawn(command, self.space.as_deref())
    }

    fn spec(&self, mesh: &Mesh, workload: &WorkloadPlan) -> Spec {
        let text = |text: std::ffi::OsString| text.into_string().ok();
        let mut env: std::collections::BTreeMap<String, String> = environment()
            .filter_map(|(name, value)| Some((text(name)?, text(value)?)))
            // Settings of this program, and a name that belongs to the machine.
            .filter(|(name, _)| !name.starts_with("FERRULE_") && name != "HOST")
            .collect();
        let told = match mesh.plan.capture {
            Capture::Explicit => explicit::told(&mesh.plan, workload, &self.replica),
            Capture::Transparent => Told {
                run: workload.run.clone(),
                env: workload.env.clone(),
            },
        };
        env.extend(told.env);
        let view = workload.view.then(|| mesh.places.view());
        if let Some(file) = view
            .as_ref()
            .and_then(|folder| text(folder.join(view::FILE).into()))
        {
            env.insert(view::VARIABLE.to_owned(), file);
        }
        Spec {
            run: told.run,
            env,
            folder: workload.folder.clone(),
            user: workload.user.clone(),
            mounts: self.space.as_ref().map(|_| Mounts {
                name: workload.slug(&self.replica),
                hosts: render::hosts_file(&mesh.places, &workload.namespace),
                resolvers: mesh.places.resolvers(),
                hide: mesh.places.state.clone(),
                view,
            }),
            health: workload.health.as_ref().map(|health| HealthSpec {
                run: health.run.clone(),
                interval: health.interval,
                timeout: health.timeout,
            }),
        }
    }
}

/// Where an application listens on its ports.
enum Listens {
    /// Its sidecar reaches them all.
    Everywhere,
    /// Not yet on all of them.
    Nowhere,
    /// On this one where only itself reaches it.
    OnLoopback(u16, IpAddr),
}

/// Counts a copy among those that are ready, while it is.
struct Ready<'m> {
    count: Option<&'m watch::Sender<usize>>,
    counted: bool,
}

impl Ready<'_> {
    fn set(&mut self, ready: bool) {
        if self.counted != ready {
            self.counted = ready;
            if let Some(count) = self.count {
                count.send_modify(|count| if ready { *count += 1 } else { *count -= 1 });
            }
        }
    }
}

impl Drop for Ready<'_> {
    fn drop(&mut self) {
        self.set(false);
    }
}

/// Asks the application to end, waits, and ends it with all that it has started.
async fn end(mesh: &Mesh, child: &mut Child, orders: Option<ChildStdin>) {
    let Some(mut orders) = orders else { return };
    let asked = orders.write_all(b"stop\n").await;
    if asked.is_ok() {
        tokio::select! {
            _ = timeout(PATIENCE, child.wait()) => {}
            () = mesh.stop(Stopping::AtOnce) => {}
        }
    }
    // The end of its orders means that it is to end now.
    drop(orders);
    if timeout(PATIENCE, child.wait()).await.is_err() {
        let _ = child.kill().await;
    }
}

/// Delays between a failure and the next start.
const BACKOFF: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(30));

/// Whoever ran longer than this has not failed at its start.
const STEADY: Duration = Duration::from_secs(60);

/// How long an application that was told to stop may take.
const PATIENCE: Duration = Duration::from_secs(10);

const LOOK_AGAIN: Duration = Duration::from_millis(50);
