//! Takes the loads in rounds: each load on every subject in turn, so that what the machine does otherwise weighs on all.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use ferrule_load::requests::{self, Asking};
use ferrule_load::{no_meter, runtime};

use super::measure::{FULL, Measure, RATE_NAME, Times};
use super::report::{Place, Samples};
use super::space::Space;
use super::subject::{Open, Subject, bind};

/// What the rounds are made of.
pub(crate) struct Rounds<'a> {
    pub(crate) subjects: &'a [Subject],
    pub(crate) measures: &'a [Measure],
    pub(crate) congestion: &'a [String],
    pub(crate) count: usize,
    pub(crate) times: Times,
}

impl Rounds<'_> {
    /// Takes them all; `tell` hears how far it is.
    pub(crate) fn take(
        &self,
        space: &Space,
        folder: &Path,
        samples: &mut Samples,
        tell: impl Fn(&str),
    ) -> anyhow::Result<()> {
        let mut open = Vec::new();
        for subject in self.subjects {
            match start(subject, folder) {
                Ok(started) => open.push((subject, Some(started))),
                Err(error) => samples.fail(subject.name, "start", &error),
            }
        }
        for round in 0..self.count {
            for (number, congestion) in self.congestion.iter().enumerate() {
                space.congestion(congestion)?;
                tell(&format!("round {} of {}, {congestion} …", round + 1, self.count));
                let measures = self.measures.iter();
                for measure in measures.filter(|measure| number == 0 || measure.depends_on_congestion()) {
                    // Nobody is always the first, or always behind the same one.
                    for at in 0..open.len() {
                        let turn = (at + round) % open.len();
                        let (subject, running) = &mut open[turn];
                        let Some(path) = running
                            .as_ref()
                            .filter(|_| !samples.failed(subject.name, measure.name))
                        else {
                            continue;
                        };
                        if !self.one(measure, subject, path, congestion, samples)? {
                            // What it failed at may keep it busy while others are measured.
                            drop(running.take());
                            match start(subject, folder) {
                                Ok(again) => *running = Some(again),
                                Err(error) => samples.fail(subject.name, "start", &error),
                            }
                        }
                    }
                }
            }
        }
        Ok(())
    }

    /// Puts one load on one subject; false where it was not carried.
    fn one(
        &self,
        measure: &Measure,
        subject: &Subject,
        open: &Open,
        congestion: &str,
        samples: &mut Samples,
    ) -> anyhow::Result<bool> {
        let full = samples.last(FULL, RATE_NAME, subject.name);
        let mut all = open.ids().to_vec();
        all.push(std::process::id());
        if measure.on_one_core() {
            bind(&all, true)?;
        }
        let taken = measure.take(open.entry, full, self.times, &|| open.cpu());
        if measure.on_one_core() {
            bind(&all, false)?;
        }
        let place = Place {
            group: measure.group,
            measure: measure.name,
            title: measure.title,
            congestion: measure.depends_on_congestion().then_some(congestion),
        };
        match taken.context("the load was not carried") {
            Ok(figures) => {
                // Without programs on the way there is no CPU time of theirs.
                let told = figures
                    .into_iter()
                    .filter(|(figure, _)| figure.name != "cpu" || !subject.parts.is_empty());
                for (figure, value) in told {
                    samples.add(place, figure, subject.name, value);
                }
                Ok(true)
            }
            Err(error) => {
                samples.fail(subject.name, measure.name, &error);
                Ok(false)
            }
        }
    }
}

/// Starts the programs of `subject`, and waits until they carry something.
pub(crate) fn start(subject: &Subject, folder: &Path) -> anyhow::Result<Open> {
    let mut open = Open::start(subject, folder)?;
    works(&mut open)?;
    Ok(open)
}

/// Waits until the whole way carries a request.
pub(crate) fn works(open: &mut Open) -> anyhow::Result<()> {
    let asking = Asking {
        connections: 16,
        size: 64,
        rate: None,
        warm_up: Duration::ZERO,
        time: Duration::from_millis(20),
    };
    let begun = Instant::now();
    loop {
        match runtime::run(requests::run(asking, open.entry, &no_meter))? {
            Ok(_) => {
                open.count();
                return Ok(());
            }
            // The program behind may not be ready yet, although it listens.
            Err(error) if begun.elapsed() > PATIENCE => return Err(error).context("the way is not open"),
            Err(_) => std::thread::sleep(Duration::from_millis(20)),
        }
    }
}

const PATIENCE: Duration = Duration::from_secs(10);
