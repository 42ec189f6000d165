//! Writes the fewest allow rules that a set of observed connections needs, and that allow nothing else.

use std::collections::{BTreeMap, BTreeSet};

use ferrule_document::Node;

use crate::ask::{Ask, Workload};
use crate::judge::judge;
use crate::pattern::TargetPattern;
use crate::policy::Policy;
use crate::verdict::{Decision, Denial};
use crate::written::{Peer, document, stream};

/// A connection that was observed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Edge {
    /// The workload of ours whose rules it needs: the destination of an inbound connection, the source of an
    /// outbound one.
    pub workload: Observed,
    /// The other side.
    pub peer: Peer,
    /// The port of the destination.
    pub port: u16,
}

/// A workload that was observed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Observed {
    /// Its namespace.
    pub namespace: String,
    /// Its name, which the name of its policy begins with.
    pub name: String,
    /// Its labels, which its policy selects it by.
    pub labels: BTreeMap<String, String>,
}

/// Rules for connections that were observed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Suggestion {
    /// The documents as YAML; empty when there are none.
    pub documents: String,
    /// Connections of workloads without labels, which no rule could mean alone.
    pub left_out: Vec<Edge>,
}

impl Edge {
    /// The connection that is asked about.
    pub fn of(ask: &Ask<'_>) -> Self {
        let (workload, port) = match ask {
            Ask::Inbound(ask) => (Observed::of(&ask.destination), ask.port),
            Ask::Outbound(ask) => (Observed::of(&ask.source), ask.port),
        };
        Self {
            workload,
            peer: Peer::of(ask),
            port,
        }
    }
}

impl Observed {
    fn of(workload: &Workload<'_>) -> Self {
        Self {
            namespace: workload.namespace.to_owned(),
            name: workload.name.to_owned(),
            labels: workload.labels.clone(),
        }
    }

    /// The labels to select the workload by: those that say which program it is, where there are any, else
    /// all that do not change from one copy of it to the next.
    fn selector(&self) -> BTreeMap<&str, &str> {
        let labels = || {
            self.labels
                .iter()
                .map(|(name, value)| (name.as_str(), value.as_str()))
        };
        let of_program: BTreeMap<_, _> = labels()
            .filter(|(name, _)| PROGRAM_LABELS.contains(name))
            .collect();
        if of_program.is_empty() {
            labels().filter(|(name, _)| !COPY_LABELS.contains(name)).collect()
        } else {
            of_program
        }
    }
}

/// Which of these connections are denied, or would be with everything enforced, only because a rule is
/// missing. What a rule denies, what is refused because it is in clear, and what no rule could open is not
/// among them.
pub fn missing_edges(policy: &Policy, asks: &[Ask<'_>]) -> Vec<Edge> {
    let lacks_rule = |ask: &&Ask<'_>| {
        matches!(
            judge(policy, ask).would,
            Decision::Denied(Denial::NoPolicy | Denial::NoRule(_))
        )
    };
    let can_be_opened = |ask: &&Ask<'_>| match (ask, Peer::of(ask)) {
        (Ask::Outbound(outbound), Peer::To(TargetPattern::Cidr(_) | TargetPattern::Host(_))) => {
            !policy.is_in_mesh_ranges(outbound.address)
        }
        (Ask::Inbound(inbound), _) => match inbound.source {
            crate::ask::Source::Plaintext(address) => !policy.is_in_mesh_ranges(address),
            crate::ask::Source::Verified(_) => true,
        },
        _ => true,
    };
    asks.iter()
        .filter(lacks_rule)
        .filter(can_be_opened)
        .map(Edge::of)
        .collect()
}

/// The fewest rules that allow these connections and, between the same workloads, no others. The labels that
/// say which program a workload is select it, so other copies of the same program are meant too.
pub fn suggest(edges: &[Edge]) -> Suggestion {
    let mut policies: BTreeMap<Key<'_>, (&Observed, Wanted<'_>)> = BTreeMap::new();
    let mut left_out = Vec::new();
    for edge in edges {
        let selector = edge.workload.selector();
        if selector.is_empty() {
            left_out.push(edge.clone());
            continue;
        }
        let kind = match edge.peer {
            Peer::From(_) => Kind::Access,
            Peer::To(_) => Kind::Egress,
        };
        let key = (kind, edge.workload.namespace.as_str(), selector);
        policies
            .entry(key)
            .or_insert((&edge.workload, BTreeSet::new()))
            .1
            .insert((&edge.peer, edge.port));
    }
    let mut names = BTreeSet::new();
    let documents: Vec<Node> = policies
        .iter()
        .map(|((kind, namespace, selector), (workload, wanted))| {
            let name = unused_name(&workload.name, |name| names.insert((*kind, *namespace, name)));
            let labels = Node::map(selector.iter().map(|(name, value)| (*name, Node::text(*value))));
            let workloads = ("workloads", Node::map([("labels", labels)]));
            let rules = rectangles(*kind, wanted).into_iter().map(|rule| kind.rule(&rule));
            let rules = Node::list(rules);
            match kind {
                Kind::Access => {
                    let spec = Node::map([workloads, ("action", Node::text("allow")), ("rules", rules)]);
                    document("AccessPolicy", namespace, &name, spec)
                }
                Kind::Egress => document(
                    "EgressPolicy",
                    namespace,
                    &name,
                    Node::map([workloads, ("allow", rules)]),
                ),
            }
        })
        .collect();
    left_out.sort();
    left_out.dedup();
    Suggestion {
        documents: stream(&documents),
        left_out,
    }
}

/// What one policy is about: its kind, its namespace, the labels that it selects by.
type Key<'e> = (Kind, &'e str, BTreeMap<&'e str, &'e str>);

/// Peers and the ports that they use.
type Wanted<'e> = BTreeSet<(&'e Peer, u16)>;

/// Peers that all use the same ports.
type Rectangle<'e> = (BTreeSet<&'e Peer>, BTreeSet<u16>);

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Access,
    Egress,
}

impl Kind {
    fn rule(self, (peers, ports): &Rectangle<'_>) -> Node {
        let ports = ("ports", Node::list(ports.iter().map(|port| Node::integer(*port))));
        let mut by_field: BTreeMap<&str, Vec<Node>> = BTreeMap::new();
        for peer in peers {
            by_field.entry(peer.field()).or_default().push(peer.node());
        }
        match self {
            Self::Access => {
                let from = by_field
                    .into_iter()
                    .map(|(field, items)| Node::map([(field, Node::list(items))]));
                Node::map([("from", Node::list(from)), ports])
            }
            Self::Egress => {
                let to = by_field
                    .into_iter()
                    .map(|(field, items)| (field, Node::list(items)));
                Node::map(to.chain([ports]))
            }
        }
    }
}

/// Covers the pairs exactly, either by putting peers with the same ports together or ports with the same
/// peers, whichever takes fewer rules. The true minimum over all covers is a problem for which no quick way
/// is known, and its rules would overlap and be hard to read.
fn rectangles<'e>(kind: Kind, wanted: &Wanted<'e>) -> Vec<Rectangle<'e>> {
    // A rule of an EgressPolicy has destinations of one kind; those of an AccessPolicy may mix.
    let group = |peer: &Peer| match kind {
        Kind::Access => "",
        Kind::Egress => peer.field(),
    };
    let mut ports_of: BTreeMap<&Peer, BTreeSet<u16>> = BTreeMap::new();
    let mut peers_of: BTreeMap<(&str, u16), BTreeSet<&Peer>> = BTreeMap::new();
    for (peer, port) in wanted {
        ports_of.entry(peer).or_default().insert(*port);
        peers_of.entry((group(peer), *port)).or_default().insert(peer);
    }
    let mut by_ports: BTreeMap<(&str, BTreeSet<u16>), BTreeSet<&Peer>> = BTreeMap::new();
    for (peer, ports) in ports_of {
        by_ports.entry((group(peer), ports)).or_default().insert(peer);
    }
    let mut by_peers: BTreeMap<BTreeSet<&Peer>, BTreeSet<u16>> = BTreeMap::new();
    for ((_, port), peers) in peers_of {
        by_peers.entry(peers).or_default().insert(port);
    }
    if by_peers.len() < by_ports.len() {
        by_peers.into_iter().collect()
    } else {
        by_ports
            .into_iter()
            .map(|((_, ports), peers)| (peers, ports))
            .collect()
    }
}

/// A name for the policy of a workload that `take` has not taken yet.
fn unused_name(workload: &str, mut take: impl FnMut(String) -> bool) -> String {
    let folded = workload.to_ascii_lowercase();
    let stem: String = folded
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
        .take(40)
        .collect();
    let stem = stem.trim_matches('-');
    let base = if stem.is_empty() {
        "observed".to_owned()
    } else {
        format!("{stem}-observed")
    };
    let mut name = base.clone();
    let mut number = 1;
    while !take(name.clone()) {
        number += 1;
        name = format!("{base}-{number}");
    }
    name
}

/// Labels that say which program a workload is.
const PROGRAM_LABELS: [&str; 4] = [
    "app.kubernetes.io/name",
    "app.kubernetes.io/instance",
    "app",
    "k8s-app",
];

/// Labels that Kubernetes sets anew for each copy or each rollout of a workload.
const COPY_LABELS: [&str; 7] = [
    "pod-template-hash",
    "controller-revision-hash",
    "pod-template-generation",
    "statefulset.kubernetes.io/pod-name",
    "apps.kubernetes.io/pod-index",
    "batch.kubernetes.io/controller-uid",
    "controller-uid",
];

#[cfg(test)]
mod tests;
