//! Compares within rounds, and keeps its shape for programs.

use serde_json::{Value, json};

use super::*;
use crate::overhead::measure::SIZE;

const PLACE: Place<'_> = Place {
    group: Group::Bulk,
    measure: "bulk-1-up",
    title: "1 connection",
    congestion: Some("bbr"),
};
const NAMES: [&str; 5] = [DIRECT, PLAIN, FERRULE, "envoy", "nginx-plain"];

/// Three rounds, the second of which was slow for everybody.
pub(crate) fn samples() -> Samples {
    let mut samples = Samples::default();
    for slow in [1.0, 4.0, 1.0] {
        // In another order than they are shown.
        for (subject, value) in [
            ("envoy", 8.0),
            (FERRULE, 6.0),
            ("nginx-plain", 1.0),
            (DIRECT, 2.0),
            (PLAIN, 3.0),
        ] {
            samples.add(PLACE, SIZE, subject, value * slow);
        }
    }
    samples
}

pub(crate) fn report() -> Report {
    let (results, mut faults) = samples().finish(&NAMES);
    faults.push(Fault {
        subject: "stunnel",
        measure: "idle-10000".to_owned(),
        why: "no more <threads>".to_owned(),
        is_limit: true,
    });
    let subject = |name| Subject {
        name,
        title: name,
        about: "what it does".to_owned(),
        version: Some("1.0".to_owned()),
        parts: Vec::new(),
        entry: std::net::SocketAddr::from(([127, 0, 0, 1], 1)),
    };
    Report {
        benchmark: "overhead",
        version: "0.0.0",
        machine: Machine {
            processor: "some".to_owned(),
            cores: 2,
            memory_gib: 4.0,
            kernel: "6".to_owned(),
            congestion: "bbr".to_owned(),
            shared_network: None,
            load_before: 0.0,
            load_after: 1.0,
        },
        settings: Settings {
            rounds: 3,
            seconds: 1.0,
            warm_up_seconds: 0.25,
            congestion: vec!["bbr".to_owned()],
            rate: 2000.0,
            idle_connections: vec![500],
            starts: 2,
            growth_bytes: None,
            quick: false,
        },
        subjects: NAMES.into_iter().map(subject).collect(),
        absent: vec![Absent {
            name: "haproxy".to_owned(),
            why: "no program here".to_owned(),
        }],
        faults,
        results,
        growth: Vec::new(),
    }
}

#[test]
fn subjects_are_compared_within_each_round() {
    let report = report();
    let row = &report.results[0];
    let order: Vec<_> = row.subjects.iter().map(|found| found.subject).collect();
    assert_eq!(order, NAMES);
    let ours = row.of(FERRULE).unwrap();
    assert_eq!(ours.spread, Spread::of([6.0, 24.0, 6.0]));
    assert_eq!(ours.of_direct, Some(Spread::of([3.0])));
    assert_eq!(ours.of_plain, Some(Spread::of([2.0])));
    // What does not encrypt is no peer to be beside.
    let beside = row.beside_best.as_ref().unwrap();
    assert_eq!((beside.subject, beside.ratio.median), ("envoy", 0.75));
}

#[test]
fn who_missed_a_round_is_not_compared() {
    let mut samples = samples();
    samples.add(PLACE, SIZE, DIRECT, 2.0);
    let (rows, _) = samples.finish(&NAMES);
    assert_eq!(rows[0].of(FERRULE).unwrap().of_direct, None);
    assert!(rows[0].of(FERRULE).unwrap().of_plain.is_some());
}

#[test]
fn who_fails_is_not_asked_again() {
    let mut samples = Samples::default();
    samples.fail("envoy", "bulk-1-up", &anyhow::anyhow!("broke"));
    assert!(samples.failed("envoy", "bulk-1-up"));
    assert!(!samples.failed("envoy", "bulk-1-down"));
    for measure in ["a", "b"] {
        samples.fail("envoy", measure, &anyhow::anyhow!("broke"));
    }
    assert!(samples.failed("envoy", "bulk-1-down"));
    assert!(!samples.failed(FERRULE, "bulk-1-up"));
}

#[test]
fn more_than_a_peer_holds_is_no_failure_of_the_run_but_less_than_ours_should_is() {
    let mut samples = Samples::default();
    for subject in ["stunnel", FERRULE] {
        samples.limit(subject, "idle-9800", &anyhow::anyhow!("refused"));
    }
    let limits: Vec<bool> = samples.faults.iter().map(|fault| fault.is_limit).collect();
    assert_eq!(limits, [true, false]);
    assert!(!samples.failed("stunnel", "idle-9800") && samples.failed(FERRULE, "idle-9800"));
}

#[test]
fn programs_find_everything_under_names_that_stay() {
    let json = serde_json::to_value(report()).unwrap();
    let row = &json["results"][0];
    let place: Vec<&Value> = ["group", "measure", "congestion", "figure", "unit", "better"]
        .iter()
        .map(|name| &row[*name])
        .collect();
    assert_eq!(
        place,
        ["bulk", "bulk-1-up", "bbr", "size", "MiB stripped", "less"]
    );
    let ours = &row["subjects"][2];
    assert_eq!(ours["samples"], json!([6.0, 24.0, 6.0]));
    assert_eq!(ours["spread"], json!({ "median": 6.0, "min": 6.0, "max": 24.0 }));
    assert_eq!(ours["of_plain"]["median"], 2.0);
    assert_eq!(row["beside_best"]["subject"], "envoy");
    let names = |of: &Value| of.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(
        names(&json),
        [
            "benchmark",
            "version",
            "machine",
            "settings",
            "subjects",
            "absent",
            "faults",
            "results"
        ]
    );
    assert_eq!(names(&json["subjects"][0]), ["name", "title", "about", "version"]);
    assert_eq!(json["faults"][0]["subject"], "stunnel");
}
