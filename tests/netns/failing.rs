//! A service with three replicas, one of which is killed, hangs, or refuses handshakes while clients go on calling.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use ferrule_tests::netns::mesh::id;
use ferrule_tests::netns::{Host, Mesh, Sidecar, alone};
use ferrule_tests::pki::Authority;
use ferrule_tests::wait::{LIMIT, until};
use rustix::process::Signal;

use crate::replicas::{ask, serve};

const REPLICAS: usize = 3;
const CALLERS: usize = 8;
const SERVICE: ([u8; 4], u16) = ([10, 78, 0, 1], 80);
const HOUR: Duration = Duration::from_secs(3600);

/// `web`, and the replicas of `api` that it calls.
struct Service {
    web: Host,
    out: Sidecar,
    answered: Vec<Arc<AtomicU64>>,
    sidecars: Vec<Sidecar>,
    replicas: Vec<Host>,
}

impl Service {
    fn start(mesh: &mut Mesh) -> Self {
        let web = mesh.workload("web");
        let replicas: Vec<Host> = (1..=REPLICAS)
            .map(|number| mesh.replica("api", &format!("api-{number}")))
            .collect();
        mesh.allow("web", "api", &[8080]);
        mesh.document(
            "service",
            "kind: Service\nmetadata: { namespace: shop, name: api }\nspec:\n  addresses: [10.78.0.1]\n  \
             ports: [{ port: 80, targetPort: 8080 }]\n  workloads: { labels: { app: api } }\n",
        );
        Self {
            answered: replicas.iter().map(serve).collect(),
            sidecars: replicas.iter().map(|host| mesh.sidecar(host)).collect(),
            out: mesh.sidecar_with(&web, "balance: { slow_start: 1s }\n"),
            web,
            replicas,
        }
    }

    fn counts(&self) -> Vec<u64> {
        let counts = self.answered.iter();
        counts.map(|answered| answered.load(Ordering::Relaxed)).collect()
    }

    /// Waits until each replica that `is_meant` has answered so many more.
    fn more(&self, is_meant: impl Fn(usize) -> bool, count: u64) {
        let before = self.counts();
        until("more answers", || {
            let mut grown = self.counts().into_iter().zip(&before).enumerate();
            grown
                .all(|(at, (now, before))| !is_meant(at) || now >= before + count)
                .then_some(())
        });
    }
}

/// One call: when it began, how long it took, and what came of it.
#[derive(Debug)]
struct Call {
    began: Instant,
    took: Duration,
    failed: Option<String>,
}

/// Callers that call again as soon as they are answered.
struct Load {
    over: Arc<AtomicBool>,
    calls: Arc<Mutex<Vec<Call>>>,
    callers: Vec<JoinHandle<()>>,
}

impl Load {
    fn start(web: &Host) -> Self {
        let (over, calls) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Vec::new())));
        let callers = (0..CALLERS).map(|_| {
            let (web, over, calls) = (web.clone(), Arc::clone(&over), Arc::clone(&calls));
            thread::spawn(move || {
                web.enter();
                while !over.load(Ordering::Relaxed) {
                    let began = Instant::now();
                    let answer = ask(SERVICE.into());
                    let failed = match answer {
                        Ok(name) if name.starts_with("api-") => None,
                        other => Some(format!("{other:?}")),
                    };
                    let took = began.elapsed();
                    calls.lock().unwrap().push(Call { began, took, failed });
                }
            })
        });
        let callers = callers.collect();
        Self { over, calls, callers }
    }

    fn end(self) -> Vec<Call> {
        self.over.store(true, Ordering::Relaxed);
        for caller in self.callers {
            caller.join().unwrap();
        }
        std::mem::take(&mut self.calls.lock().unwrap())
    }
}

/// Of those calls, the failed ones.
fn failed<'c>(calls: impl IntoIterator<Item = &'c Call>) -> Vec<&'c Call> {
    calls.into_iter().filter(|call| call.failed.is_some()).collect()
}

/// Lets the first replica fail by `fail`, waits until that `is_felt`, and heals it by `heal`. Gives all calls, when it failed, and when it answered
/// again after it was healed.
fn fails_and_heals(
    service: &mut Service,
    fail: impl FnOnce(&mut Sidecar),
    is_felt: impl FnOnce(&Service),
    heal: impl FnOnce(&mut Sidecar),
) -> (Vec<Call>, Instant, Duration) {
    let load = Load::start(&service.web);
    service.more(|_| true, 20);
    fail(&mut service.sidecars[0]);
    let failing = Instant::now();
    let others = |at| at != 0;
    service.more(others, 150);
    is_felt(service);
    heal(&mut service.sidecars[0]);
    let healed = Instant::now();
    service.more(|at| at == 0, 5);
    let back = healed.elapsed();
    (load.end(), failing, back)
}

/// Says the figures of those calls that began after the failure.
fn say(what: &str, calls: &[Call], failing: Instant, back: Duration) {
    let (before, after): (Vec<&Call>, Vec<&Call>) = calls.iter().partition(|call| call.began < failing);
    let slowest = after.iter().map(|call| call.took).max().unwrap_or_default();
    println!(
        "figure: {what}: {} calls, {} failed of those in flight, {} of the {} that came after, slowest {slowest:?}, \
         back {back:?} after healing",
        calls.len(),
        failed(before).len(),
        failed(after.iter().copied()).len(),
        after.len(),
    );
}

// Its connections break with it: calls that it has begun cannot be said again, for nobody knows what they did.
#[test]
#[ignore = "needs root or user namespaces, and nft: tests/run"]
fn a_replica_that_is_killed_fails_no_call_but_those_that_it_had_begun() {
    alone(|mesh| {
        let mut service = Service::start(mesh);
        let (calls, failing, back) =
            fails_and_heals(&mut service, Sidecar::kill, |_| (), Sidecar::start_again);
        say("killed", &calls, failing, back);
        let failed = failed(&calls);
        assert!(failed.len() <= CALLERS, "{failed:?}");
        assert!(failed.iter().all(|call| call.began < failing), "{failed:?}");
        assert!(back < Duration::from_secs(10), "{back:?}");
    });
}

// A call costs at most one attempt more; what it had begun goes on when it goes on itself.
#[test]
#[ignore = "needs root or user namespaces, and nft: tests/run"]
fn a_replica_that_hangs_fails_no_call_and_none_waits_for_long() {
    alone(|mesh| {
        let mut service = Service::start(mesh);
        let (calls, failing, back) = fails_and_heals(
            &mut service,
            |sidecar| sidecar.process().signal(Signal::STOP),
            |_| (),
            |sidecar| sidecar.process().signal(Signal::CONT),
        );
        say("hanging", &calls, failing, back);
        assert!(failed(&calls).is_empty(), "{:?}", failed(&calls));
        let after = calls.iter().filter(|call| call.began >= failing);
        let slowest = after.map(|call| call.took).max().unwrap();
        // One attempt of a second, and what a loaded machine adds.
        assert!(slowest < Duration::from_secs(5), "{slowest:?}");
        assert!(back < Duration::from_secs(10), "{back:?}");
    });
}

// It has the certificate of an authority that `web` does not know, and knows no other itself.
#[test]
#[ignore = "needs root or user namespaces, and nft: tests/run"]
fn a_replica_that_refuses_handshakes_fails_no_call_but_those_that_it_carried() {
    alone(|mesh| {
        let mut service = Service::start(mesh);
        let folder = mesh.files("api-1").chain.parent().unwrap().to_path_buf();
        let shop = &mesh.authority;
        let (calls, failing, back) = fails_and_heals(
            &mut service,
            |_| drop(Authority::new().files(&folder, "api-1", &id("api"), HOUR)),
            // Connections that were kept go on until it has read its files again.
            |service| {
                let reason = "reason=\"unknown_authority\"";
                service
                    .out
                    .counts(&["ferrule_endpoint_failures_total", reason], 1.0);
            },
            |_| drop(shop.files(&folder, "api-1", &id("api"), HOUR)),
        );
        say("refusing", &calls, failing, back);
        // With its old root the replica gives up what it carries for those under it: once, of each caller one call at most.
        let failed = failed(&calls);
        assert!(failed.len() <= CALLERS, "{failed:?}");
        let begun = failed.iter().map(|call| call.began);
        if let (Some(first), Some(last)) = (begun.clone().min(), begun.max()) {
            assert!(last - first < Duration::from_secs(1), "{failed:?}");
        }
        assert!(back < Duration::from_secs(10), "{back:?}");
    });
}

#[test]
#[ignore = "needs root or user namespaces, and nft: tests/run"]
fn a_thousand_connections_are_spread_within_a_tenth() {
    alone(|mesh| {
        let service = Service::start(mesh);
        service.web.inside(|| {
            for _ in 0..1000 {
                ask(SocketAddr::from(SERVICE)).unwrap();
            }
        });
        let counts = service.counts();
        println!("figure: 1000 connections over {REPLICAS} replicas: {counts:?}");
        assert_eq!(counts.iter().sum::<u64>(), 1000);
        // A third each, give or take a tenth of that.
        assert!(
            counts.iter().all(|count| (300..=366).contains(count)),
            "{counts:?}"
        );
    });
}

// As Kubernetes does when a pod begins to end: it is no endpoint of its service any more, and still there.
#[test]
#[ignore = "needs root or user namespaces, and nft: tests/run"]
fn an_endpoint_that_is_taken_away_gets_nothing_new_and_finishes_what_it_has() {
    alone(|mesh| {
        let service = Service::start(mesh);
        let stay = || {
            let mut peer = service
                .web
                .inside(|| TcpStream::connect(SocketAddr::from(SERVICE)).unwrap());
            peer.set_read_timeout(Some(LIMIT)).unwrap();
            peer.write_all(b"stay").unwrap();
            let mut name = [0; 5];
            peer.read_exact(&mut name).unwrap();
            (peer, name)
        };
        let mut on_first = (0..100)
            .map(|_| stay())
            .find_map(|(peer, name)| (&name == b"api-1").then_some(peer))
            .expect("the first one has its turn");
        let taken = || {
            let lines = service.out.lines().into_iter();
            lines.filter(|line| line["message"] == "documents taken").count()
        };
        let before = taken();
        let [v4, v6] = service.replicas[0].addresses();
        mesh.document(
            "api-1",
            &format!(
                "kind: Workload\nmetadata: {{ namespace: shop, name: api-1, labels: {{ app: ending }} }}\n\
                 spec: {{ serviceAccount: api, addresses: [\"{v4}\", \"{v6}\"] }}\n"
            ),
        );
        let call = || service.web.inside(|| ask(SocketAddr::from(SERVICE)).unwrap());
        // Twenty calls may pass the first one by while it still has its place: it is the one with a connection open.
        until("the caller's sidecar has read it", || {
            (taken() > before).then_some(())
        });
        until("the others have all calls", || {
            (0..20).all(|_| call() != "api-1").then_some(())
        });
        for _ in 0..50 {
            assert_ne!(call(), "api-1");
        }
        on_first.write_all(b"more").unwrap();
        let mut heard = [0; 4];
        on_first.read_exact(&mut heard).unwrap();
        assert_eq!(&heard, b"more");
    });
}
