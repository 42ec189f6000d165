//! Writes down, for other commands, what a running mesh consists of.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use ferrule_credentials::join::HOST_BUNDLE_FILE;
use ferrule_daemon::clock::Clock;
use ferrule_identity::{Timestamp, TrustBundle, TrustDomain};

use super::control::{Places, Unit};
use super::explicit;
use super::plan::Plan;
use super::render;
use super::rules::replace;
use super::watch::Watch;
use crate::state::{self, Capture, Published, RunningCa, RunningDirectory, RunningMesh, RunningWorkload};

/// What the surroundings of a mesh add to its plan.
pub(super) struct Surroundings<'s> {
    pub(super) mesh_file: &'s Path,
    pub(super) rules: Vec<PathBuf>,
    /// Where this machine's programs reach the CA.
    pub(super) authority: SocketAddr,
    /// When everything was up, in seconds since 1970.
    pub(super) started: i64,
    /// The first process inside, as this machine numbers it.
    pub(super) inside: u32,
}

/// Writes the state of the mesh, as a whole.
pub(super) fn write(
    plan: &Plan,
    places: &Places,
    surroundings: &Surroundings<'_>,
    watch: &Watch<'_>,
) -> Result<(), RunningError> {
    let bundle = bundle(plan, places)?;
    let at = places.bundle();
    replace(&at, bundle.to_pem().as_bytes()).map_err(RunningError::at(&at))?;
    let root = bundle
        .anchors()
        .first()
        .map(|anchor| anchor.fingerprint().to_string());
    let processes = processes(surroundings.inside);
    let mesh = RunningMesh {
        trust_domain: plan.trust_domain.clone(),
        pid: std::process::id(),
        started: surroundings.started,
        mesh_file: Some(surroundings.mesh_file.to_owned()),
        capture: plan.capture,
        ca: RunningCa {
            url: format!("https://{}", surroundings.authority),
            root: root.unwrap_or_default(),
            folder: places.authority(),
            bundle: at,
        },
        directory: RunningDirectory {
            address: render::directory_address(plan),
            control: places.directory_control(),
        },
        rules: surroundings.rules.clone(),
        workloads: workloads(plan, places, watch, &processes),
    };
    let path = places.state.join(state::FILE);
    let text = serde_json::to_vec_pretty(&mesh).map_err(|error| RunningError::at(&path)(error.into()))?;
    replace(&path, &text).map_err(RunningError::at(&path))
}

/// Whether a sidecar has learned of a newer trust bundle than the one that [`write`] wrote.
pub(super) fn is_stale(places: &Places) -> bool {
    let changed = |path: PathBuf| fs::metadata(path).and_then(|metadata| metadata.modified());
    match (
        changed(places.host().join(HOST_BUNDLE_FILE)),
        changed(places.bundle()),
    ) {
        (Ok(newest), Ok(written)) => newest > written,
        _ => false,
    }
}

/// Takes away what [`write`] wrote, and what no stopped mesh needs.
pub(super) fn remove(places: &Places) {
    // What stays is stale, which whoever reads it sees by its process being gone.
    let _ = fs::remove_file(places.state.join(state::FILE));
    let _ = fs::remove_dir_all(places.run());
}

fn workloads(
    plan: &Plan,
    places: &Places,
    watch: &Watch<'_>,
    processes: &HashMap<u32, u32>,
) -> Vec<RunningWorkload> {
    plan.replicas()
        .map(|(workload, replica)| {
            let published = plan
                .publishers
                .iter()
                .filter(|publisher| publisher.namespace == workload.namespace)
                .flat_map(|publisher| &publisher.ports)
                .filter(|port| port.workload == workload.name);
            let keeper = watch.pid(&Unit::Application(replica.number));
            RunningWorkload {
                namespace: workload.namespace.clone(),
                name: workload.name.clone(),
                replica: replica.replica,
                labels: workload.labels.clone(),
                service_account: workload.service_account.clone(),
                identity: workload.identity.clone(),
                addresses: replica.addresses.clone(),
                ports: workload.ports.clone(),
                doors: match plan.capture {
                    Capture::Transparent => BTreeMap::new(),
                    Capture::Explicit => explicit::doors(&workload.ports),
                },
                publish: published
                    .map(|port| Published {
                        port: port.port,
                        at: (Ipv4Addr::LOCALHOST, port.at).into(),
                    })
                    .collect(),
                pid: keeper
                    .and_then(|keeper| processes.get(&keeper))
                    .map(|keeper| application(*keeper, plan.capture)),
                control: places.control(replica),
                metrics: None::<(IpAddr, u16)>.map(SocketAddr::from),
                log: places.log(workload, replica),
                proxy_log: places.proxy_log(workload, replica),
            }
        })
        .collect()
}

fn bundle(plan: &Plan, places: &Places) -> Result<TrustBundle, RunningError> {
    let path = places.host().join(HOST_BUNDLE_FILE);
    let text = fs::read_to_string(&path).map_err(RunningError::at(&path))?;
    let refused =
        |error: Box<dyn std::error::Error + Send + Sync>| RunningError::at(&path)(io::Error::other(error));
    let trust_domain = TrustDomain::parse(&plan.trust_domain).map_err(|error| refused(error.into()))?;
    let now = Timestamp::from_unix(Clock::system().unix());
    TrustBundle::from_jwks(trust_domain, &text, now).map_err(|error| refused(error.into()))
}

/// This machine's numbers of the processes that `inside` has started, by the numbers that it sees itself.
fn processes(inside: u32) -> HashMap<u32, u32> {
    children(inside)
        .into_iter()
        .filter_map(|child| Some((inner_number(child)?, child)))
        .collect()
}

/// The number by which a process is known in the innermost namespace that its parent shares with it (proc(5), NSpid).
fn inner_number(pid: u32) -> Option<u32> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let numbers = status.lines().find_map(|line| line.strip_prefix("NSpid:"))?;
    numbers.split_whitespace().last()?.parse().ok()
}

/// The application that a keeper keeps: its first child, or, of a keeper outside of its namespaces, the first child of
/// that one.
fn application(keeper: u32, capture: Capture) -> u32 {
    let first = |pid: u32| children(pid).first().copied();
    let found = match capture {
        Capture::Explicit => first(keeper),
        Capture::Transparent => first(keeper).and_then(first),
    };
    found.unwrap_or(keeper)
}

fn children(pid: u32) -> Vec<u32> {
    let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else {
        return Vec::new();
    };
    let text = |task: fs::DirEntry| fs::read_to_string(task.path().join("children")).unwrap_or_default();
    let texts: Vec<String> = tasks.flatten().map(text).collect();
    texts
        .iter()
        .flat_map(|text| text.split_whitespace())
        .filter_map(|word| word.parse().ok())
        .collect()
}

/// The first process inside, which is the only child of `root` where there are namespaces.
pub(super) fn inside_of(root: u32) -> u32 {
    children(root).first().copied().unwrap_or(root)
}

/// Why the state cannot be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot use {path}", path = path.display())]
pub(super) struct RunningError {
    path: PathBuf,
    source: io::Error,
}

impl RunningError {
    fn at(path: &Path) -> impl Fn(io::Error) -> Self + '_ {
        move |source| Self {
            path: path.to_owned(),
            source,
        }
    }
}
