//! Counts by peer, for those peers alone that rules name.

use std::cell::RefCell;
use std::sync::Arc;

use ferrule_daemon::metrics::{Capped, Counter, Family, Metrics};
use ferrule_identity::SpiffeId;
use ferrule_policy::{IdentityPattern, Peers as Rules, Policy, SourcePattern};
use tokio::sync::watch;

use super::account::{Account, Tls};
use crate::authz::permit::Direction;
use crate::maps::{QuickMap, QuickSet};

type Labels = [(&'static str, Arc<str>); 3];

/// The series of all workers; cheap to clone, clones share them.
///
/// How many there are is bounded twice: a peer has series of its own only while a rule names it by its identity, so that
/// no client can make one, and [`MOST_PEERS`] peers at most have some at all. Those that no rule names are counted
/// together as `other`, those beyond the limit as `overflow`.
#[derive(Debug, Clone)]
pub struct PeerMetrics {
    connections: Family<Labels, Counter>,
    bytes: Family<Labels, Counter>,
    values: Capped,
}

impl PeerMetrics {
    /// Adds them to `metrics`; once for each program.
    pub fn register(metrics: &Metrics) -> Self {
        Self {
            connections: metrics.family(
                "peer_connections",
                "Connections that have ended, by the verified peer, of those that rules name",
            ),
            bytes: metrics.family(
                "peer_bytes",
                "Bytes of applications, by the verified peer, of those that rules name",
            ),
            values: Capped::new(MOST_PEERS),
        }
    }
}

/// The counters by peer of one worker.
pub(super) struct Peers {
    metrics: PeerMetrics,
    rules: RefCell<watch::Receiver<Option<Arc<Policy>>>>,
    known: RefCell<Known>,
}

#[derive(Default)]
struct Known {
    named: QuickSet<SpiffeId>,
    /// Counters at hand, so that no connection waits for a reader of the families. None stands for all peers that no
    /// rule names.
    counters: QuickMap<(Direction, Option<SpiffeId>), Counters>,
}

struct Counters {
    peer: Arc<str>,
    bytes_in: Counter,
    bytes_out: Counter,
    ended: QuickMap<&'static str, Counter>,
}

impl Peers {
    pub(super) fn new(metrics: PeerMetrics, mut rules: watch::Receiver<Option<Arc<Policy>>>) -> Self {
        rules.mark_changed();
        Self {
            metrics,
            rules: RefCell::new(rules),
            known: RefCell::default(),
        }
    }

    /// Counts the end of a connection, and the bytes that were moved since they were last counted.
    pub(super) fn ended(&self, account: &Account, bytes_in: u64, bytes_out: u64) {
        let (direction, verdict) = (account.direction(), account.verdict());
        self.with(account, |metrics, counters| {
            counters.moved(bytes_in, bytes_out);
            let make = || {
                let labels = labels(direction, &counters.peer, ("verdict", verdict));
                metrics.connections.get_or_create_owned(&labels)
            };
            counters.ended.entry(verdict).or_insert_with(make).inc();
        });
    }

    /// Counts bytes that were moved.
    pub(super) fn moved(&self, account: &Account, bytes_in: u64, bytes_out: u64) {
        self.with(account, |_, counters| counters.moved(bytes_in, bytes_out));
    }

    fn with(&self, account: &Account, count: impl FnOnce(&PeerMetrics, &mut Counters)) {
        let peer = match (account.tls, account.direction()) {
            (Tls::Mutual, Direction::Inbound) => account.source_id.as_ref(),
            (Tls::Mutual, Direction::Outbound) => account.destination_id.as_ref(),
            _ => None,
        };
        let Some(peer) = peer else { return };
        let mut known = self.known.borrow_mut();
        let mut rules = self.rules.borrow_mut();
        // Also when the source of rules has ended: what it said last stays in force.
        if rules.has_changed().unwrap_or(false) {
            known.learn(rules.borrow_and_update().as_deref());
        }
        let known = &mut *known;
        let named = known.named.contains(peer).then(|| peer.clone());
        let direction = account.direction();
        let counters = known
            .counters
            .entry((direction, named))
            .or_insert_with_key(|(_, named)| Counters::of(&self.metrics, direction, named.as_ref()));
        count(&self.metrics, counters);
    }
}

impl Known {
    fn learn(&mut self, policy: Option<&Policy>) {
        self.named.clear();
        for rule in policy.iter().flat_map(|policy| policy.rules()) {
            let Rules::From(sources) = &rule.peers else {
                continue;
            };
            for source in sources {
                if let SourcePattern::Identity(IdentityPattern::Exact(id)) = source {
                    self.named.insert(id.clone());
                }
            }
        }
        let named = &self.named;
        self.counters
            .retain(|(_, peer), _| peer.as_ref().is_none_or(|peer| named.contains(peer)));
    }
}

impl Counters {
    fn of(metrics: &PeerMetrics, direction: Direction, named: Option<&SpiffeId>) -> Self {
        let peer = named.map_or_else(|| OTHER.into(), |id| metrics.values.value(id.as_str()));
        let bytes = |flow| {
            let labels = labels(direction, &peer, ("flow", flow));
            metrics.bytes.get_or_create_owned(&labels)
        };
        Self {
            bytes_in: bytes("in"),
            bytes_out: bytes("out"),
            peer,
            ended: QuickMap::default(),
        }
    }

    fn moved(&self, bytes_in: u64, bytes_out: u64) {
        self.bytes_in.inc_by(bytes_in);
        self.bytes_out.inc_by(bytes_out);
    }
}

fn labels(direction: Direction, peer: &Arc<str>, last: (&'static str, &'static str)) -> Labels {
    [
        ("direction", direction.word().into()),
        ("peer", peer.clone()),
        (last.0, last.1.into()),
    ]
}

/// The label value of all peers that no rule names.
pub const OTHER: &str = "other";

/// How many peers have series of their own, from the start of the program on.
pub const MOST_PEERS: usize = 200;

#[cfg(test)]
impl Peers {
    /// How many sets of counters are kept.
    pub(super) fn at_hand(&self) -> usize {
        self.known.borrow().counters.len()
    }
}

#[cfg(test)]
impl PeerMetrics {
    /// Holds the families as a reader does.
    pub(super) fn held<'s>(&'s self, direction: Direction, peer: &str) -> impl Sized + use<'s> {
        let peer = Arc::from(peer);
        (
            self.connections
                .get_or_create(&labels(direction, &peer, ("verdict", "none"))),
            self.bytes
                .get_or_create(&labels(direction, &peer, ("flow", "in"))),
        )
    }
}
