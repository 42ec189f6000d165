//! Keeps TLS connections that carry nothing for the next stream to the same workload.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use ferrule_daemon::metrics::Gauge;

use super::exchange::{is_ready, part_at_once};
use super::line::Line;
use crate::config::PoolConfig;
use crate::knowledge::map::Endpoint;
use crate::maps::QuickMap;

/// The connections of one worker that carry nothing now, by whom they lead to. They stay on the worker's thread, so
/// nothing is locked, and nobody waits for another worker's.
pub struct Pool {
    config: PoolConfig,
    idle: RefCell<QuickMap<SocketAddr, Vec<Parked>>>,
    /// How many there are in all.
    count: Cell<usize>,
    is_shut: Cell<bool>,
    gauge: Gauge,
}

struct Parked {
    line: Box<Line>,
    since: Instant,
}

impl Pool {
    /// An empty pool; `gauge` shows how many connections all workers' pools hold.
    pub fn new(config: PoolConfig, gauge: Gauge) -> Self {
        Self {
            config,
            idle: RefCell::default(),
            count: Cell::new(0),
            is_shut: Cell::new(false),
            gauge,
        }
    }

    /// A connection to `endpoint`, and to exactly who has to be there, that began in this `turn` and is not known to
    /// be dead; and whether it was in use lately.
    pub fn take(&self, endpoint: &Endpoint, turn: u64) -> Option<(Box<Line>, bool)> {
        let now = Instant::now();
        let mut idle = self.idle.borrow_mut();
        let parked = idle.get_mut(&endpoint.address.socket())?;
        let mut unsettled = Vec::new();
        let found = loop {
            // The last one that came: those that are too many are not used, and end.
            let Some(mut last) = parked.pop() else { break None };
            if !self.may_stay(&last, turn, now) || *last.line.about.peer.id() != endpoint.id {
                self.discard(last);
                continue;
            }
            match is_ready(&last.line.tcp, &mut last.line.channel) {
                Ok(true) => break Some(last),
                // The peer has not said its last word on the stream that we have cut.
                Ok(false) => unsettled.push(last),
                Err(_) => self.discard(last),
            }
        };
        parked.append(&mut unsettled);
        found.map(|found| {
            self.counted(-1);
            (found.line, now.saturating_duration_since(found.since) < LATELY)
        })
    }

    /// Keeps a connection for the next stream, if there may be one in this `turn`.
    pub fn put(&self, line: Box<Line>, turn: u64) {
        let parked = Parked {
            line,
            since: Instant::now(),
        };
        let mut idle = self.idle.borrow_mut();
        let at = idle.entry(parked.line.about.far).or_default();
        self.counted(1);
        if self.is_shut.get() || at.len() >= self.config.most || !self.may_stay(&parked, turn, parked.since) {
            self.discard(parked);
        } else {
            at.push(parked);
        }
    }

    /// Ends all connections to `endpoint` that carry nothing: one of them was found dead.
    pub fn forget(&self, endpoint: &Endpoint) {
        let parked = self.idle.borrow_mut().remove(&endpoint.address.socket());
        parked
            .into_iter()
            .flatten()
            .for_each(|parked| self.discard(parked));
    }

    /// Ends all connections that carry nothing.
    pub fn retire(&self) {
        let idle = self.idle.take();
        idle.into_values()
            .flatten()
            .for_each(|parked| self.discard(parked));
    }

    /// Ends all, and takes no further ones.
    pub fn shut(&self) {
        self.is_shut.set(true);
        self.retire();
    }

    /// Ends those that have been idle for too long, are too old, or that the other side has ended.
    pub fn sweep(&self, now: Instant) {
        let mut idle = self.idle.borrow_mut();
        for parked in idle.values_mut() {
            let ended = parked.extract_if(.., |parked| {
                let turn = parked.line.about.turn;
                let is_dead = is_ready(&parked.line.tcp, &mut parked.line.channel).is_err();
                is_dead || !self.may_stay(parked, turn, now)
            });
            ended.for_each(|parked| self.discard(parked));
        }
        idle.retain(|_, parked| !parked.is_empty());
        let room = idle.len() * 2;
        idle.shrink_to(room);
    }

    /// How often it wants to be swept.
    pub fn tick(&self) -> Duration {
        (self.config.idle / 4).clamp(SHORTEST_TICK, LONGEST_TICK)
    }

    /// How many connections to whoever has to be at an endpoint are there.
    pub fn ready(&self, endpoint: &Endpoint) -> usize {
        let idle = self.idle.borrow();
        let parked = idle.get(&endpoint.address.socket()).into_iter().flatten();
        parked
            .filter(|parked| *parked.line.about.peer.id() == endpoint.id)
            .count()
    }

    fn may_stay(&self, parked: &Parked, turn: u64, now: Instant) -> bool {
        let about = &parked.line.about;
        about.turn == turn
            && parked.line.channel.is_reusable()
            && now.saturating_duration_since(parked.since) < self.config.idle
            && now.saturating_duration_since(about.began) < self.config.age
    }

    fn discard(&self, mut parked: Parked) {
        self.counted(-1);
        part_at_once(&parked.line.tcp, &mut parked.line.channel);
    }

    fn counted(&self, change: isize) {
        self.count.set(self.count.get().saturating_add_signed(change));
        self.gauge.inc_by(i64::try_from(change).unwrap_or_default());
    }
}

/// How long after its last stream a connection is trusted not to have been lost without a word.
const LATELY: Duration = Duration::from_secs(2);

const SHORTEST_TICK: Duration = Duration::from_millis(20);
const LONGEST_TICK: Duration = Duration::from_secs(1);
