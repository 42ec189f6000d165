//! Clients that do not behave: the others are not hurt, memory stays bounded, nobody has to come and help.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use ferrule_tests::netns::{Host, Mesh, Sidecar, alone};
use ferrule_tests::wait::{LIMIT, until};
use rustix::process::{Resource, getrlimit, setrlimit};

/// Answers each question of four bytes with the same, until its client is done.
fn echo(host: &Host, at: SocketAddr) {
    let listener = host.inside(|| TcpListener::bind(at).unwrap());
    thread::spawn(move || {
        for peer in listener.incoming() {
            let mut peer = peer.unwrap();
            thread::spawn(move || {
                let mut word = [0; 4];
                while peer.read_exact(&mut word).is_ok() && peer.write_all(&word).is_ok() {}
            });
        }
    });
}

/// Web, an API that echoes and that it may call, each behind its sidecar, and somebody outside of the mesh.
struct Pair {
    web: Host,
    outside: Host,
    at: SocketAddr,
    _out: Sidecar,
    into: Sidecar,
}

/// `more` is for the settings of the API's sidecar.
fn pair(mesh: &mut Mesh, address: impl Fn(&Host) -> IpAddr, more: &str) -> Pair {
    let (web, api) = (mesh.workload("web"), mesh.workload("api"));
    let outside = mesh.stranger("outside");
    let at = SocketAddr::new(address(&api), 8080);
    mesh.allow("web", "api", &[8080]);
    echo(&api, at);
    Pair {
        _out: mesh.sidecar(&web),
        into: mesh.sidecar_with(&api, more),
        web,
        outside,
        at,
    }
}

fn dial(host: &Host, to: SocketAddr) -> TcpStream {
    let peer = host.inside(|| TcpStream::connect_timeout(&to, LIMIT).unwrap());
    peer.set_read_timeout(Some(LIMIT)).unwrap();
    peer
}

/// Asks one question, and checks the answer.
fn ask(peer: &mut TcpStream) {
    peer.write_all(b"what").unwrap();
    let mut answer = [0; 4];
    peer.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"what");
}

/// The memory that a process has in use, in bytes.
fn memory(sidecar: &mut Sidecar) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", sidecar.process().id())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}

/// Lets this process have as many files open as it may: an ordinary user begins with fewer than the crowd has members.
fn open_many() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).unwrap();
}

/// The beginning of a record of 512 bytes with a ClientHello in it.
const HALF_HELLO: [u8; 16] = [22, 3, 1, 2, 0, 1, 0, 1, 252, 3, 3, 1, 2, 3, 4, 5];

// B5, E8: two thousand handshakes that do not go on, one of them a byte a second.
#[test]
#[ignore = "needs root or user namespaces, and nft: tests/run"]
fn two_thousand_half_open_handshakes_hurt_nobody() {
    alone(|mesh| {
        open_many();
        let mut pair = pair(mesh, |api| api.v4().into(), "");
        let Pair {
            web,
            outside,
            at,
            into,
            ..
        } = &mut pair;
        let mut old = dial(web, *at);
        ask(&mut old);
        let before = memory(into);

        let mut crowd: Vec<TcpStream> = (0..CROWD).map(|_| dial(outside, *at)).collect();
        for peer in &mut crowd[CROWD / 2..] {
            peer.write_all(&HALF_HELLO).unwrap();
        }
        let mut slow = dial(outside, *at);
        let slow = thread::spawn(move || {
            // Until it is thrown out.
            for byte in HALF_HELLO.iter().cycle() {
                if slow.write_all(&[*byte]).is_err() {
                    return;
                }
                thread::sleep(Duration::from_secs(1));
            }
        });
        until("all are in", || {
            let sockets = fs::read_dir(format!("/proc/{}/fd", into.process().id()))
                .unwrap()
                .count();
            (sockets > CROWD).then_some(())
        });
        let during = memory(into);
        for _ in 0..20 {
            ask(&mut dial(web, *at));
        }
        ask(&mut old);
        let each = during.saturating_sub(before) / CROWD as u64;
        println!("figure: {each} bytes for each half-open handshake");
        assert!(each <= 20 * 1024, "{each} bytes each");

        for mut peer in crowd {
            // An end or a reset, but no byte.
            let mut said = Vec::new();
            let _ = peer.read_to_end(&mut said);
            assert!(said.is_empty());
        }
        slow.join().unwrap();
        into.counts(
            &["ferrule_connections_total", "reason=\"handshake_timeout\""],
            (CROWD + 1) as f64,
        );
        ask(&mut old);
        ask(&mut dial(web, *at));
    });
}

#[test]
#[ignore = "needs root or user namespaces, and nft: tests/run"]
fn garbage_is_refused_each_by_its_reason() {
    alone(|mesh| {
        let pair = pair(mesh, |api| api.v6().into(), "");
        let Pair {
            web,
            outside,
            at,
            into,
            ..
        } = &pair;
        let mut old = dial(web, *at);
        let garbage: [(&[u8], &str); 4] = [
            (b"GET / HTTP/1.1\r\n\r\n", "plaintext"),
            (&[0; 4096], "plaintext"),
            // A record of nonsense, and one that is longer than any may be.
            (&[22, 3, 1, 0, 8, 9, 9, 9, 9, 9, 9, 9, 9], "handshake_failed"),
            (&[22, 3, 1, 255, 255, 1, 0, 255, 0, 3, 3], "handshake_failed"),
        ];
        for (bytes, reason) in garbage {
            let before = into.count(&["ferrule_connections_total", &format!("reason=\"{reason}\"")]);
            for _ in 0..25 {
                let mut peer = dial(outside, *at);
                // It may be reset before all is sent.
                let _ = peer.write_all(bytes);
                let mut said = Vec::new();
                let _ = peer.read_to_end(&mut said);
                // An alert at most, in clear: nothing of the application's.
                assert!(said.is_empty() || said[0] == 21, "{said:?}");
            }
            into.counts(
                &["ferrule_connections_total", &format!("reason=\"{reason}\"")],
                before + 25.0,
            );
            ask(&mut old);
        }
        ask(&mut dial(web, *at));
    });
}

// E7: the sidecar has no descriptors left: what is open goes on, one line a second at most, and it recovers.
#[test]
#[ignore = "needs root or user namespaces, nft and prlimit: tests/run"]
fn a_shortage_of_descriptors_hurts_no_open_connection() {
    alone(|mesh| {
        let mut pair = pair(mesh, |api| api.v4().into(), "limits: { handshake_time: 60s }\n");
        let Pair {
            web,
            outside,
            at,
            into,
            ..
        } = &mut pair;
        let mut old = dial(web, *at);
        ask(&mut old);
        into.spare_descriptors(20);
        let crowd: Vec<TcpStream> = (0..100).map(|_| dial(outside, *at)).collect();
        into.line(&[("message", "cannot accept a connection, pausing")]);
        for _ in 0..100 {
            ask(&mut old);
        }
        drop(crowd);
        ask(&mut dial(web, *at));
        let times: Vec<String> = into
            .lines()
            .iter()
            .filter(|line| line["message"] == "cannot accept a connection, pausing")
            .map(|line| line["time"].to_string())
            .collect();
        // Two accept loops, each at most once in a second.
        let mut seconds: Vec<&str> = times.iter().filter_map(|time| time.split('.').next()).collect();
        let count = seconds.len();
        seconds.dedup();
        assert!(count <= 4 * seconds.len(), "{times:?}");
    });
}

const CROWD: usize = 2000;
