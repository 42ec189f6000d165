//! Reads the settings document field by field.

use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU16;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ferrule_credentials::source::Source;
use ferrule_daemon::logging::LogConfig;
use ferrule_daemon::stop::StopLimits;
use ferrule_document::{Fields, Item};
use ferrule_identity::{SpiffeId, TrustDomain};
use ferrule_policy::{BuiltIn, Cidr, Mesh, ServiceName};
use ferrule_wire::workload_api::Endpoint;

use super::probes;
use super::{
    BalanceConfig, CaptureConfig, Config, ConnectionConfig, ConnectionLimits, DirectoryConfig, Locality, Own,
    PoolConfig, Serve, Upstream, UpstreamTarget, identity_of,
};
use crate::net::address::ListenAddr;
use crate::net::socket::KeepAlive;
use crate::workload_api::{Users, WorkloadApiConfig};

/// Reads the whole document.
pub(super) fn config(fields: &mut Fields<'_>) -> Option<Config> {
    let trust_domain = fields.required("trust_domain", |item| item.checked(TrustDomain::parse));
    let workload = fields.required("workload", |item| item.fields(workload));
    let id = fields.optional("identity", |item| item.checked(SpiffeId::parse));
    let endpoint = fields.optional("spiffe_endpoint_socket", |item| item.parsed::<Endpoint>());
    let credentials = fields.required("credentials", |item| {
        Source::read(item, trust_domain.clone(), endpoint.clone().flatten())
    });
    let rules = fields.optional("rules", |item| {
        item.fields(|fields| fields.required("folder", |item| path(&item)))
    });
    let directory = fields.optional("directory", |item| {
        item.fields(|fields| directory(fields, trust_domain.as_ref()))
    });
    let mesh = fields.default("mesh", "{}", |item| item.fields(mesh));
    let capture = fields.optional("capture", |item| item.fields(capture));
    let upstreams = fields.default("upstreams", "[]", |item| item.list(|item| item.fields(upstream)));
    let serves = fields.default("serves", "[]", |item| item.list(|item| item.fields(serve)));
    let probes = fields.optional("probes", |item| item.fields(probes::probes));
    let admin = fields.default("admin", "{}", |item| item.fields(admin));
    let workload_api = fields.optional("workload_api", |item| item.fields(workload_api));
    let workers = fields.optional("workers", |item| item.integer(1..=1024_u16));
    let limits = fields.default("limits", "{}", |item| item.fields(limits));
    let balance = fields.default("balance", "{}", |item| item.fields(balance));
    let connection = fields.default("connection", "{}", |item| item.fields(connection));
    let stop = fields.default("drain", "{}", |item| {
        item.fields(|fields| StopLimits::read(fields, "5s", "30s"))
    });
    let log = fields.default("log", "{}", |item| item.fields(LogConfig::read));
    let (trust_domain, (own, account)) = (trust_domain?, workload?);
    let id = match id? {
        Some(id) => id,
        None => match identity_of(&trust_domain, &own.namespace, &account) {
            Some(id) => id,
            None => {
                fields.fail("`workload.namespace` and `workload.service_account` make no SPIFFE ID");
                return None;
            }
        },
    };
    if !id.is_in(&trust_domain) {
        fields.fail(format!(
            "`identity` is not one of the trust domain {trust_domain}"
        ));
        return None;
    }
    let (ranges, built_in) = mesh?;
    let resolvers = built_in.iter().filter(|place| *place.name == *RESOLVER);
    let resolvers = resolvers.map(|place| SocketAddr::new(place.address, place.port));
    let resolvers = resolvers.collect();
    let (capture, upstreams, serves) = (capture?, upstreams?, serves?);
    if capture.is_none() && upstreams.is_empty() && serves.is_empty() {
        fields.fail("there is nothing to do: give `capture`, `upstreams` or `serves`");
        return None;
    }
    let (rules, directory) = (rules?, directory?);
    if rules.is_some() && directory.is_some() {
        fields.fail("rules come from a folder or from a directory: give `rules` or `directory`, not both");
        return None;
    }
    let (admin, socket) = admin?;
    Some(Config {
        own,
        id,
        credentials: credentials?,
        rules,
        directory,
        mesh: Mesh {
            trust_domain,
            ranges,
            built_in,
        },
        resolvers,
        capture,
        upstreams,
        serves,
        probes: probes?,
        admin,
        socket,
        workload_api: workload_api?,
        workers: workers?.and_then(NonZeroU16::new).unwrap_or_else(one_per_core),
        limits: limits?,
        balance: balance?,
        connection: connection?,
        stop: stop?,
        log: log?,
    })
}

fn one_per_core() -> NonZeroU16 {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    u16::try_from(cores)
        .ok()
        .and_then(NonZeroU16::new)
        .unwrap_or(NonZeroU16::MIN)
}

fn workload(fields: &mut Fields<'_>) -> Option<(Own, String)> {
    let namespace = fields.required("namespace", |item| item.text());
    let name = fields.required("name", |item| item.text());
    let account = fields.default("service_account", "default", |item| item.text());
    let labels = fields.default("labels", "{}", |item| item.text_map());
    let addresses = fields.default("addresses", "[]", |item| item.list(|item| address(&item)));
    let node = fields.optional("node", |item| item.text());
    let zone = fields.optional("zone", |item| item.text());
    let own = Own {
        namespace: namespace?,
        name: name?,
        labels: labels?,
        addresses: addresses?,
        node: node?.unwrap_or_default(),
        zone: zone?.unwrap_or_default(),
    };
    Some((own, account?))
}

fn address(item: &Item<'_>) -> Option<IpAddr> {
    item.parsed::<IpAddr>().map(|address| address.to_canonical())
}

fn path(item: &Item<'_>) -> Option<PathBuf> {
    item.text().map(PathBuf::from)
}

fn directory(fields: &mut Fields<'_>, trust_domain: Option<&TrustDomain>) -> Option<DirectoryConfig> {
    let addresses = fields.required("addresses", |item| item.non_empty_list(|item| item.text()));
    let id = fields.optional("identity", |item| item.checked(SpiffeId::parse));
    let ask = fields.default("ask_time", "2s", |item| item.duration_in(WAIT));
    let selects = fields.default("selects", "false", |item| item.boolean());
    let id = match id? {
        Some(id) => id,
        None => identity_of(trust_domain?, SYSTEM, DIRECTORY)?,
    };
    Some(DirectoryConfig {
        addresses: addresses?,
        id,
        ask: ask?,
        selects: selects?,
    })
}

fn mesh(fields: &mut Fields<'_>) -> Option<(Vec<Cidr>, Vec<BuiltIn>)> {
    let ranges = fields.default("ranges", "[]", |item| item.list(|item| item.parsed::<Cidr>()));
    let built_in = |name: &'static str, port: u16| {
        move |item: Item<'_>| {
            item.list(|item| {
                let (address, port) = place(&item, port)?;
                Some(BuiltIn {
                    name: Arc::from(name),
                    address,
                    port,
                })
            })
        }
    };
    let resolvers = fields.default("resolvers", "[]", built_in(RESOLVER, 53));
    let api_server = fields.default("api_server", "[]", built_in("API server", 443));
    let mut all = resolvers?;
    all.extend(api_server?);
    Some((ranges?, all))
}

/// An address, with or without a port.
fn place(item: &Item<'_>, default_port: u16) -> Option<(IpAddr, u16)> {
    let text = item.text()?;
    if let Ok(address) = text.parse::<IpAddr>() {
        return Some((address.to_canonical(), default_port));
    }
    let address: SocketAddr = item.parsed()?;
    Some((address.ip().to_canonical(), address.port()))
}

fn capture(fields: &mut Fields<'_>) -> Option<CaptureConfig> {
    let mut port = |name: &'static str, default: &str| {
        fields
            .default(name, default, |item| item.port())
            .and_then(NonZeroU16::new)
    };
    let outbound = port("outbound_port", "15001");
    let inbound = port("inbound_port", "15006");
    let proof = port("proof_port", "15002");
    let probe = port("probe_port", "15003");
    let mark = fields.optional("mark", |item| item.integer(1..=u32::MAX));
    let prove = fields.default("prove", "true", |item| item.boolean());
    let ports = [outbound?, inbound?, proof?, probe?];
    let mut distinct = ports.to_vec();
    distinct.sort_unstable();
    distinct.dedup();
    if distinct.len() != ports.len() {
        fields.fail("two of the ports are the same");
        return None;
    }
    let [outbound, inbound, proof, probe] = ports;
    Some(CaptureConfig {
        outbound,
        inbound,
        proof,
        probe,
        mark: mark?,
        prove: prove?,
    })
}

fn upstream(fields: &mut Fields<'_>) -> Option<Upstream> {
    let listen = fields.required("listen", |item| item.parsed::<SocketAddr>());
    let service = fields.optional("service", |item| item.checked(service_port));
    let address = fields.optional("address", |item| item.checked(host_port));
    let id = fields.optional("identity", |item| item.checked(SpiffeId::parse));
    let listen = listen?;
    let to = match (service?, address?, id?) {
        (Some((name, port)), None, None) => UpstreamTarget::Service { name, port },
        (None, Some((host, port)), Some(id)) => UpstreamTarget::Address { host, port, id },
        _ => {
            fields.fail("give either `service`, or `address` with `identity`");
            return None;
        }
    };
    if !listen.ip().is_loopback() {
        fields.fail(
            "`listen` is not a loopback address: everybody who reached it would speak in the workload's name",
        );
        return None;
    }
    Some(Upstream {
        listen: ListenAddr::new(listen),
        to,
    })
}

fn serve(fields: &mut Fields<'_>) -> Option<Serve> {
    let listen = fields.required("listen", |item| item.parsed::<SocketAddr>());
    let to = fields.required("to", |item| item.parsed::<SocketAddr>());
    Some(Serve {
        listen: ListenAddr::new(listen?),
        to: to?,
    })
}

/// `api.shop:8080`, the service's name, its namespace, its port.
fn service_port(text: &str) -> Result<(ServiceName, u16), &'static str> {
    const WANTED: &str = "a service is written NAME.NAMESPACE:PORT";
    let (host, port) = host_port(text).map_err(|_| WANTED)?;
    let (name, namespace) = host.split_once('.').ok_or(WANTED)?;
    if name.is_empty() || namespace.is_empty() || namespace.contains('.') {
        return Err(WANTED);
    }
    let name = ServiceName {
        namespace: Arc::from(namespace),
        name: Arc::from(name),
    };
    Ok((name, port))
}

fn host_port(text: &str) -> Result<(String, u16), &'static str> {
    const WANTED: &str = "an address is written HOST:PORT";
    let (host, port) = text.rsplit_once(':').ok_or(WANTED)?;
    let host = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
        .unwrap_or(host);
    let port: u16 = port.parse().map_err(|_| WANTED)?;
    if host.is_empty() || port == 0 {
        return Err(WANTED);
    }
    Ok((host.to_owned(), port))
}

fn admin(fields: &mut Fields<'_>) -> Option<(Option<SocketAddr>, Option<PathBuf>)> {
    let enabled = fields.default("enabled", "true", |item| item.boolean());
    let listen = fields.default("listen", "0.0.0.0:15020", |item| item.parsed());
    let socket = fields.optional("socket", |item| path(&item));
    let (enabled, listen) = (enabled?, listen?);
    Some((enabled.then_some(listen), socket?))
}

fn workload_api(fields: &mut Fields<'_>) -> Option<WorkloadApiConfig> {
    let socket = fields.required("socket", |item| path(&item));
    let users = fields.optional("users", |item| {
        item.non_empty_list(|item| item.integer(0..=u32::MAX))
    });
    let every = fields.default("every_user", "false", |item| item.boolean());
    let (socket, users, every) = (socket?, users?, every?);
    let users = match (users, every) {
        (Some(users), false) => Users::These(users),
        (None, true) => Users::Every,
        _ => {
            fields.fail("give either `users`, or `every_user: true` where nobody else reaches the socket");
            return None;
        }
    };
    Some(WorkloadApiConfig { socket, users })
}

fn limits(fields: &mut Fields<'_>) -> Option<ConnectionLimits> {
    let connections = fields.default("connections", "65536", |item| item.integer(1..=10_000_000));
    let handshakes = fields.default("handshakes", "4096", |item| item.integer(1..=1_000_000));
    let handshake = fields.default("handshake_time", "5s", |item| item.duration_in(WAIT));
    let connect = fields.default("connect_time", "5s", |item| item.duration_in(WAIT));
    let sniff = fields.default("sniff_time", "200ms", |item| item.duration_in(SNIFF));
    let name = fields.default("name_time", "5s", |item| item.duration_in(NAME));
    let backlog = fields.default("backlog", "4096", |item| item.integer(16..=65_535));
    Some(ConnectionLimits {
        connections: connections?,
        handshakes: handshakes?,
        handshake: handshake?,
        connect: connect?,
        sniff: sniff?,
        name: name?,
        backlog: backlog?,
    })
}

fn balance(fields: &mut Fields<'_>) -> Option<BalanceConfig> {
    let locality = fields.default("locality", "zone", |item| {
        item.one_of(&[
            ("node", Locality::Node),
            ("zone", Locality::Zone),
            ("none", Locality::None),
        ])
    });
    let slow_start = fields.default("slow_start", "10s", |item| item.duration_in(WARMING));
    let attempt = fields.default("attempt_time", "1s", |item| item.duration_in(WAIT));
    Some(BalanceConfig {
        locality: locality?,
        slow_start: slow_start?,
        attempt: attempt?,
    })
}

fn connection(fields: &mut Fields<'_>) -> Option<ConnectionConfig> {
    let half_closed = fields.default("half_closed", "55s", |item| item.duration_in(SILENCE));
    let max_age = fields.optional("max_age", |item| item.one_of(&[("leaf", Duration::ZERO)]));
    let keepalive = fields.default("keepalive", "{}", |item| item.fields(keepalive));
    let pool = fields.default("pool", "{}", |item| item.fields(pool));
    Some(ConnectionConfig {
        half_closed: half_closed?,
        expiry_grace: max_age?.unwrap_or(EXPIRY_GRACE),
        keepalive: keepalive?,
        pool: pool?,
    })
}

fn pool(fields: &mut Fields<'_>) -> Option<PoolConfig> {
    let idle = fields.default("idle", "30s", |item| item.duration_in(KEPT));
    let age = fields.default("age", "10m", |item| item.duration_in(KEPT));
    let most = fields.default("most", "128", |item| item.integer(0..=65_536));
    let warm = fields.default("warm", "0", |item| item.integer(0..=1024));
    Some(PoolConfig {
        idle: idle?,
        age: age?,
        most: most?,
        warm: warm?,
    })
}

fn keepalive(fields: &mut Fields<'_>) -> Option<KeepAlive> {
    let idle = fields.default("idle", "60s", |item| item.duration_in(PROBE));
    let interval = fields.default("interval", "10s", |item| item.duration_in(PROBE));
    let retries = fields.default("retries", "6", |item| item.integer(1..=100));
    Some(KeepAlive {
        idle: idle?,
        interval: interval?,
        retries: retries?,
    })
}

const RESOLVER: &str = "resolver";
/// Where the mesh's own programs live.
const SYSTEM: &str = "ferrule-system";
/// The directory's account.
const DIRECTORY: &str = "ferrule-directory";
const WAIT: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(60);
const SILENCE: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(7 * 86_400);
const SNIFF: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(5);
const NAME: RangeInclusive<Duration> = Duration::from_millis(10)..=Duration::from_secs(5);
const WARMING: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(3600);
const PROBE: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(32_767);
const KEPT: RangeInclusive<Duration> = Duration::from_millis(50)..=Duration::from_secs(86_400);
const EXPIRY_GRACE: Duration = Duration::from_secs(60);
