//! The program that measures the way through Ferrule measures it, from start to report.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;

/// What a run that failed at nothing left.
struct Run {
    /// What it printed.
    said: String,
    /// Its figures.
    found: Value,
    /// Its page.
    page: String,
}

/// Runs `overhead --quick` with these arguments, and our proxy as the tests have it.
fn run(arguments: &[&str]) -> Run {
    let folder = tempfile::tempdir().unwrap();
    let (json, html) = (folder.path().join("found.json"), folder.path().join("found.html"));
    let done = Command::new(env!("CARGO_BIN_EXE_ferrule-benches"))
        .args(["overhead", "--quick", "--congestion", "reno"])
        .args(arguments)
        .arg("--program")
        .arg(format!("ferrule={}", proxy().display()))
        .arg("--json")
        .arg(&json)
        .arg("--html")
        .arg(&html)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&done.stdout).into_owned();
    let errors = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{said}{errors}");
    let found: Value = serde_json::from_str(&fs::read_to_string(&json).unwrap()).unwrap();
    assert_eq!(found["faults"], Value::Array(Vec::new()));
    let page = fs::read_to_string(&html).unwrap();
    Run { said, found, page }
}

#[test]
#[ignore = "needs ip and setpriv, and network namespaces: tests/run"]
fn a_tiny_run_measures_all_three_ways() {
    let Run { said, found, page } = run(&["--peers", "", "--seconds", "0.5", "--idle", "40"]);
    assert!(
        said.contains("Bulk throughput: 1 connection, to the server, reno"),
        "{said}"
    );
    for row in found["results"].as_array().unwrap() {
        let who: Vec<&str> = row["subjects"]
            .as_array()
            .unwrap()
            .iter()
            .map(|found| found["subject"].as_str().unwrap())
            .collect();
        // Without a program there is neither CPU time nor memory of one.
        let of_programs = row["figure"] == "cpu" || row["group"] == "memory" || row["group"] == "program";
        let all: &[&str] = if of_programs {
            &["plain", "ferrule"]
        } else {
            &["direct", "plain", "ferrule"]
        };
        assert_eq!(who, all, "{row}");
    }
    let throughput = found["results"].as_array().unwrap().iter();
    let throughput = throughput.filter(|row| row["figure"] == "throughput" || row["figure"] == "rate");
    for found in throughput.flat_map(|row| row["subjects"].as_array().unwrap()) {
        assert!(found["spread"]["min"].as_f64().unwrap() > 0.0, "{found}");
    }
    assert!(page.contains("<rect class=\"bar own\""));
}

#[test]
#[ignore = "needs ip, nft and setpriv, and network namespaces: tests/run"]
fn a_tiny_run_measures_the_way_beyond_the_mesh() {
    let Run { found, .. } = run(&["--passthrough", "--seconds", "0.5"]);
    let rows = found["results"].as_array().unwrap();
    for row in rows
        .iter()
        .filter(|row| row["figure"] == "throughput" || row["figure"] == "cpu")
    {
        let ours = row["subjects"]
            .as_array()
            .unwrap()
            .iter()
            .find(|found| found["subject"] == "passthrough")
            .unwrap();
        assert!(ours["of_plain"]["median"].as_f64().unwrap() > 0.0, "{row}");
    }
    assert!(rows.iter().any(|row| row["figure"] == "throughput"));
}

#[test]
#[ignore = "needs ip and setpriv, and network namespaces: tests/run"]
fn a_tiny_run_measures_growth() {
    let few = "growth-1,growth-8,growth-64";
    let Run { said, found, page } = run(&["--growth", "--megabytes", "4", "--peers", "", "--only", few]);
    assert!(
        said.contains("Growth with the number of connections: CPU s/GB"),
        "{said}"
    );
    assert_eq!(found["settings"]["growth_bytes"], 4_000_000);
    let growth = found["growth"].as_array().unwrap();
    let who: Vec<&str> = growth
        .iter()
        .map(|grown| grown["subject"].as_str().unwrap())
        .collect();
    assert_eq!(who, ["direct", "plain", "ferrule"]);
    let ours = &growth[2];
    assert_eq!(ours["cpu"][1]["connections"], 64);
    assert!(
        ours["cpu"][1]["ratio"]["median"].as_f64().unwrap() > 0.0,
        "{ours}"
    );
    // What sixty-four connections hold stands out from what one does.
    assert!(
        ours["open"]["kibibytes_each"]["median"].as_f64().unwrap() > 0.5,
        "{ours}"
    );
    assert!(page.contains("<path class=\"line own\""));
}

/// The sidecar's program, built as the tests are.
fn proxy() -> PathBuf {
    ferrule_tests::programs::build(&["--package", "ferrule-proxy", "--bin", "ferrule-proxy"])
        .join("ferrule-proxy")
}
