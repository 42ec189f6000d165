//! What is not allowed ends before a byte of it reaches an application, or as soon as it is not allowed any more.

use std::fs;
use std::io::Write as _;
use std::time::{Duration, Instant};

use crate::sidecar::{API, DAY, Mesh, Sidecar, WEB, dial, rest, say};
use ferrule_tests::pki::Authority;

/// Nothing waits at the application's door.
fn nobody_came(mesh: &Mesh) {
    mesh.app.set_nonblocking(true).unwrap();
    assert_eq!(
        mesh.app.accept().unwrap_err().kind(),
        std::io::ErrorKind::WouldBlock
    );
}

#[test]
fn without_a_rule_nobody_comes_in() {
    let mesh = Mesh::new();
    let api = mesh.api_sidecar("");
    let web = mesh.web_sidecar(api.door(0), API, "");
    assert!(!rest(&mut dial(web.door(0))).1);
    api.counts(&["connections_total", "verdict=\"deny\"", "reason=\"denied\""]);
    api.counts(&["denied_total", "inbound", "denied"]);
    nobody_came(&mesh);
}

#[test]
fn a_rule_for_another_caller_does_not_help() {
    let mesh = Mesh::new();
    mesh.allow();
    let text = fs::read_to_string(mesh.rules().join("api.yaml")).unwrap();
    fs::write(
        mesh.rules().join("api.yaml"),
        text.replace("/sa/web", "/sa/webadmin"),
    )
    .unwrap();
    let api = mesh.api_sidecar("");
    let web = mesh.web_sidecar(api.door(0), API, "");
    assert!(!rest(&mut dial(web.door(0))).1);
    // Judged after the handshake: the port is open to somebody.
    api.counts(&["connections_total", "tls=\"mutual\"", "deny", "reason=\"denied\""]);
    nobody_came(&mesh);
}

// D4: both an idle and a busy connection end within 2 s of the rule's end.
#[test]
fn removing_the_rule_ends_open_connections() {
    let mesh = Mesh::new();
    mesh.allow();
    let api = mesh.api_sidecar("");
    let web = mesh.web_sidecar(api.door(0), API, "");
    let mut client = dial(web.door(0));
    let mut server = mesh.accept();
    say(&mut client, &mut server, b"hello");
    mesh.forbid();
    let began = Instant::now();
    assert!(!rest(&mut server).1);
    assert!(
        began.elapsed() < Duration::from_secs(2),
        "took {:?}",
        began.elapsed()
    );
    assert!(!rest(&mut client).1);
    api.counts(&["connections_total", "tls=\"mutual\"", "reason=\"denied\""]);
}

// D2: a document that is wrong changes nothing.
#[test]
fn a_wrong_document_leaves_the_last_good_rules() {
    let mesh = Mesh::new();
    mesh.allow();
    let api = mesh.api_sidecar("");
    let web = mesh.web_sidecar(api.door(0), API, "");
    let mut client = dial(web.door(0));
    let mut server = mesh.accept();
    say(&mut client, &mut server, b"one");
    fs::write(mesh.rules().join("zzz.yaml"), "kind: AccessPolicy\n").unwrap();
    mesh.forbid();
    // Both changes were seen: the first, or one of both together.
    api.counts(&["documents_refused_total"]);
    let seen = Instant::now();
    fs::write(mesh.rules().join("zzzz.yaml"), "kind: AccessPolicy\n").unwrap();
    while api.counts(&["documents_refused_total"]) < 2.0 {
        assert!(
            seen.elapsed() < crate::sidecar::LIMIT,
            "the second change is seen"
        );
    }
    say(&mut client, &mut server, b"two");
    let mut second = dial(web.door(0));
    say(&mut second, &mut mesh.accept(), b"three");
}

// B9: a meshed impostor, whose certificate is in order, is at the right address.
#[test]
fn another_workload_than_the_expected_one_gets_nothing() {
    let mesh = Mesh::new();
    mesh.allow();
    let api = mesh.api_sidecar("");
    let web = mesh.web_sidecar(api.door(0), "spiffe://shop.local/ns/shop/sa/db", "");
    let mut client = dial(web.door(0));
    // The write may be what meets the reset.
    let _ = client.write_all(b"secret");
    assert!(rest(&mut client).0.is_empty());
    web.counts(&["connections_total", "outbound", "unexpected_identity"]);
    nobody_came(&mesh);
}

#[test]
fn a_certificate_of_another_authority_is_refused_by_its_reason() {
    let mesh = Mesh::new();
    mesh.allow();
    let api = mesh.api_sidecar("");
    let other = Authority::new();
    let files = other.files(mesh.folder.path(), "thief", WEB, DAY);
    // The thief believes the real authority, so that it is the server that refuses.
    fs::write(&files.bundle, mesh.authority.pem() + &other.pem()).unwrap();
    let to = api.door(0);
    let ways = format!("upstreams: [{{ listen: \"127.0.0.1:0\", address: \"{to}\", identity: \"{API}\" }}]");
    let thief = Sidecar::start(&mesh.settings("web", &files, &ways, ""));
    assert!(!rest(&mut dial(thief.door(0))).1);
    api.counts(&["connections_total", "inbound", "unknown_authority"]);
    thief.counts(&["connections_total", "outbound", "refused_by_peer"]);
    nobody_came(&mesh);
}

// C7: plaintext to a strict port.
#[test]
fn what_comes_in_clear_is_reset() {
    let mesh = Mesh::new();
    mesh.allow();
    let api = mesh.api_sidecar("");
    let mut client = dial(api.door(0));
    client.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    assert_eq!(rest(&mut client), (vec![], false));
    api.counts(&["connections_total", "tls=\"plaintext\"", "reason=\"plaintext\""]);
    api.counts(&["plaintext_total", "inbound", "refused"]);
    nobody_came(&mesh);
}

// B5: a client that says nothing, and one that stops in the middle of its hello.
#[test]
fn a_silent_handshake_ends_at_its_limit() {
    let mesh = Mesh::new();
    mesh.allow();
    let api = mesh.api_sidecar("limits: { handshake_time: 200ms }");
    let mut silent = dial(api.door(0));
    let mut slow = dial(api.door(0));
    slow.write_all(&[22, 3, 1, 2, 0, 1, 0, 1]).unwrap();
    assert!(rest(&mut silent).0.is_empty());
    assert!(rest(&mut slow).0.is_empty());
    let end = Instant::now() + Duration::from_secs(10);
    while api.counts(&["connections_total", "handshake_timeout"]) < 2.0 {
        assert!(Instant::now() < end, "both are counted");
    }
}

// B12: the peer's authority leaves the bundle while it is connected.
#[test]
fn a_peer_whose_authority_is_gone_is_ended() {
    let mesh = Mesh::new();
    mesh.allow();
    let api = mesh.api_sidecar("");
    let web = mesh.web_sidecar(api.door(0), API, "");
    let mut client = dial(web.door(0));
    let mut server = mesh.accept();
    say(&mut client, &mut server, b"hello");
    // The server moves to another authority as a whole.
    let other = Authority::new();
    fs::write(&mesh.api.bundle, other.pem()).unwrap();
    other.renew(&mesh.api, API, DAY);
    assert!(!rest(&mut server).1);
    api.counts(&[
        "connections_total",
        "tls=\"mutual\"",
        "reason=\"unknown_authority\"",
    ]);
}

// B12: the peer's certificate is revoked while it is connected; a new connection is refused for the same reason.
#[test]
fn a_revoked_peer_is_ended_and_stays_out() {
    let mesh = Mesh::new();
    mesh.allow();
    let crl = mesh.folder.path().join("crl.pem");
    fs::write(&crl, mesh.authority.crl(1, &[])).unwrap();
    let app = mesh.app.local_addr().unwrap();
    let ways = format!("serves: [{{ listen: \"127.0.0.1:0\", to: \"{app}\" }}]");
    let settings = mesh.settings("api", &mesh.api, &ways, "");
    let with_crl = settings.replace("files: {", &format!("files: {{ crls: {},", crl.display()));
    let api = Sidecar::start(&with_crl);
    let web = mesh.web_sidecar(api.door(0), API, "");
    let mut client = dial(web.door(0));
    let mut server = mesh.accept();
    say(&mut client, &mut server, b"hello");
    let serial = mesh.web.serial();
    fs::write(&crl, mesh.authority.crl(2, &[serial])).unwrap();
    let began = Instant::now();
    assert!(!rest(&mut server).1);
    assert!(
        began.elapsed() < Duration::from_secs(2),
        "took {:?}",
        began.elapsed()
    );
    api.counts(&["connections_total", "tls=\"mutual\"", "reason=\"revoked\""]);
    assert!(!rest(&mut dial(web.door(0))).1);
    api.counts(&["connections_total", "tls=\"none\"", "reason=\"revoked\""]);
    nobody_came(&mesh);
}

// B12: the peer's certificate runs out while it is connected.
#[test]
fn a_peer_whose_certificate_has_ended_is_ended() {
    let mesh = Mesh::new();
    mesh.allow();
    mesh.authority.renew(&mesh.web, WEB, Duration::from_secs(4));
    let api = mesh.api_sidecar("connection: { max_age: leaf }");
    let web = mesh.web_sidecar(api.door(0), API, "");
    let mut client = dial(web.door(0));
    let mut server = mesh.accept();
    say(&mut client, &mut server, b"hello");
    assert!(!rest(&mut server).1);
    api.counts(&["connections_total", "tls=\"mutual\"", "reason=\"expired\""]);
}

#[test]
fn a_connection_above_the_cap_is_refused() {
    let mesh = Mesh::new();
    mesh.allow();
    let api = mesh.api_sidecar("limits: { connections: 1 }");
    let web = mesh.web_sidecar(api.door(0), API, "");
    let mut first = dial(web.door(0));
    let mut server = mesh.accept();
    say(&mut first, &mut server, b"one");
    assert!(!rest(&mut dial(web.door(0))).1);
    api.counts(&["connections_total", "reason=\"busy\""]);
    say(&mut first, &mut server, b"two");
}
