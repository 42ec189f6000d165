//! Which loads are put on every subject, and which figures each of them gives.

use std::net::SocketAddr;
use std::time::Duration;

use ferrule_load::bulk::{self, Bulk, Direction};
use ferrule_load::openings::{self, Opening};
use ferrule_load::requests::{self, Answered, Asking};
use ferrule_load::{LoadError, Meter, runtime};
use serde::Serialize;

/// Whether more of it is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Better {
    More,
    Less,
}

/// One figure that a load gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Figure {
    /// One word, within the load's.
    pub(crate) name: &'static str,
    pub(crate) unit: &'static str,
    pub(crate) better: Better,
}

/// A load with a name.
#[derive(Debug, Clone)]
pub(crate) struct Measure {
    /// One word.
    pub(crate) name: &'static str,
    /// What people call it.
    pub(crate) title: &'static str,
    /// What it belongs to.
    pub(crate) group: Group,
    load: Load,
}

/// What figures are shown together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Group {
    Bulk,
    Growth,
    Requests,
    Connections,
    Memory,
    Program,
}

impl Group {
    pub(crate) const ALL: [Self; 6] = [
        Self::Bulk,
        Self::Growth,
        Self::Requests,
        Self::Connections,
        Self::Memory,
        Self::Program,
    ];

    /// What people call it.
    pub(crate) const fn title(self) -> &'static str {
        match self {
            Self::Bulk => "Bulk throughput",
            Self::Growth => "Growth with the number of connections",
            Self::Requests => "Requests of 1 KiB over kept connections",
            Self::Connections => "A new connection for each request",
            Self::Memory => "Memory of one proxy",
            Self::Program => "The program",
        }
    }
}

#[derive(Debug, Clone)]
enum Load {
    Bulk(Direction, usize),
    Requests {
        connections: usize,
        rate: Option<Pace>,
        one_core: bool,
    },
    Openings {
        parallel: usize,
    },
}

/// How many requests a second, where it is not as many as there can be.
#[derive(Debug, Clone, Copy)]
enum Pace {
    /// So many.
    Fixed(f64),
    /// This share of what the same way carried in [`FULL`], in the same round.
    Share(f64),
}

/// How long each load goes on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Times {
    pub(crate) warm_up: Duration,
    pub(crate) time: Duration,
}

/// All loads; `rate` is that of the one at a fixed rate, in requests a second.
pub(crate) fn all(rate: f64) -> Vec<Measure> {
    let bulk = |name, title, direction, connections| Measure {
        name,
        title,
        group: Group::Bulk,
        load: Load::Bulk(direction, connections),
    };
    let requests = |name, title, connections, rate, one_core| Measure {
        name,
        title,
        group: Group::Requests,
        load: Load::Requests {
            connections,
            rate,
            one_core,
        },
    };
    vec![
        bulk("bulk-1-up", "1 connection, to the server", Direction::Up, 1),
        bulk("bulk-1-down", "1 connection, from the server", Direction::Down, 1),
        bulk("bulk-8-up", "8 connections, to the server", Direction::Up, 8),
        bulk(
            "bulk-8-down",
            "8 connections, from the server",
            Direction::Down,
            8,
        ),
        requests("requests-1", "1 connection", 1, None, false),
        requests("requests-1-core", "1 connection, all on one core", 1, None, true),
        requests("requests-16", "16 connections", 16, None, false),
        requests(FULL, "64 connections", 64, None, false),
        requests(
            "requests-half",
            "64 connections at 50 % of their rate",
            64,
            Some(Pace::Share(0.5)),
            false,
        ),
        requests(
            "requests-most",
            "64 connections at 90 % of their rate",
            64,
            Some(Pace::Share(0.9)),
            false,
        ),
        requests(
            "requests-rate",
            "64 connections at a fixed rate",
            64,
            Some(Pace::Fixed(rate)),
            false,
        ),
        Measure {
            name: "connections",
            title: "16 at once",
            group: Group::Connections,
            load: Load::Openings { parallel: 16 },
        },
    ]
}

impl Measure {
    /// Whether every process is to be bound to one core meanwhile.
    pub(crate) const fn on_one_core(&self) -> bool {
        matches!(self.load, Load::Requests { one_core: true, .. })
    }

    /// Whether the kernel's congestion control weighs on it.
    pub(crate) const fn depends_on_congestion(&self) -> bool {
        matches!(self.load, Load::Bulk(..))
    }

    /// Puts the load on the path that begins at `entry`, which carried `full` requests a second in [`FULL`].
    pub(crate) fn take(
        &self,
        entry: SocketAddr,
        full: Option<f64>,
        times: Times,
        meter: Meter<'_>,
    ) -> Result<Vec<(Figure, f64)>, LoadError> {
        let Times { warm_up, time } = times;
        match self.load {
            Load::Bulk(direction, connections) => {
                let bulk = Bulk {
                    direction,
                    connections,
                    warm_up,
                    time,
                };
                let carried = runtime::run(bulk::run(bulk, entry, meter))??;
                Ok(vec![
                    (THROUGHPUT, carried.gigabits()),
                    (CPU_PER_GIGABYTE, carried.cpu_per_gigabyte()),
                ])
            }
            Load::Requests {
                connections, rate, ..
            } => {
                let rate = match rate {
                    None => None,
                    Some(Pace::Fixed(rate)) => Some(rate),
                    // A way that carried nothing at full rate has no share of it.
                    Some(Pace::Share(share)) => match full {
                        Some(full) => Some(full * share),
                        None => return Ok(Vec::new()),
                    },
                };
                let asking = Asking {
                    connections,
                    size: REQUEST_BYTES,
                    rate,
                    warm_up,
                    time,
                };
                let answered = runtime::run(requests::run(asking, entry, meter))??;
                Ok(figures(&answered, CPU_EACH))
            }
            Load::Openings { parallel } => {
                let opening = Opening {
                    parallel,
                    size: REQUEST_BYTES,
                    warm_up,
                    time,
                };
                let answered = runtime::run(openings::run(opening, entry, meter))??;
                Ok(figures(&answered, CPU_EACH))
            }
        }
    }
}

fn figures(answered: &Answered, cpu: Figure) -> Vec<(Figure, f64)> {
    let delay = |share| answered.delays.micros(share);
    vec![
        (RATE, answered.rate()),
        (cpu, answered.cpu_each()),
        (P50, delay(0.5)),
        (P99, delay(0.99)),
        (P999, delay(0.999)),
    ]
}

const fn figure(name: &'static str, unit: &'static str, better: Better) -> Figure {
    Figure { name, unit, better }
}

/// Bytes at the receiving end.
pub(crate) const THROUGHPUT: Figure = figure("throughput", "Gbit/s", Better::More);
/// CPU time of all programs on the way.
pub(crate) const CPU_PER_GIGABYTE: Figure = figure("cpu", "CPU s/GB", Better::Less);
const RATE: Figure = figure("rate", "per s", Better::More);
const CPU_EACH: Figure = figure("cpu", "CPU µs each", Better::Less);

const P50: Figure = figure("p50", "p50 µs", Better::Less);
const P99: Figure = figure("p99", "p99 µs", Better::Less);
const P999: Figure = figure("p99.9", "p99.9 µs", Better::Less);

/// Memory of one process that has just started, and carried nothing.
pub(crate) const FRESH: Figure = figure("fresh", "MiB once started", Better::Less);
/// Memory of one process with nothing to do.
pub(crate) const IDLE: Figure = figure("idle", "MiB idle", Better::Less);
/// The same, with shared pages counted in parts.
pub(crate) const IDLE_PROPORTIONAL: Figure = figure("idle-pss", "MiB idle, Pss", Better::Less);
/// From the start of the near program to its first accept.
pub(crate) const START: Figure = figure("start", "ms to first accept", Better::Less);
/// The program's file.
pub(crate) const SIZE: Figure = figure("size", "MiB stripped", Better::Less);

/// Memory of one process with all connections open, and nothing sent.
pub(crate) const OPEN: Figure = figure("open", "MiB with all open", Better::Less);
/// The most that one process held while everything was sent.
pub(crate) const PEAK: Figure = figure("peak", "MiB at most", Better::Less);

/// What `count` idle connections add to one proxy, for each of them.
pub(crate) const fn each_idle(name: &'static str) -> Figure {
    figure(name, "KiB each", Better::Less)
}

/// What `more` idle connections add to one proxy beyond the fewer before them, for each of them.
pub(crate) const SLOPE: Figure = figure("slope", "KiB for each more", Better::Less);

/// The load whose rate others take a share of, and its figure.
pub(crate) const FULL: &str = "requests-64";
pub(crate) const RATE_NAME: &str = RATE.name;

/// The size of a request and of an answer.
const REQUEST_BYTES: u32 = 1024;
