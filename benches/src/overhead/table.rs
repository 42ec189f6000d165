//! Prints a report for people.

use std::fmt::Write as _;

use ferrule_load::spread::{Spread, short};

use super::growth;
use super::measure::Group;
use super::report::{Report, Row};

/// The whole report as text.
pub(crate) fn render(report: &Report) -> String {
    let mut text = head(report);
    // Growth has tables of its own.
    for group in Group::ALL.into_iter().filter(|group| *group != Group::Growth) {
        let rows: Vec<&Row> = report.results.iter().filter(|row| row.group == group).collect();
        for rows in rows.chunk_by(|a, b| a.measure == b.measure && a.congestion == b.congestion) {
            // Writing to a string does not fail.
            let _ = write!(text, "\n{}\n", heading(rows[0]));
            text.push_str(&table(report, rows));
            for row in rows {
                if let Some(beside) = &row.beside_best {
                    let _ = writeln!(
                        text,
                        "  Ferrule has {} × the {} of {}, the best there",
                        beside.ratio, row.unit, beside.subject
                    );
                }
            }
        }
    }
    text.push_str(&growth::table::render(report));
    text.push_str(&tail(report));
    text
}

/// What a row is about, with its congestion control.
pub(crate) fn heading(row: &Row) -> String {
    match &row.congestion {
        Some(congestion) => format!("{}: {}, {congestion}", row.group.title(), row.title),
        None => format!("{}: {}", row.group.title(), row.title),
    }
}

/// The lines above the figures.
pub(crate) fn head(report: &Report) -> String {
    let (machine, settings) = (&report.machine, &report.settings);
    let rounds = match settings.growth_bytes {
        Some(_) => format!("{} rounds, programs started anew for each step", settings.rounds),
        None => format!("{} rounds of {} s each", settings.rounds, settings.seconds),
    };
    let mut text = format!(
        "{}, {} cores, {} GiB, kernel {}, congestion control {}, load {} before and {} after\n{rounds}; \
         a figure is the median, with the smallest and the largest round\n",
        machine.processor,
        machine.cores,
        machine.memory_gib,
        machine.kernel,
        machine.congestion,
        short(machine.load_before),
        short(machine.load_after),
    );
    if settings.quick {
        text.push_str("A quick run: it shows that all of it works; its figures are not worth noting.\n");
    }
    if let Some(why) = &machine.shared_network {
        let _ = writeln!(text, "In the machine's own network, because {why}.");
    }
    text
}

fn table(report: &Report, rows: &[&Row]) -> String {
    let mut lines = vec![vec![String::new()]];
    lines[0].extend(rows.iter().map(|row| row.unit.to_owned()));
    lines[0].extend(["× no proxy".to_owned(), "× plain proxy".to_owned()]);
    for subject in &report.subjects {
        let found: Vec<_> = rows.iter().map(|row| row.of(subject.name)).collect();
        if found.iter().all(Option::is_none) {
            continue;
        }
        let mut line = vec![subject.title.to_owned()];
        line.extend(
            found
                .iter()
                .map(|found| found.map_or_else(String::new, |found| range(&found.spread))),
        );
        let ratio = |ratio: Option<Spread>| ratio.map_or_else(String::new, |ratio| short(ratio.median));
        line.push(ratio(found[0].and_then(|found| found.of_direct)));
        line.push(ratio(found[0].and_then(|found| found.of_plain)));
        lines.push(line);
    }
    align(&lines)
}

/// The median with the range around it; alone where there is no range.
pub(crate) fn range(spread: &Spread) -> String {
    if spread.min == spread.max {
        return short(spread.median);
    }
    format!(
        "{} ({}–{})",
        short(spread.median),
        short(spread.min),
        short(spread.max)
    )
}

/// `lines` with their columns below each other.
pub(crate) fn align(lines: &[Vec<String>]) -> String {
    let width = |column: usize| {
        let cells = lines.iter().filter_map(|line| line.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let mut text = String::new();
    for line in lines {
        for (column, cell) in line.iter().enumerate() {
            let padding = " ".repeat(width(column) - cell.chars().count());
            match column {
                0 => text.push_str(&format!("  {cell}{padding}")),
                _ => text.push_str(&format!("  {padding}{cell}")),
            }
        }
        text.truncate(text.trim_end().len());
        text.push('\n');
    }
    text
}

fn tail(report: &Report) -> String {
    let mut text = String::from("\n");
    for subject in &report.subjects {
        let version = subject.version.as_deref().unwrap_or("no version of its own");
        let _ = writeln!(text, "{}: {}. {version}", subject.title, subject.about);
    }
    for absent in &report.absent {
        let _ = writeln!(text, "Not measured: {}, {}", absent.name, absent.why);
    }
    for fault in &report.faults {
        let (subject, measure, why) = (fault.subject, &fault.measure, &fault.why);
        let _ = match fault.is_limit {
            true => writeln!(text, "Too much for {subject}: {measure}: {why}"),
            false => writeln!(text, "Failed: {subject} at {measure}: {why}"),
        };
    }
    text
}
