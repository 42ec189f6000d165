//! Does the same things to connections through two sidecars and to plain ones, and compares what the other end sees.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use crate::sidecar::{API, LIMIT, Mesh, dial};

/// Which end does something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Client,
    Server,
}

/// What an end does; the other one looks what comes of it before anything else is done.
#[derive(Debug, Clone, Copy)]
enum Step {
    Says(End, usize),
    Finishes(End),
    Resets(End),
}

/// A few numbers in no order, the same for the same seed.
struct Dice(u64);

impl Dice {
    fn below(&mut self, most: usize) -> usize {
        // Knuth's constants for a linear congruential generator.
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % most
    }

    fn script(&mut self) -> Vec<Step> {
        let mut steps = Vec::new();
        let (mut client, mut server) = (true, true);
        for _ in 0..=self.below(8) {
            let end = [End::Client, End::Server][self.below(2)];
            let is_any_open = client || server;
            let is_open = match end {
                End::Client => &mut client,
                End::Server => &mut server,
            };
            match self.below(10) {
                0 | 1 if *is_open => {
                    *is_open = false;
                    steps.push(Step::Finishes(end));
                }
                // An end that has said its last word has nobody left to reset, once the other has, too.
                2 if is_any_open => {
                    steps.push(Step::Resets(end));
                    return steps;
                }
                _ if *is_open => {
                    let size = [1, 10, 1_000, 16_380, 16_384, 70_000, 300_000][self.below(7)];
                    steps.push(Step::Says(end, size));
                }
                _ => {}
            }
        }
        steps.extend(client.then_some(Step::Finishes(End::Client)));
        steps.extend(server.then_some(Step::Finishes(End::Server)));
        steps
    }
}

/// Carries a script out; what was seen at the other end after each step.
fn play(script: &[Step], seed: u64, client: TcpStream, server: TcpStream) -> Vec<String> {
    let (mut client, mut server) = (Some(client), Some(server));
    let mut seen = Vec::new();
    let mut ended = Vec::new();
    for (number, step) in script.iter().enumerate() {
        let (Step::Says(end, _) | Step::Finishes(end) | Step::Resets(end)) = *step;
        let (own, other) = match end {
            End::Client => (&mut client, &mut server),
            End::Server => (&mut server, &mut client),
        };
        let socket = own.as_mut().unwrap();
        let other = other.as_mut().unwrap();
        seen.push(match step {
            Step::Says(_, size) => {
                let mark = u8::try_from((seed + u64::try_from(number).unwrap()) % 251).unwrap();
                let said = vec![mark; *size];
                let mut heard = vec![0; *size];
                let read = thread::scope(|scope| {
                    let reading = scope.spawn(|| other.read_exact(&mut heard));
                    socket.write_all(&said).unwrap();
                    reading.join().unwrap()
                });
                format!("{:?} {}", read.map_err(|error| error.kind()), heard == said)
            }
            Step::Finishes(_) => {
                socket.shutdown(Shutdown::Write).unwrap();
                ended.push(end);
                format!("{:?}", other.read(&mut [0]).map_err(|error| error.kind()))
            }
            Step::Resets(_) => {
                let linger = Some(Duration::ZERO);
                socket2::SockRef::from(&*socket).set_linger(linger).unwrap();
                drop(own.take());
                match ended.contains(&end) {
                    false => format!("{:?}", other.read(&mut [0]).map_err(|error| error.kind())),
                    // Whoever has read an end learns of a reset when it writes.
                    true if ended.len() < 2 => broken_pipe(other),
                    true => String::new(),
                }
            }
        });
    }
    seen
}

fn broken_pipe(socket: &mut TcpStream) -> String {
    let end = Instant::now() + LIMIT;
    while socket.write_all(b"?").is_ok() {
        assert!(Instant::now() < end, "a reset is noticed");
        thread::sleep(Duration::from_millis(1));
    }
    "broken".to_owned()
}

#[test]
fn nobody_can_tell_the_way_through_sidecars_from_a_plain_connection() {
    let mesh = Mesh::new();
    mesh.allow();
    let api = mesh.api_sidecar("");
    let web = mesh.web_sidecar(api.door(0), API, "");
    let plain = TcpListener::bind("127.0.0.1:0").unwrap();
    // One connection is made at a time, so that both ends of it are known; all lanes go on beside each other.
    let making = Mutex::new(());
    thread::scope(|scope| {
        for lane in 0..6_u64 {
            let (mesh, web, plain, making) = (&mesh, &web, &plain, &making);
            scope.spawn(move || {
                for round in 0..40 {
                    let seed = lane * 1_000 + round;
                    let script = Dice(seed).script();
                    let (direct, carried) = {
                        let _making = making.lock().unwrap();
                        let client = dial(plain.local_addr().unwrap());
                        let (server, _) = plain.accept().unwrap();
                        server.set_read_timeout(Some(LIMIT)).unwrap();
                        let direct = (client, server);
                        (direct, (dial(web.door(0)), mesh.accept()))
                    };
                    let expected = play(&script, seed, direct.0, direct.1);
                    let seen = play(&script, seed, carried.0, carried.1);
                    assert_eq!(seen, expected, "seed {seed}: {script:?}");
                }
            });
        }
    });
    let reused = web.counts(&["connections_reused_total", "outbound"]);
    assert!(reused >= 50.0, "{reused} of 240 went over one that was there");
}
