//! Adds up who speaks with whom, from the lines of the sidecars.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

use super::plan::Plan;

/// Who speaks with whom, and how: what makes one row.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub(super) struct Edge {
    /// `web.shop` where the caller is known, otherwise its address.
    pub(super) who: String,
    /// The same for the one who is called.
    pub(super) whom: String,
    /// The port of the one who is called.
    pub(super) port: u16,
    /// `mutual`, `plaintext`, `local`, `none`.
    pub(super) tls: String,
    /// `allow`, `audit`, `deny`; for what came to nothing otherwise, the reason.
    pub(super) verdict: String,
}

/// What has gone over an edge.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(super) struct Traffic {
    /// Connections, those that are open included.
    pub(super) connections: u64,
    /// Connections that are open now.
    pub(super) open: u64,
    /// From the caller.
    pub(super) bytes_in: u64,
    /// To the caller.
    pub(super) bytes_out: u64,
    /// The rule that decided the last one.
    pub(super) rule: String,
    /// What there was to say about the last one.
    pub(super) detail: String,
    /// What the sidecars saw of the last one.
    pub(super) evidence: Evidence,
}

/// What the sidecars saw of a connection.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(super) struct Evidence {
    /// The SPIFFE ID that the caller proved.
    pub(super) caller: String,
    /// The SPIFFE ID that the called one proved.
    pub(super) called: String,
    /// The serial number of the certificate that the other side showed.
    pub(super) serial: String,
    /// Such as `TLSv1.3, X25519MLKEM768, AES_256_GCM_SHA384`.
    pub(super) agreed: String,
    /// Why it ended.
    pub(super) reason: String,
}

/// All edges since the start of the mesh.
#[derive(Debug, Default)]
pub(super) struct Edges {
    edges: BTreeMap<Edge, Traffic>,
    /// What is open now, by the number of the sidecar that said so.
    open: HashMap<usize, Vec<(Edge, Traffic)>>,
    /// Edges that have only been seen open.
    seen: BTreeSet<Edge>,
    names: HashMap<IpAddr, String>,
    prefix: String,
}

/// The fields of a sidecar's line that are of use here.
#[derive(Debug, Deserialize)]
struct Line {
    event: String,
    direction: String,
    src_id: String,
    dst_id: String,
    src_addr: String,
    dst_addr: String,
    dst_port: u16,
    tls: String,
    verdict: String,
    rule: String,
    reason: String,
    #[serde(default)]
    detail: String,
    bytes_in: u64,
    bytes_out: u64,
    #[serde(default)]
    tls_version: String,
    #[serde(default)]
    tls_group: String,
    #[serde(default)]
    tls_cipher: String,
    #[serde(default)]
    peer_serial: String,
}

/// The fields of an open connection that are of use here.
#[derive(Debug, Deserialize)]
struct Open {
    direction: String,
    src_id: Option<String>,
    dst_id: Option<String>,
    src_addr: String,
    dst_addr: Option<String>,
    dst_port: Option<u16>,
    tls: String,
    verdict: String,
    rule: Option<String>,
    bytes_in: u64,
    bytes_out: u64,
}

impl Edges {
    /// No edge yet, for the workloads of `plan`.
    pub(super) fn new(plan: &Plan) -> Self {
        let copies = plan.replicas().flat_map(|(workload, replica)| {
            let name = format!("{}.{}", workload.name, workload.namespace);
            replica
                .addresses
                .iter()
                .map(move |address| (*address, name.clone()))
        });
        let services = plan.workloads.iter().flat_map(|workload| {
            let name = format!("{}.{}", workload.name, workload.namespace);
            workload
                .service
                .iter()
                .map(move |address| (*address, name.clone()))
        });
        Self {
            edges: BTreeMap::new(),
            open: HashMap::new(),
            seen: BTreeSet::new(),
            names: copies.chain(services).collect(),
            prefix: format!("spiffe://{}/ns/", plan.trust_domain),
        }
    }

    /// Takes a line of a sidecar's log; tells the edge when it has not been seen before.
    pub(super) fn take(&mut self, line: &str) -> Option<Edge> {
        let line: Line = serde_json::from_str(line).ok()?;
        if line.event != "close" || !is_account_of_record(&line) {
            return None;
        }
        let edge = Edge {
            who: self.name(&line.src_id, &line.src_addr),
            whom: self.name(&line.dst_id, &line.dst_addr),
            port: line.dst_port,
            verdict: verdict(&line).to_owned(),
            tls: line.tls,
        };
        let is_new = !self.edges.contains_key(&edge) && !self.seen.remove(&edge);
        if is_new && self.edges.len() >= MOST {
            return None;
        }
        let traffic = self.edges.entry(edge.clone()).or_default();
        traffic.connections += 1;
        traffic.bytes_in += line.bytes_in;
        traffic.bytes_out += line.bytes_out;
        traffic.rule = line.rule;
        traffic.detail = line.detail;
        let agreed: Vec<&str> = [&line.tls_version, &line.tls_group, &line.tls_cipher]
            .into_iter()
            .map(String::as_str)
            .filter(|word| !word.is_empty())
            .collect();
        traffic.evidence = Evidence {
            agreed: agreed.join(", "),
            caller: line.src_id,
            called: line.dst_id,
            serial: line.peer_serial,
            reason: line.reason,
        };
        is_new.then_some(edge)
    }

    /// Takes what sidecar number `sidecar` says of its open connections, in place of what it said before; tells the
    /// edges that have not been seen before.
    pub(super) fn take_open(&mut self, sidecar: usize, connections: &serde_json::Value) -> Vec<Edge> {
        let listed = connections.as_array().map(Vec::as_slice).unwrap_or_default();
        let lines = listed
            .iter()
            .filter_map(|connection| Open::deserialize(connection).ok());
        let mut all: Vec<(Edge, Traffic)> = Vec::new();
        for line in lines.filter(|line| line.direction == "inbound" || line.tls != "mutual") {
            let edge = Edge {
                who: self.name(line.src_id.as_deref().unwrap_or_default(), &line.src_addr),
                whom: self.name(
                    line.dst_id.as_deref().unwrap_or_default(),
                    line.dst_addr.as_deref().unwrap_or_default(),
                ),
                port: line.dst_port.unwrap_or_default(),
                tls: line.tls,
                verdict: line.verdict,
            };
            let traffic = Traffic {
                connections: 1,
                open: 1,
                bytes_in: line.bytes_in,
                bytes_out: line.bytes_out,
                rule: line.rule.unwrap_or_default(),
                detail: String::new(),
                evidence: Evidence {
                    caller: line.src_id.unwrap_or_default(),
                    called: line.dst_id.unwrap_or_default(),
                    ..Evidence::default()
                },
            };
            match all.iter_mut().find(|(other, _)| *other == edge) {
                Some((_, sum)) => sum.add(&traffic),
                None => all.push((edge, traffic)),
            }
        }
        let is_new = |edge: &&Edge| !self.edges.contains_key(edge) && !self.seen.contains(edge);
        let new: Vec<Edge> = all.iter().map(|(edge, _)| edge).filter(is_new).cloned().collect();
        if self.seen.len() < MOST {
            self.seen.extend(new.iter().cloned());
        }
        self.open.insert(sidecar, all);
        new
    }

    /// All edges with their traffic, in the order of names.
    pub(super) fn all(&self) -> BTreeMap<&Edge, Traffic> {
        let mut all: BTreeMap<&Edge, Traffic> = self
            .edges
            .iter()
            .map(|(edge, traffic)| (edge, traffic.clone()))
            .collect();
        for (edge, traffic) in self.open.values().flatten() {
            all.entry(edge).or_default().add(traffic);
        }
        all
    }

    /// `web.shop` for an identity of the mesh; without one, whoever lives at the address; otherwise what is there.
    fn name(&self, id: &str, address: &str) -> String {
        let by_id = id.strip_prefix(&self.prefix).and_then(|path| {
            let (namespace, account) = path.split_once("/sa/")?;
            Some(format!("{account}.{namespace}"))
        });
        let ip = || {
            let socket = address.parse::<SocketAddr>().map(|socket| socket.ip());
            socket.ok().or_else(|| address.parse::<IpAddr>().ok())
        };
        by_id
            .or_else(|| (!id.is_empty()).then(|| id.to_owned()))
            .or_else(|| self.names.get(&ip()?).cloned())
            .unwrap_or_else(|| ip().map_or_else(|| "?".to_owned(), |ip| ip.to_string()))
    }
}

impl Traffic {
    fn add(&mut self, other: &Self) {
        self.connections += other.connections;
        self.open += other.open;
        self.bytes_in += other.bytes_in;
        self.bytes_out += other.bytes_out;
        if !other.rule.is_empty() {
            self.rule.clone_from(&other.rule);
        }
        if self.evidence == Evidence::default() {
            self.evidence.clone_from(&other.evidence);
        }
    }
}

/// Every connection within the mesh has two lines. The server's counts; the client's counts where the server has seen
/// nothing that it could tell.
fn is_account_of_record(line: &Line) -> bool {
    line.direction == "inbound"
        || (line.tls != "mutual" && !["refused_by_peer", "upstream_reset"].contains(&&*line.reason))
}

/// The verdict of the rules; where they were not asked, what went wrong.
fn verdict(line: &Line) -> &str {
    match (line.verdict.as_str(), line.reason.as_str()) {
        // Nobody let it through, whatever the column before says of its bytes.
        ("none", "plaintext") => "refused",
        ("none", reason) => reason,
        ("allow" | "audit", reason @ ("unreachable" | "not_ready" | "busy")) => reason,
        (verdict, _) => verdict,
    }
}

/// More rows than anybody reads.
const MOST: usize = 10_000;

#[cfg(test)]
mod tests;
