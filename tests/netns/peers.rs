//! Peers that are not what they should be, played by OpenSSL: each is refused for a reason of its own.

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Output;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use ferrule_tests::netns::mesh::id;
use ferrule_tests::netns::process::finish;
use ferrule_tests::netns::{Host, Mesh, Process, Sidecar, alone};
use ferrule_tests::pki::{Authority, Files};
use ferrule_tests::wait::{LIMIT, until};

const HOUR: Duration = Duration::from_secs(3600);

/// An application that answers every connection at once; how many there were.
fn greeter(host: &Host, at: SocketAddr) -> Arc<AtomicU64> {
    let listener = host.inside(|| TcpListener::bind(at).unwrap());
    let came = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&came);
    thread::spawn(move || {
        for peer in listener.incoming() {
            count.fetch_add(1, Ordering::Relaxed);
            // Whoever is gone needs no answer.
            let _ = peer.unwrap().write_all(b"welcome\n");
        }
    });
    came
}

/// An API behind its sidecar that `web` may call, and somebody outside of the mesh with files of `web`.
struct Called {
    api: Host,
    outside: Host,
    at: SocketAddr,
    came: Arc<AtomicU64>,
    sidecar: Sidecar,
    web: Files,
}

fn called(mesh: &mut Mesh) -> Called {
    let (api, outside) = (mesh.workload("api"), mesh.stranger("outside"));
    mesh.allow("web", "api", &[8080]);
    let at = SocketAddr::from((api.v4(), 8080));
    Called {
        came: greeter(&api, at),
        sidecar: mesh.sidecar(&api),
        web: peer(mesh, "web", &id("web")),
        api,
        outside,
        at,
    }
}

/// `openssl s_client` with these files, without a server name; it sends nothing and reads until the end.
fn client(host: &Host, to: SocketAddr, files: &Files, more: &[&str]) -> Output {
    let mut command = host.command("openssl");
    command.args([
        "s_client",
        "-connect",
        &to.to_string(),
        "-noservername",
        "-ign_eof",
    ]);
    command
        .arg("-cert")
        .arg(&files.chain)
        .arg("-key")
        .arg(&files.key)
        .arg("-CAfile")
        .arg(&files.bundle);
    finish(command.args(more))
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// The files of a peer of its own, in order but for what the caller changes.
fn peer(mesh: &Mesh, name: &str, of: &str) -> Files {
    mesh.authority.files(mesh.folder(), name, of, HOUR)
}

/// The hostile ones, each with the reason for which it is refused. `honest` is whose name they bear.
fn hostile(mesh: &Mesh, honest: &str) -> Vec<(Files, &'static str)> {
    let other = Authority::new();
    let foreign = other.files(
        mesh.folder(),
        "foreign",
        &format!("spiffe://other.local/ns/shop/sa/{honest}"),
        HOUR,
    );
    let forged = other.files(mesh.folder(), "forged", &id(honest), HOUR);
    let expired = peer(mesh, "expired", &id(honest));
    // B14: a stolen key is of no use once its certificate has ended, a second ago here.
    mesh.authority
        .renew_aged(&expired, &id(honest), HOUR, HOUR - Duration::from_secs(1));
    let revoked = peer(mesh, "revoked", &id(honest));
    vec![
        (foreign, "unknown_trust_domain"),
        (forged, "unknown_authority"),
        (expired, "expired"),
        (revoked, "revoked"),
    ]
}

/// Puts the certificate of `revoked` on the list that the sidecar of `host` reads, and waits until it is in force.
fn revoke(mesh: &Mesh, host: &Host, revoked: &Files, sidecar: &Sidecar) {
    let taken = |sidecar: &Sidecar| {
        sidecar
            .lines()
            .iter()
            .filter(|line| line["message"] == "credential files taken")
            .count()
    };
    let before = taken(sidecar);
    fs::write(
        mesh.files(host.name()).crls,
        mesh.authority.crl(2, &[revoked.serial()]),
    )
    .unwrap();
    until("the list is in force", || (taken(sidecar) > before).then_some(()));
}

// B9, B10, B12, B14: a certificate of another trust domain, of another authority, an ended or a revoked one, none at
// all, one whose owner no rule allows.
#[test]
#[ignore = "needs root or user namespaces, nft and openssl: tests/run"]
fn callers_are_refused_each_by_its_reason() {
    alone(|mesh| {
        let called = called(mesh);
        let Called {
            api,
            outside,
            at,
            came,
            sidecar,
            web,
        } = &called;
        assert!(said(&client(outside, *at, web, &[])).contains("welcome"));
        let mut callers = hostile(mesh, "web");
        revoke(mesh, api, &callers[3].0, sidecar);
        callers.push((peer(mesh, "db", &id("db")), "denied"));
        for (files, reason) in callers {
            let heard = said(&client(outside, *at, &files, &[]));
            assert!(!heard.contains("welcome"), "{reason}: {heard}");
            let line = sidecar.line(&[("event", "close"), ("direction", "inbound"), ("reason", reason)]);
            assert_eq!(
                line["src_addr"].as_str().unwrap().split(':').next(),
                Some("10.77.0.2")
            );
            sidecar.counts(
                &[
                    "ferrule_connections_total",
                    "inbound",
                    &format!("reason=\"{reason}\""),
                ],
                1.0,
            );
        }
        let mut bare = outside.command("openssl");
        bare.args([
            "s_client",
            "-connect",
            &at.to_string(),
            "-noservername",
            "-ign_eof",
        ]);
        assert!(!said(&finish(&mut bare)).contains("welcome"));
        sidecar.line(&[("event", "close"), ("reason", "bad_certificate")]);
        assert_eq!(came.load(Ordering::Relaxed), 1);
    });
}

/// `openssl s_server` with these files; it answers what it is told with what it is told, backwards.
fn impostor(host: &Host, port: u16, files: &Files, more: &[&str]) -> Process {
    let mut command = host.command("openssl");
    command.args([
        "s_server",
        "-accept",
        &port.to_string(),
        "-quiet",
        "-rev",
        "-Verify",
        "4",
    ]);
    command
        .arg("-cert")
        .arg(&files.chain)
        .arg("-key")
        .arg(&files.key)
        .arg("-CAfile")
        .arg(&files.bundle);
    let server = host.start(&format!("s_server-{port}"), command.args(more));
    listens(host, port);
    server
}

/// Waits until somebody listens at that port.
fn listens(host: &Host, port: u16) {
    until("somebody listens", || {
        let found = host
            .command("ss")
            .args(["-Hltn", &format!("sport = :{port}")])
            .output()
            .unwrap();
        (!found.stdout.is_empty()).then_some(())
    });
}

/// What an application on `host` hears at `to`, where it says one line.
fn hear(host: &Host, to: SocketAddr) -> io::Result<String> {
    host.inside(|| {
        let mut peer = TcpStream::connect_timeout(&to, LIMIT)?;
        peer.set_read_timeout(Some(LIMIT))?;
        peer.write_all(b"secret\n")?;
        let mut answer = [0; 16];
        let read = peer.read(&mut answer)?;
        Ok(String::from_utf8_lossy(&answer[..read]).into_owned())
    })
}

// B9: at the right address, with a certificate that is in order and belongs to another workload; and all the others.
#[test]
#[ignore = "needs root or user namespaces, nft and openssl: tests/run"]
fn servers_are_refused_each_by_its_reason() {
    alone(|mesh| {
        let (web, api) = (mesh.workload("web"), mesh.workload("api"));
        let sidecar = mesh.sidecar(&web);
        let honest = impostor(&api, 7000, &mesh.files("api"), &[]);
        assert_eq!(hear(&web, (api.v4(), 7000).into()).unwrap(), "terces\n");
        drop(honest);
        let mut servers: Vec<(Files, &str, &[&str])> = hostile(mesh, "api")
            .into_iter()
            .map(|(files, reason)| (files, reason, &[][..]))
            .collect();
        revoke(mesh, &web, &servers[3].0, &sidecar);
        servers.push((peer(mesh, "db", &id("db")), "unexpected_identity", &[]));
        servers.push((peer(mesh, "old", &id("api")), "refused_by_peer", &["-tls1_2"]));
        for (port, (files, reason, more)) in (7001..).zip(servers) {
            let server = impostor(&api, port, &files, more);
            let heard = hear(&web, (api.v4(), port).into());
            assert!(
                heard.as_ref().is_ok_and(String::is_empty) || heard.is_err(),
                "{reason}: {heard:?}"
            );
            let port = port.to_string();
            let line = sidecar.line(&[("event", "close"), ("direction", "outbound"), ("dst_port", &port)]);
            assert_eq!(line["reason"], reason, "{line}");
            sidecar.counts(
                &[
                    "ferrule_connections_total",
                    "outbound",
                    &format!("reason=\"{reason}\""),
                ],
                1.0,
            );
            assert!(!server.said().contains("secret"), "{}", server.said());
        }
    });
}

// B3, B4: no ticket is sent, a ticket from elsewhere is worth nothing, early data is not taken, and nothing older
// than TLS 1.3 is spoken.
#[test]
#[ignore = "needs root or user namespaces, nft and openssl: tests/run"]
fn resumption_early_data_and_old_versions_are_refused() {
    alone(|mesh| {
        let called = called(mesh);
        let Called {
            outside,
            at,
            came,
            sidecar,
            web,
            ..
        } = &called;
        let ticket = mesh.folder().join("ticket");
        let path = ticket.to_str().unwrap();

        let first = said(&client(outside, *at, web, &["-sess_out", path]));
        assert!(
            first.contains("welcome") && first.contains("New, TLSv1.3"),
            "{first}"
        );
        assert!(
            !first.contains("New Session Ticket arrived") && !ticket.exists(),
            "{first}"
        );

        // A server of the test's own gives one that would allow early data.
        let mut generous = outside.command("sh");
        generous.args([
            "-c",
            "tail -f /dev/null | openssl s_server \"$@\"",
            "sh",
            "-accept",
            "7000",
            "-quiet",
        ]);
        generous
            .args(["-early_data", "-max_early_data", "16384", "-cert"])
            .arg(&web.chain)
            .arg("-key")
            .arg(&web.key);
        let _generous = outside.start("generous", &mut generous);
        listens(outside, 7000);
        let mut taking = outside.command("openssl");
        taking.args([
            "s_client",
            "-connect",
            &format!("{}:7000", outside.v4()),
            "-noservername",
            "-ign_eof",
        ]);
        let taking = outside.start(
            "taking",
            taking
                .args(["-CAfile"])
                .arg(&web.bundle)
                .args(["-sess_out", path]),
        );
        until("OpenSSL's own server gives a ticket", || {
            ticket.exists().then_some(())
        });
        drop(taking);

        let again = said(&client(outside, *at, web, &["-sess_in", path]));
        assert!(
            again.contains("welcome") && again.contains("New, TLSv1.3") && !again.contains("Reused"),
            "{again}"
        );

        let early = mesh.folder().join("early");
        fs::write(&early, "too early\n").unwrap();
        let early = said(&client(
            outside,
            *at,
            web,
            &["-sess_in", path, "-early_data", early.to_str().unwrap()],
        ));
        assert!(early.contains("Early data was rejected"), "{early}");
        let let_in = came.load(Ordering::Relaxed);

        for version in ["-tls1_2", "-tls1_1", "-tls1"] {
            let cipher = ["-cipher", "ALL:@SECLEVEL=0"];
            let old = said(&client(outside, *at, web, &[&[version], &cipher[..]].concat()));
            assert!(!old.contains("welcome"), "{old}");
        }
        sidecar.counts(
            &[
                "ferrule_connections_total",
                "inbound",
                "reason=\"handshake_failed\"",
            ],
            3.0,
        );
        assert_eq!(came.load(Ordering::Relaxed), let_in);
        // What came early reached nobody: the application heard nothing at all.
        let lines = sidecar.lines();
        let in_bytes = lines.iter().filter_map(|line| line["bytes_in"].as_u64());
        assert_eq!(in_bytes.sum::<u64>(), 0);
    });
}

/// Passes on what comes, after cutting the first record into records of one byte, and everything into single bytes.
fn slicer(outside: &Host, to: SocketAddr) -> SocketAddr {
    let at = SocketAddr::from((outside.v4(), 7100));
    let listener = outside.inside(|| TcpListener::bind(at).unwrap());
    let outside = outside.clone();
    thread::spawn(move || {
        outside.enter();
        let (mut near, _) = listener.accept().unwrap();
        let mut far = TcpStream::connect(to).unwrap();
        far.set_nodelay(true).unwrap();
        let (mut back_from, mut back_to) = (far.try_clone().unwrap(), near.try_clone().unwrap());
        thread::spawn(move || {
            // To the end, or until one of them is gone.
            let _ = io::copy(&mut back_from, &mut back_to);
            let _ = back_to.shutdown(std::net::Shutdown::Both);
        });
        let mut head = [0; 5];
        near.read_exact(&mut head).unwrap();
        let mut hello = vec![0; usize::from(u16::from_be_bytes([head[3], head[4]]))];
        near.read_exact(&mut hello).unwrap();
        for byte in hello {
            far.write_all(&[head[0], head[1], head[2], 0, 1, byte]).unwrap();
        }
        let mut byte = [0];
        while near.read(&mut byte).is_ok_and(|read| read == 1) && far.write_all(&byte).is_ok() {}
    });
    at
}

// B6: a hello in pieces is still a hello.
#[test]
#[ignore = "needs root or user namespaces, nft and openssl: tests/run"]
fn a_hello_in_records_of_one_byte_is_understood() {
    alone(|mesh| {
        let called = called(mesh);
        let Called {
            outside,
            at,
            sidecar,
            web,
            ..
        } = &called;
        let heard = said(&client(outside, slicer(outside, *at), web, &[]));
        assert!(heard.contains("welcome"), "{heard}");
        sidecar.counts(
            &["ferrule_connections_total", "tls=\"mutual\"", "verdict=\"allow\""],
            1.0,
        );
    });
}

// D9: somebody else at the address of an allowed caller is somebody else.
#[test]
#[ignore = "needs root or user namespaces, nft and openssl: tests/run"]
fn an_address_grants_nothing() {
    alone(|mesh| {
        let (web, api) = (mesh.workload("web"), mesh.workload("api"));
        mesh.allow("web", "api", &[8080]);
        let at = SocketAddr::from((api.v4(), 8080));
        let came = greeter(&api, at);
        let sidecar = mesh.sidecar(&api);
        // Its sidecar never ran: what lives at the address of `web` now is a program with the certificate of `db`.
        let heard = said(&client(&web, at, &peer(mesh, "db", &id("db")), &[]));
        assert!(!heard.contains("welcome"), "{heard}");
        let line = sidecar.line(&[("event", "close"), ("reason", "denied")]);
        assert_eq!(line["src_id"], id("db").as_str());
        assert_eq!(came.load(Ordering::Relaxed), 0);
    });
}
