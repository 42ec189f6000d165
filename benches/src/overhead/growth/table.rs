//! Prints how everybody grows: one table for each figure, one column for each number of connections.

use std::fmt::Write as _;

use ferrule_load::spread::{Spread, short};

use super::STEPS;
use super::found::{Beside, Grown, Line};
use crate::overhead::measure::{CPU_PER_GIGABYTE, Figure, Group, OPEN, PEAK, THROUGHPUT};
use crate::overhead::report::{Report, Row};
use crate::overhead::table::{align, range};

/// The figures, in the order in which they are shown.
pub(crate) const FIGURES: [Figure; 4] = [CPU_PER_GIGABYTE, THROUGHPUT, OPEN, PEAK];

/// All tables, for every congestion control; empty where growth was not measured.
pub(crate) fn render(report: &Report) -> String {
    let mut text = String::new();
    for congestion in controls(report) {
        for figure in FIGURES {
            // Writing to a string does not fail.
            let _ = write!(text, "\n{}\n", heading(report, figure, congestion));
            text.push_str(&table(report, figure, congestion));
        }
    }
    text
}

/// The congestion controls under which it was measured.
pub(crate) fn controls(report: &Report) -> Vec<&str> {
    let mut known: Vec<&str> = Vec::new();
    for grown in &report.growth {
        let congestion = grown.congestion.as_str();
        if !known.contains(&congestion) {
            known.push(congestion);
        }
    }
    known
}

/// What is shown of `figure`.
pub(crate) fn heading(report: &Report, figure: Figure, congestion: &str) -> String {
    let amount = report.settings.growth_bytes.map_or(0.0, f64::from) / 1e9;
    let title = Group::Growth.title();
    format!(
        "{title}: {}, {} GB in all, {congestion}",
        figure.unit,
        short(amount)
    )
}

/// What `subject` gave over each number of connections.
pub(crate) fn steps<'a>(
    report: &'a Report,
    figure: Figure,
    congestion: &str,
    subject: &str,
) -> Vec<(u32, &'a Spread)> {
    let of = |row: &&Row| row.figure == figure.name && row.congestion.as_deref() == Some(congestion);
    STEPS
        .iter()
        .filter_map(|step| {
            let row = report
                .results
                .iter()
                .filter(of)
                .find(|row| row.measure == step.measure)?;
            Some((step.connections, &row.of(subject)?.spread))
        })
        .collect()
}

fn table(report: &Report, figure: Figure, congestion: &str) -> String {
    let is_memory = figure == OPEN || figure == PEAK;
    let mut head = vec![String::new()];
    head.extend(STEPS.iter().map(|step| step.title.to_owned()));
    head.push(
        if is_memory {
            "KiB each"
        } else {
            "last beside first"
        }
        .to_owned(),
    );
    if is_memory {
        head.push("r²".to_owned());
    }
    let mut lines = vec![head];
    for subject in &report.subjects {
        let found = steps(report, figure, congestion, subject.name);
        if found.is_empty() {
            continue;
        }
        let mut line = vec![subject.title.to_owned()];
        line.extend(STEPS.iter().map(|step| {
            let here = found
                .iter()
                .find(|(connections, _)| *connections == step.connections);
            here.map_or_else(String::new, |(_, spread)| range(spread))
        }));
        let grown = report
            .growth
            .iter()
            .find(|grown| grown.subject == subject.name && grown.congestion == congestion);
        line.extend(grown.map_or_else(Vec::new, |grown| last(grown, figure)));
        lines.push(line);
    }
    align(&lines)
}

/// What a table says of `grown` behind the figures.
fn last(grown: &Grown, figure: Figure) -> Vec<String> {
    let ratio = |all: &[Beside]| vec![all.last().map_or_else(String::new, |last| range(&last.ratio))];
    let line = |line: &Option<Line>| match line {
        Some(line) => vec![
            range(&line.kibibytes_each),
            format!("{:.3}", line.straight.median),
        ],
        None => Vec::new(),
    };
    match figure {
        CPU_PER_GIGABYTE => ratio(&grown.cpu),
        THROUGHPUT => ratio(&grown.throughput),
        OPEN => line(&grown.open),
        _ => line(&grown.peak),
    }
}
