//! Clients that do not behave: the others are not hurt, memory stays bounded, nobody has to come and help.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use ferrule_tests::netns::alone;
use ferrule_tests::wait::until;
use rustix::process::{Resource, getrlimit, setrlimit};

use crate::egress::recorded_hello;
use crate::pair::{Pair, ask, dial, memory, pair, processor_time};

/// Lets this process have as many files open as it may: an ordinary user begins with fewer than the crowd has members.
pub(crate) fn open_many() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).unwrap();
}

/// The beginning of a record of 512 bytes with a ClientHello in it.
const HALF_HELLO: [u8; 16] = [22, 3, 1, 2, 0, 1, 0, 1, 252, 3, 3, 1, 2, 3, 4, 5];

/// After how long those are thrown out who do not go on with their handshakes.
const THROWN_OUT: Duration = Duration::from_secs(8);

// B5, E8: two thousand handshakes that do not go on, one of them a byte a second.
#[test]
#[ignore = "needs root or user namespaces, and nft: tests/run"]
fn two_thousand_half_open_handshakes_hurt_nobody() {
    alone(|mesh| {
        open_many();
        let limits = format!("limits: {{ handshake_time: {}s }}\n", THROWN_OUT.as_secs());
        let mut pair = pair(mesh, |api| api.v4().into(), &limits);
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
        let last = Instant::now();
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
        let slowest = (0..20).map(|_| {
            let began = Instant::now();
            ask(&mut dial(web, *at));
            began.elapsed()
        });
        let slowest = slowest.max().unwrap();
        println!("figure: the slowest of 20 others took {slowest:?}");
        // Nobody waits for one of the crowd to be thrown out: half of that, as the crowd began before.
        assert!(slowest < THROWN_OUT / 2, "{slowest:?}");
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
        let gone = last.elapsed();
        println!("figure: all were gone {gone:?} after the last had come");
        // And what a loaded machine adds.
        assert!(gone < THROWN_OUT + Duration::from_secs(10), "{gone:?}");
        slow.join().unwrap();
        into.counts(
            &["ferrule_connections_total", "reason=\"handshake_timeout\""],
            (CROWD + 1) as f64,
        );
        ask(&mut old);
        ask(&mut dial(web, *at));
        until("half of what they took is given back", || {
            let left = memory(into).saturating_sub(before);
            (left < during.saturating_sub(before) / 2).then_some(())
        });
    });
}

// B6: what ends within the handshake, in order or not, is over; nobody goes on working at it.
#[test]
#[ignore = "needs root or user namespaces, nft and openssl: tests/run"]
fn a_handshake_that_is_left_is_over_and_costs_nothing() {
    alone(|mesh| {
        let mut pair = pair(mesh, |api| api.v4().into(), "limits: { handshake_time: 2s }\n");
        let Pair {
            web,
            outside,
            at,
            into,
            ..
        } = &mut pair;
        ask(&mut dial(web, *at));
        let hello = recorded_hello("api.shop");
        // An alert: close_notify.
        let farewell = [21, 3, 3, 0, 2, 1, 0];
        let ways = [
            farewell.to_vec(),
            [&hello[..], &farewell].concat(),
            [&hello[..], &[21, 3, 3, 0]].concat(),
            hello[..hello.len() / 2].to_vec(),
        ];
        let refused = ["ferrule_connections_total", "inbound", "tls=\"none\""];
        let before = (processor_time(into), into.count(&refused));
        let mut left: Vec<TcpStream> = Vec::new();
        for way in ways.iter().cycle().take(100) {
            let mut peer = dial(outside, *at);
            peer.write_all(way).unwrap();
            left.push(peer);
        }
        for peer in &mut left {
            let mut said = Vec::new();
            let _ = peer.read_to_end(&mut said);
            // The server's half of a handshake at most.
            assert!(said.is_empty() || matches!(said[0], 21 | 22), "{said:?}");
        }
        let plaintext = ["ferrule_connections_total", "inbound", "reason=\"plaintext\""];
        until("all are over", || {
            let over = into.count(&refused) - before.1 + into.count(&plaintext);
            (over >= 100.0).then_some(())
        });
        let took = processor_time(into) - before.0;
        println!("figure: 100 handshakes that were left took {took:?} of the processor");
        assert!(took < Duration::from_secs(3), "{took:?}");
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
