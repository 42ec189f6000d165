//! What is allowed comes through as if there were no sidecars.

use std::io::{Read as _, Write as _};
use std::net::Shutdown;
use std::thread;
use std::time::Duration;

use ferrule_daemon::stop::Ended;
use ferrule_identity::Fingerprint;

use crate::sidecar::{API, DAY, LIMIT, Mesh, dial, rest, say};

#[test]
fn an_allowed_connection_carries_both_ways_under_mutual_tls() {
    let mesh = Mesh::new();
    mesh.allow();
    let api = mesh.api_sidecar("");
    let web = mesh.web_sidecar(api.door(0), API, "");
    let mut client = dial(web.door(0));
    // The server speaks first: nothing may wait for the client's bytes.
    let mut server = mesh.accept();
    say(&mut server, &mut client, b"220 ready\r\n");
    say(&mut client, &mut server, b"hello\r\n");
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(rest(&mut server), (vec![], true));
    say(&mut server, &mut client, b"after the client's end\r\n");
    drop(server);
    assert_eq!(rest(&mut client), (vec![], true));
    api.counts(&[
        "connections_total",
        "inbound",
        "tls=\"mutual\"",
        "allow",
        "finished",
    ]);
    web.counts(&[
        "connections_total",
        "outbound",
        "tls=\"mutual\"",
        "allow",
        "finished",
    ]);
    assert_eq!(api.counts(&["bytes_total", "inbound", "flow=\"in\""]), 7.0);
    api.counts(&["handshake_duration_seconds_count", "server", "ok"]);
}

#[test]
fn ten_megabytes_each_way_arrive_as_they_were_sent() {
    let mesh = Mesh::new();
    mesh.allow();
    let api = mesh.api_sidecar("");
    let web = mesh.web_sidecar(api.door(0), API, "");
    let client = dial(web.door(0));
    let server = mesh.accept();
    let run = |seed: u8, mut from: std::net::TcpStream, mut to: std::net::TcpStream| {
        let sent: Vec<u8> = (0..10_000_000_u32)
            .map(|at| at.wrapping_mul(2_654_435_761).to_le_bytes()[3] ^ seed)
            .collect();
        let print = Fingerprint::of(&sent);
        let sending = thread::spawn(move || {
            from.write_all(&sent).unwrap();
            from.shutdown(Shutdown::Write).unwrap();
        });
        let receiving = thread::spawn(move || {
            let mut all = Vec::new();
            to.read_to_end(&mut all).unwrap();
            (all.len(), Fingerprint::of(&all))
        });
        (sending, receiving, print)
    };
    let there = run(1, client.try_clone().unwrap(), server.try_clone().unwrap());
    let back = run(2, server, client);
    for (sending, receiving, print) in [there, back] {
        sending.join().unwrap();
        assert_eq!(receiving.join().unwrap(), (10_000_000, print));
    }
}

// C8: RST is passed on as RST, through both sidecars.
#[test]
fn a_reset_arrives_as_a_reset() {
    let mesh = Mesh::new();
    mesh.allow();
    let api = mesh.api_sidecar("");
    let web = mesh.web_sidecar(api.door(0), API, "");
    let mut client = dial(web.door(0));
    let mut server = mesh.accept();
    say(&mut client, &mut server, b"hello");
    socket2::SockRef::from(&client)
        .set_linger(Some(Duration::ZERO))
        .unwrap();
    drop(client);
    assert_eq!(rest(&mut server), (vec![], false));
    web.counts(&["connections_total", "outbound", "client_reset"]);
}

#[test]
fn a_new_certificate_serves_new_connections_and_keeps_the_old() {
    let mesh = Mesh::new();
    mesh.allow();
    let api = mesh.api_sidecar("");
    let web = mesh.web_sidecar(api.door(0), API, "");
    let mut client = dial(web.door(0));
    let mut server = mesh.accept();
    say(&mut client, &mut server, b"one");
    let before = api.counts(&["certificate_not_after", "leaf"]);
    mesh.authority
        .renew(&mesh.api, API, DAY + Duration::from_secs(1000));
    let end = std::time::Instant::now() + LIMIT;
    while api.counts(&["certificate_not_after", "leaf"]) <= before {
        assert!(std::time::Instant::now() < end, "the new certificate is taken");
        thread::sleep(Duration::from_millis(20));
    }
    say(&mut client, &mut server, b"two");
    let mut second = dial(web.door(0));
    let mut second_server = mesh.accept();
    say(&mut second, &mut second_server, b"three");
}

#[test]
fn a_stop_lets_the_open_connection_finish() {
    let mesh = Mesh::new();
    mesh.allow();
    let api = mesh.api_sidecar("drain: { leave: 0s, deadline: 20s }");
    let web = mesh.web_sidecar(api.door(0), API, "");
    let mut client = dial(web.door(0));
    let mut server = mesh.accept();
    say(&mut client, &mut server, b"one");
    api.ask_to_stop();
    let end = std::time::Instant::now() + LIMIT;
    while std::net::TcpStream::connect(api.door(0)).is_ok() {
        assert!(std::time::Instant::now() < end, "the way in closes");
        thread::sleep(Duration::from_millis(20));
    }
    say(&mut client, &mut server, b"still here");
    drop(client);
    assert_eq!(rest(&mut server), (vec![], true));
    drop(server);
    assert!(matches!(api.ended(), Ended::Clean));
}

#[test]
fn a_connection_past_the_deadline_is_cut() {
    let mesh = Mesh::new();
    mesh.allow();
    let api = mesh.api_sidecar("drain: { leave: 0s, deadline: 100ms }");
    let web = mesh.web_sidecar(api.door(0), API, "");
    let mut client = dial(web.door(0));
    let mut server = mesh.accept();
    say(&mut client, &mut server, b"one");
    api.ask_to_stop();
    assert_eq!(rest(&mut server), (vec![], false));
    assert_eq!(rest(&mut client), (vec![], false));
    api.counts(&["connections_total", "inbound", "reason=\"cut\""]);
    assert!(matches!(api.ended(), Ended::Cut { connections: 1 }));
}

// Half-closed leftovers end, so that nothing piles up.
#[test]
fn a_side_that_never_finishes_is_ended_by_the_guard() {
    let mesh = Mesh::new();
    mesh.allow();
    let api = mesh.api_sidecar("connection: { half_closed: 200ms }");
    let web = mesh.web_sidecar(api.door(0), API, "");
    let mut client = dial(web.door(0));
    let mut server = mesh.accept();
    say(&mut client, &mut server, b"one");
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(rest(&mut client), (vec![], false));
    api.counts(&["connections_total", "half_closed"]);
}
