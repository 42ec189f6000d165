//! What the debug socket and the metrics tell, and that telling holds up no connection.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::program::{Running, ask};
use crate::sidecar::{API, LIMIT, Mesh, WEB, dial, rest, say};

/// The settings of `api` with a debug socket at `socket`.
fn settings(mesh: &Mesh, socket: &Path, admin: &str) -> String {
    let settings = mesh.api_settings("drain: { leave: 0s, deadline: 5s }");
    settings.replace(
        "enabled: false",
        &format!("{admin}, socket: {}", socket.display()),
    )
}

fn names(line: &Value) -> Vec<&String> {
    line.as_object().unwrap().keys().collect()
}

#[test]
fn whoever_taps_reads_the_lines_of_the_log() {
    let mesh = Mesh::new();
    mesh.allow();
    let socket = mesh.folder.path().join("debug.sock");
    let api = Running::start(&mesh, &settings(&mesh, &socket, "enabled: false"), 1024);
    let door = api.door();
    api.line("message", "documents taken");
    let mut tap = UnixStream::connect(&socket).unwrap();
    tap.set_read_timeout(Some(LIMIT)).unwrap();
    tap.write_all(b"GET /tap HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
    let mut tap = BufReader::new(tap).lines().map(Result::unwrap);
    // The head of the answer: from here on nothing is missed.
    assert_eq!(tap.by_ref().find(String::is_empty).as_deref(), Some(""));
    let web = mesh.web_sidecar(door, API, "");
    let mut client = dial(web.door(0));
    say(&mut client, &mut mesh.accept(), b"hello");
    drop(client);
    // Chunks have lines of their own.
    let tapped = tap.find(|line| line.starts_with('{')).unwrap();
    let tapped: Value = serde_json::from_str(&tapped).unwrap();
    let logged = api.line("event", "close");
    assert_eq!(names(&tapped), names(&logged));
    for name in names(&logged).into_iter().filter(|name| *name != "time") {
        assert_eq!(tapped[name], logged[name], "{name}");
    }
}

#[test]
fn edges_are_summed_up_with_their_rule_and_their_bytes() {
    let mesh = Mesh::new();
    mesh.allow();
    let socket = mesh.folder.path().join("debug.sock");
    let api = Running::start(&mesh, &settings(&mesh, &socket, "enabled: false"), 1024);
    let door = api.door();
    api.line("message", "documents taken");
    let web = mesh.web_sidecar(door, API, "");
    let mut ended = dial(web.door(0));
    say(&mut ended, &mut mesh.accept(), b"hello");
    drop(ended);
    api.line("event", "close");
    let mut open = dial(web.door(0));
    let mut server = mesh.accept();
    say(&mut open, &mut server, b"open");
    let edges: Value = serde_json::from_str(&ask(&socket, "/edges")).unwrap();
    let edge = &edges[0];
    assert_eq!(edges.as_array().unwrap().len(), 1, "{edges}");
    assert_eq!((&edge["src_id"], &edge["dst_id"]), (&WEB.into(), &API.into()));
    assert_eq!(edge["dst_port"], mesh.app.local_addr().unwrap().port());
    assert_eq!(
        (&edge["tls"], &edge["direction"]),
        (&"mutual".into(), &"inbound".into())
    );
    assert_eq!(
        (&edge["verdict"], &edge["rule"]),
        (&"allow".into(), &"shop/api rule 1".into())
    );
    assert_eq!((&edge["connections"], &edge["bytes_in"]), (&2.into(), &9.into()));
    assert!(edge["last_seen"].as_i64().unwrap() > 0);
}

// What only shows something changes nothing, and what changes something is not done by looking at it.
#[test]
fn looking_at_the_drain_drains_nothing() {
    let mesh = Mesh::new();
    mesh.allow();
    let socket = mesh.folder.path().join("debug.sock");
    let mut api = Running::start(&mesh, &settings(&mesh, &socket, "enabled: false"), 1024);
    api.door();
    assert!(ask(&socket, "/drain").contains("takes POST"));
    let mut drain = UnixStream::connect(&socket).unwrap();
    drain
        .write_all(b"POST /drain HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n")
        .unwrap();
    assert_eq!(api.ended(), Some(0));
}

// Scrapes that nobody reads to their end, a tap that nobody reads at all: connections go on as before.
#[test]
fn readers_who_do_not_read_hold_up_no_connection() {
    let mesh = Mesh::new();
    mesh.allow();
    let socket = mesh.folder.path().join("debug.sock");
    let admin = "listen: \"127.0.0.1:0\"";
    let api = Running::start(&mesh, &settings(&mesh, &socket, admin), 1024);
    let scraped: std::net::SocketAddr = {
        let line = api.line("message", "metrics and readiness");
        line["address"].as_str().unwrap().parse().unwrap()
    };
    let door = api.door();
    let mut held = Vec::new();
    for _ in 0..16 {
        // As many requests as the connection takes, and not one answer read.
        let mut scrape = TcpStream::connect(scraped).unwrap();
        scrape
            .write_all(&b"GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n".repeat(200))
            .unwrap();
        held.push(scrape);
    }
    let mut tap = UnixStream::connect(&socket).unwrap();
    tap.write_all(b"GET /tap HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
    let web = mesh.web_sidecar(door, API, "");
    let mut slowest = Duration::ZERO;
    for _ in 0..100 {
        let began = Instant::now();
        let mut client = dial(web.door(0));
        let mut server = mesh.accept();
        say(&mut client, &mut server, b"hello");
        say(&mut server, &mut client, b"hello");
        drop(server);
        assert!(rest(&mut client).1);
        slowest = slowest.max(began.elapsed());
    }
    assert!(slowest < Duration::from_secs(2), "one took {slowest:?}");
    // They were held all the time: the answers are still there.
    let mut first = [0; 15];
    for mut scrape in held {
        scrape.set_read_timeout(Some(LIMIT)).unwrap();
        scrape.read_exact(&mut first).unwrap();
        assert_eq!(&first, b"HTTP/1.1 200 OK");
    }
}
