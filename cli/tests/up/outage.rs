//! The directory and the CA are killed, again and again, for longer than anything waits for them.

use std::collections::BTreeSet;
use std::fs;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::load::{Load, Open};
use super::mesh::{Mesh, allow_publish, free_port, get, head, wait};

/// How long the certificates of its mesh last: renewal is due after 40 s, give or take four.
const LIFE: Duration = Duration::from_secs(120);

fn is_served(port: u16) -> bool {
    get(port, "/items").starts_with("HTTP/1.1 200")
}

/// A mesh of short lives with two servers behind published ports, one of which prints what comes, and its file without
/// rules.
fn store(trust_domain: &str, port: u16, sink: u16) -> (Mesh, String) {
    let text = head(trust_domain).replace("workloads:", "ca: { leafLifetime: 120s }\nworkloads:")
        + &format!(
            "- {{ name: store, namespace: shop, run: [ferrule, example, store], ports: [9000], \
             publish: [{{ port: 9000, at: {port} }}] }}\n\
             - {{ name: sink, namespace: shop, run: [nc.openbsd, -lk, '9001'], ports: [9001], \
             publish: [{{ port: 9001, at: {sink} }}] }}\n"
        );
    let rules = allow_publish(trust_domain, "store") + &allow_publish(trust_domain, "sink");
    let mesh = Mesh::start(&(text.clone() + &rules), "transparent");
    mesh.wait_for("all 2 are up");
    wait(|| is_served(port), || mesh.text());
    (mesh, text)
}

/// The serial numbers that a sidecar has used until now.
fn serials(mesh: &Mesh, trust_domain: &str, log: &str) -> BTreeSet<String> {
    let path = mesh.state(trust_domain).join("logs/shop").join(log);
    let lines = fs::read_to_string(path).unwrap();
    let lines = lines.lines().filter_map(|line| serde_json::from_str(line).ok());
    lines
        .filter(|line: &Value| line["message"] == "certificate in use")
        .map(|line| line["serial"].as_str().unwrap().to_owned())
        .collect()
}

// A12: what was known stays in force, what has begun goes on, and nobody has to come.
#[test]
#[ignore = "needs nft, nc and namespaces: tests/run"]
fn traffic_goes_on_while_the_directory_and_the_ca_are_away_and_all_heals_by_itself() {
    let (name, port, sink) = ("outage.example", free_port(), free_port());
    let (mut mesh, text) = store(name, port, sink);
    let rule = allow_publish(name, "store");
    let file = mesh.folder.path().join("mesh.yaml");
    let sidecars = ["store-0.proxy.log", "publish.proxy.log"];
    let load = Load::start(port);
    // Longer than a renewal's turn and the directory's heartbeat (30 s), and so much shorter than what is then left of a
    // certificate that a busy machine has half a minute to renew it.
    for parts in [
        &["directory serve"][..],
        &["ca serve"][..],
        &["directory serve", "ca serve"][..],
    ] {
        let seen = mesh.count();
        let before = load.answered();
        let mut open = Open::new(sink);
        open.say("before");
        mesh.wait_for_after(seen, "sink.shop | before");
        let outage = mesh.held_down(parts);
        let began = Instant::now();
        wait(|| began.elapsed() > LIFE * 3 / 8, || mesh.text());
        assert!(load.answered() > before, "{}", mesh.text());
        open.say("still there");
        mesh.wait_for_after(seen, "sink.shop | still there");
        let kills = outage.end();
        assert!(kills > 1, "{parts:?} was killed {kills} times");
        for part in parts {
            let part = if part.starts_with("ca") {
                "the CA"
            } else {
                "the directory"
            };
            mesh.wait_for_after(seen, &format!("{part} is ready"));
        }
        // A renewal that comes after all of it.
        let old: Vec<usize> = sidecars.map(|log| serials(&mesh, name, log).len()).to_vec();
        wait(
            || {
                let new = sidecars.map(|log| serials(&mesh, name, log).len());
                new.iter().zip(&old).all(|(new, old)| new > old)
            },
            || mesh.text(),
        );
    }
    let (answered, failures) = load.end();
    println!("figure: {answered} requests, {} failed", failures.len());
    assert!(failures.is_empty(), "{failures:#?}\n{}", mesh.text());
    // A new rule works as before.
    fs::write(&file, &text).unwrap();
    wait(|| !is_served(port), || mesh.text());
    fs::write(&file, text + &rule).unwrap();
    wait(|| is_served(port), || mesh.text());
    assert_eq!(mesh.stop().code(), Some(0));
    mesh.leaves_nothing();
}
