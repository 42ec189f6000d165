//! Takes the measurements that are compared with each other in turn, so that whatever else the machine does hits all
//! of them.

use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use ferrule_credentials::connection::Connection;
use ferrule_identity::WorkloadCertificate;
use serde::Serialize;

use super::alone::Alone;
use super::callers::{Asker, Callers, idle_asks};
use super::load::{self, Answered, Ask};
use super::server::Server;
use super::step::{self, StepAsker, StepCa};
use super::syncs::Counting;
use crate::figures::{Spread, number, percentile};
use crate::process::{Memory, cpu, memory, own_cpu, thread_cpu};

/// A way to ask a CA, over kept connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Way {
    /// `/v1/renew` by client certificate.
    Renew,
    /// `/v1/issue` by host statement.
    Issue,
    /// `/v1/time`: TLS and HTTP without an issue.
    Time,
    /// step-ca's `/1.0/sign` by token.
    StepCa,
}

impl Way {
    /// Those that end with a certificate of ours.
    pub(crate) const OURS: [Self; 2] = [Self::Renew, Self::Issue];

    /// What people call it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Renew => "/v1/renew, client certificate",
            Self::Issue => "/v1/issue, host statement",
            Self::Time => "/v1/time, no issue",
            Self::StepCa => "step-ca, JWK token",
        }
    }
}

/// What a round found of one way.
struct Sample {
    rate: f64,
    /// Against the yardstick right before and after.
    percent_of_alone: f64,
    times_alone: f64,
    server_us: f64,
    ledger_us: f64,
    client_us: f64,
    delays: Vec<Duration>,
}

/// What all rounds found of one way.
#[derive(Debug, Serialize)]
pub(crate) struct Turn {
    pub(crate) way: Way,
    /// Answers a second.
    pub(crate) rate: Spread,
    /// The same in per cent of the yardstick.
    pub(crate) percent_of_alone: Spread,
    /// The CPU time that server and clients take together, as a multiple of the yardstick's.
    pub(crate) times_alone: Spread,
    /// CPU time of the server for one answer, in microseconds.
    pub(crate) server_cpu_us: Spread,
    /// The ledger thread's part of it.
    pub(crate) ledger_cpu_us: Spread,
    /// CPU time of the clients for one answer, in microseconds.
    pub(crate) client_cpu_us: Spread,
    /// Delays with every connection busy, in milliseconds.
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
    /// What the server held in memory once it had issued as many as are named.
    pub(crate) memory: Memory,
    pub(crate) memory_after: usize,
}

/// What all rounds found.
#[derive(Debug, Serialize)]
pub(crate) struct Turns {
    /// What checking and signing alone reach on one core, a second.
    pub(crate) alone: Spread,
    /// CPU time of one of them, in microseconds.
    pub(crate) alone_cpu_us: Spread,
    pub(crate) ways: Vec<Turn>,
}

impl Turns {
    /// What was found of `way`, which was measured.
    pub(crate) fn of(&self, way: Way) -> &Turn {
        self.find(way).unwrap_or(&self.ways[0])
    }

    /// What was found of `way`, where it was measured.
    pub(crate) fn find(&self, way: Way) -> Option<&Turn> {
        self.ways.iter().find(|turn| turn.way == way)
    }
}

/// Delays at a rate that is kept whatever the answers do.
#[derive(Debug, Serialize)]
pub(crate) struct Delays {
    pub(crate) way: Way,
    /// Requests a second.
    pub(crate) rate: f64,
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
    pub(crate) max_ms: f64,
}

/// How often the disk was waited for.
#[derive(Debug, Serialize)]
pub(crate) struct Groups {
    pub(crate) way: Way,
    /// Calls of `fsync` and `fdatasync`.
    pub(crate) syncs: f64,
    /// Certificates that one call made durable, on average.
    pub(crate) group: f64,
}

/// Everything that the rounds work with.
pub(crate) struct Rounds<'a> {
    server: &'a Server,
    callers: &'a Callers,
    alone: &'a Alone,
    step: Option<StepCa>,
    askers: Vec<Asker>,
    certificates: Vec<WorkloadCertificate>,
    step_askers: Vec<StepAsker>,
    serials: Vec<String>,
    issued: usize,
    issued_by_step: usize,
}

impl<'a> Rounds<'a> {
    /// Gives every asker of ours a certificate to show.
    pub(crate) async fn prepare(
        server: &'a Server,
        callers: &'a Callers,
        alone: &'a Alone,
        step: Option<StepCa>,
        in_flight: usize,
    ) -> anyhow::Result<Self> {
        let askers = Asker::several("kept", in_flight)?;
        Ok(Self {
            server,
            callers,
            alone,
            step,
            certificates: callers.certificates(&askers).await?,
            askers,
            step_askers: StepCa::askers(in_flight)?,
            serials: Vec::new(),
            issued: in_flight,
            issued_by_step: 0,
        })
    }

    /// Takes `count` rounds, each with the yardstick before and after, of `issues` certificates in each of our ways.
    pub(crate) async fn take(&mut self, count: usize, issues: usize) -> anyhow::Result<Turns> {
        let mut ways = vec![Way::Renew, Way::Issue, Way::Time];
        ways.extend(self.step.as_ref().map(|_| Way::StepCa));
        // Every path is taken once before it counts.
        for way in &ways {
            self.run(*way, WARM_UP).await?;
        }
        self.alone.take(WARM_UP)?;
        let mut alone = vec![self.alone.take(issues / 2)?];
        let mut samples: Vec<Vec<Sample>> = ways.iter().map(|_| Vec::new()).collect();
        let mut memories: Vec<Option<(Memory, usize)>> = vec![None; ways.len()];
        for round in 0..count {
            let mut taken = Vec::new();
            for (at, way) in ways.iter().enumerate() {
                let asked = if *way == Way::StepCa {
                    issues / step::SHARE
                } else {
                    issues
                };
                taken.push(self.sample(*way, asked).await?);
                let so_far = if *way == Way::StepCa {
                    self.issued_by_step
                } else {
                    self.issued
                };
                let last = round + 1 == count;
                if memories[at].is_none() && (so_far >= step::READ_MEMORY_AFTER || last) {
                    memories[at] = Some((memory(self.id(*way)?)?, so_far));
                }
            }
            let before = alone.last().copied().context("no yardstick")?;
            let after = self.alone.take(issues / 2)?;
            alone.push(after);
            let (rate, cpu_us) = (
                f64::midpoint(before.rate, after.rate),
                f64::midpoint(before.cpu_us, after.cpu_us),
            );
            for (samples, mut sample) in samples.iter_mut().zip(taken) {
                sample.percent_of_alone = 100.0 * sample.rate / rate;
                sample.times_alone = (sample.server_us + sample.client_us) / cpu_us;
                samples.push(sample);
            }
        }
        let turns = ways.into_iter().zip(samples).zip(memories);
        let ways = turns.map(|((way, samples), memory)| {
            let (memory, memory_after) = memory.context("no memory was read")?;
            Ok(turn(way, samples, memory, memory_after))
        });
        Ok(Turns {
            alone: Spread::of(alone.iter().map(|taken| taken.rate)),
            alone_cpu_us: Spread::of(alone.iter().map(|taken| taken.cpu_us)),
            ways: ways.collect::<anyhow::Result<_>>()?,
        })
    }

    /// Stops step-ca.
    pub(crate) fn end_step(&mut self) -> anyhow::Result<()> {
        self.step.take().map_or(Ok(()), |step| step.running.stop())
    }

    /// Asks at `rate` a second for `seconds`.
    pub(crate) async fn delays(&mut self, way: Way, rate: f64, seconds: usize) -> anyhow::Result<Delays> {
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a small positive number"
        )]
        let count = (rate * number(seconds)).ceil() as usize;
        let (lanes, asks) = (self.lanes(way).await?, self.asks(way, count)?);
        let mut answered = load::open(lanes, asks, rate).await?;
        self.serials.append(&mut answered.serials);
        let delays = &mut answered.delays;
        let (p50_ms, p99_ms) = (percentile(delays, 500), percentile(delays, 990));
        Ok(Delays {
            way,
            rate,
            p50_ms,
            p99_ms,
            max_ms: percentile(delays, 1000),
        })
    }

    /// Counts how many certificates share one wait for the disk; none where that cannot be seen.
    pub(crate) async fn groups(&mut self, issues: usize, folder: &Path) -> anyhow::Result<Vec<Groups>> {
        let mut groups = Vec::new();
        for way in Way::OURS {
            let Some(counting) = Counting::begin(self.server.id()?, folder) else {
                continue;
            };
            let ran = self.run(way, issues).await;
            let syncs = counting.end()?;
            ran?;
            if let Some(syncs) = syncs.filter(|syncs| *syncs > 0.0) {
                groups.push(Groups {
                    way,
                    syncs,
                    group: number(issues) / syncs,
                });
            }
        }
        Ok(groups)
    }

    /// Gives the serial numbers of all certificates that were answered.
    pub(crate) fn finish(self) -> Vec<String> {
        self.serials
    }

    async fn sample(&mut self, way: Way, count: usize) -> anyhow::Result<Sample> {
        let (lanes, asks) = (self.lanes(way).await?, self.asks(way, count)?);
        let id = self.id(way)?;
        let used = || anyhow::Ok([cpu(id)?, thread_cpu(id, "ledger")?, own_cpu()?]);
        let before = used()?;
        let answered = self.send(way, lanes, asks).await?;
        if way == Way::StepCa {
            // Its database works on after the answer, on the same account.
            tokio::time::sleep(step::SETTLE).await;
        }
        let after = used()?;
        let each = |at: usize| after[at].saturating_sub(before[at]).as_secs_f64() * 1e6 / number(count);
        Ok(Sample {
            rate: number(count) / answered.took.as_secs_f64(),
            percent_of_alone: 0.0,
            times_alone: 0.0,
            server_us: each(0),
            ledger_us: each(1),
            client_us: each(2),
            delays: answered.delays,
        })
    }

    async fn run(&mut self, way: Way, count: usize) -> anyhow::Result<()> {
        let (lanes, asks) = (self.lanes(way).await?, self.asks(way, count)?);
        self.send(way, lanes, asks).await.map(drop)
    }

    async fn send(&mut self, way: Way, lanes: Vec<Connection>, asks: Vec<Ask>) -> anyhow::Result<Answered> {
        let count = asks.len();
        let mut answered = load::closed(lanes, asks).await?;
        match way {
            Way::Renew | Way::Issue => {
                anyhow::ensure!(answered.serials.len() == count, "an answer has no certificate");
                self.issued += count;
                self.serials.append(&mut answered.serials);
            }
            Way::StepCa => self.issued_by_step += count,
            Way::Time => {}
        }
        Ok(answered)
    }

    /// New connections, each after its handshake: a server may have closed those of the last round.
    async fn lanes(&self, way: Way) -> anyhow::Result<Vec<Connection>> {
        let mut lanes = Vec::with_capacity(self.askers.len());
        for certificate in &self.certificates {
            lanes.push(match (way, &self.step) {
                (Way::StepCa, Some(step)) => step.connect().await?,
                (Way::Renew, _) => self.callers.connect(Some(certificate)).await?,
                _ => self.callers.connect(None).await?,
            });
        }
        Ok(lanes)
    }

    fn id(&self, way: Way) -> anyhow::Result<u32> {
        match (way, &self.step) {
            (Way::StepCa, Some(step)) => Ok(step.running.id()),
            _ => self.server.id(),
        }
    }

    /// `count` requests, each token and statement in them fresh.
    fn asks(&self, way: Way, count: usize) -> anyhow::Result<Vec<Ask>> {
        let askers = self.askers.iter().cycle().take(count);
        match (way, &self.step) {
            (Way::Renew, _) => askers.map(|asker| self.callers.renewal(asker)).collect(),
            (Way::Issue, _) => askers.map(|asker| self.callers.statement(asker)).collect(),
            (Way::Time, _) => Ok(idle_asks(count)),
            (Way::StepCa, Some(step)) => self
                .step_askers
                .iter()
                .cycle()
                .take(count)
                .map(|asker| step.ask(asker))
                .collect(),
            (Way::StepCa, None) => Ok(Vec::new()),
        }
    }
}

fn turn(way: Way, samples: Vec<Sample>, memory: Memory, memory_after: usize) -> Turn {
    let spread = |of: fn(&Sample) -> f64| Spread::of(samples.iter().map(of));
    let (rate, percent_of_alone) = (
        spread(|sample| sample.rate),
        spread(|sample| sample.percent_of_alone),
    );
    let times_alone = spread(|sample| sample.times_alone);
    let (server_cpu_us, ledger_cpu_us) = (
        spread(|sample| sample.server_us),
        spread(|sample| sample.ledger_us),
    );
    let client_cpu_us = spread(|sample| sample.client_us);
    let mut delays: Vec<Duration> = samples.into_iter().flat_map(|sample| sample.delays).collect();
    Turn {
        way,
        rate,
        percent_of_alone,
        times_alone,
        server_cpu_us,
        ledger_cpu_us,
        client_cpu_us,
        p50_ms: percentile(&mut delays, 500),
        p99_ms: percentile(&mut delays, 990),
        memory,
        memory_after,
    }
}

const WARM_UP: usize = 1_000;
