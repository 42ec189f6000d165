//! Holds the checked settings of a sidecar.

mod document;
mod probes;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU16;
use std::path::PathBuf;
use std::time::Duration;

use ferrule_credentials::source::Source;
use ferrule_daemon::logging::LogConfig;
use ferrule_daemon::settings::{Settings, Written};
use ferrule_daemon::stop::StopLimits;
use ferrule_document::Problems;
use ferrule_identity::{SpiffeId, TrustDomain};
use ferrule_policy::{Mesh, ServiceName, Workload};
use http::{HeaderName, HeaderValue};

use crate::net::address::ListenAddr;
use crate::net::dial::Dialing;
use crate::net::socket::KeepAlive;
use crate::workload_api::WorkloadApiConfig;

pub use ferrule_daemon::settings::Loaded;

/// Everything that a sidecar is told at its start.
#[derive(Debug, Clone)]
pub struct Config {
    /// The workload that it stands beside.
    pub own: Own,
    /// Who the workload is; its certificate must say the same.
    pub id: SpiffeId,
    /// Where its certificate comes from.
    pub credentials: Source,
    /// The folder of rules and of who lives where; without it and a directory nothing is known and nothing allowed.
    pub rules: Option<PathBuf>,
    /// The directory that tells rules and who lives where.
    pub directory: Option<DirectoryConfig>,
    /// The mesh besides its rules.
    pub mesh: Mesh,
    /// The resolvers that are asked for names beyond the mesh; none: those of the system.
    pub resolvers: Vec<SocketAddr>,
    /// Transparent capture; none where only explicit listeners are used.
    pub capture: Option<CaptureConfig>,
    /// Explicit ways out.
    pub upstreams: Vec<Upstream>,
    /// Explicit ways in.
    pub serves: Vec<Serve>,
    /// The workload's probes, asked in its place; none where nobody has to.
    pub probes: Option<ProbesConfig>,
    /// Where readiness and metrics are served.
    pub admin: Option<SocketAddr>,
    /// The SPIFFE Workload API for applications that do their own TLS.
    pub workload_api: Option<WorkloadApiConfig>,
    /// The debug socket.
    pub socket: Option<PathBuf>,
    /// Threads that carry connections.
    pub workers: NonZeroU16,
    /// Bounds of connections.
    pub limits: ConnectionLimits,
    /// How connections are spread over the endpoints of services.
    pub balance: BalanceConfig,
    /// How open connections are kept.
    pub connection: ConnectionConfig,
    /// How the program stops.
    pub stop: StopLimits,
    /// Which log lines are written, and how they look.
    pub log: LogConfig,
}

/// The workload that a sidecar stands beside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Own {
    /// Its namespace.
    pub namespace: String,
    /// Its name: the pod's, the host's.
    pub name: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its own addresses.
    pub addresses: Vec<IpAddr>,
    /// The machine that it runs on; empty where nobody said.
    pub node: String,
    /// The zone that the machine is in; empty where nobody said.
    pub zone: String,
}

impl Config {
    /// How connections are dialled.
    pub fn dialing(&self) -> Dialing {
        Dialing {
            mark: self.capture.as_ref().and_then(|capture| capture.mark),
            limit: self.limits.connect,
            keepalive: self.connection.keepalive,
        }
    }
}

impl Own {
    /// The workload as rules select it.
    pub fn workload(&self) -> Workload<'_> {
        Workload {
            namespace: &self.namespace,
            name: &self.name,
            labels: &self.labels,
        }
    }
}

/// The directory that tells rules and who lives where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirectoryConfig {
    /// Where it listens, each `HOST:PORT`; tried in turn.
    pub addresses: Vec<String>,
    /// Who must answer there.
    pub id: SpiffeId,
    /// How long the answer to a question about an address is waited for.
    pub ask: Duration,
    /// Whether it is left to the directory which rules are about the workload: it knows the labels of today, where
    /// those of the settings are those of the start.
    pub selects: bool,
}

/// Transparent capture: connections come by redirect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CaptureConfig {
    /// Where connections that the workload opens arrive.
    pub outbound: NonZeroU16,
    /// Where connections to the workload arrive.
    pub inbound: NonZeroU16,
    /// The port that is redirected even for the proxy.
    pub proof: NonZeroU16,
    /// The port at which the probe from outside is answered.
    pub probe: NonZeroU16,
    /// The mark of the proxy's own connections; none where the user id tells them.
    pub mark: Option<u32>,
    /// Whether the redirect is proved before the program is ready.
    pub prove: bool,
}

/// An explicit way out: a port of this machine that leads to one destination.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upstream {
    /// Where the application dials.
    pub listen: ListenAddr,
    /// Where that leads.
    pub to: UpstreamTarget,
}

/// Where an explicit way out leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UpstreamTarget {
    /// To a service, whose workloads the rules' folder or the directory knows.
    Service {
        /// The service.
        name: ServiceName,
        /// Its port.
        port: u16,
    },
    /// To one address, where exactly this identity must answer.
    Address {
        /// A name or an address.
        host: String,
        /// The port.
        port: u16,
        /// Who must be there.
        id: SpiffeId,
    },
}

/// An explicit way in: a port that leads to the application.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Serve {
    /// Where peers dial.
    pub listen: ListenAddr,
    /// The application; rules speak of its port.
    pub to: SocketAddr,
}

/// The workload's probes, which the sidecar asks for those who have no certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProbesConfig {
    /// Where the asking are answered.
    pub listen: SocketAddr,
    /// The probes; nothing else is asked of the application.
    pub declared: Vec<Probe>,
}

/// One probe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe {
    /// Its name: the container's and the kind, such as `app/readiness`.
    pub name: String,
    /// How long the application may take to answer.
    pub timeout: Duration,
    /// What is asked.
    pub ask: ProbeAsk,
}

/// What a probe asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProbeAsk {
    /// Whether the port accepts a connection.
    Tcp {
        /// The port.
        port: NonZeroU16,
    },
    /// Whether a path is answered with a status from 200 to 399.
    Http(HttpProbe),
    /// Whether the gRPC health service says that it is serving.
    Grpc {
        /// The port.
        port: NonZeroU16,
        /// The service that is asked about; empty for the whole.
        service: String,
    },
}

/// A request of HTTP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpProbe {
    /// The port.
    pub port: NonZeroU16,
    /// Path and query.
    pub path: String,
    /// Whether it goes over TLS, by whatever certificate.
    pub tls: bool,
    /// Headers that go along.
    pub headers: Vec<(HeaderName, HeaderValue)>,
}

/// Bounds of connections.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectionLimits {
    /// Open connections in each direction.
    pub connections: usize,
    /// Handshakes at once, in each worker.
    pub handshakes: usize,
    /// How long a TLS handshake may take.
    pub handshake: Duration,
    /// How long a connect may take.
    pub connect: Duration,
    /// How long the client's first bytes are waited for in permissive mode, where nothing else tells what comes.
    pub sniff: Duration,
    /// How long a client that may go beyond the mesh only by a name has to say it.
    pub name: Duration,
    /// The length of accept queues.
    pub backlog: i32,
}

/// How connections are spread over the endpoints of services.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BalanceConfig {
    /// Which endpoints are preferred.
    pub locality: Locality,
    /// How long the share of an endpoint grows that has come to others, or has come back.
    pub slow_start: Duration,
    /// How long a connect or a handshake may take where another endpoint could be tried.
    pub attempt: Duration,
}

/// Which endpoints of a service are preferred to others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Locality {
    /// Those on the same machine, then those of the same zone.
    Node,
    /// Those of the same zone.
    Zone,
    /// None.
    None,
}

/// How open connections are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectionConfig {
    /// How long a connection may be silent once one direction is over.
    pub half_closed: Duration,
    /// How long a connection may go on after its peer's certificate has ended.
    pub expiry_grace: Duration,
    /// Probes of both legs.
    pub keepalive: KeepAlive,
    /// How TLS connections are kept for the next stream.
    pub pool: PoolConfig,
}

/// How TLS connections to other workloads are kept for the next stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolConfig {
    /// How long one is kept that carries nothing.
    pub idle: Duration,
    /// How long after its handshake one takes another stream.
    pub age: Duration,
    /// How many that carry nothing are kept for each destination, in each worker.
    pub most: usize,
    /// How many are kept ready for each destination that was called lately, in each worker.
    pub warm: usize,
}

/// Reads what is `written` with `variables` laid over it.
///
/// # Errors
/// All faults together.
pub fn load<'w, K, V>(
    written: impl Into<Written<'w>>,
    variables: impl IntoIterator<Item = (K, V)>,
) -> Result<Loaded<Config>, Problems>
where
    K: Into<OsString>,
    V: Into<OsString>,
{
    Settings::of("ferrule-proxy")
        .named("POD_NAMESPACE", &["workload", "namespace"])
        .named("POD_NAME", &["workload", "name"])
        .named("POD_IPS", &["workload", "addresses"])
        .named("SPIFFE_ENDPOINT_SOCKET", &["spiffe_endpoint_socket"])
        .named("NODE_NAME", &["workload", "node"])
        .named("NODE_ZONE", &["workload", "zone"])
        .named("SERVICE_ACCOUNT", &["workload", "service_account"])
        .load(written, variables, document::config)
}

/// The trust domain and the workload's part of it, as an identity.
fn identity_of(trust_domain: &TrustDomain, namespace: &str, account: &str) -> Option<SpiffeId> {
    SpiffeId::workload(trust_domain, namespace, account).ok()
}

#[cfg(test)]
mod tests;
