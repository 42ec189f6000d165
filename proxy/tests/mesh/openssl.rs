//! OpenSSL, which knows nothing of the mesh, is the peer.

use std::io::{BufRead as _, BufReader, Read, Write as _};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};

use crate::sidecar::{API, LIMIT, Mesh, dial, rest};
use ferrule_tests::pki::Files;

fn client(to: SocketAddr, files: &Files, more: &[&str]) -> Child {
    Command::new("openssl")
        .args(["s_client", "-connect", &to.to_string(), "-quiet", "-verify_quiet"])
        .arg("-cert")
        .arg(&files.chain)
        .arg("-key")
        .arg(&files.key)
        .arg("-CAfile")
        .arg(&files.bundle)
        .args(more)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// `program` as a server at `at` with these files, which demands a certificate; it listens to the test.
fn server(mut program: Command, at: SocketAddr, files: &Files, more: &[&str]) -> Command {
    program
        .args(["s_server", "-accept", &at.to_string(), "-Verify", "4", "-tls1_3"])
        .arg("-cert")
        .arg(&files.chain)
        .arg("-key")
        .arg(&files.key)
        .arg("-CAfile")
        .arg(&files.bundle)
        .args(more)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    program
}

/// OpenSSL, which is ended when nothing comes of it, and tells at once what it has to tell.
fn watched() -> Command {
    let mut program = Command::new("timeout");
    program.args([PATIENCE, "stdbuf", "-oL", "openssl"]);
    program
}

/// Where nobody listens.
fn free() -> SocketAddr {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    free.local_addr().unwrap()
}

#[test]
#[ignore = "needs openssl: tests/run"]
fn openssl_with_a_workloads_certificate_is_let_in() {
    let mesh = Mesh::new();
    mesh.allow();
    let api = mesh.api_sidecar("");
    let mut child = client(api.door(0), &mesh.web, &[]);
    child.stdin.as_mut().unwrap().write_all(b"hello").unwrap();
    let mut server = mesh.accept();
    let mut heard = [0; 5];
    server.read_exact(&mut heard).unwrap();
    assert_eq!(&heard, b"hello");
    server.write_all(b"world").unwrap();
    drop(server);
    let said = child.wait_with_output().unwrap().stdout;
    assert_eq!(said, b"world");
    api.counts(&["connections_total", "tls=\"mutual\"", "allow"]);
}

// B4: nothing below TLS 1.3.
#[test]
#[ignore = "needs openssl: tests/run"]
fn tls_1_2_is_refused() {
    let mesh = Mesh::new();
    mesh.allow();
    let api = mesh.api_sidecar("");
    let child = client(api.door(0), &mesh.web, &["-tls1_2"]);
    assert!(!child.wait_with_output().unwrap().status.success());
    api.counts(&["connections_total", "handshake_failed"]);
}

#[test]
#[ignore = "needs openssl: tests/run"]
fn openssl_is_a_server_that_the_sidecar_talks_to() {
    let mesh = Mesh::new();
    let port = free();
    let openssl = Command::new("openssl");
    let mut server = server(openssl, port, &mesh.api, &["-quiet"]).spawn().unwrap();
    let web = mesh.web_sidecar(port, API, "");
    // Nobody listens until the program has started.
    let mut client = loop {
        let mut client = dial(web.door(0));
        server.stdin.as_mut().unwrap().write_all(b"world\n").unwrap();
        let mut heard = [0; 6];
        // A connection to nobody is reset, which writing may see before reading does.
        let greeted = client
            .write_all(b"hello\n")
            .and_then(|()| client.read_exact(&mut heard));
        match greeted {
            Ok(()) => {
                assert_eq!(&heard, b"world\n");
                break client;
            }
            Err(_) => std::thread::sleep(std::time::Duration::from_millis(50)),
        }
    };
    server.kill().unwrap();
    server.wait().unwrap();
    // A killed server did not say that it was done.
    assert!(!rest(&mut client).1);
}

/// After so many seconds a program of which nothing comes is ended.
const PATIENCE: &str = "60";

/// Reads lines of a program until one holds `words`.
fn until(output: &mut BufReader<impl Read>, words: &str) {
    let mut line = String::new();
    while !line.contains(words) {
        line.clear();
        assert_ne!(output.read_line(&mut line).unwrap(), 0, "no {words}");
    }
}

// RFC 8446 §4.6.3: new keys of theirs, for which they want new ones of ours, between any two words.
#[test]
#[ignore = "needs openssl: tests/run"]
fn openssl_renews_the_keys_of_both_sides_as_a_client() {
    let mesh = Mesh::new();
    mesh.allow();
    let api = mesh.api_sidecar("");
    let mut child = Command::new("timeout")
        .args([PATIENCE, "openssl", "s_client"])
        .args(["-connect", &api.door(0).to_string()])
        .arg("-cert")
        .arg(&mesh.web.chain)
        .arg("-key")
        .arg(&mesh.web.key)
        .arg("-CAfile")
        .arg(&mesh.web.bundle)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut words = child.stdin.take().unwrap();
    let mut heard = BufReader::new(child.stdout.take().unwrap());
    let mut told = BufReader::new(child.stderr.take().unwrap());
    words.write_all(b"hello\n").unwrap();
    let mut server = BufReader::new(mesh.accept());
    until(&mut server, "hello");
    for round in 0..3 {
        words.write_all(b"K\n").unwrap();
        until(&mut told, "KEYUPDATE");
        writeln!(words, "asked {round}").unwrap();
        until(&mut server, &format!("asked {round}"));
        writeln!(server.get_mut(), "answered {round}").unwrap();
        until(&mut heard, &format!("answered {round}"));
    }
    words.write_all(b"Q\n").unwrap();
    child.wait().unwrap();
}

/// How many OpenSSL's server has met, and how many of them have signed for it in a whole handshake.
fn met(told: &str) -> (usize, usize) {
    (
        told.matches("CONNECTION ESTABLISHED").count(),
        told.matches("Signature type").count(),
    )
}

// B3: whoever offers a ticket is met by a whole handshake again, in which its certificate is looked at again.
#[test]
#[ignore = "needs openssl: tests/run"]
fn a_ticket_that_is_offered_is_not_used() {
    let mesh = Mesh::new();
    let port = free();
    let told = mesh.folder.path().join("told");
    let file = std::fs::File::create(&told).unwrap();
    let mut server = server(watched(), port, &mesh.api, &["-rev"])
        .stderr(file.try_clone().unwrap())
        .stdout(file)
        .spawn()
        .unwrap();
    let told = || std::fs::read_to_string(&told).unwrap();
    let end = std::time::Instant::now() + LIMIT;
    while !told().contains("ACCEPT") {
        assert!(std::time::Instant::now() < end, "it listens: {}", told());
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    let web = mesh.web_sidecar(port, API, "");
    for _ in 0..3 {
        let mut client = BufReader::new(dial(web.door(0)));
        client.get_mut().write_all(b"hello\n").unwrap();
        // Behind the tickets, which come first.
        until(&mut client, "olleh");
    }
    // OpenSSL's own client shows that it would be told.
    let ticket = mesh.folder.path().join("ticket");
    let ticket = ticket.to_str().unwrap();
    for how in ["-sess_out", "-sess_in"] {
        let mut child = client(port, &mesh.web, &[how, ticket]);
        child.stdin.as_mut().unwrap().write_all(b"hello\n").unwrap();
        until(&mut BufReader::new(child.stdout.take().unwrap()), "olleh");
        child.kill().unwrap();
        child.wait().unwrap();
    }
    let end = std::time::Instant::now() + LIMIT;
    while met(&told()).0 < 5 {
        assert!(std::time::Instant::now() < end, "five were met: {}", told());
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    // All but OpenSSL's own with the ticket.
    assert_eq!(met(&told()), (5, 4), "{}", told());
    // By a signal that `timeout` passes on.
    let id = server.id().to_string();
    assert!(Command::new("kill").arg(id).status().unwrap().success());
    server.wait().unwrap();
}

#[test]
#[ignore = "needs openssl: tests/run"]
fn openssl_renews_the_keys_of_both_sides_as_a_server() {
    let mesh = Mesh::new();
    let port = free();
    let mut child = server(watched(), port, &mesh.api, &[]).spawn().unwrap();
    let mut words = child.stdin.take().unwrap();
    let mut heard = BufReader::new(child.stdout.take().unwrap());
    until(&mut heard, "ACCEPT");
    let web = mesh.web_sidecar(port, API, "");
    let mut client = BufReader::new(dial(web.door(0)));
    client.get_mut().write_all(b"hello\n").unwrap();
    until(&mut heard, "hello");
    for round in 0..3 {
        words.write_all(b"K\n").unwrap();
        until(&mut heard, "SSL_do_handshake -> 1");
        writeln!(words, "asked {round}").unwrap();
        until(&mut client, &format!("asked {round}"));
        writeln!(client.get_mut(), "answered {round}").unwrap();
        until(&mut heard, &format!("answered {round}"));
    }
    words.write_all(b"Q\n").unwrap();
    child.wait().unwrap();
}
