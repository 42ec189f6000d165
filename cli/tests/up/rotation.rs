//! The root is replaced by command, under load, to the very end.

use std::fs;
use std::path::Path;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use super::load::Load;
use super::mesh::{Mesh, allow_publish, free_port, get, head, wait};

/// How many roots the newest bundle has that the CA of the mesh publishes.
fn roots(mesh: &Mesh) -> usize {
    let (status, said) = mesh.ferrule(&["--output", "json", "ca", "status"]);
    let status_of: Value = serde_json::from_str(&said).unwrap_or_else(|_| panic!("{status}: {said}"));
    let certificates = status_of["authorities"].as_array().unwrap();
    certificates
        .iter()
        .filter(|one| one["role"] == "root" && one["state"] != "removed")
        .count()
}

/// How many certificates a sidecar has had, by its log.
fn certificates(log: &Path) -> usize {
    let log = fs::read_to_string(log).unwrap();
    log.matches("certificate in use").count()
}

// F4, by command: prepared, active, retired, removed; a paused proxy holds it up, and is named.
#[test]
#[ignore = "needs nft and namespaces: tests/run"]
fn a_root_is_rotated_by_command_under_load_and_a_paused_sidecar_holds_it_up() {
    let (name, port) = ("rotated.example", free_port());
    let short = "ca: { leafLifetime: 2m, refreshHint: 10s }\nworkloads:";
    let text = head(name).replace("workloads:", short)
        + &format!(
            "- {{ name: store, namespace: shop, run: [ferrule, example, store], ports: [9000], \
             publish: [{{ port: 9000, at: {port} }}] }}\n\
             - {{ name: idle, namespace: shop, run: [sleep, '10000'] }}\n"
        )
        + &allow_publish(name, "store");
    let mut mesh = Mesh::start(&text, "transparent");
    mesh.wait_for("all 2 are up");
    wait(|| get(port, "/items").starts_with("HTTP/1.1 200"), || mesh.text());
    let begun = mesh.processes();
    let sidecars = |all: &[(i32, String)]| -> Vec<i32> {
        let are = all.iter().filter(|(_, line)| line.contains("proxy run"));
        let mut pids: Vec<i32> = are.map(|(pid, _)| *pid).collect();
        pids.sort_unstable();
        pids
    };
    let load = Load::start(port);

    let idle = mesh.state(name).join("logs/shop/idle-0.proxy.log");
    let paused = mesh.process_with("run/1.yaml");
    kill(Pid::from_raw(paused), Signal::SIGSTOP).unwrap();
    let (status, said) = mesh.ferrule(&["ca", "rotate", "prepare"]);
    assert!(status.success(), "{said}");
    assert!(said.trim_end().ends_with("ferrule ca rotate activate"), "{said}");
    assert_eq!(roots(&mesh), 2);
    let (status, said) = mesh.ferrule(&["ca", "rotate", "activate"]);
    assert!(!status.success() && said.contains("refresh hint"), "{said}");
    // After five refresh hints, whoever lags is all that is in the way.
    let mut said = String::new();
    wait(
        || {
            std::thread::sleep(Duration::from_secs(1));
            said = mesh.ferrule(&["ca", "rotate", "activate"]).1;
            !said.contains("refresh hint")
        },
        || mesh.text(),
    );
    let named = format!("spiffe://{name}/ns/shop/sa/idle");
    assert!(said.contains(&named), "{said}");
    assert!(!said.contains("sa/store"), "{said}");
    kill(Pid::from_raw(paused), Signal::SIGCONT).unwrap();
    let activated = |mesh: &Mesh| mesh.ferrule(&["ca", "rotate", "activate"]);
    wait(|| activated(&mesh).0.success(), || activated(&mesh).1);
    let (_, said) = mesh.ferrule(&["ca", "rotate", "retire"]);
    assert_eq!(roots(&mesh), 2, "{said}");
    // Once no certificate below the old root lives.
    let mut said = String::new();
    let end = std::time::Instant::now() + Duration::from_secs(400);
    while roots(&mesh) > 1 {
        assert!(std::time::Instant::now() < end, "{said}\n{}", mesh.text());
        std::thread::sleep(Duration::from_secs(2));
        said = mesh.ferrule(&["ca", "rotate", "retire"]).1;
    }
    let after = load.answered();
    wait(|| load.answered() > after + 50, || mesh.text());
    let (answered, failures) = load.end();
    println!("figure: {answered} requests, {} failed", failures.len());
    assert!(failures.is_empty(), "{failures:#?}\n{}", mesh.text());
    assert_eq!(sidecars(&begun), sidecars(&mesh.processes()), "no restarts");
    assert!(!mesh.text().contains("started again"), "{}", mesh.text());
    assert!(
        fs::read_to_string(&idle)
            .unwrap()
            .contains("trust bundle changed")
    );
    // Whoever starts now believes the CA by the new root, and so does who looks at the mesh.
    let before = certificates(&idle);
    mesh.kill_one("run/1.yaml");
    wait(
        || certificates(&idle) > before,
        || fs::read_to_string(&idle).unwrap(),
    );
    wait(
        || mesh.ferrule(&["check"]).0.success(),
        || mesh.ferrule(&["check"]).1,
    );
    assert_eq!(mesh.stop().code(), Some(0));
    mesh.leaves_nothing();
}
