//! Runs the webhook: the only file that knows all its parts.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use ferrule_daemon::admin::{Admin, Places};
use ferrule_daemon::clock::Clock;
use ferrule_daemon::drain::Drain;
use ferrule_daemon::https::{Limits, Server, ServerMetrics, listen};
use ferrule_daemon::logging::{Chain, Levels};
use ferrule_daemon::metrics::Metrics;
use ferrule_daemon::ready::Readiness;
use ferrule_daemon::signals::Signals;
use ferrule_daemon::stop::{Ended, Program};
use ferrule_daemon::tasks::Tasks;
use ferrule_identity::SpiffeId;
use tracing::{info, warn};

use crate::cluster::{Cluster, knows_native_sidecars};
use crate::config::Config;
use crate::serving::Serving;
use crate::webhook::Webhook;

/// What the surroundings of the program give it.
pub struct Surroundings {
    /// Where metrics are registered.
    pub metrics: Metrics,
    /// Changes the log level.
    pub levels: Option<Levels>,
    /// The time.
    pub clock: Clock,
}

/// Answers the API server of this pod's cluster until `signals` say to stop.
///
/// # Errors
/// When a port is taken, or this is no pod of a cluster.
pub async fn run(config: Config, surroundings: Surroundings, signals: &mut Signals) -> anyhow::Result<Ended> {
    let Surroundings {
        metrics,
        levels,
        clock,
    } = surroundings;
    let listener = listen(config.listen)?;
    let counters = ServerMetrics::register(&metrics);
    let readiness = Readiness::new();
    let ready = readiness.latch("certificate of the webhook");
    let admin = Admin::new(readiness.clone(), metrics.clone(), levels);
    let places = Places {
        address: config.admin,
        socket: None,
    };
    let admin = admin.start(&places, &clock, &counters)?;
    let (tasks, drain) = (Tasks::new(), Drain::new());
    let client = kube::Client::try_default()
        .await
        .context("cannot find the API server of this cluster")?;
    let native = match config.sidecar.native {
        Some(native) => native,
        None => ask_version(&client, &clock).await,
    };
    let webhook = Webhook::new(config.plan(native), &metrics);
    let id = SpiffeId::workload(&config.trust_domain, &config.namespace, &config.ca.account)
        .context("the namespace and the account make no SPIFFE ID")?;
    let (serving, mut served) = Serving::new(id, config.ca.clone(), clock.clone());
    never(&tasks, "serving certificate", serving.run());
    let cluster = Cluster {
        client,
        webhooks: config.webhooks.clone(),
        namespace: config.namespace.clone(),
        clock: clock.clone(),
    };
    never(&tasks, "cluster", cluster.run(served.clone()));
    let server = Server::new("webhook", LIMITS, clock, drain.clone(), &counters);
    let closing = drain.clone();
    tasks.spawn("webhook", async move {
        let first = tokio::select! {
            first = served.wait_for(|served| served.tls.is_some()) => first.ok().and_then(|served| served.tls.clone()),
            () = closing.closing() => None,
        };
        if let Some(first) = first {
            ready.release();
            let tls = move || served.borrow().tls.clone().unwrap_or_else(|| Arc::clone(&first));
            server.serve_tls(listener, tls, Arc::new(webhook)).await;
        }
        Ok::<_, Infallible>(())
    });
    let program = Program {
        tasks,
        inbound: drain,
        outbound: None,
        readiness,
        limits: config.stop,
    };
    let ended = program.run(signals).await;
    drop(admin);
    Ok(ended)
}

async fn ask_version(client: &kube::Client, clock: &Clock) -> bool {
    loop {
        match knows_native_sidecars(client).await {
            Ok(true) => return true,
            Ok(false) => {
                warn!("this cluster is older than Kubernetes 1.29: sidecars are ordinary containers");
                return false;
            }
            Err(error) => info!(error = %Chain(&error), "waiting for the API server"),
        }
        clock.sleep(Duration::from_secs(1)).await;
    }
}

/// Starts an essential task that ends when the program stops.
fn never(tasks: &Tasks, name: &'static str, work: impl Future<Output = Infallible> + Send + 'static) {
    let stopping = tasks.stop_token();
    tasks.spawn(name, async move {
        tokio::select! {
            never = work => match never {},
            () = stopping.cancelled() => Ok::<_, Infallible>(()),
        }
    });
}

/// A pod has at most a few hundred KiB; an API server opens few connections and keeps them.
const LIMITS: Limits = Limits {
    header_bytes: 16 * 1024,
    header_count: 64,
    header_time: Duration::from_secs(5),
    body_bytes: 3 * 1024 * 1024,
    body_time: Duration::from_secs(10),
    request_time: Duration::from_secs(10),
    write_stall_time: Duration::from_secs(10),
    idle_time: Duration::from_secs(120),
    handshake_time: Duration::from_secs(5),
    connections: 1024,
    handshakes: 64,
    connections_per_address: None,
};
