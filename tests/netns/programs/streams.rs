//! Streams: long ones, many short ones, one that ends one side at a time.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::thread;
use std::time::Instant;

use aws_lc_rs::digest::{Context, SHA256};
use ferrule_tests::netns::alone;
use ferrule_tests::wait::{LIMIT, until};

// C8: half-close. `nc -N` ends its sending side when it has sent all, and goes on reading; the server answers only
// once it has seen that end.
#[test]
#[ignore = "needs root or user namespaces, nft and nc: tests/run"]
fn a_half_closed_connection_goes_on_the_other_way() {
    alone(|mesh| {
        let (web, api) = (mesh.workload("web"), mesh.workload("api"));
        mesh.allow("web", "api", &[7000]);
        let (out, into) = (mesh.sidecar(&web), mesh.sidecar(&api));
        let question = web.folder().join("question");
        fs::write(&question, "who is there").unwrap();
        for address in api.addresses() {
            let listener = api.inside(|| TcpListener::bind((address, 7000)).unwrap());
            let server = thread::spawn(move || {
                let (mut peer, _) = listener.accept().unwrap();
                let mut asked = String::new();
                peer.read_to_string(&mut asked).unwrap();
                write!(peer, "you said: {asked}").unwrap();
            });
            let mut client = web.app("nc.openbsd");
            client.args(["-N", &address.to_string(), "7000"]);
            let said = client.stdin(File::open(&question).unwrap()).output().unwrap();
            assert_eq!(String::from_utf8_lossy(&said.stdout), "you said: who is there");
            server.join().unwrap();
        }
        for sidecar in [&out, &into] {
            sidecar.counts(&["ferrule_connections_total", "reason=\"finished\""], 2.0);
        }
    });
}

/// Sends `size` bytes that never repeat, then ends the sending side; their hash.
fn pour(mut to: TcpStream, size: u64, seed: u64) -> Vec<u8> {
    let mut hash = Context::new(&SHA256);
    let mut block: Vec<u8> = (0..BLOCK)
        .map(|at| at.wrapping_mul(2_654_435_761).to_le_bytes()[3])
        .collect();
    for number in 0..size / u64::from(BLOCK) {
        // Each block differs from all others, so that one that is lost, doubled or out of its place is seen.
        block[..8].copy_from_slice(&(number ^ seed).to_le_bytes());
        hash.update(&block);
        to.write_all(&block).unwrap();
    }
    to.shutdown(Shutdown::Write).unwrap();
    hash.finish().as_ref().to_vec()
}

/// Reads to the end; how many bytes, and their hash.
fn drain(mut from: TcpStream) -> (u64, Vec<u8>) {
    let (mut hash, mut size) = (Context::new(&SHA256), 0);
    let mut block = vec![0; BLOCK as usize];
    loop {
        let read = from.read(&mut block).unwrap();
        if read == 0 {
            return (size, hash.finish().as_ref().to_vec());
        }
        hash.update(&block[..read]);
        size += read as u64;
    }
}

// C8: the same bytes, in the same order, all of them, both ways at once.
#[test]
#[ignore = "needs root or user namespaces, and nft: tests/run"]
fn four_gibibytes_each_way_arrive_as_they_were_sent() {
    alone(|mesh| {
        let (web, api) = (mesh.workload("web"), mesh.workload("api"));
        mesh.allow("web", "api", &[7000]);
        let (out, into) = (mesh.sidecar(&web), mesh.sidecar(&api));
        let listener = api.inside(|| TcpListener::bind((api.v6(), 7000)).unwrap());
        let client = web.inside(|| TcpStream::connect((api.v6(), 7000)).unwrap());
        let (server, _) = listener.accept().unwrap();
        for stream in [&client, &server] {
            stream.set_read_timeout(Some(LIMIT)).unwrap();
            stream.set_write_timeout(Some(LIMIT)).unwrap();
        }
        let began = Instant::now();
        let (to_server, to_client) = (client.try_clone().unwrap(), server.try_clone().unwrap());
        let sending = [
            thread::spawn(move || pour(to_server, STREAM, 0)),
            thread::spawn(move || pour(to_client, STREAM, 1 << 40)),
        ];
        let receiving = [
            thread::spawn(move || drain(server)),
            thread::spawn(move || drain(client)),
        ];
        for (sent, received) in sending.into_iter().zip(receiving) {
            assert_eq!(received.join().unwrap(), (STREAM, sent.join().unwrap()));
        }
        println!("figure: {STREAM} bytes each way took {:?}", began.elapsed());
        for sidecar in [&out, &into] {
            let line = sidecar.line(&[("event", "close"), ("reason", "finished"), ("dst_port", "7000")]);
            assert_eq!(
                (line["bytes_in"].as_u64(), line["bytes_out"].as_u64()),
                (Some(STREAM), Some(STREAM))
            );
        }
    });
}

const BLOCK: u32 = 1 << 20;
const STREAM: u64 = 4 << 30;

// E8: what was opened is closed, and nothing piles up.
#[test]
#[ignore = "needs root or user namespaces, and nft: tests/run"]
fn ten_thousand_short_connections_are_all_answered() {
    alone(|mesh| {
        let (web, api) = (mesh.workload("web"), mesh.workload("api"));
        mesh.allow("web", "api", &[7000]);
        let (out, into) = (mesh.sidecar(&web), mesh.sidecar(&api));
        let to = (api.v4(), 7000);
        let listener = api.inside(|| TcpListener::bind(to).unwrap());
        let _echo = thread::spawn(move || {
            for peer in listener.incoming() {
                let mut peer = peer.unwrap();
                let mut asked = [0; 8];
                peer.read_exact(&mut asked).unwrap();
                peer.write_all(&asked).unwrap();
            }
        });
        let began = Instant::now();
        let callers: Vec<_> = (0..CALLERS)
            .map(|caller| {
                let web = web.clone();
                thread::spawn(move || {
                    web.enter();
                    for number in 0..SHORT / CALLERS {
                        let mut peer = TcpStream::connect(to).unwrap();
                        peer.set_read_timeout(Some(LIMIT)).unwrap();
                        let question = (caller << 32 | number).to_be_bytes();
                        peer.write_all(&question).unwrap();
                        let mut answer = Vec::new();
                        peer.read_to_end(&mut answer).unwrap();
                        assert_eq!(answer, question);
                    }
                })
            })
            .collect();
        for caller in callers {
            caller.join().unwrap();
        }
        println!("figure: {SHORT} short connections took {:?}", began.elapsed());
        for sidecar in [&out, &into] {
            let finished = [
                "ferrule_connections_total",
                "tls=\"mutual\"",
                "reason=\"finished\"",
            ];
            assert_eq!(sidecar.counts(&finished, SHORT as f64), SHORT as f64);
            until("nothing is open", || {
                (sidecar.count(&["ferrule_connections_open"]) == 0.0).then_some(())
            });
        }
    });
}

const SHORT: u64 = 10_000;
const CALLERS: u64 = 10;
