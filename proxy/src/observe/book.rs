//! Keeps the books of one worker: who is open, who has ended, how.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use ferrule_daemon::clock::Clock;
use ferrule_daemon::metrics::{Counter, Gauge, Histogram};
use ferrule_policy::Policy;
use tokio::sync::watch;

use super::account::{Account, Tls};
use super::edges::Edges;
use super::live::{Live, Shard};
use super::metrics::ProxyMetrics;
use super::peers::Peers;
use super::tap::Tap;
use crate::authz::permit::Direction;
use crate::closed::{Blame, CloseReason, Closed};
use crate::config::Own;
use crate::forward::relay::Moved;
use crate::maps::QuickMap;
use crate::net::address::ClientAddr;

/// The books of one worker; cheap to clone. Counters are looked up once for each set of labels: the families are
/// locked while somebody reads them, and no connection waits for a reader.
#[derive(Clone)]
pub struct Book(Rc<Inner>);

struct Inner {
    own: Arc<Own>,
    metrics: ProxyMetrics,
    seen: Seen,
    clock: Clock,
    next: Cell<u64>,
    ended: RefCell<QuickMap<Ending, Counter>>,
    refused: RefCell<QuickMap<(Direction, CloseReason), Counter>>,
    handshakes: RefCell<QuickMap<(&'static str, &'static str), Histogram>>,
    plaintext: RefCell<QuickMap<(Direction, &'static str), Counter>>,
    names: RefCell<QuickMap<&'static str, Counter>>,
    endpoint_failures: RefCell<QuickMap<&'static str, Counter>>,
    peers: Peers,
    inbound: Counts,
    outbound: Counts,
    /// What open connections have been counted for already, by their numbers: bytes in, bytes out.
    counted: RefCell<QuickMap<u64, (u64, u64)>>,
}

type Ending = (Direction, Tls, &'static str, CloseReason);

struct Counts {
    open: Gauge,
    reused: Counter,
    bytes_in: Counter,
    bytes_out: Counter,
}

/// What the debug socket shows of one worker's connections; cheap to clone, clones show the same.
#[derive(Debug, Clone)]
pub struct Seen {
    /// Those that are open.
    pub open: Shard,
    /// Who talked to whom.
    pub edges: Edges,
    /// Where lines are passed on, the same for all workers.
    pub tap: Tap,
}

/// A connection that is on the books; dropping it takes it off.
pub struct Entry {
    book: Book,
    account: Arc<Account>,
    moved: Arc<Moved>,
}

impl Book {
    /// Empty books of the worker number `worker`, whose connections are to be seen in `seen`.
    /// `rules` says which peers are counted by themselves.
    pub fn new(
        own: Arc<Own>,
        metrics: ProxyMetrics,
        seen: Seen,
        worker: u16,
        clock: Clock,
        rules: watch::Receiver<Option<Arc<Policy>>>,
    ) -> Self {
        let counts = |direction: Direction| {
            let word = direction.word();
            Counts {
                open: metrics.open.get_or_create_owned(&[("direction", word)]),
                reused: metrics.reused.get_or_create_owned(&[("direction", word)]),
                bytes_in: metrics
                    .bytes
                    .get_or_create_owned(&[("direction", word), ("flow", "in")]),
                bytes_out: metrics
                    .bytes
                    .get_or_create_owned(&[("direction", word), ("flow", "out")]),
            }
        };
        Self(Rc::new(Inner {
            own,
            inbound: counts(Direction::Inbound),
            outbound: counts(Direction::Outbound),
            peers: Peers::new(metrics.peers.clone(), rules),
            metrics,
            seen,
            clock,
            next: Cell::new(u64::from(worker) << 48),
            ended: RefCell::default(),
            refused: RefCell::default(),
            handshakes: RefCell::default(),
            plaintext: RefCell::default(),
            names: RefCell::default(),
            endpoint_failures: RefCell::default(),
            counted: RefCell::default(),
        }))
    }

    /// A new account for a connection that was just accepted; on the heap, because every future that it is handed to
    /// would hold room for it.
    pub fn account(&self, direction: Direction, client: ClientAddr) -> Box<Account> {
        let id = self.0.next.get() + 1;
        self.0.next.set(id);
        Box::new(Account::new(id, Arc::clone(&self.0.own), direction, client))
    }

    /// Enters a connection that carries bytes from now on.
    pub fn enter(&self, account: Box<Account>) -> Entry {
        let (account, moved): (Arc<Account>, _) = (account.into(), Arc::new(Moved::default()));
        let counts = self.0.counts(account.direction());
        counts.open.inc();
        if account.is_reused {
            counts.reused.inc();
        }
        self.0.seen.open.enter(Live {
            account: Arc::clone(&account),
            moved: Arc::clone(&moved),
        });
        Entry {
            book: self.clone(),
            account,
            moved,
        }
    }

    /// Records the end of a connection that was never entered.
    pub fn refused(&self, account: &Account, closed: &Closed) {
        self.ended(account, closed, &Moved::default());
    }

    fn ended(&self, account: &Account, closed: &Closed, moved: &Moved) {
        let inner = &*self.0;
        let (direction, reason) = (account.direction(), closed.reason);
        let key = (direction, account.tls, account.verdict(), reason);
        inner
            .ended
            .borrow_mut()
            .entry(key)
            .or_insert_with(|| {
                inner.metrics.connections.get_or_create_owned(&[
                    ("direction", direction.word()),
                    ("tls", account.tls.word()),
                    ("verdict", account.verdict()),
                    ("reason", reason.word()),
                ])
            })
            .inc();
        if reason.blame() == Blame::Policy || reason == CloseReason::Plaintext {
            inner
                .refused
                .borrow_mut()
                .entry((direction, reason))
                .or_insert_with(|| {
                    let labels = [("direction", direction.word()), ("reason", reason.word())];
                    inner.metrics.denied.get_or_create_owned(&labels)
                })
                .inc();
        }
        let counted = inner.counted.borrow_mut().remove(&account.id);
        let (bytes_in, bytes_out) = inner.count_bytes(direction, moved, counted.unwrap_or_default());
        inner.peers.ended(account, bytes_in, bytes_out);
        inner.seen.edges.enter(account, moved, inner.clock.unix());
        account.log_close(closed, moved, &inner.seen.tap, &inner.clock);
    }

    /// Counts a connection in clear, with the reason why it is.
    pub fn plaintext(&self, direction: Direction, reason: &'static str) {
        let make = || {
            let labels = [("direction", direction.word()), ("reason", reason)];
            self.0.metrics.plaintext.get_or_create_owned(&labels)
        };
        let mut counters = self.0.plaintext.borrow_mut();
        counters.entry((direction, reason)).or_insert_with(make).inc();
    }

    /// Counts an attempt at an endpoint of the mesh that failed.
    pub fn endpoint_failed(&self, reason: &'static str) {
        let make = || {
            let labels = [("reason", reason)];
            self.0.metrics.endpoint_failures.get_or_create_owned(&labels)
        };
        let mut counters = self.0.endpoint_failures.borrow_mut();
        counters.entry(reason).or_insert_with(make).inc();
    }

    /// Counts what came of waiting for the name of a host.
    pub fn name(&self, outcome: &'static str) {
        let make = || self.0.metrics.names.get_or_create_owned(&[("outcome", outcome)]);
        self.0
            .names
            .borrow_mut()
            .entry(outcome)
            .or_insert_with(make)
            .inc();
    }

    /// Counts a client that said nothing for the time that it is waited for in permissive mode.
    pub fn waited(&self) {
        self.0.metrics.silent.inc();
    }

    /// Measures a handshake of one `side`, with the word for its outcome.
    pub fn handshake(&self, side: &'static str, outcome: &'static str, took: Duration) {
        let make = || {
            let labels = [("side", side), ("outcome", outcome)];
            self.0.metrics.handshakes.get_or_create_owned(&labels)
        };
        let mut histograms = self.0.handshakes.borrow_mut();
        histograms
            .entry((side, outcome))
            .or_insert_with(make)
            .observe(took.as_secs_f64());
    }

    /// Writes the lines of connections that have been open for [`OPEN_LINE`], and counts their bytes now and then; for
    /// ever, beside them.
    pub async fn mind(&self) {
        let mut tick = tokio::time::interval(Duration::from_secs(1));
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        // Numbers grow with the time of acceptance, so the last one that had its line divides old from new.
        let mut last = 0;
        for second in 0_u64.. {
            tick.tick().await;
            if second % COUNT_EVERY == 0 {
                for live in self.0.seen.open.walk() {
                    self.0.count_open(&live);
                }
            }
            while let Some(live) = self.0.seen.open.next_after(last) {
                if live.account.began().elapsed() < OPEN_LINE {
                    break;
                }
                last = live.account.id;
                live.account
                    .log_open(&live.moved, &self.0.seen.tap, &self.0.clock);
            }
        }
    }
}

impl Inner {
    /// Counts what has moved since the last time on a connection that goes on.
    fn count_open(&self, live: &Live) {
        let mut counted = self.counted.borrow_mut();
        let before = counted.entry(live.account.id).or_default();
        let (bytes_in, bytes_out) = self.count_bytes(live.account.direction(), &live.moved, *before);
        self.peers.moved(&live.account, bytes_in, bytes_out);
        *before = (before.0 + bytes_in, before.1 + bytes_out);
    }

    /// Counts what has moved beyond what was counted `before`, and gives it.
    fn count_bytes(&self, direction: Direction, moved: &Moved, before: (u64, u64)) -> (u64, u64) {
        let bytes_in = moved.inward().saturating_sub(before.0);
        let bytes_out = moved.outward().saturating_sub(before.1);
        let counts = self.counts(direction);
        counts.bytes_in.inc_by(bytes_in);
        counts.bytes_out.inc_by(bytes_out);
        (bytes_in, bytes_out)
    }

    const fn counts(&self, direction: Direction) -> &Counts {
        match direction {
            Direction::Inbound => &self.inbound,
            Direction::Outbound => &self.outbound,
        }
    }
}

impl Entry {
    /// What the connection moved so far.
    pub fn moved(&self) -> &Moved {
        &self.moved
    }

    /// Records the end.
    pub fn close(self, closed: &Closed) {
        self.book.ended(&self.account, closed, &self.moved);
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.book.0.counts(self.account.direction()).open.dec();
        self.book.0.seen.open.leave(self.account.id);
    }
}

/// How often the bytes of open connections are counted, in seconds; a stream may last for days.
const COUNT_EVERY: u64 = 10;

/// How long a connection is open before it has a line of its own.
pub const OPEN_LINE: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests;
