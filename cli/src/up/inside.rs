//! Runs all processes of a mesh: the part that lives where the mesh's networks are.

mod alone;
mod application;
mod authority;
mod egress;
mod process;
mod relay;
mod sidecar;

use std::fs;
use std::io::{self, BufRead as _, Write as _};
use std::process::ExitCode;
use std::sync::Arc;

use ferrule_daemon::drain::Drain;
use ferrule_daemon::logging::Chain;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinSet;

pub(super) use alone::run as run_alone;
pub(crate) use alone::{Alone, INTERRUPT};

use super::control::{Event, Order, Places, Start, Unit, UnitState};
use super::parts::PartError;
use super::plan::Plan;
use super::space::{self, Space};
use crate::state::Capture;

/// What every part of a running mesh shares.
pub(super) struct Mesh {
    pub(super) plan: Plan,
    pub(super) places: Places,
    /// Whether everything is to end, and how.
    pub(super) stopping: watch::Receiver<Stopping>,
    /// Bounds how many sidecars start at once.
    pub(super) starting: Semaphore,
    /// For each workload, how many of its copies are ready.
    pub(super) ready: Vec<watch::Sender<usize>>,
    /// For each workload, how many of its copies have not ended for good.
    pub(super) alive: Vec<watch::Sender<usize>>,
}

/// How far the end of everything has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stopping {
    /// Nobody has asked for it.
    No,
    /// In order.
    Orderly,
    /// At once.
    AtOnce,
}

impl Mesh {
    /// Whether processes are tied to this one by signals, because no namespace holds them.
    pub(super) fn is_tied(&self) -> bool {
        self.plan.capture == Capture::Explicit
    }

    /// Ends when everything is to end.
    pub(super) async fn stop(&self, at_least: Stopping) {
        let mut stopping = self.stopping.clone();
        // The sender lives as long as the part; if it is gone, so is everything else.
        let _ = stopping.wait_for(|stopping| *stopping >= at_least).await;
    }
}

/// Obeys the orders on standard input until the mesh has stopped.
pub(super) fn run() -> Result<ExitCode, PartError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(PartError::doing("start"))?;
    let code = runtime.block_on(obey());
    // What still waits for a thread is nobody's concern any more.
    runtime.shutdown_background();
    code
}

async fn obey() -> Result<ExitCode, PartError> {
    let mut orders = orders()?;
    let Some(Order::Start(start)) = orders.recv().await else {
        return Ok(ExitCode::SUCCESS);
    };
    let (stop, stopping) = watch::channel(Stopping::No);
    let mesh = Arc::new(mesh(*start, stopping));
    let running = carry(Arc::clone(&mesh));
    tokio::pin!(running);
    let ended = loop {
        tokio::select! {
            ended = &mut running => break ended,
            order = orders.recv(), if *stop.borrow() != Stopping::AtOnce => {
                let how = match order {
                    Some(Order::Kill) => Stopping::AtOnce,
                    Some(Order::Stop | Order::Start(_)) | None => Stopping::Orderly,
                };
                if order.is_none() && *stop.borrow() == Stopping::Orderly {
                    // The supervisor is gone; it will not come to hurry us.
                    running.as_mut().await.ok();
                    return Ok(ExitCode::SUCCESS);
                }
                stop.send_replace(how);
            }
        }
    };
    match ended {
        Ok(()) => Ok(ExitCode::SUCCESS),
        Err(error) => {
            tell(&Event::Failed(Chain(&error).to_string()));
            Ok(ExitCode::FAILURE)
        }
    }
}

fn mesh(start: Start, stopping: watch::Receiver<Stopping>) -> Mesh {
    let copies = |all: bool| -> Vec<watch::Sender<usize>> {
        let of = |workload: &super::plan::WorkloadPlan| if all { workload.replicas.len() } else { 0 };
        start
            .plan
            .workloads
            .iter()
            .map(|workload| watch::Sender::new(of(workload)))
            .collect()
    };
    let (ready, alive) = (copies(false), copies(true));
    let cores = std::thread::available_parallelism().map_or(2, usize::from);
    Mesh {
        places: Places::new(&start.state),
        plan: start.plan,
        stopping,
        starting: Semaphore::new(cores * 4),
        ready,
        alive,
    }
}

/// Starts everything, and stops it when that is asked.
async fn carry(mesh: Arc<Mesh>) -> Result<(), InsideError> {
    if mesh.plan.capture == Capture::Transparent {
        space::prepare_hub(&mesh.plan.hub).map_err(|source| InsideError::Hub {
            source: Box::new(source),
        })?;
    }
    let relays = Drain::new();
    relay::serve(&mesh, &relays).map_err(|source| InsideError::Relay { source })?;
    if mesh.plan.capture == Capture::Transparent {
        egress::serve(&mesh, &relays).map_err(|source| InsideError::Egress { source })?;
    }
    let mut servants = JoinSet::new();
    let (leave, left) = watch::channel(false);
    let first = if mesh.plan.join.is_some() {
        carry_workloads(&mesh, &mut servants, &left).await
    } else {
        match authority::start(Arc::clone(&mesh), left.clone()).await {
            Ok(keeper) => {
                servants.spawn(keeper);
                carry_workloads(&mesh, &mut servants, &left).await
            }
            Err(error) => Err(error),
        }
    };
    leave.send_replace(true);
    while servants.join_next().await.is_some() {}
    relays.cut_now();
    first
}

async fn carry_workloads(
    mesh: &Arc<Mesh>,
    servants: &mut JoinSet<()>,
    left: &watch::Receiver<bool>,
) -> Result<(), InsideError> {
    let mut applications = JoinSet::new();
    // Where another host is the first one, its directory is asked, by way of the hub.
    if mesh.plan.join.is_none() && !has_directory(mesh, servants, left).await {
        return Ok(());
    }
    for (number, publisher) in mesh.plan.publishers.iter().enumerate() {
        let settings = super::render::publisher(&mesh.plan, number, publisher, &mesh.places);
        let sidecar = sidecar::Sidecar {
            unit: Unit::Publisher(publisher.namespace.clone()),
            part: PROXY,
            settings,
            name: format!("p{number}"),
            log: mesh.places.publisher_log(&publisher.namespace),
            control: mesh.places.publisher_control(number),
            space: None,
        };
        servants.spawn(sidecar.keep(Arc::clone(mesh), left.clone(), watch::Sender::new(false)));
    }
    for (at, workload) in mesh.plan.workloads.iter().enumerate() {
        for replica in &workload.replicas {
            if *mesh.stopping.borrow() != Stopping::No {
                break;
            }
            let space = match mesh.plan.capture {
                Capture::Explicit => None,
                Capture::Transparent => Some(Arc::new(make_space(mesh, replica).await?)),
            };
            let unit = Unit::Sidecar(replica.number);
            let sidecar = sidecar::Sidecar {
                unit,
                part: PROXY,
                settings: super::render::sidecar(&mesh.plan, workload, replica, &mesh.places),
                name: replica.number.to_string(),
                log: mesh.places.proxy_log(workload, replica),
                control: mesh.places.control(replica),
                space: space.clone(),
            };
            let guarded = watch::Sender::new(false);
            if has_sidecar(mesh, workload, replica) {
                servants.spawn(sidecar.keep(Arc::clone(mesh), left.clone(), guarded.clone()));
            } else {
                guarded.send_replace(true);
            }
            let application = application::Application {
                workload: at,
                replica: replica.clone(),
                space,
                guarded: guarded.subscribe(),
            };
            applications.spawn(application.keep(Arc::clone(mesh)));
        }
    }
    let up = async {
        for (workload, ready) in mesh.plan.workloads.iter().zip(&mesh.ready) {
            let mut ready = ready.subscribe();
            let _ = ready.wait_for(|count| *count >= workload.replicas.len()).await;
        }
        tell(&Event::Up);
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = up => {}
        () = mesh.stop(Stopping::Orderly) => {}
    }
    while applications.join_next().await.is_some() {}
    Ok(())
}

/// Starts the directory, and waits until it answers; not when everything is to end before.
async fn has_directory(mesh: &Arc<Mesh>, servants: &mut JoinSet<()>, left: &watch::Receiver<bool>) -> bool {
    let directory = sidecar::Sidecar {
        unit: Unit::Directory,
        part: ["directory", "serve"],
        settings: super::render::directory(&mesh.plan, &mesh.places),
        name: "directory".to_owned(),
        log: mesh.places.part_log("directory"),
        control: mesh.places.directory_control(),
        space: None,
    };
    let answers = watch::Sender::new(false);
    servants.spawn(directory.keep(Arc::clone(mesh), left.clone(), answers.clone()));
    tokio::select! {
        () = sidecar::is_true(answers.subscribe()) => true,
        () = mesh.stop(Stopping::Orderly) => false,
    }
}

/// The part that every sidecar is, and what it is told to do.
const PROXY: [&str; 2] = ["proxy", "run"];

/// Whether a sidecar has anything to do: where nothing is captured, that is not so for who neither calls nor is called.
fn has_sidecar(
    mesh: &Mesh,
    workload: &super::plan::WorkloadPlan,
    replica: &super::plan::ReplicaPlan,
) -> bool {
    mesh.plan.capture == Capture::Transparent
        || super::explicit::listeners(&mesh.plan, workload, replica) != super::explicit::Listeners::default()
}

/// The network of a copy, with its redirect. Elsewhere than on this thread, which has others to look after.
async fn make_space(mesh: &Arc<Mesh>, replica: &super::plan::ReplicaPlan) -> Result<Space, InsideError> {
    let (number, addresses) = (replica.number, replica.addresses.clone());
    let hub = mesh.plan.hub.clone();
    let made = tokio::task::spawn_blocking(move || {
        let space = Space::make(number, &addresses, &hub)?;
        space.redirect(&super::probe::redirect(&hub))?;
        Ok(space)
    });
    match made.await {
        Ok(made) => made.map_err(|source: space::SpaceError| InsideError::Space {
            number,
            source: Box::new(source),
        }),
        Err(panic) => Err(InsideError::Panic { source: panic }),
    }
}

/// Tells the supervisor; when it is gone, the end of the orders says so.
pub(super) fn tell(event: &Event) {
    if let Ok(line) = serde_json::to_string(event) {
        let _ = writeln!(io::stdout(), "{line}");
    }
}

/// Tells the supervisor about a part.
pub(super) fn tell_unit(unit: &Unit, state: UnitState) {
    tell(&Event::Unit {
        unit: unit.clone(),
        state,
    });
}

/// Reads the orders on a thread of their own, because standard input can only be waited for by blocking.
fn orders() -> Result<mpsc::Receiver<Order>, PartError> {
    let (send, orders) = mpsc::channel(4);
    let thread = std::thread::Builder::new().name("orders".to_owned());
    let started = thread.spawn(move || {
        for line in io::stdin().lock().lines() {
            let Ok(line) = line else { return };
            let Ok(order) = serde_json::from_str(&line) else {
                return;
            };
            if send.blocking_send(order).is_err() {
                return;
            }
        }
    });
    started
        .map(|_| orders)
        .map_err(PartError::doing("start a thread"))
}

/// Writes a file that has secrets in it.
fn write_private(path: &std::path::Path, text: &str) -> io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(text.as_bytes())
}

/// Why a mesh does not start.
#[derive(Debug, thiserror::Error)]
pub(super) enum InsideError {
    /// The network in the middle.
    #[error("cannot make the mesh's network")]
    Hub {
        /// Why.
        source: Box<space::SpaceError>,
    },
    /// A workload's network.
    #[error("cannot make the network of workload {number}")]
    Space {
        /// Counted from 0.
        number: u32,
        /// Why.
        source: Box<space::SpaceError>,
    },
    /// The way in and out.
    #[error("cannot open the way into the mesh")]
    Relay {
        /// Why.
        source: io::Error,
    },
    /// The way out.
    #[error("cannot open the way out of the mesh")]
    Egress {
        /// Why.
        source: io::Error,
    },
    /// The CA, or the way to it.
    #[error("cannot start the certificate authority")]
    Authority {
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A fault of this program.
    #[error("a task panicked")]
    Panic {
        /// What it said.
        source: tokio::task::JoinError,
    },
}
