//! OpenSSL, which knows nothing of the mesh, is the peer.

use std::io::{BufRead as _, BufReader, Read, Write as _};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};

use crate::sidecar::{API, Mesh, dial, rest};
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
    let port = {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        free.local_addr().unwrap()
    };
    let mut server = Command::new("openssl")
        .args([
            "s_server",
            "-accept",
            &port.to_string(),
            "-quiet",
            "-Verify",
            "4",
            "-tls1_3",
        ])
        .arg("-cert")
        .arg(&mesh.api.chain)
        .arg("-key")
        .arg(&mesh.api.key)
        .arg("-CAfile")
        .arg(&mesh.api.bundle)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
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

#[test]
#[ignore = "needs openssl: tests/run"]
fn openssl_renews_the_keys_of_both_sides_as_a_server() {
    let mesh = Mesh::new();
    let port = {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        free.local_addr().unwrap()
    };
    // Without `stdbuf` it would keep what it tells until there is more.
    let mut child = Command::new("timeout")
        .args([
            PATIENCE,
            "stdbuf",
            "-oL",
            "openssl",
            "s_server",
            "-accept",
            &port.to_string(),
            "-Verify",
            "4",
            "-tls1_3",
        ])
        .arg("-cert")
        .arg(&mesh.api.chain)
        .arg("-key")
        .arg(&mesh.api.key)
        .arg("-CAfile")
        .arg(&mesh.api.bundle)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
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
