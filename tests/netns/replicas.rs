//! A service with two replicas, one of which is stopped under load.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use ferrule_tests::netns::{Host, alone};
use ferrule_tests::wait::{LIMIT, until};

/// For IPv4 alone, as many applications do. Answers each question with its own name; `stay` is answered and
/// kept open: what follows is sent back, four bytes at a time.
pub(crate) fn serve(host: &Host) -> Arc<AtomicU64> {
    let listener = host.inside(|| TcpListener::bind((host.v4(), 8080)).unwrap());
    let (answered, counting) = (Arc::new(AtomicU64::new(0)), host.name().to_owned());
    let count = Arc::clone(&answered);
    thread::spawn(move || {
        for peer in listener.incoming() {
            let (mut peer, name, count) = (peer.unwrap(), counting.clone(), Arc::clone(&count));
            thread::spawn(move || {
                let mut question = [0; 4];
                if peer.read_exact(&mut question).is_err() {
                    // Only a look whether anybody is here.
                    return;
                }
                if peer.write_all(name.as_bytes()).is_err() {
                    return;
                }
                count.fetch_add(1, Ordering::Relaxed);
                if &question == b"stay" {
                    // Until somebody ends it.
                    while peer.read_exact(&mut question).is_ok() && peer.write_all(&question).is_ok() {}
                }
            });
        }
    });
    answered
}

pub(crate) fn ask(to: SocketAddr) -> std::io::Result<String> {
    let mut peer = TcpStream::connect(to)?;
    peer.set_read_timeout(Some(LIMIT))?;
    peer.write_all(b"what")?;
    let mut answer = String::new();
    peer.read_to_string(&mut answer)?;
    Ok(answer)
}

#[test]
#[ignore = "needs root or user namespaces, and nft: tests/run"]
fn a_replica_that_is_stopped_fails_no_request() {
    alone(|mesh| {
        let web = mesh.workload("web");
        let replicas = [mesh.replica("api", "api-1"), mesh.replica("api", "api-2")];
        mesh.allow("web", "api", &[8080]);
        let service: SocketAddr = ([10, 78, 0, 1], 80).into();
        mesh.document(
            "service",
            "kind: Service\nmetadata: { namespace: shop, name: api }\nspec:\n  addresses: [10.78.0.1]\n  \
             ports: [{ port: 80, targetPort: 8080 }]\n  workloads: { labels: { app: api } }\n",
        );
        let out = mesh.sidecar(&web);
        let answered = [serve(&replicas[0]), serve(&replicas[1])];
        let mut first = mesh.sidecar_with(&replicas[0], "drain: { leave: 500ms, deadline: 1s }\n");
        let _second = mesh.sidecar(&replicas[1]);

        // Streams that stay, so many that both replicas have one.
        let mut staying: Vec<TcpStream> = Vec::new();
        let mut names = std::collections::BTreeSet::new();
        while names.len() < 2 {
            let mut peer = web.inside(|| TcpStream::connect(service).unwrap());
            peer.set_read_timeout(Some(LIMIT)).unwrap();
            peer.write_all(b"stay").unwrap();
            let mut name = [0; 5];
            peer.read_exact(&mut name).unwrap();
            names.insert(name);
            staying.push(peer);
            assert!(staying.len() < 100, "both replicas have their turn");
        }

        let over = Arc::new(AtomicBool::new(false));
        let callers: Vec<_> = (0..4)
            .map(|_| {
                let (web, over) = (web.clone(), Arc::clone(&over));
                thread::spawn(move || {
                    web.enter();
                    let mut asked = 0;
                    while !over.load(Ordering::Relaxed) {
                        let name = ask(service).expect("no request fails");
                        assert!(name.starts_with("api-"), "{name:?}");
                        asked += 1;
                    }
                    asked
                })
            })
            .collect();
        let more = |replica: usize, count: u64| {
            let before = answered[replica].load(Ordering::Relaxed);
            until("more answers", || {
                let now = answered[replica].load(Ordering::Relaxed);
                (now >= before + count).then_some(())
            });
        };
        more(0, 20);
        more(1, 20);
        first.terminate();
        assert_eq!(first.ended(), Some(0));
        // The other one has all the load now.
        more(1, 200);
        over.store(true, Ordering::Relaxed);
        let asked: u64 = callers.into_iter().map(|caller| caller.join().unwrap()).sum();
        assert!(asked >= 240, "{asked}");
        first.line(&[("event", "close"), ("reason", "cut"), ("direction", "inbound")]);
        assert_eq!(
            out.count(&["ferrule_connections_total", "reason=\"unreachable\""]),
            0.0
        );
        println!("figure: {asked} requests, none failed");
    });
}
