//! Destinations that are nobody's, the workload's own, or the sidecar's.

use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use ferrule_tests::netns::{Host, Sidecar, alone};
use ferrule_tests::wait::LIMIT;

/// The ports of every sidecar that are not to be reached through it.
const OWN_PORTS: [u16; 4] = [15_001, 15_006, 15_002, 15_020];

/// Answers everybody with one word.
fn serve(host: &Host, at: impl Into<SocketAddr>) {
    let at = at.into();
    let listener = host.inside(|| TcpListener::bind(at).unwrap());
    thread::spawn(move || {
        for peer in listener.incoming() {
            let mut peer = peer.unwrap();
            // Read first: an end with something unread is a reset. Whoever is gone needs no answer.
            let _ = peer.read(&mut [0; 64]);
            let _ = peer.write_all(b"welcome");
        }
    });
}

/// What somebody on `host` gets to hear at `to`, who sends a word first.
fn hear(host: &Host, to: SocketAddr) -> io::Result<String> {
    host.inside(|| {
        let mut peer = TcpStream::connect_timeout(&to, LIMIT)?;
        peer.set_read_timeout(Some(LIMIT))?;
        peer.write_all(b"hello\r\n\r\n")?;
        let mut said = String::new();
        peer.read_to_string(&mut said)?;
        Ok(said)
    })
}

/// What the debug socket answers, and no port does.
const CLOSED: [(&str, &str); 8] = [
    ("POST", "/drain"),
    ("POST", "/quit"),
    ("POST", "/loglevel"),
    ("PUT", "/loglevel"),
    ("GET", "/config"),
    ("GET", "/connections"),
    ("GET", "/certificates"),
    ("GET", "/tap"),
];

/// What the admin port at `to` answers.
fn request(to: SocketAddr, method: &str, path: &str) -> String {
    let mut peer = TcpStream::connect_timeout(&to, LIMIT).unwrap();
    peer.set_read_timeout(Some(LIMIT)).unwrap();
    let text =
        format!("{method} {path} HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
    peer.write_all(text.as_bytes()).unwrap();
    let mut answer = String::new();
    peer.read_to_string(&mut answer).unwrap();
    answer
}

/// Asserts that nothing is to be had there: refused, or reset before a byte.
fn refused(host: &Host, to: SocketAddr) {
    let heard = hear(host, to);
    assert!(
        heard.as_ref().is_ok_and(String::is_empty) || heard.is_err(),
        "{to}: {heard:?}"
    );
    if let Err(error) = heard {
        let kinds = [
            io::ErrorKind::ConnectionRefused,
            io::ErrorKind::ConnectionReset,
            io::ErrorKind::BrokenPipe,
        ];
        assert!(kinds.contains(&error.kind()), "{to}: {error}");
    }
}

/// Asserts that the sidecar has nothing left open: nothing leads around in circles.
fn at_rest(sidecar: &Sidecar) {
    ferrule_tests::wait::until("nothing is open", || {
        (sidecar.count(&["ferrule_connections_open"]) == 0.0).then_some(())
    });
}

// DESIGN §8: a workload's own address is judged by its own inbound rules, dialled without TLS.
#[test]
#[ignore = "needs root or user namespaces, and nft: tests/run"]
fn a_workload_reaches_itself_by_its_own_rules() {
    alone(|mesh| {
        let web = mesh.workload("web");
        mesh.document(
            "service",
            "kind: Service\nmetadata: { namespace: shop, name: web }\nspec:\n  addresses: [10.78.0.1]\n  \
             ports: [{ port: 80, targetPort: 8080 }]\n  workloads: { labels: { app: web } }\n",
        );
        let sidecar = mesh.sidecar(&web);
        serve(&web, (Ipv4Addr::UNSPECIFIED, 8080));
        serve(&web, (Ipv6Addr::LOCALHOST, 8081));
        let own: [SocketAddr; 2] = [(web.v4(), 8080).into(), ([10, 78, 0, 1], 80).into()];
        for to in own {
            refused(&web, to);
            let line = sidecar.line(&[("event", "close"), ("tls", "local"), ("verdict", "deny")]);
            assert_eq!(line["dst_id"], "spiffe://shop.local/ns/shop/sa/web");
        }
        mesh.allow("web", "web", &[8080]);
        for to in own {
            ferrule_tests::wait::until("the rule is in force", || {
                (hear(&web, to).ok()? == "welcome").then_some(())
            });
        }
        sidecar.line(&[
            ("event", "close"),
            ("tls", "local"),
            ("verdict", "allow"),
            ("dst_port", "8080"),
        ]);
        // What listens on loopback alone is there for the workload, without the sidecar.
        assert_eq!(hear(&web, (Ipv6Addr::LOCALHOST, 8081).into()).unwrap(), "welcome");
        at_rest(&sidecar);
    });
}

// C1: from the workload itself, by loopback and by its own addresses; from another workload, though the rules allow
// it; from a stranger.
#[test]
#[ignore = "needs root or user namespaces, and nft: tests/run"]
fn the_ports_of_a_sidecar_lead_nowhere() {
    alone(|mesh| {
        let (web, api) = (mesh.workload("web"), mesh.workload("api"));
        let outside = mesh.stranger("outside");
        for from in ["web", "api"] {
            mesh.allow(from, "api", &[15_001, 15_002, 15_003, 15_006, 15_020]);
        }
        let (out, into) = (mesh.sidecar(&web), mesh.sidecar(&api));
        for own in api.addresses() {
            for port in OWN_PORTS {
                refused(&api, (own, port).into());
                refused(&web, (own, port).into());
            }
            refused(&api, (own, 15_003).into());
            for port in [15_001, 15_006, 15_002] {
                refused(&outside, (own, port).into());
            }
            // The probe comes from outside, and only so.
            let probed = hear(&outside, (own, 15_003).into()).unwrap();
            assert!(probed.starts_with("HTTP/1.1 200"), "{probed}");
        }
        let loopback: [IpAddr; 2] = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
        for port in [15_001, 15_006, 15_002, 15_003] {
            for loopback in loopback {
                refused(&api, (loopback, port).into());
            }
        }
        for sidecar in [&out, &into] {
            at_rest(sidecar);
        }
        // Each attempt once, at each sidecar that it came by: nothing went around.
        let seen = into.count(&["ferrule_connections_total"]);
        assert!((10.0..60.0).contains(&seen), "{seen}");
        into.line(&[
            ("event", "close"),
            ("reason", "unknown_destination"),
            ("direction", "outbound"),
        ]);
        into.line(&[
            ("event", "close"),
            ("reason", "unknown_destination"),
            ("direction", "inbound"),
        ]);
        // C10: nobody stops or turns it from here, or looks into it; the port answers the questions of everybody alone.
        let at_home = SocketAddr::from((Ipv4Addr::LOCALHOST, 15_020));
        for (from, to) in [(&api, at_home), (&outside, (api.v4(), 15_020).into())] {
            for (method, path) in CLOSED {
                let answer = from.inside(|| request(to, method, path));
                assert!(answer.starts_with("HTTP/1.1 4"), "{method} {path}: {answer}");
            }
        }
        into.ready();
    });
}

#[test]
#[ignore = "needs root or user namespaces, and nft: tests/run"]
fn an_address_that_nobody_knows_is_refused() {
    alone(|mesh| {
        let web = mesh.workload("web");
        let stranger = mesh.stranger("stranger");
        serve(&stranger, (Ipv4Addr::UNSPECIFIED, 8080));
        let sidecar = mesh.sidecar(&web);
        // Within the mesh's ranges, with somebody there and without.
        for to in [stranger.v4(), Ipv4Addr::new(10, 77, 0, 99)] {
            refused(&web, (to, 8080).into());
            let to = to.to_string();
            sidecar.line(&[
                ("event", "close"),
                ("reason", "unknown_destination"),
                ("dst_addr", &to),
            ]);
        }
        // Beyond them, where rules would have to allow it.
        refused(&web, ([203, 0, 113, 7], 443).into());
        sidecar.line(&[
            ("event", "close"),
            ("reason", "denied"),
            ("dst_addr", "203.0.113.7"),
        ]);
        assert_eq!(sidecar.count(&["plaintext_total"]), 0.0);
    });
}

// C2: a remote caller gains no loopback trust, whatever the rules allow.
#[test]
#[ignore = "needs root or user namespaces, and nft: tests/run"]
fn what_listens_on_loopback_stays_private() {
    alone(|mesh| {
        let (web, api) = (mesh.workload("web"), mesh.workload("api"));
        mesh.allow("web", "api", &[9100, 9101]);
        let (_out, into) = (mesh.sidecar(&web), mesh.sidecar(&api));
        serve(&api, (Ipv4Addr::LOCALHOST, 9100));
        serve(&api, (Ipv6Addr::LOCALHOST, 9101));
        serve(&api, (api.v4(), 9101));
        refused(&web, (api.v4(), 9100).into());
        refused(&web, (api.v6(), 9101).into());
        into.counts(
            &["ferrule_connections_total", "inbound", "reason=\"unreachable\""],
            2.0,
        );
        // The same port where it listens for others.
        assert_eq!(hear(&web, (api.v4(), 9101).into()).unwrap(), "welcome");
    });
}

// C4: an application that runs as the sidecar's user passes its own sidecar by; the other side still refuses it.
#[test]
#[ignore = "needs root or user namespaces, and nft: tests/run"]
fn who_passes_its_own_sidecar_by_is_refused_by_the_other() {
    alone(|mesh| {
        let (web, api) = (mesh.workload("web"), mesh.workload("api"));
        mesh.allow("web", "api", &[8080]);
        let (out, into) = (mesh.sidecar(&web), mesh.sidecar(&api));
        serve(&api, (api.v4(), 8080));
        assert_eq!(hear(&web, (api.v4(), 8080).into()).unwrap(), "welcome");
        out.step_aside();
        refused(&web, (api.v4(), 8080).into());
        into.line(&[("event", "close"), ("tls", "plaintext"), ("reason", "plaintext")]);
        into.counts(&["plaintext_total", "inbound", "refused"], 1.0);
    });
}

// C9: what is not TCP is not carried, and not caught: the documentation says so, and what to do.
#[test]
#[ignore = "needs root or user namespaces, and nft: tests/run"]
fn datagrams_pass_beside_the_sidecar() {
    alone(|mesh| {
        let (web, api) = (mesh.workload("web"), mesh.workload("api"));
        let (out, into) = (mesh.sidecar(&web), mesh.sidecar(&api));
        let there = api.inside(|| std::net::UdpSocket::bind((api.v4(), 5000)).unwrap());
        there.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        web.inside(|| {
            let here = std::net::UdpSocket::bind((web.v4(), 0)).unwrap();
            for _ in 0..7 {
                here.send_to(b"datagram", (api.v4(), 5000)).unwrap();
            }
            let here = std::net::UdpSocket::bind((web.v6(), 0)).unwrap();
            for _ in 0..3 {
                here.send_to(b"datagram", (api.v6(), 5000)).unwrap();
            }
        });
        let mut heard = [0; 16];
        assert_eq!(there.recv(&mut heard).unwrap(), 8);
        for sidecar in [&out, &into] {
            assert_eq!(sidecar.count(&["ferrule_connections_total"]), 0.0);
        }
        // They are seen, at the side that sends them.
        out.counts(&["ferrule_udp_datagrams_sent_total"], 10.0);
        assert_eq!(out.count(&["ferrule_udp_datagrams_sent_total"]), 10.0);
        assert_eq!(into.count(&["ferrule_udp_datagrams_sent_total"]), 0.0);
    });
}
