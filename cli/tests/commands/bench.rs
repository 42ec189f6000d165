//! `ferrule bench` compares two ways to the same far end.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

use serde_json::Value;

/// A far end of its own, until it is dropped.
struct Far(Child, String);

impl Far {
    fn start() -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_ferrule"))
            .args(["bench", "serve", "--listen", "127.0.0.1:0"])
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stderr.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        let address = line.trim().strip_prefix("listening on ").unwrap().to_owned();
        Self(child, address)
    }
}

impl Drop for Far {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn two_ways_are_compared_in_one_sentence() {
    let far = Far::start();
    let done = Command::new(env!("CARGO_BIN_EXE_ferrule"))
        .args(["bench", "run", "--direct", &far.1, "--through", &far.1])
        .args(["--rounds", "2", "--time", "50ms", "--output", "json", "--sidecar"])
        .arg(far.0.id().to_string())
        .output()
        .unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let found: Value = serde_json::from_slice(&done.stdout).unwrap();
    assert_eq!(found["measures"].as_array().unwrap().len(), 5);
    for measure in found["measures"].as_array().unwrap() {
        assert_eq!(measure["direct"].as_array().unwrap().len(), 2, "{measure}");
        assert!(
            measure["through_spread"]["min"].as_f64().unwrap() > 0.0,
            "{measure}"
        );
    }
    assert!(found["cost"]["sidecar_mib"].as_f64().unwrap() > 0.0);
    let summary = found["summary"].as_str().unwrap();
    assert!(
        summary.starts_with("mTLS costs you ") && summary.ends_with(" MiB per pod."),
        "{summary}"
    );
}

#[test]
fn a_way_that_leads_nowhere_is_named() {
    let far = Far::start();
    let closed = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap().to_string()
    };
    let done = Command::new(env!("CARGO_BIN_EXE_ferrule"))
        .args([
            "bench",
            "run",
            "--direct",
            &far.1,
            "--through",
            &closed,
            "--rounds",
            "1",
            "--time",
            "50ms",
        ])
        .output()
        .unwrap();
    assert_eq!(done.status.code(), Some(2));
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(said.contains("cannot measure the way through Ferrule"), "{said}");
}
