//! What is shown of a mesh that runs: edges, tap, verify, explain, check, diagnose.

use std::fs;
use std::io::Read as _;
use std::time::Duration;

use serde_json::{Value, json};

use crate::ferrule::Running;
use crate::mesh::{INTRUDER, Mesh, WEB, until};

#[test]
fn edges_tell_who_got_in_and_who_did_not() {
    let mesh = Mesh::start();
    assert!(mesh.call(WEB));
    assert!(!mesh.call(INTRUDER));
    let mut rows = Vec::new();
    until("both connections have ended", || {
        let (code, told) = mesh.json(&["edges"]);
        assert_eq!(code, 0);
        rows = told.as_array().unwrap().clone();
        rows.len() == 2
    });
    let row = |account: &str| {
        let id = format!("spiffe://shop.local/ns/shop/sa/{account}");
        let found = rows.iter().find(|row| row["src_id"] == id).unwrap();
        ["tls", "verdict", "rule"].map(|name| found[name].clone())
    };
    assert_eq!(
        row("web"),
        [json!("mutual"), json!("allow"), json!("shop/api rule 1")]
    );
    assert_eq!(row("intruder")[..2], [json!("mutual"), json!("deny")]);
    let text = mesh.run(&["edges"]).out;
    assert!(text.starts_with("FROM"), "{text}");
    assert!(text.contains("web.shop"), "{text}");
}

#[test]
fn tap_shows_what_was_denied_as_it_happens() {
    let mesh = Mesh::start();
    let mut command = mesh.command(&["tap", "--denied", "--count", "1", "--output", "json"]);
    let mut tap = Running::start(&mut command);
    // Who looks on from when on is not told, so it is tried until it is seen.
    let stop = std::sync::atomic::AtomicBool::new(false);
    let line = std::thread::scope(|scope| {
        scope.spawn(|| {
            until("the tap has seen it", || {
                assert!(!mesh.call(INTRUDER));
                stop.load(std::sync::atomic::Ordering::Relaxed)
            });
        });
        let line = tap.line("");
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        line
    });
    let line: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(line["verdict"], "deny");
    assert_eq!(line["src_id"], "spiffe://shop.local/ns/shop/sa/intruder");
    assert_eq!(tap.ended(), 0);
}

#[test]
fn verify_shows_the_wire_and_that_nothing_passes_in_clear() {
    let mesh = Mesh::start();
    let (code, told) = mesh.json(&["verify", "web", "api"]);
    assert_eq!(code, 0, "{told:#}");
    let mutual = &told[0]["mutual"];
    assert_eq!(mutual["tls_version"], "TLSv1.3");
    assert_eq!(mutual["tls_group"], "X25519MLKEM768");
    assert_eq!(mutual["peer"], "spiffe://shop.local/ns/shop/sa/api");
    assert_ne!(mutual["peer_serial"], told[0]["source_serial"]);
    assert_eq!(told[0]["plaintext"]["outcome"], "refused");
    let text = mesh.run(&["verify", "web", "api"]).out;
    assert!(text.contains("mutual TLSv1.3, X25519MLKEM768"), "{text}");
}

#[test]
fn explain_and_the_wire_agree_through_a_change_of_the_rules() {
    let mesh = Mesh::start();
    let port = mesh.port.to_string();
    let explained = |who: &str| {
        let (_, told) = mesh.json(&["explain", "--from", who, "--to", "api", "--port", &port]);
        told["allowed"].as_bool().unwrap()
    };
    let seen = |who: &str| {
        let (code, told) = mesh.json(&["verify", who, "api"]);
        let admitted = told[0]["mutual"]["admitted"].as_bool().unwrap();
        assert_eq!(code == 0, admitted, "{told:#}");
        admitted
    };
    for (who, is_in) in [("web", true), ("intruder", false)] {
        assert_eq!((explained(who), seen(who)), (is_in, is_in), "{who}");
    }
    mesh.allow(&["intruder"]);
    until("the change is in force", || !mesh.call(WEB));
    for (who, is_in) in [("web", false), ("intruder", true)] {
        assert_eq!((explained(who), seen(who)), (is_in, is_in), "{who}");
    }
}

#[test]
fn an_impostor_is_no_peer_to_verify() {
    let mesh = Mesh::start();
    let (web, at) = (mesh.socket("web"), format!("127.0.0.2:{}", mesh.port));
    let (code, told) = mesh.json(&[
        "verify",
        "--control",
        &web,
        "--address",
        &at,
        "--expect",
        "spiffe://shop.local/ns/shop/sa/store",
    ]);
    assert_eq!(code, 1);
    assert_eq!(told[0]["mutual"]["established"], false, "{told:#}");
}

/// The kinds and places of what `ferrule check` finds.
fn findings(mesh: &Mesh, more: &[&str]) -> Vec<(String, String)> {
    let (_, told) = mesh.json(&[&["check"], more].concat());
    let findings = told["findings"].as_array().unwrap();
    findings
        .iter()
        .map(|found| {
            let word = |name: &str| found[name].as_str().unwrap().to_owned();
            (word("kind"), word("place"))
        })
        .collect()
}

#[test]
fn check_finds_listeners_in_clear_and_permissive_workloads() {
    let mut mesh = Mesh::start();
    assert_eq!(findings(&mesh, &[]), []);
    // The CA is not there, and that is told apart from a finding.
    let ended = mesh.run(&["check"]);
    assert_eq!(ended.code, 2, "{ended:?}");
    assert!(
        ended.out.contains("not seen: the CA at 127.0.0.1:1"),
        "{}",
        ended.out
    );

    mesh.add_bare("store");
    let found = findings(&mesh, &[]);
    assert_eq!(
        found,
        [("plaintext-listener".to_owned(), "store.shop".to_owned())]
    );
    mesh.rule(
        "mode",
        "kind: MeshPolicy\nmetadata: { namespace: shop, name: trial }\nspec:\n  \
         workloads: { labels: { app: web } }\n  mode: permissive\n",
    );
    let found = findings(&mesh, &[]);
    assert!(
        found.contains(&("permissive".to_owned(), "web.shop".to_owned())),
        "{found:?}"
    );
    assert_eq!(mesh.run(&["check"]).code, 1);
    let guidance = mesh.json(&["check", "--guidance"]).1["guidance"].clone();
    let broken: Vec<&str> = guidance
        .as_array()
        .unwrap()
        .iter()
        .filter(|control| control["state"] == "broken")
        .map(|control| control["control"].as_str().unwrap())
        .collect();
    assert_eq!(
        broken,
        ["encryption", "authentication", "least-privilege", "separation"]
    );
}

#[test]
fn check_finds_a_root_that_ends() {
    let mesh = Mesh::start();
    // The root of this mesh lives for a day.
    let found = findings(&mesh, &["--fail-before", "2d"]);
    assert_eq!(found.len(), 3, "one for each sidecar: {found:?}");
    assert!(
        found.iter().all(|(kind, _)| kind == "certificate-ends"),
        "{found:?}"
    );
}

#[test]
fn check_finds_a_leaf_that_nobody_renews() {
    let mesh = Mesh::start();
    assert_eq!(findings(&mesh, &[]), []);
    // An hour is left of ten.
    mesh.age(
        "web",
        Duration::from_secs(9 * 3600),
        Duration::from_secs(10 * 3600),
    );
    until("check names it", || {
        findings(&mesh, &[]) == [("certificate-ends".to_owned(), "web.shop".to_owned())]
    });
    let text = mesh.run(&["check"]).out;
    assert!(text.contains("the workload's certificate ends in"), "{text}");
    assert!(
        text.contains("next: it should have been replaced by itself"),
        "{text}"
    );
}

#[test]
fn a_report_has_no_secret_in_it() {
    let mesh = Mesh::start();
    let secrets = ["PLANTEDKEY", "PLANTEDTOKEN", "PLANTEDPASSWORD", "PLANTEDENV"];
    fs::create_dir(mesh.path("ca")).unwrap();
    fs::write(mesh.path("ca/kek"), secrets[0]).unwrap();
    let lines = format!(
        "{{\"message\":\"x\",\"detail\":\"ferrule-join-1.{}\"}}\npassword={}\n\
         -----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\nlast line\n",
        secrets[1], secrets[2], secrets[0]
    );
    fs::write(mesh.path("web.proxy.log"), lines).unwrap();
    fs::write(mesh.path("web.log"), secrets[1]).unwrap();
    mesh.rule(
        "mesh",
        &format!("kind: Mesh\nworkloads:\n- {{ env: {{ X: {} }} }}\n", secrets[3]),
    );
    let file = mesh.path("report.tar.gz");
    let (code, told) = mesh.json(&["diagnose", file.to_str().unwrap()]);
    assert_eq!(code, 0);
    let packed = fs::read(&file).unwrap();
    let mut text = Vec::new();
    flate2::read::GzDecoder::new(packed.as_slice())
        .read_to_end(&mut text)
        .unwrap();
    let text = String::from_utf8_lossy(&text);
    for secret in secrets {
        assert!(!text.contains(secret), "{secret}");
    }
    // The keys of the sidecars are on the disk beside it all.
    let key = fs::read_to_string(mesh.path("web.key")).unwrap();
    let middle = key.lines().nth(1).unwrap();
    assert!(!text.contains(middle));
    assert!(told["redacted"].as_u64().unwrap() >= 3, "{told}");
    for part in ["last line", "shop/api", "ferrule_connections", "AccessPolicy"] {
        assert!(text.contains(part), "{part}");
    }
    let again = mesh.run(&["diagnose", file.to_str().unwrap()]);
    assert_eq!(again.code, 2, "never over what is there");
}
