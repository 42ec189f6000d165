//! Holds what was found: every sample, its spread, and how it compares within the same rounds.

use ferrule_load::spread::Spread;
use serde::Serialize;

use super::growth::found::Grown;
use super::machine::Machine;
use super::measure::{Better, Figure, Group};
use super::peers::{DIRECT, FERRULE, PLAIN};
use super::subject::Subject;

/// Everything that one run found; its JSON is for programs to keep.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    /// Always `overhead`.
    pub(crate) benchmark: &'static str,
    /// That of these programs.
    pub(crate) version: &'static str,
    /// Where it ran.
    pub(crate) machine: Machine,
    /// How it ran.
    pub(crate) settings: Settings,
    /// What was measured.
    pub(crate) subjects: Vec<Subject>,
    /// What was not, and why.
    pub(crate) absent: Vec<Absent>,
    /// What went wrong while it was measured.
    pub(crate) faults: Vec<Fault>,
    /// The figures.
    pub(crate) results: Vec<Row>,
    /// How each of them grows with the number of connections, where that was asked for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) growth: Vec<Grown>,
}

/// How a run was taken.
#[derive(Debug, Serialize)]
pub(crate) struct Settings {
    pub(crate) rounds: usize,
    pub(crate) seconds: f64,
    pub(crate) warm_up_seconds: f64,
    /// The first one for everything, the others for bulk alone.
    pub(crate) congestion: Vec<String>,
    /// Requests a second of the measure at a fixed rate.
    pub(crate) rate: f64,
    pub(crate) idle_connections: Vec<usize>,
    pub(crate) starts: usize,
    /// What is sent in all at each step of growth.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) growth_bytes: Option<u32>,
    /// Too short for figures that are worth noting.
    pub(crate) quick: bool,
}

/// Something that was not measured.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Absent {
    pub(crate) name: String,
    pub(crate) why: String,
}

/// Something that failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Fault {
    pub(crate) subject: &'static str,
    pub(crate) measure: String,
    pub(crate) why: String,
    /// Whether it is only where a peer's own limit lies, such as how many connections it holds: then it is a finding, and
    /// the run did not fail.
    pub(crate) is_limit: bool,
}

/// One figure of one load, of all subjects.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    pub(crate) group: Group,
    pub(crate) measure: String,
    pub(crate) title: String,
    /// Under which congestion control; none where it makes no difference.
    pub(crate) congestion: Option<String>,
    pub(crate) figure: &'static str,
    pub(crate) unit: &'static str,
    pub(crate) better: Better,
    pub(crate) subjects: Vec<Found>,
    /// Ferrule beside the best of those that do mutual TLS.
    pub(crate) beside_best: Option<Beside>,
}

/// What one subject gave.
#[derive(Debug, Serialize)]
pub(crate) struct Found {
    pub(crate) subject: &'static str,
    /// One for each round, in their order.
    pub(crate) samples: Vec<f64>,
    pub(crate) spread: Spread,
    /// In times of no proxy, within each round.
    pub(crate) of_direct: Option<Spread>,
    /// In times of the plain double proxy, within each round.
    pub(crate) of_plain: Option<Spread>,
}

/// A comparison with a peer, within each round.
#[derive(Debug, Serialize)]
pub(crate) struct Beside {
    pub(crate) subject: &'static str,
    pub(crate) ratio: Spread,
}

/// Where a sample belongs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place<'a> {
    pub(crate) group: Group,
    pub(crate) measure: &'a str,
    pub(crate) title: &'a str,
    pub(crate) congestion: Option<&'a str>,
}

/// Samples as they come.
#[derive(Debug, Default)]
pub(crate) struct Samples {
    rows: Vec<Row>,
    pub(crate) faults: Vec<Fault>,
}

impl Samples {
    /// Adds a sample of `subject`.
    pub(crate) fn add(&mut self, place: Place<'_>, figure: Figure, subject: &'static str, value: f64) {
        let found = self.rows.iter().position(|row| {
            row.measure == place.measure
                && row.figure == figure.name
                && row.congestion.as_deref() == place.congestion
        });
        let at = found.unwrap_or_else(|| {
            self.rows.push(Row {
                group: place.group,
                measure: place.measure.to_owned(),
                title: place.title.to_owned(),
                congestion: place.congestion.map(str::to_owned),
                figure: figure.name,
                unit: figure.unit,
                better: figure.better,
                subjects: Vec::new(),
                beside_best: None,
            });
            self.rows.len() - 1
        });
        let subjects = &mut self.rows[at].subjects;
        match subjects.iter_mut().find(|found| found.subject == subject) {
            Some(found) => found.samples.push(value),
            None => subjects.push(Found {
                subject,
                samples: vec![value],
                spread: Spread::default(),
                of_direct: None,
                of_plain: None,
            }),
        }
    }

    /// The newest sample of `subject`.
    pub(crate) fn last(&self, measure: &str, figure: &str, subject: &str) -> Option<f64> {
        let row = self
            .rows
            .iter()
            .find(|row| row.measure == measure && row.figure == figure)?;
        row.of(subject)?.samples.last().copied()
    }

    /// Notes that `subject` failed at `measure`.
    pub(crate) fn fail(&mut self, subject: &'static str, measure: &str, error: &anyhow::Error) {
        self.note(subject, measure, error, false);
    }

    /// Notes that `subject` cannot hold as much as `measure` asks of it. Of a way of ours that is a failure.
    pub(crate) fn limit(&mut self, subject: &'static str, measure: &str, error: &anyhow::Error) {
        let is_ours = [DIRECT, PLAIN, FERRULE].contains(&subject);
        self.note(subject, measure, error, !is_ours);
    }

    fn note(&mut self, subject: &'static str, measure: &str, error: &anyhow::Error, is_limit: bool) {
        self.faults.push(Fault {
            subject,
            measure: measure.to_owned(),
            why: format!("{error:#}"),
            is_limit,
        });
    }

    /// Whether `subject` is not to be asked for `measure` any more: it failed at it, or at several others.
    pub(crate) fn failed(&self, subject: &str, measure: &str) -> bool {
        let of_subject = |fault: &&Fault| fault.subject == subject && !fault.is_limit;
        let mut faults = self.faults.iter().filter(of_subject);
        faults.clone().count() > 2 || faults.any(|fault| fault.measure == measure)
    }

    /// The rows with all comparisons; subjects in the order of `names`.
    pub(crate) fn finish(mut self, names: &[&'static str]) -> (Vec<Row>, Vec<Fault>) {
        for row in &mut self.rows {
            let place = |found: &Found| names.iter().position(|name| *name == found.subject);
            row.subjects.sort_by_key(place);
            row.compare();
        }
        self.rows
            .sort_by_key(|row| Group::ALL.iter().position(|group| *group == row.group));
        (self.rows, self.faults)
    }
}

impl Row {
    /// What `subject` gave.
    pub(crate) fn of(&self, subject: &str) -> Option<&Found> {
        self.subjects.iter().find(|found| found.subject == subject)
    }

    fn compare(&mut self) {
        let samples = |name: &str| self.of(name).map(|found| found.samples.clone());
        let (direct, plain) = (samples(DIRECT), samples(PLAIN));
        let beside = |samples: &[f64], yardstick: &Option<Vec<f64>>| {
            Spread::of_ratios(samples, yardstick.as_deref().unwrap_or_default())
        };
        for found in &mut self.subjects {
            found.spread = Spread::of(found.samples.iter().copied());
            found.of_direct = beside(&found.samples, &direct);
            found.of_plain = beside(&found.samples, &plain);
        }
        self.beside_best = self.beside_best_peer();
    }

    fn beside_best_peer(&self) -> Option<Beside> {
        let ours = self.of(FERRULE)?;
        let peers = self
            .subjects
            .iter()
            .filter(|found| SEALED.contains(&found.subject));
        let best = peers.min_by(|a, b| {
            let (a, b) = (a.spread.median, b.spread.median);
            match self.better {
                Better::Less => a.total_cmp(&b),
                Better::More => b.total_cmp(&a),
            }
        })?;
        Some(Beside {
            subject: best.subject,
            ratio: Spread::of_ratios(&ours.samples, &best.samples)?,
        })
    }
}

/// Those of others that do mutual TLS between programs.
const SEALED: [&str; 5] = ["envoy", "haproxy", "nginx", "stunnel", "ztunnel"];

#[cfg(test)]
pub(crate) mod tests;
