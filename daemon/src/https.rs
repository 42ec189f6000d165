//! Serves HTTP/1.1 over TLS to callers who may be slow, hostile, or many.

pub(crate) mod accept;
mod body;
mod connection;
mod content;
mod date;
pub(crate) mod front;
mod guard;
mod handler;
mod hello;
pub(crate) mod places;
mod screen;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

pub use accept::Listen;
pub use body::{Body, BodyError};
pub use content::Content;
pub use handler::{Allowance, Handler, Peer, PeerAddr, Refusal, Reply, Request, reply, stream};

use crate::clock::Clock;
use crate::drain::Drain;
use crate::metrics::{Counter, Family, Gauge, Metrics};
use date::DateHeader;
use front::Front;
use places::Places;

/// What a server allows its callers, all of them strangers until they have shown a certificate.
///
/// A limit that is reached ends the request or the connection, and never the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Request line and header lines together, in bytes; more is answered with 431. 16 KiB unless set, and no
    /// less than 8 KiB, the smallest read buffer.
    pub header_bytes: usize,
    /// Header lines; more is answered with 431. 64 unless set.
    pub header_count: usize,
    /// From the first byte of a request (on a new connection: from the end of the handshake) to the end of its
    /// headers; then the connection ends. 5 s unless set.
    pub header_time: Duration,
    /// The body of a request in bytes, unless the handler allows another size; more is answered with 413.
    /// 64 KiB unless set.
    pub body_bytes: usize,
    /// Reading the body of a request; a slower one is answered with 408. 10 s unless set.
    pub body_time: Duration,
    /// From the end of the headers to the answer, unless the handler allows another time; a later answer is
    /// replaced by a 503. 30 s unless set.
    pub request_time: Duration,
    /// How long the caller may take none of the bytes that wait for it; then the connection ends. 10 s unless set.
    pub write_stall_time: Duration,
    /// How long a connection may stay open between requests. 60 s unless set.
    pub idle_time: Duration,
    /// The TLS handshake, together with the wait for its turn. 5 s unless set.
    pub handshake_time: Duration,
    /// Connections at once; a further one is closed as soon as it is accepted. 4,096 unless set.
    pub connections: usize,
    /// TLS handshakes at once, from the client's hello on; a further one waits for its turn. 256 unless set.
    pub handshakes: usize,
    /// Connections at once from one IPv4 address or one IPv6 /64 network; a further one is closed as soon as it
    /// is accepted. Not limited unless set.
    pub connections_per_address: Option<usize>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            header_bytes: 16 * 1024,
            header_count: 64,
            header_time: Duration::from_secs(5),
            body_bytes: 64 * 1024,
            body_time: Duration::from_secs(10),
            request_time: Duration::from_secs(30),
            write_stall_time: Duration::from_secs(10),
            idle_time: Duration::from_secs(60),
            handshake_time: Duration::from_secs(5),
            connections: 4_096,
            handshakes: 256,
            connections_per_address: None,
        }
    }
}

/// An HTTP/1.1 server: the limits and counters of one listener.
#[derive(Debug)]
pub struct Server {
    name: &'static str,
    limits: Limits,
    clock: Clock,
    drain: Drain,
    counters: Counters,
}

impl Server {
    /// A server that is called `name` in logs and metrics. Its connections count as open in `drain`, and its
    /// answers carry the time of `clock`.
    pub fn new(
        name: &'static str,
        limits: Limits,
        clock: Clock,
        drain: Drain,
        counters: &ServerMetrics,
    ) -> Self {
        Self {
            name,
            limits,
            clock,
            drain,
            counters: counters.of(name),
        }
    }

    /// Serves over TLS until the drain closes, and returns once the listener is closed; open connections go on in
    /// the drain.
    ///
    /// `tls` is asked for the configuration at each connection, so that a new certificate serves the next caller.
    /// Its client verifier decides which certificates are accepted; those are handed on as [`Peer::certificates`].
    /// It should offer the ALPN protocol `http/1.1` alone.
    pub async fn serve_tls<L, T, H>(self, listener: L, tls: T, handler: Arc<H>)
    where
        L: Listen,
        T: Fn() -> Arc<ServerConfig> + Send + Sync + 'static,
        H: Handler,
    {
        self.serve(listener, Some(Box::new(tls)), handler).await;
    }

    /// Serves in clear until the drain closes: for loopback addresses and Unix sockets only.
    pub async fn serve_plain<L, H>(self, listener: L, handler: Arc<H>)
    where
        L: Listen,
        H: Handler,
    {
        self.serve(listener, None, handler).await;
    }

    async fn serve<L, H>(self, listener: L, tls: Option<TlsSource>, handler: Arc<H>)
    where
        L: Listen,
        H: Handler,
    {
        let shared = Arc::new(Shared {
            front: Front {
                name: self.name,
                drain: self.drain,
                counters: self.counters,
                places: Places::new(self.limits.connections, self.limits.connections_per_address),
                handshakes: Semaphore::new(self.limits.handshakes),
                handshake_time: self.limits.handshake_time,
            },
            http: connection::http(&self.limits),
            date: DateHeader::new(self.clock),
            limits: self.limits,
            tls,
            handler,
        });
        accept::run(listener, &shared.front, |stream, address, place| {
            let carried = shared.clone();
            shared.front.drain.spawn(async move {
                connection::carry(stream, address, &carried).await;
                drop(place);
            });
        })
        .await;
    }
}

type TlsSource = Box<dyn Fn() -> Arc<ServerConfig> + Send + Sync>;

/// What all connections of a server have in common.
struct Shared<H> {
    front: Front,
    limits: Limits,
    http: hyper::server::conn::http1::Builder,
    date: DateHeader,
    tls: Option<TlsSource>,
    handler: Arc<H>,
}

/// The metrics of all servers in a program, labelled by the server's name.
#[derive(Debug, Clone)]
pub struct ServerMetrics {
    accepted: Family<ServerLabel, Counter>,
    open: Family<ServerLabel, Gauge>,
    requests: Family<ServerLabel, Counter>,
    refused: Family<RefusedLabels, Counter>,
}

type ServerLabel = [(&'static str, &'static str); 1];
type RefusedLabels = [(&'static str, &'static str); 2];

impl ServerMetrics {
    /// Adds the metrics to `metrics`; once for each program.
    pub fn register(metrics: &Metrics) -> Self {
        Self {
            accepted: metrics.family(
                "server_connections",
                "Connections accepted by the program's own servers",
            ),
            open: metrics.family(
                "server_connections_open",
                "Connections open at the program's own servers",
            ),
            requests: metrics.family("server_requests", "Requests that reached a handler"),
            refused: metrics.family(
                "server_refused",
                "Connections and requests refused by a limit or a rule",
            ),
        }
    }

    pub(crate) fn of(&self, server: &'static str) -> Counters {
        let label = [("server", server)];
        Counters {
            server,
            accepted: self.accepted.get_or_create_owned(&label),
            open: self.open.get_or_create_owned(&label),
            requests: self.requests.get_or_create_owned(&label),
            refused: self.refused.clone(),
        }
    }
}

#[derive(Debug)]
pub(crate) struct Counters {
    server: &'static str,
    pub(crate) accepted: Counter,
    pub(crate) open: Gauge,
    pub(crate) requests: Counter,
    refused: Family<RefusedLabels, Counter>,
}

impl Counters {
    pub(crate) fn refuse(&self, reason: &'static str) {
        self.refused
            .get_or_create(&[("server", self.server), ("reason", reason)])
            .inc();
    }
}

/// Opens a TCP listener on `address`; the unspecified IPv6 address takes IPv4 callers too.
///
/// # Errors
/// When the address is taken, not ours, or not allowed.
///
/// # Panics
/// Outside a tokio runtime with I/O.
pub fn listen(address: SocketAddr) -> Result<TcpListener, ListenError> {
    let fail = |source| ListenError { address, source };
    let domain = socket2::Domain::for_address(address);
    let socket = socket2::Socket::new(domain, socket2::Type::STREAM, None).map_err(fail)?;
    // Without this a restart within a minute would meet the old connections' TIME_WAIT.
    socket.set_reuse_address(true).map_err(fail)?;
    if address.is_ipv6() {
        socket.set_only_v6(!address.ip().is_unspecified()).map_err(fail)?;
    }
    socket.set_nonblocking(true).map_err(fail)?;
    socket.bind(&address.into()).map_err(fail)?;
    socket.listen(BACKLOG).map_err(fail)?;
    TcpListener::from_std(socket.into()).map_err(fail)
}

/// Connections that the kernel keeps for us until they are accepted; it cuts this to `net.core.somaxconn`.
const BACKLOG: i32 = 4_096;

/// A listener cannot be opened.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}")]
pub struct ListenError {
    /// Where.
    pub address: SocketAddr,
    /// The system's answer.
    pub source: io::Error,
}

#[cfg(test)]
mod tests;
