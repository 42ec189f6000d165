//! Connections of applications travel one after another over few connections between sidecars, and nobody can tell.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use ferrule_daemon::stop::Ended;

use crate::sidecar::{API, DAY, LIMIT, Mesh, Sidecar, WEB, dial, rest, say};

/// One whole connection through both sidecars.
fn talk(mesh: &Mesh, web: &Sidecar) {
    let mut client = dial(web.door(0));
    let mut server = mesh.accept();
    say(&mut client, &mut server, b"question");
    say(&mut server, &mut client, b"answer");
    finish(client, server);
}

fn finish(mut client: TcpStream, mut server: TcpStream) {
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(rest(&mut server), (vec![], true));
    drop(server);
    assert_eq!(rest(&mut client), (vec![], true));
}

/// Talks until at least `least` connections have travelled over one that was there.
fn reuse(mesh: &Mesh, web: &Sidecar, least: f64) {
    let end = Instant::now() + LIMIT;
    while web.count(REUSED) < least {
        assert!(Instant::now() < end, "connections are reused");
        talk(mesh, web);
    }
}

const REUSED: &[&str] = &["connections_reused_total", "outbound"];
const POOLED: &[&str] = &["connections_pooled"];
const HANDSHAKES: &[&str] = &["handshake_duration_seconds_count", "client", "ok"];

/// Waits until what is pooled is `wanted`.
fn pooled(web: &Sidecar, wanted: impl Fn(f64) -> bool) {
    let end = Instant::now() + LIMIT;
    while !wanted(web.count(POOLED)) {
        assert!(Instant::now() < end, "pooled: {}", web.count(POOLED));
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn one_connection_between_sidecars_carries_one_after_another() {
    let mesh = Mesh::new();
    mesh.allow();
    let api = mesh.api_sidecar("");
    let web = mesh.web_sidecar(api.door(0), API, "");
    for _ in 0..20 {
        talk(&mesh, &web);
    }
    // Each of two workers has a pool of its own; the end of one connection may be noticed after the next has begun.
    let handshakes = web.counts(HANDSHAKES);
    assert!(handshakes <= 6.0, "{handshakes} handshakes");
    assert!(web.counts(REUSED) >= 14.0);
    api.counts(&["connections_reused_total", "inbound"]);
    let end = Instant::now() + LIMIT;
    while api.counts(&["connections_total", "inbound", "mutual", "allow", "finished"]) < 20.0 {
        assert!(Instant::now() < end, "each is counted");
    }
}

#[test]
fn where_none_may_be_kept_each_has_a_handshake() {
    let mesh = Mesh::new();
    mesh.allow();
    let api = mesh.api_sidecar("");
    let web = mesh.web_sidecar(api.door(0), API, "connection: { pool: { most: 0 } }");
    for _ in 0..5 {
        talk(&mesh, &web);
    }
    assert_eq!(web.counts(HANDSHAKES), 5.0);
    assert_eq!(web.count(REUSED), 0.0);
}

// D4, on a connection that was there already.
#[test]
fn a_stream_on_a_reused_connection_ends_with_its_rule_and_the_next_is_judged() {
    let mesh = Mesh::new();
    mesh.allow();
    let api = mesh.api_sidecar("");
    let web = mesh.web_sidecar(api.door(0), API, "");
    reuse(&mesh, &web, 2.0);
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
    api.counts(&[
        "connections_total",
        "tls=\"mutual\"",
        "verdict=\"allow\"",
        "denied",
    ]);
    // The word travels: the caller's own line says why.
    web.counts(&["connections_total", "outbound", "upstream_reset"]);
    // A worker that has nothing in its pool meets the refusal before a handshake; the kernel chooses among the workers.
    let judged = [
        "connections_total",
        "tls=\"mutual\"",
        "verdict=\"deny\"",
        "denied",
    ];
    let end = Instant::now() + LIMIT;
    while api.count(&judged) == 0.0 {
        assert!(
            Instant::now() < end,
            "a stream is refused on a connection that was there"
        );
        assert!(!rest(&mut dial(web.door(0))).1);
    }
    mesh.allow();
    let end = Instant::now() + LIMIT;
    loop {
        let mut client = dial(web.door(0));
        if let Ok(mut server) = mesh.accept_within(Duration::from_millis(200)) {
            // The rule comes back while this is tried: what was refused a moment before may have got this far.
            let mut heard = [0; 5];
            if client.write_all(b"again").is_ok()
                && server.read_exact(&mut heard).is_ok()
                && heard == *b"again"
            {
                break;
            }
        }
        assert!(Instant::now() < end, "the rule is back");
    }
}

#[test]
fn a_new_certificate_retires_what_is_pooled() {
    let mesh = Mesh::new();
    mesh.allow();
    let api = mesh.api_sidecar("");
    let web = mesh.web_sidecar(api.door(0), API, "");
    reuse(&mesh, &web, 2.0);
    pooled(&web, |count| count > 0.0);
    mesh.authority
        .renew(&mesh.web, WEB, DAY + Duration::from_secs(1000));
    pooled(&web, |count| count == 0.0);
    let before = web.counts(HANDSHAKES);
    talk(&mesh, &web);
    assert_eq!(web.counts(HANDSHAKES), before + 1.0);
}

#[test]
fn the_other_sides_new_certificate_retires_it_too() {
    let mesh = Mesh::new();
    mesh.allow();
    let api = mesh.api_sidecar("");
    let web = mesh.web_sidecar(api.door(0), API, "");
    reuse(&mesh, &web, 2.0);
    pooled(&web, |count| count > 0.0);
    mesh.authority
        .renew(&mesh.api, API, DAY + Duration::from_secs(1000));
    // Told by the other side, and noticed without a call.
    pooled(&web, |count| count == 0.0);
    talk(&mesh, &web);
}

#[test]
fn what_is_idle_or_old_ends() {
    let mesh = Mesh::new();
    mesh.allow();
    let api = mesh.api_sidecar("");
    for setting in ["idle: 100ms", "age: 100ms"] {
        let more = format!("connection: {{ pool: {{ {setting} }} }}");
        let web = mesh.web_sidecar(api.door(0), API, &more);
        talk(&mesh, &web);
        pooled(&web, |count| count == 0.0);
        std::thread::sleep(Duration::from_millis(100));
        talk(&mesh, &web);
        assert_eq!(web.counts(HANDSHAKES), 2.0, "{setting}");
    }
}

#[test]
fn a_peer_that_was_started_again_is_reached_at_once() {
    let mesh = Mesh::new();
    mesh.allow();
    let api = mesh.api_sidecar("");
    let at = api.door(0);
    let web = mesh.web_sidecar(at, API, "");
    reuse(&mesh, &web, 2.0);
    drop(api);
    let app = mesh.app.local_addr().unwrap();
    let ways = format!("serves: [{{ listen: \"{at}\", to: \"{app}\" }}]");
    let _api = Sidecar::start(&mesh.settings("api", &mesh.api, &ways, ""));
    for _ in 0..5 {
        talk(&mesh, &web);
    }
}

#[test]
fn a_peer_that_stops_does_not_wait_for_idle_connections() {
    let mesh = Mesh::new();
    mesh.allow();
    let api = mesh.api_sidecar("drain: { leave: 0s, deadline: 60s }");
    let web = mesh.web_sidecar(api.door(0), API, "");
    reuse(&mesh, &web, 2.0);
    pooled(&web, |count| count > 0.0);
    let began = Instant::now();
    api.ask_to_stop();
    assert!(matches!(api.ended(), Ended::Clean));
    assert!(began.elapsed() < LIMIT, "took {:?}", began.elapsed());
    pooled(&web, |count| count == 0.0);
}

#[test]
fn a_connection_is_there_before_the_first_call_where_that_is_asked_for() {
    let mesh = Mesh::new();
    mesh.allow();
    let api = mesh.api_sidecar("");
    let web = mesh.web_sidecar(api.door(0), API, "connection: { pool: { warm: 2 } }");
    // In each of two workers.
    pooled(&web, |count| count >= 4.0);
    let before = web.counts(HANDSHAKES);
    let mut client = dial(web.door(0));
    let mut server = mesh.accept();
    say(&mut client, &mut server, b"hello");
    assert_eq!(web.counts(REUSED), 1.0);
    assert!(web.counts(HANDSHAKES) <= before + 1.0);
}

// The application answers nothing, and is not there: told in words, on a connection that goes on.
#[test]
fn an_application_that_is_not_there_costs_one_stream_and_no_connection() {
    let mesh = Mesh::new();
    mesh.allow();
    let api = mesh.api_sidecar("");
    let web = mesh.web_sidecar(api.door(0), API, "");
    reuse(&mesh, &web, 4.0);
    let handshakes = web.counts(HANDSHAKES);
    let app = mesh.app.local_addr().unwrap();
    let Mesh { app: listener, .. } = mesh;
    drop(listener);
    for _ in 0..4 {
        assert!(!rest(&mut dial(web.door(0))).1);
    }
    api.counts(&["connections_total", "inbound", "unreachable"]);
    web.counts(&["connections_total", "outbound", "refused_by_peer"]);
    let again = std::net::TcpListener::bind(app).unwrap();
    let mut client = dial(web.door(0));
    let (mut server, _) = again.accept().unwrap();
    say(&mut client, &mut server, b"hello");
    // Each worker may have had to make one.
    assert!(web.counts(HANDSHAKES) <= handshakes + 2.0);
}
