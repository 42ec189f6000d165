//! A subject that grows as it should, and one that does not.

use super::*;
use crate::overhead::peers::{DIRECT, FERRULE};
use crate::overhead::report::{Place, Samples};

/// Two rounds, the second of which was slow: one subject is flat and linear, the other twice as dear over a thousand.
pub(crate) fn rows() -> Vec<Row> {
    let mut samples = Samples::default();
    for slow in [1.0, 2.0] {
        for step in &STEPS {
            let place = Place {
                group: Group::Growth,
                measure: step.measure,
                title: step.title,
                congestion: Some("bbr"),
            };
            let many = step.connections == 1_000;
            for (subject, cpu) in [(FERRULE, 0.5), ("envoy", if many { 2.0 } else { 1.0 })] {
                samples.add(place, CPU_PER_GIGABYTE, subject, cpu * slow);
                samples.add(place, OPEN, subject, 10.0 + f64::from(step.connections) / 128.0);
            }
            samples.add(place, PEAK, FERRULE, if many { 90.0 } else { 12.0 });
            samples.add(place, THROUGHPUT, DIRECT, 8.0 / slow);
        }
    }
    samples.finish(&[DIRECT, FERRULE, "envoy"]).0
}

fn of<'a>(grown: &'a [Grown], subject: &str) -> &'a Grown {
    grown.iter().find(|grown| grown.subject == subject).unwrap()
}

#[test]
fn what_costs_the_same_over_a_thousand_is_once_what_it_costs_over_one() {
    let grown = grown(&rows());
    let ratios = |subject| {
        let cpu = &of(&grown, subject).cpu;
        cpu.iter()
            .map(|beside| (beside.connections, beside.ratio.median))
            .collect::<Vec<_>>()
    };
    assert_eq!(ratios(FERRULE), [(8, 1.0), (64, 1.0), (256, 1.0), (1_000, 1.0)]);
    assert_eq!(ratios("envoy"), [(8, 1.0), (64, 1.0), (256, 1.0), (1_000, 2.0)]);
    // No proxy has no CPU time, but it carries something.
    let direct = of(&grown, DIRECT);
    assert!(direct.cpu.is_empty() && direct.open.is_none());
    assert_eq!(direct.throughput.len(), STEPS.len() - 1);
}

#[test]
fn what_each_connection_holds_is_the_steepness_of_a_line() {
    let grown = grown(&rows());
    let ours = of(&grown, FERRULE);
    let open = ours.open.unwrap();
    assert!((open.mebibytes.median - 10.0).abs() < 1e-9, "{open:?}");
    assert!((open.kibibytes_each.median - 8.0).abs() < 1e-9, "{open:?}");
    assert!(open.straight.min > 0.999_999, "{open:?}");
    // One step that stands out is no line.
    assert!(ours.peak.unwrap().straight.max < 0.95);
}

#[test]
fn two_points_are_no_line() {
    assert_eq!(line(&[(1, &[1.0]), (8, &[2.0])]), None);
    assert_eq!(line(&[(1, &[1.0]), (8, &[2.0]), (64, &[])]), None);
    assert_eq!(line(&[]), None);
    assert_eq!(nearest(&[(1.0, 3.0), (2.0, 3.0)]), (3.0, 0.0, 1.0));
}
