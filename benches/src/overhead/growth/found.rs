//! Says of each subject whether a GB costs the same over many connections, and what each connection holds in memory.

use ferrule_load::spread::Spread;
use serde::Serialize;

use super::STEPS;
use crate::overhead::measure::{CPU_PER_GIGABYTE, Figure, Group, OPEN, PEAK, THROUGHPUT};
use crate::overhead::report::{Found, Row};

/// How one subject grows under one congestion control.
#[derive(Debug, Serialize)]
pub(crate) struct Grown {
    pub(crate) subject: &'static str,
    pub(crate) congestion: String,
    /// CPU seconds for a GB over each number of connections, in times of those over one, within each round.
    pub(crate) cpu: Vec<Beside>,
    /// Gbit/s, likewise.
    pub(crate) throughput: Vec<Beside>,
    /// Memory of one proxy with all connections open and nothing sent.
    pub(crate) open: Option<Line>,
    /// The most that one proxy held meanwhile.
    pub(crate) peak: Option<Line>,
}

/// One number of connections beside one connection.
#[derive(Debug, Serialize)]
pub(crate) struct Beside {
    pub(crate) connections: u32,
    pub(crate) ratio: Spread,
}

/// The straight line that is nearest to what was found over the number of connections (least squares), in each round.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct Line {
    /// MiB without a connection.
    pub(crate) mebibytes: Spread,
    /// KiB for each connection.
    pub(crate) kibibytes_each: Spread,
    /// How much of what differs the line explains (r²): 1 where all of it lies on the line.
    pub(crate) straight: Spread,
}

/// What `rows` say of every subject that is in them.
pub(crate) fn grown(rows: &[Row]) -> Vec<Grown> {
    let rows = || rows.iter().filter(|row| row.group == Group::Growth);
    let mut all: Vec<Grown> = Vec::new();
    for row in rows() {
        let congestion = row.congestion.as_deref().unwrap_or_default();
        for found in &row.subjects {
            if all
                .iter()
                .any(|grown| grown.subject == found.subject && grown.congestion == congestion)
            {
                continue;
            }
            let of = |figure| samples(rows(), figure, found.subject, congestion);
            all.push(Grown {
                subject: found.subject,
                congestion: congestion.to_owned(),
                cpu: beside_one(&of(CPU_PER_GIGABYTE)),
                throughput: beside_one(&of(THROUGHPUT)),
                open: line(&of(OPEN)),
                peak: line(&of(PEAK)),
            });
        }
    }
    all
}

/// The samples of `subject` over each number of connections.
fn samples<'a>(
    rows: impl Iterator<Item = &'a Row>,
    figure: Figure,
    subject: &str,
    congestion: &str,
) -> Vec<(u32, &'a [f64])> {
    let rows = rows.filter(|row| row.figure == figure.name && row.congestion.as_deref() == Some(congestion));
    let mut steps: Vec<(u32, &[f64])> = rows
        .filter_map(|row| {
            let step = STEPS.iter().find(|step| step.measure == row.measure)?;
            let Found { samples, .. } = row.of(subject)?;
            Some((step.connections, samples.as_slice()))
        })
        .collect();
    steps.sort_by_key(|(connections, _)| *connections);
    steps
}

fn beside_one(steps: &[(u32, &[f64])]) -> Vec<Beside> {
    let Some(((1, one), more)) = steps.split_first() else {
        return Vec::new();
    };
    more.iter()
        .filter_map(|(connections, samples)| {
            Some(Beside {
                connections: *connections,
                ratio: Spread::of_ratios(samples, one)?,
            })
        })
        .collect()
}

/// None with fewer than three numbers of connections, through which there is always a line, or where a round lacks one.
fn line(steps: &[(u32, &[f64])]) -> Option<Line> {
    let rounds = steps.first()?.1.len();
    if steps.len() < 3 || steps.iter().any(|(_, samples)| samples.len() != rounds) {
        return None;
    }
    let lines: Vec<(f64, f64, f64)> = (0..rounds)
        .map(|round| {
            let points = steps
                .iter()
                .map(|(connections, samples)| (f64::from(*connections), samples[round]));
            nearest(&points.collect::<Vec<_>>())
        })
        .collect();
    let spread = |of: fn(&(f64, f64, f64)) -> f64| Spread::of(lines.iter().map(of));
    Some(Line {
        mebibytes: spread(|line| line.0),
        kibibytes_each: spread(|line| line.1 * 1024.0),
        straight: spread(|line| line.2),
    })
}

/// Where the nearest line begins, how steep it is, and how much of what differs it explains.
fn nearest(points: &[(f64, f64)]) -> (f64, f64, f64) {
    let count = crate::figures::number(points.len());
    let mean = |of: fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / count;
    let (x, y) = (mean(|point| point.0), mean(|point| point.1));
    let sum = |of: &dyn Fn(f64, f64) -> f64| points.iter().map(|at| of(at.0 - x, at.1 - y)).sum::<f64>();
    let (xx, xy, yy) = (sum(&|x, _| x * x), sum(&|x, y| x * y), sum(&|_, y| y * y));
    if xx == 0.0 || yy == 0.0 {
        return (y, 0.0, 1.0);
    }
    let steep = xy / xx;
    (y - steep * x, steep, xy * xy / (xx * yy))
}

#[cfg(test)]
pub(crate) mod tests;
