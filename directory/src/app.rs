//! Runs a directory: the only file that knows all its parts.

use std::convert::Infallible;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use anyhow::Context as _;
use ferrule_credentials::source::keep;
use ferrule_daemon::admin::{Admin, Places, RunningAdmin};
use ferrule_daemon::clock::Clock;
use ferrule_daemon::drain::Drain;
use ferrule_daemon::grpc::Limits;
use ferrule_daemon::grpc::server::Server;
use ferrule_daemon::https::{ServerMetrics, listen};
use ferrule_daemon::logging::Levels;
use ferrule_daemon::metrics::Metrics;
use ferrule_daemon::ready::Readiness;
use ferrule_daemon::signals::{Asking, Signals};
use ferrule_daemon::stop::{Ended, Program};
use ferrule_daemon::tasks::Tasks;
use ferrule_identity::tls::TrustCell;
use ferrule_policy::Mesh;
use rustls::ServerConfig;
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::acks::Proxies;
use crate::announced::Announced;
use crate::config::{Config, SourceConfig};
use crate::control;
use crate::gauges::Gauges;
use crate::model::Model;
use crate::own::Own;
use crate::picture::{self, Picture};
use crate::serve::Directory;
use crate::source::folder::Folder;
#[cfg(feature = "kubernetes")]
use crate::source::kubernetes::{Kubernetes, Reach};
use crate::source::{Source, Teller};

/// A directory that is served.
pub struct Served {
    address: SocketAddr,
    admin: Option<RunningAdmin>,
    proxies: Proxies,
    pictures: watch::Receiver<Arc<Picture>>,
    program: Program,
}

/// What the surroundings of a directory give it.
pub struct Surroundings {
    /// Where metrics are registered.
    pub metrics: Metrics,
    /// Changes the log level; `None` where the directory is not alone in its process.
    pub levels: Option<Levels>,
    /// The time.
    pub clock: Clock,
    /// The settings in force with their secrets hidden, for the control socket.
    pub effective: String,
    /// Asks the program to stop, for the control socket.
    pub asking: Asking,
}

impl Served {
    /// Opens the ports and starts every task, with the source that the settings name. Proxies are answered once there
    /// is a certificate.
    ///
    /// # Errors
    /// When a port is taken or the settings name something that cannot be used.
    pub fn start(config: Config, surroundings: Surroundings) -> anyhow::Result<Self> {
        match &config.source {
            SourceConfig::Files(paths) => {
                let mesh = Mesh {
                    ranges: config.ranges.clone(),
                    ..Mesh::named(config.trust_domain.clone())
                };
                let mut folder = Folder::new(paths.clone(), mesh);
                if let Some(announced) = announced(&config) {
                    folder = folder.with(announced, surroundings.clock.clone());
                }
                Self::start_with(config, folder, surroundings)
            }
            #[cfg(feature = "kubernetes")]
            SourceConfig::Kubernetes { kubeconfig } => {
                let reach = kubeconfig.clone().map_or(Reach::Pod, Reach::File);
                let cluster = Kubernetes::new(reach, config.trust_domain.clone());
                Self::start_with(config, cluster, surroundings)
            }
            #[cfg(not(feature = "kubernetes"))]
            SourceConfig::Kubernetes { .. } => anyhow::bail!("this program was built without Kubernetes"),
        }
    }

    /// The same with a source of one's own, whatever the settings name.
    ///
    /// # Errors
    /// When a port is taken or the settings name something that cannot be used.
    pub fn start_with(
        config: Config,
        source: impl Source,
        surroundings: Surroundings,
    ) -> anyhow::Result<Self> {
        let Surroundings {
            metrics,
            levels,
            clock,
            effective,
            asking,
        } = surroundings;
        let listener = bind(&config)?;
        let address = listener
            .local_addr()
            .context("cannot tell where the directory listens")?;
        let servers = ServerMetrics::register(&metrics);
        let gauges = Gauges::register(&metrics);
        let readiness = Readiness::new();
        let (tasks, drain) = (Tasks::new(), Drain::new());
        let trust = Arc::new(TrustCell::default());
        let (tls, settings) = watch::channel(None);
        let (snapshot, snapshots) = watch::channel(Arc::default());
        let own = Own {
            id: config.id.clone(),
            trust: Arc::clone(&trust),
            clock: clock.clone(),
            tls,
            snapshot,
        };
        let (keeping, kept) = keep(
            config.credentials.clone(),
            config.id.clone(),
            Arc::clone(&trust),
            clock.clone(),
        );
        spawn(&tasks, "credentials", keeping);
        spawn(&tasks, "own certificate", own.follow(kept.credentials));

        let (teller, told) = Teller::new();
        let faults = told.faults.clone();
        spawn(&tasks, "source", source.run(teller));
        let first = Picture::new(Model::new(config.trust_domain.clone(), &config.ranges));
        let (pictures, newest) = watch::channel(Arc::new(first));
        let has_documents = readiness.latch("documents");
        let proxies = Proxies::default();
        let keeping = picture::keep(
            pictures,
            told,
            snapshots,
            has_documents,
            proxies.clone(),
            clock.clone(),
            gauges.clone(),
        );
        spawn(&tasks, "picture", keeping);

        let directory = Directory {
            pictures: newest.clone(),
            proxies: proxies.clone(),
            trust,
            readers: config.readers.clone(),
            announced: announced(&config),
            gauges,
            clock: clock.clone(),
        };
        let limits = config.limits;
        let server = Server::new(
            "directory",
            Limits::default(),
            limits.connections,
            limits.handshakes,
            drain.clone(),
            &servers,
        );
        let has_certificate = readiness.latch("certificate");
        let (closing, ready) = (drain.clone(), readiness.clone());
        tasks.spawn("directory", async move {
            if let Some((first, settings)) = first_settings(settings, &closing).await {
                has_certificate.release();
                // Whoever comes before the documents would be told that there is nobody.
                tokio::select! {
                    () = ready.ready() => {}
                    () = closing.closing() => {}
                }
                let tls = move || settings.borrow().clone().unwrap_or_else(|| first.clone());
                server.serve(listener, tls, Arc::new(directory)).await;
            }
            Ok::<_, io::Error>(())
        });

        let admin = Admin::new(readiness.clone(), metrics, levels);
        let admin = control::actions(admin, proxies.clone(), faults, effective, clock.clone(), asking);
        let mut admin = start_admin(admin, &config, &clock, &servers)?;
        if let Some(admin) = &mut admin {
            admin.watch(&tasks);
        }
        let program = Program {
            tasks,
            inbound: drain,
            outbound: None,
            readiness,
            limits: config.stop,
        };
        Ok(Self {
            address,
            admin,
            proxies,
            pictures: newest,
            program,
        })
    }

    /// Where proxies come.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where readiness and metrics are served, when they are.
    pub fn admin_address(&self) -> Option<SocketAddr> {
        self.admin.as_ref().and_then(RunningAdmin::address)
    }

    /// Who is connected, and who holds what.
    pub const fn proxies(&self) -> &Proxies {
        &self.proxies
    }

    /// What proxies are told.
    pub const fn pictures(&self) -> &watch::Receiver<Arc<Picture>> {
        &self.pictures
    }

    /// Whether it is ready, and what is missing.
    pub const fn readiness(&self) -> &Readiness {
        &self.program.readiness
    }

    /// Serves until `signals` or a task that must not end says to stop; then stops in order.
    pub async fn run(mut self, signals: &mut Signals) -> Ended {
        let ended = self.program.run(signals).await;
        drop(self.admin.take());
        ended
    }
}

fn announced(config: &Config) -> Option<Announced> {
    let folder = config.announced.clone()?;
    Some(Announced::new(folder, config.trust_domain.clone()))
}

/// The port of the settings, or 15012 on all addresses of both families, of IPv4 alone where there is no IPv6.
fn bind(config: &Config) -> anyhow::Result<TcpListener> {
    if let Some(address) = config.listen {
        return Ok(listen(address)?);
    }
    match listen(SocketAddr::from((Ipv6Addr::UNSPECIFIED, PORT))) {
        Ok(listener) => Ok(listener),
        Err(error) if error.source.kind() == io::ErrorKind::AddrInUse => Err(error.into()),
        Err(_) => Ok(listen(SocketAddr::from((Ipv4Addr::UNSPECIFIED, PORT)))?),
    }
}

fn start_admin(
    admin: Admin,
    config: &Config,
    clock: &Clock,
    servers: &ServerMetrics,
) -> anyhow::Result<Option<RunningAdmin>> {
    if config.admin.is_none() && config.socket.is_none() {
        return Ok(None);
    }
    let places = Places {
        address: config.admin,
        socket: config.socket.clone(),
    };
    let running = admin.start(&places, clock, servers);
    running.map(Some).context("cannot serve readiness and metrics")
}

type SettingsNews = watch::Receiver<Option<Arc<ServerConfig>>>;

/// Waits for the first certificate; `None` when the program stops before.
async fn first_settings(
    mut settings: SettingsNews,
    drain: &Drain,
) -> Option<(Arc<ServerConfig>, SettingsNews)> {
    let first = tokio::select! {
        first = settings.wait_for(Option::is_some) => first.ok()?.clone()?,
        () = drain.closing() => return None,
    };
    Some((first, settings))
}

/// Starts an essential task that ends when the program stops.
fn spawn(tasks: &Tasks, name: &'static str, work: impl Future<Output = Infallible> + Send + 'static) {
    let stopping = tasks.stop_token();
    tasks.spawn(name, async move {
        tokio::select! {
            never = work => match never {},
            () = stopping.cancelled() => Ok::<_, io::Error>(()),
        }
    });
}

const PORT: u16 = 15012;
