//! Measures each subject by itself: how soon it is there, what it holds in memory, how large it is.

use std::path::Path;
use std::time::{Duration, Instant};

use ferrule_load::idle::Held;
use ferrule_load::runtime;

use super::measure::{FRESH, Group, IDLE, IDLE_PROPORTIONAL, SIZE, SLOPE, START, each_idle};
use super::report::{Place, Samples};
use super::rounds::works;
use super::subject::{Open, Subject};
use crate::figures::number;
use crate::process;

/// What is measured of each subject alone.
pub(crate) struct Alone<'a> {
    pub(crate) starts: usize,
    /// How many idle connections, ascending.
    pub(crate) idle: &'a [usize],
    pub(crate) folder: &'a Path,
}

impl Alone<'_> {
    /// Starts `subject` as often as is wanted, and fills it with idle connections the last time.
    pub(crate) fn take(&self, subject: &Subject, samples: &mut Samples) -> anyhow::Result<()> {
        let program = place("program", "start and size", Group::Program);
        for _ in 1..self.starts {
            let open = Open::start(subject, self.folder)?;
            samples.add(program, START, subject.name, millis(open.start));
        }
        let mut open = Open::start(subject, self.folder)?;
        samples.add(program, START, subject.name, millis(open.start));
        let programs = number(subject.parts.len());
        let fresh = settled(&open)?;
        works(&mut open)?;
        let idle = settled(&open)?;
        let memory = place("memory", "idle", Group::Memory);
        samples.add(memory, FRESH, subject.name, fresh.resident / programs / 1024.0);
        samples.add(memory, IDLE, subject.name, idle.resident / programs / 1024.0);
        samples.add(
            memory,
            IDLE_PROPORTIONAL,
            subject.name,
            idle.proportional / programs / 1024.0,
        );
        let size = mebibytes(open.size(self.folder)?);
        samples.add(program, SIZE, subject.name, size);
        let mut held = Held::default();
        let mut fewer: Option<(usize, f64)> = None;
        for count in self.idle {
            let measure = format!("idle-{count}");
            // One that cannot hold so many is no worse at the rest.
            match runtime::run(held.fill(open.entry, *count))? {
                Ok(()) => {
                    let full = settled(&open)?;
                    let title = format!("{count} idle connections");
                    let place = place(&measure, &title, Group::Memory);
                    let each = |full: f64, idle: f64| (full - idle) / programs / number(*count);
                    let resident = each(full.resident, idle.resident);
                    samples.add(place, each_idle("each"), subject.name, resident);
                    if let Some((few, held)) = fewer {
                        let slope = (full.resident - held) / programs / number(count - few);
                        samples.add(place, SLOPE, subject.name, slope);
                    }
                    fewer = Some((*count, full.resident));
                }
                Err(error) => {
                    samples.limit(subject.name, &measure, &error.into());
                    break;
                }
            }
        }
        Ok(())
    }
}

const fn place<'a>(measure: &'a str, title: &'a str, group: Group) -> Place<'a> {
    Place {
        group,
        measure,
        title,
        congestion: None,
    }
}

/// What it holds once that does not change any more, or after a while.
fn settled(open: &Open) -> anyhow::Result<process::Held> {
    let begun = Instant::now();
    let mut last = open.memory()?;
    loop {
        std::thread::sleep(Duration::from_millis(150));
        let now = open.memory()?;
        let same = (now.resident - last.resident).abs() <= last.resident * 0.002;
        if same || begun.elapsed() > Duration::from_secs(3) {
            return Ok(now);
        }
        last = now;
    }
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / 1024.0 / 1024.0
}
