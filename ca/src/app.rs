//! Runs a CA: the only file that knows all its parts.

use std::collections::HashSet;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use ferrule_daemon::admin::{Admin, Places, RunningAdmin};
use ferrule_daemon::drain::Drain;
use ferrule_daemon::https::{Limits, Server, ServerMetrics, listen};
use ferrule_daemon::logging::{Chain, Levels};
use ferrule_daemon::metrics::Metrics;
use ferrule_daemon::ready::Readiness;
use ferrule_daemon::signals::Signals;
use ferrule_daemon::stop::{Ended, Program};
use ferrule_daemon::tasks::Tasks;
use ferrule_identity::tls::{TrustCell, TrustSnapshot};
use rustls::ServerConfig;
use rustls_pki_types::ServerName;
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::api::serving::Serving;
use crate::api::trust::Trust;
use crate::api::{Api, Rooms};
use crate::attest::certificate::Certificates;
use crate::attest::enroll::Enroller;
use crate::attest::host_key::HostKeys;
use crate::attest::kube_api::KubeApi;
use crate::attest::statements::Statements;
use crate::attest::token_review::TokenReviewer;
use crate::config::{Config, LimitsConfig, ServingName};
use crate::gauges::Gauges;
use crate::instance::Instance;
use crate::revoke::RevocationLists;

/// A CA that is served.
pub struct Served {
    address: SocketAddr,
    admin: Option<RunningAdmin>,
    program: Program,
    instance: Arc<Instance>,
}

/// What the surroundings of a CA give it.
pub struct Surroundings {
    /// Where metrics are registered.
    pub metrics: Metrics,
    /// Changes the log level; `None` where the CA is not alone in its process.
    pub levels: Option<Levels>,
}

impl Served {
    /// Opens the ports and starts every task. The API answers once it has its own certificate.
    ///
    /// # Errors
    /// When a port is taken or the settings name something that cannot be used.
    pub async fn start(instance: Instance, surroundings: Surroundings) -> anyhow::Result<Self> {
        let instance = Arc::new(instance);
        let Surroundings { metrics, levels } = surroundings;
        let config = &instance.config;
        let listener = bind(config)?;
        let address = listener
            .local_addr()
            .context("cannot tell where the API listens")?;
        let counters = ServerMetrics::register(&metrics);
        let readiness = Readiness::new();
        let ready = readiness.latch("certificate of the API");
        let admin = start_admin(&instance, &readiness, &metrics, levels, &counters)?;
        let (tasks, drain) = (Tasks::new(), Drain::new());

        let lists = RevocationLists::new(config.crl_lifetime);
        let first = Trust::read(
            &instance.authorities,
            instance.ledger.as_ref(),
            &lists,
            instance.now(),
        )
        .await?;
        let first = Arc::new(first);
        let cell = Arc::new(TrustCell::new(snapshot(&first)));
        let (publish, trust) = watch::channel(first);
        let gauges = Gauges::register(&metrics);
        if let Some(kubernetes) = &config.kubernetes
            && let Some(place) = kubernetes.publish.clone()
        {
            let api = KubeApi::new(kubernetes, 1, REVIEW_TIME)?;
            let keeping = crate::publish::keep(api, place, trust.clone(), instance.clock.clone());
            tasks.spawn("trust bundle", until_stop(&tasks, keeping));
        }
        let rooms = rooms(&instance, trust, readiness.clone(), drain.clone())?;
        let verified = rooms.certificates.verified();
        let api = Api::new(rooms, &metrics);

        let keeping = instance.clone();
        tasks.spawn(
            "rotation",
            until_stop(&tasks, async move { keeping.authorities.keep().await }),
        );
        let publishing = publish_changes(instance.clone(), lists, publish, cell.clone(), gauges);
        tasks.spawn("publication", until_stop(&tasks, publishing));
        tasks.spawn("refusals", until_stop(&tasks, settle_refusals(instance.clone())));
        let (made, settings) = watch::channel(None);
        let names = server_names(&config.serving)?;
        let (issuer, authorities) = (instance.issuer.clone(), instance.authorities.clone());
        let serving = Serving::new(issuer, authorities, cell, verified, names, instance.clock.clone());
        tasks.spawn("serving certificate", until_stop(&tasks, serving.run(made)));
        let server = Server::new(
            "api",
            limits(&config.limits),
            instance.clock.clone(),
            drain.clone(),
            &counters,
        );
        let closing = drain.clone();
        tasks.spawn("api", async move {
            let first = first_settings(settings, &closing).await;
            if let Some((first, settings)) = first {
                ready.release();
                let tls = move || settings.borrow().clone().unwrap_or_else(|| first.clone());
                server.serve_tls(listener, tls, Arc::new(api)).await;
            }
            Ok::<_, io::Error>(())
        });
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
            program,
            instance,
        })
    }

    /// Where the API listens.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where readiness and metrics are served, when they are.
    pub fn admin_address(&self) -> Option<SocketAddr> {
        self.admin.as_ref().and_then(RunningAdmin::address)
    }

    /// What is served.
    pub fn instance(&self) -> &Instance {
        &self.instance
    }

    /// Waits until the API answers.
    pub async fn ready(&self) {
        self.program.readiness.ready().await;
    }

    /// Serves until `signals` or a task that must not end says to stop; then stops in order.
    ///
    /// # Errors
    /// When the ledger could not be closed properly.
    pub async fn run(mut self, signals: &mut Signals) -> anyhow::Result<Ended> {
        let ended = self.program.run(signals).await;
        if let Err(error) = self.instance.refusals.settle(true).await {
            tracing::warn!(error = %Chain(&error), "the last refusals are not recorded");
        }
        self.instance.close().await.context("cannot close the ledger")?;
        drop(self.admin.take());
        Ok(ended)
    }
}

/// The port of the settings, or 15010 on all addresses of both families, of IPv4 alone where there is no IPv6.
fn bind(config: &Config) -> anyhow::Result<TcpListener> {
    if let Some(address) = config.listen {
        return Ok(listen(address)?);
    }
    let v6 = SocketAddr::from((Ipv6Addr::UNSPECIFIED, PORT));
    match listen(v6) {
        Ok(listener) => Ok(listener),
        Err(error) if error.source.kind() == io::ErrorKind::AddrInUse => Err(error.into()),
        Err(_) => Ok(listen(SocketAddr::from((Ipv4Addr::UNSPECIFIED, PORT)))?),
    }
}

fn start_admin(
    instance: &Instance,
    readiness: &Readiness,
    metrics: &Metrics,
    levels: Option<Levels>,
    counters: &ServerMetrics,
) -> anyhow::Result<Option<RunningAdmin>> {
    let Some(address) = instance.config.admin else {
        return Ok(None);
    };
    let places = Places {
        address: Some(address),
        socket: None,
    };
    let admin = Admin::new(readiness.clone(), metrics.clone(), levels);
    Ok(Some(admin.start(&places, &instance.clock, counters)?))
}

fn rooms(
    instance: &Instance,
    trust: watch::Receiver<Arc<Trust>>,
    readiness: Readiness,
    drain: Drain,
) -> anyhow::Result<Rooms> {
    let config = &instance.config;
    let ledger = instance.shared_ledger();
    let trust_domain = instance.trust_domain.clone();
    let statements = Statements::new(config.limits.statements);
    let reviewer = match &config.kubernetes {
        None => None,
        Some(kubernetes) => {
            let api = KubeApi::new(kubernetes, config.limits.reviews, REVIEW_TIME)?;
            Some(TokenReviewer::new(
                api,
                kubernetes.audience.clone(),
                trust_domain.clone(),
            ))
        }
    };
    Ok(Rooms {
        clock: instance.clock.clone(),
        issuer: instance.issuer.clone(),
        ledger: ledger.clone(),
        refusals: instance.refusals.clone(),
        enroller: Enroller::new(ledger.clone()),
        hosts: HostKeys::new(ledger.clone(), trust_domain, config.limits.remembered, statements),
        certificates: Certificates::new(ledger),
        reviewer,
        overview: instance.overview(),
        trust,
        admins: config.admins.iter().cloned().collect::<HashSet<_>>(),
        servers: config
            .servers
            .iter()
            .map(|(id, names)| Ok((id.clone(), server_names(names)?)))
            .collect::<anyhow::Result<_>>()?,
        readiness,
        drain,
        limits: config.limits,
    })
}

fn server_names(names: &[ServingName]) -> anyhow::Result<Vec<ServerName<'static>>> {
    let name = |name: &ServingName| match name {
        ServingName::Ip(address) => Ok(ServerName::from(*address)),
        ServingName::Dns(name) => {
            ServerName::try_from(name.clone()).with_context(|| format!("{name} cannot be in a certificate"))
        }
    };
    names.iter().map(name).collect()
}

fn limits(limits: &LimitsConfig) -> Limits {
    Limits {
        connections: limits.connections,
        body_bytes: limits.body,
        body_time: limits.request_time,
        request_time: limits.request_time + WORK_TIME,
        ..Limits::default()
    }
}

/// Ends a task that never ends by itself when the program stops.
fn until_stop(
    tasks: &Tasks,
    task: impl Future<Output = ()> + Send + 'static,
) -> impl Future<Output = io::Result<()>> + Send + 'static {
    let stop = tasks.stop_token();
    async move {
        tokio::select! {
            () = task => {}
            () = stop.cancelled() => {}
        }
        Ok(())
    }
}

type Settings = watch::Receiver<Option<Arc<ServerConfig>>>;

/// Waits for the API's first certificate; `None` when the program stops before.
async fn first_settings(mut settings: Settings, drain: &Drain) -> Option<(Arc<ServerConfig>, Settings)> {
    let first = tokio::select! {
        first = settings.wait_for(Option::is_some) => first.ok()?.clone()?,
        () = drain.closing() => return None,
    };
    Some((first, settings))
}

/// Publishes the bundle, the deny list and the revocation lists anew whenever the ledger or the certificates have changed.
async fn publish_changes(
    instance: Arc<Instance>,
    lists: RevocationLists,
    publish: watch::Sender<Arc<Trust>>,
    cell: Arc<TrustCell>,
    gauges: Gauges,
) {
    let mut changes = crate::ledger::Ledger::watch(instance.ledger.as_ref());
    let mut views = instance.authorities.subscribe();
    loop {
        changes.mark_unchanged();
        views.mark_unchanged();
        let now = instance.now();
        match Trust::read(&instance.authorities, instance.ledger.as_ref(), &lists, now).await {
            Ok(trust) => {
                cell.store(snapshot(&trust));
                gauges.set(&instance.authorities.view(), &trust);
                publish.send_if_modified(|last| {
                    let differs = !trust.says_the_same(last);
                    if differs {
                        *last = Arc::new(trust);
                    }
                    differs
                });
            }
            Err(error) => tracing::error!(error = %Chain(&error), "what is trusted cannot be published anew"),
        }
        tokio::select! {
            changed = changes.changed() => if changed.is_err() { return },
            changed = views.changed() => if changed.is_err() { return },
            // Roots expire without anybody's doing, and what failed is tried again.
            () = instance.clock.sleep(PUBLISH_AGAIN) => {}
        }
    }
}

fn snapshot(trust: &Trust) -> TrustSnapshot {
    TrustSnapshot {
        bundles: trust.bundles.clone(),
        revocations: trust.revocations.clone(),
    }
}

/// Writes down once a minute how many refusals were left out of the ledger.
async fn settle_refusals(instance: Arc<Instance>) {
    loop {
        instance.clock.sleep(SETTLE).await;
        if let Err(error) = instance.refusals.settle(false).await {
            tracing::warn!(error = %Chain(&error), "counted refusals are not recorded yet");
        }
    }
}

const PORT: u16 = 15010;

/// From the caller's request for a review to the API server's answer.
const REVIEW_TIME: Duration = Duration::from_secs(5);

/// For what comes after the body: a review, the ledger's patience, and some room.
const WORK_TIME: Duration = Duration::from_secs(15);

const PUBLISH_AGAIN: Duration = Duration::from_secs(60);

const SETTLE: Duration = Duration::from_secs(60);
