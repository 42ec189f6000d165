//! Runs a sidecar: the only file that knows all its parts.

use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::num::NonZeroU16;
use std::sync::Arc;

use anyhow::Context as _;
use ferrule_daemon::admin::{Admin, Places, RunningAdmin};
use ferrule_daemon::clock::Clock;
use ferrule_daemon::drain::Drain;
use ferrule_daemon::https::ServerMetrics;
use ferrule_daemon::logging::Levels;
use ferrule_daemon::metrics::Metrics;
use ferrule_daemon::ready::{Latch, Readiness};
use ferrule_daemon::signals::{Asking, Signals};
use ferrule_daemon::stop::{Ended, Program};
use ferrule_daemon::tasks::Tasks;
use ferrule_identity::tls::TrustCell;
use ferrule_policy::Policy;
use tokio::sync::watch;

use crate::config::{CaptureConfig, Config, ProbesConfig};
use crate::control::credentials::{Publisher, keep};
use crate::control::probe::{self, prober};
use crate::control::{debug, redirect};
use crate::knowledge::folder::Folder;
use crate::knowledge::stream::{Stream, Trust};
use crate::knowledge::{self, News, Source as _};
use crate::net::address::ListenAddr;
use crate::observe::book::Seen;
use crate::observe::metrics::ProxyMetrics;
use crate::observe::tap::Tap;
use crate::observe::udp;
use crate::probes::Probes;
use crate::proof::Token;
use crate::worker::{Door, Shared, Worker, WorkerError};
use crate::workload_api::WorkloadApi;
use crate::{inbound, outbound};

/// A sidecar at work.
pub struct Proxy {
    doors: Vec<Door>,
    admin: Option<RunningAdmin>,
    workers: Vec<Worker>,
    program: Program,
}

/// What the surroundings of a sidecar give it.
pub struct Surroundings {
    /// Where metrics are registered.
    pub metrics: Metrics,
    /// Changes the log level; `None` where the sidecar is not alone in its process.
    pub levels: Option<Levels>,
    /// The time.
    pub clock: Clock,
    /// The settings in force with their secrets hidden, for the debug socket.
    pub effective: String,
    /// Asks the program to stop, for the debug socket.
    pub asking: Asking,
}

impl Proxy {
    /// Opens the ports and starts every thread and task. It is ready once it has a certificate, rules where they
    /// are to be had, and the proof of the redirect.
    ///
    /// # Errors
    /// When a port is taken or a thread cannot be started.
    pub fn start(config: Config, surroundings: Surroundings) -> anyhow::Result<Self> {
        let config = Arc::new(config);
        let counters = ProxyMetrics::register(&surroundings.metrics);
        if config.capture.is_some() {
            // Elsewhere the sidecar is not alone with its workload, and others' datagrams are none of its business.
            udp::register(&surroundings.metrics, counters.own_datagrams.clone());
        }
        let readiness = Readiness::new();
        let (for_credentials, credentials) = watch::channel(None);
        let (for_material, material) = watch::channel(None);
        let (teller, news) = knowledge::news();
        let token = Token::random();
        let publisher = Publisher {
            id: config.id.clone(),
            credentials: for_credentials,
            material: for_material,
            latch: readiness.latch("certificate"),
            metrics: counters.clone(),
            clock: surroundings.clock.clone(),
        };
        let shared = Shared {
            config: Arc::clone(&config),
            credentials: credentials.clone(),
            material,
            news: news.clone(),
            metrics: counters.clone(),
            tap: Tap::new(counters.tap_dropped.clone()),
            inbound: Drain::new(),
            outbound: Drain::new(),
            readiness: readiness.clone(),
            token,
            clock: surroundings.clock.clone(),
            parked: Arc::default(),
        };
        let tasks = Tasks::new();
        let mut workers = start_workers(&shared)?;
        for worker in &mut workers {
            let ended = worker.ended();
            spawn(&tasks, "worker", async move {
                ended.await;
                Err(WorkerError::Ended)
            });
        }
        let trust = Arc::new(TrustCell::default());
        let (trust_changes, changed_trust) = watch::channel(0);
        let keeping = keep(Arc::clone(&config), Arc::clone(&trust), changed_trust, publisher);
        spawn(&tasks, "credentials", never(keeping));
        if let Some(folder) = &config.rules {
            let latch = readiness.latch("rules");
            let folder = Folder::new(folder.clone(), config.mesh.clone()).on(&config.own.node);
            spawn(&tasks, "rules", never(folder.run(teller)));
            spawn(&tasks, "rules gauge", never(show_rules(news, counters, latch)));
        } else if let Some(directory) = &config.directory {
            let latch = readiness.latch("directory");
            let stream = Stream::new(
                directory.clone(),
                &config,
                credentials.clone(),
                Trust {
                    cell: trust,
                    changes: trust_changes,
                },
                counters.clone(),
                surroundings.clock.clone(),
            );
            spawn(&tasks, "directory", never(stream.run(teller)));
            spawn(&tasks, "rules gauge", never(show_rules(news, counters, latch)));
        } else {
            // Without a folder nothing will ever be told: the mesh is what the settings say, and has no rules.
            let policy: Option<Arc<Policy>> = ferrule_policy::compile(&[], config.mesh.clone())
                .ok()
                .map(Arc::new);
            teller.rules.send_replace(policy);
        }
        if config.capture.as_ref().is_some_and(|capture| capture.prove) {
            let latch = readiness.latch("redirect");
            spawn(
                &tasks,
                "redirect",
                never(redirect::watch(Arc::clone(&config), token, latch)),
            );
        }
        let (prober, jobs) = prober();
        let orders = probe::serve(jobs, Arc::clone(&config), shared.material.clone());
        spawn(&tasks, "probe orders", never(orders));
        let seen: Vec<Seen> = workers.iter().map(|worker| worker.seen.clone()).collect();
        let servers = ServerMetrics::register(&surroundings.metrics);
        if let Some(probes) = &config.probes {
            serve_probes(probes, &config, &shared, &servers, &tasks)?;
        }
        if let Some(workload_api) = &config.workload_api {
            let (newest, drain) = (shared.credentials.clone(), shared.outbound.clone());
            let served = WorkloadApi::open(workload_api, newest, drain, &servers)
                .context("cannot serve the Workload API")?;
            spawn(&tasks, "workload api", async move {
                served.serve().await;
                Ok::<_, Infallible>(())
            });
        }
        let admin = Admin::new(readiness.clone(), surroundings.metrics, surroundings.levels);
        let shown = debug::Shown {
            seen,
            tap: shared.tap.clone(),
            effective: surroundings.effective,
            credentials,
            clock: surroundings.clock.clone(),
            prober,
        };
        let admin = debug::offer(admin, shown, surroundings.asking);
        let places = Places {
            address: config.admin,
            socket: config.socket.clone(),
        };
        let mut admin = admin
            .start(&places, &surroundings.clock, &servers)
            .context("cannot serve readiness and metrics")?;
        admin.watch(&tasks);
        let program = Program {
            tasks,
            inbound: shared.inbound,
            outbound: Some(shared.outbound),
            readiness,
            limits: config.stop,
        };
        let doors = workers
            .first()
            .map(|worker| worker.doors.clone())
            .unwrap_or_default();
        Ok(Self {
            doors,
            admin: Some(admin),
            workers,
            program,
        })
    }

    /// Where it listens for connections, with the ports that were found when 0 was asked for: captured ones first,
    /// then `serves`, then `upstreams`, each in the order of the settings.
    pub fn doors(&self) -> &[Door] {
        &self.doors
    }

    /// Where readiness and metrics are served.
    pub fn admin_address(&self) -> Option<SocketAddr> {
        self.admin.as_ref().and_then(RunningAdmin::address)
    }

    /// Whether it is ready, and what is missing.
    pub const fn readiness(&self) -> &Readiness {
        &self.program.readiness
    }

    /// Carries connections until `signals` or a task that must not end says to stop; then stops in order.
    pub async fn run(mut self, signals: &mut Signals) -> Ended {
        let ended = self.program.run(signals).await;
        for worker in &mut self.workers {
            worker.stop();
        }
        drop(self.admin.take());
        ended
    }
}

/// Answers for the application's probes, as long as connections to the workload are taken.
fn serve_probes(
    probes: &ProbesConfig,
    config: &Config,
    shared: &Shared,
    servers: &ServerMetrics,
    tasks: &Tasks,
) -> anyhow::Result<()> {
    let own = config.own.addresses.first().copied();
    let application = own.unwrap_or_else(|| Ipv4Addr::LOCALHOST.into());
    let (clock, drain) = (shared.clock.clone(), shared.inbound.clone());
    let probes = Probes::open(probes, application, clock, drain, servers)
        .context("cannot answer for the application's probes")?;
    spawn(tasks, "probes", async move {
        probes.serve().await;
        Ok::<_, Infallible>(())
    });
    Ok(())
}

/// All workers; the first one finds the ports that the others share.
fn start_workers(shared: &Shared) -> anyhow::Result<Vec<Worker>> {
    let mut doors = doors(&shared.config);
    let mut workers = Vec::new();
    for number in 0..shared.config.workers.get() {
        let worker = Worker::start(number, shared.clone(), doors).context("cannot carry connections")?;
        doors = worker.doors.clone();
        workers.push(worker);
    }
    Ok(workers)
}

fn doors(config: &Config) -> Vec<Door> {
    let mut doors = Vec::new();
    if let Some(capture) = &config.capture {
        doors.extend(captured(config, capture));
    }
    for serve in &config.serves {
        doors.push(Door::Inbound(
            serve.listen,
            inbound::connection::Way::Served(serve.to),
        ));
    }
    for upstream in &config.upstreams {
        let way = outbound::connection::Way::Explicit(Arc::new(upstream.clone()));
        doors.push(Door::Outbound(upstream.listen, way));
    }
    doors
}

/// The redirected ports in each family that the workload has. What it opens itself is redirected to loopback, so
/// nobody else can reach that port; what others open, to the address that it came to.
fn captured(config: &Config, capture: &CaptureConfig) -> Vec<Door> {
    let own = &config.own.addresses;
    let has_v6 = own.iter().any(IpAddr::is_ipv6);
    let has_v4 = own.is_empty() || own.iter().any(IpAddr::is_ipv4);
    let at = |ip: IpAddr, port: NonZeroU16| ListenAddr::new(SocketAddr::new(ip, port.get()));
    let inbound = |ip: IpAddr| Door::Inbound(at(ip, capture.inbound), inbound::connection::Way::Captured);
    let outbound = |ip: IpAddr| Door::Outbound(at(ip, capture.outbound), outbound::connection::Way::Captured);
    let mut doors = Vec::new();
    if has_v4 {
        doors.push(inbound(Ipv4Addr::UNSPECIFIED.into()));
        doors.push(outbound(Ipv4Addr::LOCALHOST.into()));
    }
    if has_v6 {
        doors.push(inbound(Ipv6Addr::UNSPECIFIED.into()));
        doors.push(outbound(Ipv6Addr::LOCALHOST.into()));
    }
    doors
}

/// Starts an essential task that ends when the program stops.
fn spawn<E>(tasks: &Tasks, name: &'static str, work: impl Future<Output = Result<(), E>> + Send + 'static)
where
    E: std::error::Error + Send + Sync + 'static,
{
    let stopping = tasks.stop_token();
    // On the heap first: each layer that a future is moved through would hold room for a copy of it.
    let work = Box::pin(work);
    tasks.spawn(name, async move {
        tokio::select! {
            ended = work => ended,
            () = stopping.cancelled() => Ok(()),
        }
    });
}

/// Shows how many rules are in force, and says that the first have come.
async fn show_rules(mut news: News, counters: ProxyMetrics, latch: Latch) -> Infallible {
    let mut refused = 0;
    loop {
        // The source is an essential task of its own, so both channels live as long as this.
        tokio::select! {
            Ok(()) = news.rules.changed() => {
                let count = news.rules.borrow_and_update().as_ref().map_or(0, |policy| policy.rule_count());
                counters.rules.set(i64::try_from(count).unwrap_or(i64::MAX));
                latch.release();
            }
            Ok(()) = news.refused.changed() => {
                let count = *news.refused.borrow_and_update();
                counters.documents_refused.inc_by(count - refused);
                refused = count;
            }
            else => return std::future::pending().await,
        }
    }
}

fn never(
    work: impl Future<Output = Infallible> + Send + 'static,
) -> impl Future<Output = Result<(), io::Error>> + Send + 'static {
    let work = Box::pin(work);
    async move { match work.await {} }
}
