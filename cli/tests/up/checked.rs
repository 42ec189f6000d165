//! Faults that are made on purpose in a mesh that runs, and what `ferrule check` says of each.

use std::fs;
use std::os::unix::fs::DirBuilderExt as _;
use std::process::Stdio;

use super::hand::{Hand, run};
use super::mesh::{Mesh, free_port, head, wait};

/// A mesh in which nothing is wrong: a store, and somebody beside it.
fn start(trust_domain: &str, capture: &str) -> (Mesh, String) {
    let text = head(trust_domain)
        + "- { name: store, namespace: shop, run: [ferrule, example, store], ports: [9000] }\n"
        + "- { name: idle, namespace: shop, run: [sleep, '10000'], env: { STORE: 'http://store.shop:9000' } }\n";
    let mesh = Mesh::start(&text, capture);
    mesh.wait_for("all 2 are up");
    (mesh, text)
}

#[test]
#[ignore = "needs nft and namespaces: tests/run"]
fn a_redirect_that_is_gone_is_found_and_so_is_the_port_behind_it() {
    let (mut mesh, _) = start("gone.example", "transparent");
    let hand = Hand::new(&mesh, "gone.example");
    assert_eq!(hand.found().kinds(), []);
    assert_eq!(hand.run(&["check"]).code, 0);
    hand.without_redirect("store");
    let next = hand.until_found("plaintext-listener", "store.shop");
    assert!(next.contains("not behind the sidecar"), "{next}");
    let next = hand.until_found("missing-redirect", "store.shop");
    assert!(next.contains("ferrule up"), "{next}");
    let text = hand.run(&["check"]);
    assert_eq!(text.code, 1);
    assert!(text.out.contains("missing-redirect: store.shop:"), "{text:?}");
    assert!(
        text.out.contains("another workload reaches 10.213.0.16:9000"),
        "{text:?}"
    );
    assert!(!text.out.contains("idle.shop"), "{text:?}");
    assert_eq!(mesh.stop().code(), Some(0));
}

#[test]
#[ignore = "needs nft and namespaces: tests/run"]
fn a_bundle_that_does_not_follow_is_found() {
    let (mut mesh, _) = start("stale.example", "transparent");
    let hand = Hand::new(&mesh, "stale.example");
    // Nothing from the CA or the directory reaches this sidecar any more.
    hand.nft(
        "idle",
        "table inet cut {\n chain out {\n type filter hook output priority 0;\n ip daddr 10.213.0.1 drop\n \
         ip6 daddr fd5f:6665:7272::1 drop\n }\n}\n",
    );
    let prepared = hand.run(&["ca", "rotate", "prepare"]);
    assert_eq!(prepared.code, 0, "{prepared:?}");
    let next = hand.until_found("stale-bundle", "idle.shop");
    assert!(next.contains("cannot reach the CA"), "{next}");
    // Whoever is reached holds the new one soon.
    wait(
        || hand.found().kinds() == [("stale-bundle", "idle.shop")],
        || format!("{:?}", hand.found().kinds()),
    );
    hand.nft("idle", "delete table inet cut\n");
    wait(
        || hand.found().kinds().is_empty(),
        || format!("{:?}", hand.found().kinds()),
    );
    assert_eq!(mesh.stop().code(), Some(0));
}

#[test]
fn where_nothing_is_captured_the_way_past_the_sidecar_is_a_warning() {
    let (mut mesh, text) = start("past.example", "explicit");
    let hand = Hand::new(&mesh, "past.example");
    assert_eq!(hand.found().kinds(), []);
    let (code, told) = hand.json(&["check", "--guidance"]);
    assert_eq!(code, 0, "{told:#}");
    let warnings = told["warnings"].as_array().unwrap();
    let [warning] = &warnings[..] else {
        panic!("{told:#}")
    };
    assert_eq!(warning["kind"], "plaintext-listener");
    assert_eq!(warning["place"], "store.shop");
    let next = warning["next"].as_str().unwrap();
    assert!(next.contains("nothing is captured here"), "{next}");
    assert_eq!(told["guidance"][0]["control"], "encryption");
    assert_eq!(told["guidance"][0]["state"], "limited", "{told:#}");
    let ended = hand.run(&["check"]);
    assert!(
        ended.out.contains("warning: plaintext-listener: store.shop:"),
        "{ended:?}"
    );
    assert!(ended.err.contains("1 warning"), "{ended:?}");
    // What can be mended is a failure here as anywhere.
    let rule = "---\napiVersion: ferrule.dev/v1alpha1\nkind: MeshPolicy\nmetadata: { namespace: shop, name: trial }\n\
                spec:\n  workloads: { labels: { app: store } }\n  mode: permissive\n";
    let file = mesh.folder.path().join("mesh.yaml");
    fs::write(&file, text.clone() + rule).unwrap();
    hand.until_found("permissive", "store.shop");
    assert_eq!(hand.run(&["check"]).code, 1);
    fs::write(&file, text).unwrap();
    wait(
        || hand.found().kinds().is_empty(),
        || format!("{:?}", hand.found().kinds()),
    );
    // The sidecar's own listener is as it should be.
    let (_, told) = hand.json(&["verify", "idle", "store"]);
    assert_eq!(told[0]["plaintext"]["outcome"], "refused", "{told:#}");
    assert_eq!(mesh.stop().code(), Some(0));
}

#[test]
#[ignore = "needs nft and namespaces: tests/run"]
fn a_permissive_workload_is_found() {
    let (mut mesh, text) = start("permissive.example", "transparent");
    let hand = Hand::new(&mesh, "permissive.example");
    assert_eq!(hand.found().kinds(), []);
    let rule = "---\napiVersion: ferrule.dev/v1alpha1\nkind: MeshPolicy\nmetadata: { namespace: shop, name: trial }\n\
                spec:\n  workloads: { labels: { app: store } }\n  mode: permissive\n";
    let file = mesh.folder.path().join("mesh.yaml");
    fs::write(&file, text.clone() + rule).unwrap();
    let next = hand.until_found("permissive", "store.shop");
    assert!(next.contains("mode: strict"), "{next}");
    assert!(hand.found().says("takes connections in clear at 9000"));
    fs::write(&file, text).unwrap();
    wait(
        || hand.found().kinds().is_empty(),
        || format!("{:?}", hand.found().kinds()),
    );
    assert_eq!(mesh.stop().code(), Some(0));
}

#[test]
#[ignore = "needs faketime: tests/run"]
fn clocks_that_are_off_by_two_minutes_are_found() {
    let (mut mesh, _) = start("clock.example", "explicit");
    let hand = Hand::new(&mesh, "clock.example");
    // This machine's own.
    for (offset, word) in [("+130s", "ahead of"), ("-130s", "behind")] {
        let found = hand.found_by(&["faketime", "-f", offset], &[]);
        assert_eq!(found.kinds(), [("clock", "this machine")]);
        assert!(found.says(&format!("s {word} the CA's")));
        assert!(
            found
                .next("clock", "this machine")
                .unwrap()
                .contains("timedatectl")
        );
    }

    // That of a sidecar elsewhere, which enters by the same CA.
    let running = hand.running();
    let host = mesh.state("clock.example").join("host");
    let port = free_port();
    let mut elsewhere = hand.command_by(
        &["faketime", "-f", "-130s"],
        &[
            "run",
            "--identity=spiffe://clock.example/ns/shop/sa/elsewhere",
            &format!("--host={}", host.display()),
            &format!(
                "--upstream=127.0.0.1:{port}={}:9000=spiffe://clock.example/ns/shop/sa/store",
                hand.address("store")
            ),
            "--log=elsewhere.log",
            "--",
            "sh",
            "-c",
            "echo begun; exec cat",
        ],
    );
    let rooms = mesh.folder.path().join("tmp");
    fs::create_dir(&rooms).unwrap();
    let mut elsewhere = elsewhere
        .env("TMPDIR", &rooms)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut socket = None;
    wait(
        || {
            let room = fs::read_dir(&rooms).unwrap().flatten().next();
            socket = room.map(|room| room.path().join("proxy.sock"));
            socket.as_ref().is_some_and(|socket| socket.exists())
        },
        || fs::read_to_string(mesh.folder.path().join("elsewhere.log")).unwrap_or_default(),
    );
    let socket = socket.unwrap().display().to_string();
    let more = [
        "--control",
        &socket,
        "--ca",
        running["ca"]["url"].as_str().unwrap(),
        "--bundle",
        running["ca"]["bundle"].as_str().unwrap(),
        "--trust-domain",
        "clock.example",
    ];
    wait(
        || hand.found_by(&[], &more).kinds() == [("clock", socket.as_str())],
        || format!("{:?}", hand.found_by(&[], &more).kinds()),
    );
    drop(elsewhere.stdin.take());
    elsewhere.wait().unwrap();
    assert_eq!(mesh.stop().code(), Some(0));
}

#[test]
#[ignore = "needs faketime: tests/run"]
fn a_root_that_ends_soon_is_found_before_it_does() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("state/ends.example/ca");
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&data)
        .unwrap();
    // Made 80 of its 90 days ago.
    let mut made = std::process::Command::new("faketime");
    made.args(["-f", "-80d", env!("CARGO_BIN_EXE_ferrule"), "ca", "--data"])
        .arg(&data)
        .args(["init", "--trust-domain", "ends.example"])
        .env("FERRULE_CA__ROOT__LIFETIME", "90d");
    let made = run(&mut made);
    assert_eq!(made.code, 0, "{made:?}");
    let text = head("ends.example")
        + "- { name: store, namespace: shop, run: [ferrule, example, store], ports: [9000] }\n"
        + "- { name: idle, namespace: shop, run: [sleep, '10000'], env: { STORE: 'http://store.shop:9000' } }\n";
    let mut mesh = Mesh::start_in(folder, &text, "explicit");
    mesh.wait_for("all 2 are up");
    let hand = Hand::new(&mesh, "ends.example");
    let found = hand.found();
    let kinds = found.kinds();
    assert!(
        !kinds.is_empty() && kinds.iter().all(|(kind, _)| *kind == "certificate-ends"),
        "{kinds:?}"
    );
    let next = found.next_of("the root ").unwrap();
    assert!(next.contains("ferrule ca rotate"), "{next}");
    assert_eq!(mesh.stop().code(), Some(0));
}
