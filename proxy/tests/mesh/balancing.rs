//! Three replicas behind a service, one of which fails in turn, while clients go on calling.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use ferrule_daemon::stop::Ended;

use crate::sidecar::{LIMIT, Mesh, Sidecar, WEB, dial};

const REPLICAS: usize = 3;

/// Three replicas of `api` at loopback addresses of their own, and `web`, who calls them by their service.
struct Service {
    mesh: Mesh,
    places: Vec<SocketAddr>,
    apps: Vec<SocketAddr>,
    replicas: Vec<Option<Sidecar>>,
    web: Sidecar,
}

/// An application that answers each request with its own number, for as long as the test runs.
fn app(number: usize) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            thread::spawn(move || {
                let mut stream = stream.unwrap();
                let mut request = [0; 4];
                let answer = [u8::try_from(number).unwrap()];
                while stream.read_exact(&mut request).is_ok() && stream.write_all(&answer).is_ok() {}
            });
        }
    });
    address
}

/// The same port, free at all three addresses.
fn places() -> Vec<SocketAddr> {
    // Addresses that no other test uses: the process tells them apart.
    let own = std::process::id();
    loop {
        let port = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let ip = |number: usize| {
            let [_, _, high, low] = own.to_be_bytes();
            [127, 10 + u8::try_from(number).unwrap(), high, low]
        };
        let places: Vec<SocketAddr> = (0..REPLICAS).map(|number| (ip(number), port).into()).collect();
        if places.iter().all(|place| TcpListener::bind(place).is_ok()) {
            return places;
        }
    }
}

impl Service {
    fn start() -> Self {
        let mesh = Mesh::new();
        let (places, apps) = (places(), (0..REPLICAS).map(app).collect::<Vec<_>>());
        let mut text = String::new();
        for (number, place) in places.iter().enumerate() {
            text += &format!(
                "apiVersion: ferrule.dev/v1alpha1\nkind: Workload\n\
                 metadata: {{ namespace: shop, name: api-{number}, labels: {{ app: api }} }}\n\
                 spec: {{ serviceAccount: api, addresses: [{}] }}\n---\n",
                place.ip()
            );
        }
        text += &format!(
            "apiVersion: ferrule.dev/v1alpha1\nkind: Service\nmetadata: {{ namespace: shop, name: api }}\n\
             spec: {{ ports: [{{ port: 80, targetPort: {} }}], workloads: {{ labels: {{ app: api }} }} }}\n---\n\
             apiVersion: ferrule.dev/v1alpha1\nkind: AccessPolicy\nmetadata: {{ namespace: shop, name: api }}\n\
             spec: {{ workloads: all, action: allow, rules: [{{ from: [{{ identities: [{WEB}] }}] }}] }}\n",
            places[0].port()
        );
        fs::write(mesh.rules().join("service.yaml"), text).unwrap();
        let ways = "upstreams: [{ listen: \"127.0.0.1:0\", service: \"api.shop:80\" }]";
        let web = Sidecar::start(&mesh.settings("web", &mesh.web, ways, "balance: { slow_start: 1s }"));
        let mut service = Self {
            mesh,
            places,
            apps,
            replicas: Vec::new(),
            web,
        };
        for number in 0..REPLICAS {
            let replica = service.replica(number);
            service.replicas.push(Some(replica));
        }
        service
    }

    /// The sidecar of one replica.
    fn replica(&self, number: usize) -> Sidecar {
        let (listen, to) = (self.places[number], self.apps[number]);
        let ways = format!("serves: [{{ listen: \"{listen}\", to: \"{to}\" }}]");
        let settings = self.mesh.settings(
            "api",
            &self.mesh.api,
            &ways,
            "drain: { leave: 0s, deadline: 20s }",
        );
        Sidecar::start(&settings)
    }
}

/// One call on a connection of its own: who answered, and how long it took.
fn call(to: SocketAddr) -> std::io::Result<(usize, Duration)> {
    let began = Instant::now();
    let mut stream = TcpStream::connect(to)?;
    stream.set_read_timeout(Some(LIMIT))?;
    stream.write_all(b"call")?;
    let mut answer = [0];
    stream.read_exact(&mut answer)?;
    stream.shutdown(Shutdown::Write)?;
    Ok((usize::from(answer[0]), began.elapsed()))
}

/// Clients that call all the time.
struct Load {
    stop: Arc<AtomicBool>,
    answered: Arc<[AtomicUsize; REPLICAS]>,
    failed: Arc<Mutex<Vec<String>>>,
    slowest: Arc<Mutex<Duration>>,
    clients: Vec<JoinHandle<()>>,
}

impl Load {
    fn start(to: SocketAddr) -> Self {
        let mut load = Self {
            stop: Arc::default(),
            answered: Arc::default(),
            failed: Arc::default(),
            slowest: Arc::default(),
            clients: Vec::new(),
        };
        for _ in 0..4 {
            let (stop, answered) = (Arc::clone(&load.stop), Arc::clone(&load.answered));
            let (failed, slowest) = (Arc::clone(&load.failed), Arc::clone(&load.slowest));
            load.clients.push(thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    // Leaves the machine to the other tests, too.
                    thread::sleep(Duration::from_millis(4));
                    match call(to) {
                        Ok((number, took)) => {
                            answered[number].fetch_add(1, Ordering::Relaxed);
                            let mut slowest = slowest.lock().unwrap();
                            *slowest = took.max(*slowest);
                        }
                        Err(error) => failed.lock().unwrap().push(error.to_string()),
                    }
                }
            }));
        }
        load
    }

    fn counts(&self) -> [usize; REPLICAS] {
        std::array::from_fn(|number| self.answered[number].load(Ordering::Relaxed))
    }

    /// Waits until replica `number` answers again, and returns how long that took.
    fn until_back(&self, number: usize) -> Duration {
        let (began, before) = (Instant::now(), self.counts()[number]);
        while self.counts()[number] < before + 5 {
            assert!(
                began.elapsed() < LIMIT,
                "replica {number} comes back: {:?}",
                self.counts()
            );
            thread::sleep(Duration::from_millis(10));
        }
        began.elapsed()
    }

    /// Waits until the other replicas have answered so many calls.
    fn until_others_answered(&self, number: usize, calls: usize) {
        let others = || -> usize {
            self.counts()
                .iter()
                .enumerate()
                .filter(|(n, _)| *n != number)
                .map(|(_, c)| c)
                .sum()
        };
        let (began, before) = (Instant::now(), others());
        while others() < before + calls {
            assert!(began.elapsed() < LIMIT, "the others go on: {:?}", self.counts());
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Stops; the failures, and the slowest answer.
    fn end(self) -> (Vec<String>, Duration) {
        self.stop.store(true, Ordering::Relaxed);
        for client in self.clients {
            client.join().unwrap();
        }
        (self.failed.lock().unwrap().clone(), *self.slowest.lock().unwrap())
    }
}

#[test]
fn a_thousand_connections_are_spread_within_a_tenth() {
    let service = Service::start();
    let mut answered = [0; REPLICAS];
    for _ in 0..1000 {
        answered[call(service.web.door(0)).unwrap().0] += 1;
    }
    let share = 1000 / REPLICAS;
    let is_fair = |count: &usize| count.abs_diff(share) <= share / 10;
    assert!(answered.iter().all(is_fair), "{answered:?}");
    let open: Vec<TcpStream> = (0..300).map(|_| dial(service.web.door(0))).collect();
    let mut answered = [0; REPLICAS];
    for mut stream in open {
        stream.write_all(b"call").unwrap();
        let mut answer = [0];
        stream.read_exact(&mut answer).unwrap();
        answered[usize::from(answer[0])] += 1;
    }
    assert!(
        answered.iter().all(|count: &usize| count.abs_diff(100) <= 10),
        "{answered:?}"
    );
}

/// Lets replica 1 fail while `stand_in` is where it was, and come back; returns the slowest answer. No call fails.
fn fails_and_heals(
    stand_in: impl FnOnce(TcpListener) -> Option<JoinHandle<()>>,
    stop: &AtomicBool,
) -> Duration {
    let mut service = Service::start();
    let load = Load::start(service.web.door(0));
    load.until_back(1);
    // Calls that a replica has begun are finished there: nobody could say them twice.
    let replica = service.replicas[1].take().unwrap();
    replica.ask_to_stop();
    assert!(matches!(replica.ended(), Ended::Clean));
    let helper = match TcpListener::bind(service.places[1]) {
        Ok(listener) => stand_in(listener),
        Err(error) => panic!("{error}"),
    };
    service.web.counts(&["endpoint_failures_total"]);
    load.until_others_answered(1, 400);
    stop.store(true, Ordering::Relaxed);
    if let Some(helper) = helper {
        // Wakes it from its wait for a connection.
        let _ = TcpStream::connect(service.places[1]);
        helper.join().unwrap();
    }
    service.replicas[1] = Some(service.replica(1));
    let back = load.until_back(1);
    assert!(back < Duration::from_secs(10), "{back:?}");
    let (failed, slowest) = load.end();
    assert_eq!(failed, [""; 0]);
    slowest
}

#[test]
fn no_call_fails_while_a_replica_is_dead() {
    fails_and_heals(
        |listener| {
            drop(listener);
            None
        },
        &AtomicBool::new(false),
    );
}

#[test]
fn no_call_fails_while_a_replica_refuses_handshakes() {
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = Arc::clone(&stop);
    let refuse = |listener: TcpListener| {
        Some(thread::spawn(move || {
            for stream in listener.incoming() {
                if stopped.load(Ordering::Relaxed) {
                    return;
                }
                // A fatal alert: handshake_failure (RFC 8446 §6.2).
                let _ = stream.unwrap().write_all(&[21, 3, 3, 0, 2, 2, 40]);
            }
        }))
    };
    fails_and_heals(refuse, &stop);
}

// What a hanging endpoint costs a client: the time of one attempt, and what the machine adds to it.
#[test]
fn no_call_fails_while_a_replica_hangs_and_none_waits_for_long() {
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = Arc::clone(&stop);
    let hang = |listener: TcpListener| {
        Some(thread::spawn(move || {
            let mut held = Vec::new();
            for stream in listener.incoming() {
                if stopped.load(Ordering::Relaxed) {
                    return;
                }
                held.push(stream.unwrap());
            }
        }))
    };
    let slowest = fails_and_heals(hang, &stop);
    assert!(
        slowest >= Duration::from_secs(1),
        "somebody met the one that hangs: {slowest:?}"
    );
    assert!(slowest < Duration::from_secs(4), "{slowest:?}");
}
