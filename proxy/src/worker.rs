//! Runs the threads that carry connections, each with a runtime and accept queues of its own.

use std::cell::Cell;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::JoinHandle;

use ferrule_credentials::Newest;
use ferrule_daemon::clock::Clock;
use ferrule_daemon::drain::Drain;
use ferrule_daemon::ready::Readiness;
use tokio::net::TcpListener;
use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;

use crate::authz::gate::Gate;
use crate::balance::{Balancer, probe};
use crate::config::Config;
use crate::egress::message::Family;
use crate::egress::resolver::Resolver;
use crate::egress::servers::Servers;
use crate::forward::moment::Moments;
use crate::framing::pool::Pool;
use crate::framing::turn::{self, Turn};
use crate::framing::warm::Warmth;
use crate::inbound;
use crate::kit::Kit;
use crate::knowledge::News;
use crate::net::accept::accept_each;
use crate::net::address::ListenAddr;
use crate::net::listener::{ListenError, listen};
use crate::net::socket::prepare_accepted;
use crate::observe::book::{Book, Seen};
use crate::observe::edges::Edges;
use crate::observe::live::Shard;
use crate::observe::metrics::ProxyMetrics;
use crate::observe::tap::Tap;
use crate::outbound;
use crate::proof::Token;
use crate::tls::material::Material;

/// What all workers share: values that do not change, and the receiving ends of those that do.
#[derive(Clone)]
pub struct Shared {
    /// The settings.
    pub config: Arc<Config>,
    /// Certificates and trust, for judging again.
    pub credentials: Newest,
    /// The certificate to show.
    pub material: watch::Receiver<Option<Arc<Material>>>,
    /// Rules, and who lives where.
    pub news: News,
    /// The counters.
    pub metrics: ProxyMetrics,
    /// Where lines of connections are passed on.
    pub tap: Tap,
    /// Connections to the workload.
    pub inbound: Drain,
    /// Connections from the workload.
    pub outbound: Drain,
    /// Whether the program is ready.
    pub readiness: Readiness,
    /// What the proxy knows itself by.
    pub token: Token,
    /// The time.
    pub clock: Clock,
    /// How many connections from other workloads carry nothing now.
    pub parked: Arc<AtomicUsize>,
}

/// A place where connections come in.
#[derive(Debug, Clone)]
pub enum Door {
    /// To the workload.
    Inbound(ListenAddr, inbound::connection::Way),
    /// From the workload.
    Outbound(ListenAddr, outbound::connection::Way),
}

/// A running worker. Dropping it waits for its end, which must have been asked for.
pub struct Worker {
    /// Where its doors are; all workers have the same.
    pub doors: Vec<Door>,
    /// What the debug socket shows of its connections.
    pub seen: Seen,
    thread: Option<JoinHandle<()>>,
    stop: Option<oneshot::Sender<()>>,
    end: Option<oneshot::Receiver<()>>,
}

impl Door {
    /// Where it is.
    pub const fn address(&self) -> ListenAddr {
        match self {
            Self::Inbound(address, _) | Self::Outbound(address, _) => *address,
        }
    }

    fn at(self, address: ListenAddr) -> Self {
        match self {
            Self::Inbound(_, way) => Self::Inbound(address, way),
            Self::Outbound(_, way) => Self::Outbound(address, way),
        }
    }
}

impl Worker {
    /// Starts the worker of that number, which listens at `doors`; returns once it does.
    ///
    /// # Errors
    /// When the thread cannot be started, or a door's address is taken.
    pub fn start(number: u16, shared: Shared, doors: Vec<Door>) -> Result<Self, WorkerError> {
        let seen = Seen {
            open: Shard::default(),
            edges: Edges::default(),
            tap: shared.tap.clone(),
        };
        let (opened, is_open) = sync_channel(1);
        let (stop, stopped) = oneshot::channel();
        let (alive, end) = oneshot::channel();
        let books = seen.clone();
        let thread = std::thread::Builder::new()
            .name(format!("worker-{number}"))
            .spawn(move || {
                // Dropped when the thread ends, by a panic too.
                let _alive: oneshot::Sender<()> = alive;
                run(number, shared, doors, books, &opened, stopped);
            })
            .map_err(|source| WorkerError::Thread { source })?;
        let doors = is_open.recv().map_err(|_| WorkerError::Ended)??;
        Ok(Self {
            doors,
            seen,
            thread: Some(thread),
            stop: Some(stop),
            end: Some(end),
        })
    }

    /// Ends when the worker's thread does. Once.
    pub fn ended(&mut self) -> impl Future<Output = ()> + Send + use<> {
        let end = self.end.take();
        async move {
            if let Some(end) = end {
                // Nothing is ever sent: the end of the channel is the news.
                let _ = end.await;
            }
        }
    }

    /// Asks the worker to end now; what is still open ends with it.
    pub fn stop(&mut self) {
        drop(self.stop.take());
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.stop();
        if let Some(thread) = self.thread.take() {
            // A panic there has been logged where it happened.
            let _ = thread.join();
        }
    }
}

/// The whole life of a worker's thread.
fn run(
    number: u16,
    shared: Shared,
    doors: Vec<Door>,
    seen: Seen,
    opened: &SyncSender<Result<Vec<Door>, WorkerError>>,
    stopped: oneshot::Receiver<()>,
) {
    let runtime = Builder::new_current_thread()
        .enable_all()
        .build_local(LocalOptions::default());
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(source) => {
            // Whoever started the worker waits for exactly one answer.
            let _ = opened.send(Err(WorkerError::Thread { source }));
            return;
        }
    };
    runtime.block_on(async {
        let listening = match open(doors, &shared.config) {
            Ok(listening) => listening,
            Err(error) => {
                let _ = opened.send(Err(error));
                return;
            }
        };
        let doors = listening.iter().map(|(door, _)| door.clone()).collect();
        if opened.send(Ok(doors)).is_err() {
            return;
        }
        let kit = Rc::new(kit(number, shared, seen));
        let mut serving = JoinSet::new();
        for (door, listener) in listening {
            serving.spawn_local(serve(door, listener, Rc::clone(&kit)));
        }
        tokio::select! {
            () = kit.gate.mind(&kit.inbound, &kit.outbound) => {}
            () = kit.book.mind() => {}
            () = probe::watch(&kit) => {}
            () = turn::mind(&kit) => {}
            () = kit.moments.run() => {}
            () = first_panic(serving) => {}
            _ = stopped => {}
        }
    });
}

fn open(doors: Vec<Door>, config: &Config) -> Result<Vec<(Door, TcpListener)>, WorkerError> {
    doors
        .into_iter()
        .map(|door| {
            // Who comes from the workload is on this machine.
            let near = matches!(door, Door::Outbound(..));
            let listener = listen(door.address(), config.limits.backlog, near)
                .map_err(|source| WorkerError::Listen { source })?;
            prepare_accepted(&listener, config.connection.keepalive)
                .map_err(|source| WorkerError::Thread { source })?;
            let found = listener
                .local_addr()
                .map_err(|source| WorkerError::Thread { source })?;
            Ok((door.at(ListenAddr::new(found)), listener))
        })
        .collect()
}

fn kit(number: u16, shared: Shared, seen: Seen) -> Kit {
    let own = Arc::new(shared.config.own.clone());
    let gate = Gate::new(
        Arc::clone(&own),
        shared.config.id.clone(),
        shared.news.clone(),
        shared.credentials,
        shared.clock.clone(),
        shared.config.connection.expiry_grace,
    );
    let pooled = shared.metrics.pooled.clone();
    Kit {
        gate,
        pool: Pool::new(shared.config.connection.pool.clone(), pooled),
        warmth: Warmth::of(&shared.config.upstreams),
        turn: Turn::default(),
        moments: Moments::default(),
        parked: shared.parked,
        material: shared.material,
        map: shared.news.map,
        asker: shared.news.asker,
        resolver: resolver(&shared.config, &shared.metrics),
        book: Book::new(own, shared.metrics, seen, number, shared.clock, shared.news.rules),
        inbound: shared.inbound,
        outbound: shared.outbound,
        readiness: shared.readiness,
        token: shared.token,
        shaking: Cell::new(0),
        balancer: Balancer::new(&shared.config.own, shared.config.balance.clone()),
        config: shared.config,
    }
}

/// Asks for addresses of the families that the workload has.
fn resolver(config: &Config, metrics: &ProxyMetrics) -> Resolver {
    let own = &config.own.addresses;
    let mut families = Vec::new();
    if own.is_empty() || own.iter().any(std::net::IpAddr::is_ipv4) {
        families.push(Family::V4);
    }
    if own.is_empty() || own.iter().any(std::net::IpAddr::is_ipv6) {
        families.push(Family::V6);
    }
    let (named, datagrams) = (config.resolvers.clone(), metrics.own_datagrams.clone());
    let servers = Servers::new(named, config.dialing(), RESOLVER_PATIENCE, datagrams);
    Resolver::new(servers, families)
}

async fn serve(door: Door, listener: TcpListener, kit: Rc<Kit>) {
    match door {
        Door::Inbound(_, way) => {
            accept_each(listener, &kit.inbound, |tcp, client| {
                kit.inbound
                    .spawn_local(inbound::connection::run(tcp, client, way, Rc::clone(&kit)));
            })
            .await;
        }
        Door::Outbound(_, way) => {
            accept_each(listener, &kit.outbound, |tcp, client| {
                kit.outbound.spawn_local(outbound::connection::run(
                    tcp,
                    client,
                    way.clone(),
                    Rc::clone(&kit),
                ));
            })
            .await;
        }
    }
}

/// Ends when an accept loop panics; they end by themselves when their direction closes.
async fn first_panic(mut serving: JoinSet<()>) {
    while let Some(ended) = serving.join_next().await {
        if ended.is_err() {
            return;
        }
    }
    std::future::pending().await
}

/// How long one resolver is waited for, each time that it is asked.
const RESOLVER_PATIENCE: std::time::Duration = std::time::Duration::from_millis(1500);

/// Why a worker does not run.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// A door cannot be opened.
    #[error("cannot open a way in")]
    Listen {
        /// Which.
        source: ListenError,
    },
    /// The thread or its runtime cannot be started.
    #[error("cannot start a thread for connections")]
    Thread {
        /// What the system says.
        source: io::Error,
    },
    /// It ended by itself.
    #[error("a thread for connections has ended")]
    Ended,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The bytes that a future of this function takes.
    fn size<A, B, C, D, F: Future>(_: fn(A, B, C, D) -> F) -> usize {
        size_of::<F>()
    }

    // Each open connection owns one of these, idle or not.
    #[test]
    fn a_connection_is_small() {
        assert!(size(inbound::connection::run) <= 4096);
        assert!(size(outbound::connection::run) <= 4096);
    }
}
