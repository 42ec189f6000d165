//! What is not allowed ends before a byte of it reaches an application, or as soon as it is not allowed any more.

use std::fs;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::sync::mpsc::sync_channel;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::sidecar::{API, DAY, LIMIT, Mesh, Sidecar, WEB, dial, rest, say};
use ferrule_tests::pki::Authority;

/// Nothing waits at the application's door.
fn nobody_came(mesh: &Mesh) {
    mesh.app.set_nonblocking(true).unwrap();
    assert_eq!(mesh.app.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
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

/// Two ends of a connection that are never idle: what the one says the other says back, until it is ended. Gives when
/// both had seen the end.
fn keep_busy(mut client: TcpStream, mut server: TcpStream) -> JoinHandle<Instant> {
    let mut replies = client.try_clone().unwrap();
    let (block, mut heard, mut answered) = ([7; 8_192], [0; 8_192], [0; 8_192]);
    let (going, is_going) = sync_channel(1);
    let saying = thread::spawn(move || while client.write_all(&block).is_ok() {});
    let listening = thread::spawn(move || while replies.read_exact(&mut answered).is_ok() {});
    let busy = thread::spawn(move || {
        while server.read_exact(&mut heard).is_ok() && server.write_all(&heard).is_ok() {
            // Whoever waits for it has heard it the first time.
            let _ = going.try_send(());
        }
        saying.join().unwrap();
        listening.join().unwrap();
        Instant::now()
    });
    is_going.recv_timeout(LIMIT).expect("it is busy");
    busy
}

/// Says so much that nobody hears that there is no more room on the way.
fn fill(client: &mut TcpStream) {
    client
        .set_write_timeout(Some(Duration::from_millis(200)))
        .unwrap();
    let error = loop {
        if let Err(error) = client.write_all(&[7; 65_536]) {
            break error;
        }
    };
    assert!(
        matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut),
        "{error}"
    );
}

// D4: an idle connection, a busy one, and one that is stuck because nobody reads end within 2 s of the rule's end.
#[test]
fn removing_the_rule_ends_open_connections() {
    let mesh = Mesh::new();
    mesh.allow();
    let api = mesh.api_sidecar("");
    let web = mesh.web_sidecar(api.door(0), API, "");
    let open = || {
        let mut client = dial(web.door(0));
        let mut server = mesh.accept();
        say(&mut client, &mut server, b"hello");
        (client, server)
    };
    let (mut client, mut server) = open();
    let (mut stuck, deaf) = open();
    fill(&mut stuck);
    let (talking, answering) = open();
    let busy = keep_busy(talking, answering);
    mesh.forbid();
    let began = Instant::now();
    assert!(!rest(&mut server).1);
    assert!(!rest(&mut client).1);
    assert!(!rest(&mut stuck).1);
    let ended = [busy.join().unwrap(), Instant::now()];
    for ended in ended {
        let took = ended - began;
        assert!(took < Duration::from_secs(2), "took {took:?}");
    }
    drop(deaf);
    let end = Instant::now() + LIMIT;
    while api.counts(&["connections_total", "tls=\"mutual\"", "reason=\"denied\""]) < 3.0 {
        assert!(Instant::now() < end, "each is counted");
    }
}

// D3: before the first rules that can be read nobody comes in, and nobody is told that all is ready.
#[test]
fn until_the_first_rules_it_is_not_ready_and_lets_nobody_in() {
    let mesh = Mesh::new();
    mesh.allow();
    let wrong = mesh.rules().join("zzz.yaml");
    fs::write(&wrong, "kind: AccessPolicy\n").unwrap();
    let (api, ready) = Sidecar::starting(&mesh.api_settings(""));
    api.counts(&["documents_refused_total"]);
    // The caller has rules of its own, and is ready.
    let others = mesh.folder.path().join("others");
    fs::create_dir(&others).unwrap();
    let settings = mesh.web_settings(api.door(0), API, "").replace(
        &format!("folder: {}", mesh.rules().display()),
        &format!("folder: {}", others.display()),
    );
    let web = Sidecar::start(&settings);
    for _ in 0..3 {
        assert!(!rest(&mut dial(web.door(0))).1);
    }
    api.counts(&[
        "connections_total",
        "inbound",
        "verdict=\"deny\"",
        "reason=\"denied\"",
    ]);
    nobody_came(&mesh);
    assert!(ready.try_recv().is_err(), "it is not ready");
    fs::remove_file(wrong).unwrap();
    ready.recv_timeout(LIMIT).expect("it becomes ready");
    mesh.app.set_nonblocking(false).unwrap();
    let mut client = dial(web.door(0));
    client.write_all(b"hello").unwrap();
    // The caller left the endpoint out after its refusals, and looks whether it has healed: that says nothing.
    let heard = std::iter::repeat_with(|| {
        let mut heard = Vec::new();
        let read = mesh.accept().take(5).read_to_end(&mut heard);
        read.map(|_| heard)
    });
    let said = heard.flatten().find(|heard| !heard.is_empty());
    assert_eq!(said.as_deref(), Some(&b"hello"[..]));
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
    let began = Instant::now();
    assert!(!rest(&mut server).1);
    let took = began.elapsed();
    assert!(took < Duration::from_secs(2), "took {took:?}");
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
    let with_crl = mesh
        .api_settings("")
        .replace("files: {", &format!("files: {{ crls: {},", crl.display()));
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
