//! Measures how cost and memory grow with the number of connections: the same amount over one, and over a thousand.

pub(crate) mod found;
pub(crate) mod table;

use std::path::Path;

use anyhow::Context as _;
use ferrule_load::amount::{self, Amount};
use ferrule_load::runtime;

use super::measure::{CPU_PER_GIGABYTE, Group, OPEN, PEAK, THROUGHPUT};
use super::report::{Place, Samples};
use super::rounds::start;
use super::space::Space;
use super::subject::Subject;
use crate::figures::number;

/// One number of connections.
#[derive(Debug)]
pub(crate) struct Step {
    /// One word.
    pub(crate) measure: &'static str,
    /// What people call it.
    pub(crate) title: &'static str,
    pub(crate) connections: u32,
}

/// From one connection to as many as are asked for.
pub(crate) const STEPS: [Step; 5] = [
    step("growth-1", "1 connection", 1),
    step("growth-8", "8 connections", 8),
    step("growth-64", "64 connections", 64),
    step("growth-256", "256 connections", 256),
    step("growth-1000", "1,000 connections", 1_000),
];

const fn step(measure: &'static str, title: &'static str, connections: u32) -> Step {
    Step {
        measure,
        title,
        connections,
    }
}

/// Why a peer is left out where nobody names it.
pub(crate) fn unfit(name: &str) -> Option<&'static str> {
    (name == "stunnel").then_some(
        "a thread for each connection: what a thousand of them take is the kernel's, which lets them take turns",
    )
}

/// What the steps are made of.
pub(crate) struct Growth<'a> {
    pub(crate) steps: &'a [&'static Step],
    pub(crate) subjects: &'a [Subject],
    pub(crate) congestion: &'a [String],
    pub(crate) rounds: usize,
    /// How much is sent in all at each step, in bytes.
    pub(crate) bytes: u32,
    pub(crate) folder: &'a Path,
}

impl Growth<'_> {
    /// Takes them all; `tell` hears how far it is.
    pub(crate) fn take(
        &self,
        space: &Space,
        samples: &mut Samples,
        tell: impl Fn(&str),
    ) -> anyhow::Result<()> {
        for round in 0..self.rounds {
            for congestion in self.congestion {
                space.congestion(congestion)?;
                for step in self.steps {
                    tell(&format!(
                        "round {} of {}, {congestion}, {} …",
                        round + 1,
                        self.rounds,
                        step.title
                    ));
                    // Nobody is always the first, or always behind the same one.
                    for at in 0..self.subjects.len() {
                        let subject = &self.subjects[(at + round) % self.subjects.len()];
                        if samples.failed(subject.name, step.measure) {
                            continue;
                        }
                        if let Err(error) = self.one(step, subject, congestion, samples) {
                            samples.fail(subject.name, step.measure, &error);
                        }
                    }
                }
            }
        }
        Ok(())
    }

    /// Takes one step with programs that were just started: what others held before them is none of theirs.
    fn one(
        &self,
        step: &Step,
        subject: &Subject,
        congestion: &str,
        samples: &mut Samples,
    ) -> anyhow::Result<()> {
        let running = start(subject, self.folder)?;
        let mut open = None;
        let look = || open = Some(running.memory());
        let amount = Amount {
            connections: usize::try_from(step.connections)?,
            each: self.bytes.div_ceil(step.connections),
        };
        let carried = runtime::run(amount::run(amount, running.entry, look, &|| running.cpu()))?
            .context("the amount was not carried")?;
        let place = Place {
            group: Group::Growth,
            measure: step.measure,
            title: step.title,
            congestion: Some(congestion),
        };
        samples.add(place, THROUGHPUT, subject.name, carried.gigabits());
        if subject.parts.is_empty() {
            return Ok(());
        }
        samples.add(place, CPU_PER_GIGABYTE, subject.name, carried.cpu_per_gigabyte());
        let programs = number(subject.parts.len());
        let open = open.context("nobody looked at the memory")??;
        samples.add(place, OPEN, subject.name, open.resident / programs / 1024.0);
        samples.add(place, PEAK, subject.name, running.peak()? / programs);
        Ok(())
    }
}
