//! A sidecar that is killed and started again leaves no gap: the redirect stays, so nothing leaves in clear.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use ferrule_tests::netns::{Capture, Host, Mesh, alone};
use ferrule_tests::wait::{LIMIT, until};

const MARKER: &[u8] = b"Ferrule-marker-of-clear-text";

/// An application that dials again and again, and says its word until it is cut off.
struct Talker {
    stop: Arc<AtomicBool>,
    heard: Arc<AtomicU64>,
    /// How often something else than the word arrived.
    garbled: Arc<AtomicU64>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Talker {
    fn start(from: &Host, to: &Host, address: SocketAddr) -> Self {
        let (stop, heard) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let garbled = Arc::new(AtomicU64::new(0));
        let listener = to.inside(|| TcpListener::bind(address).unwrap());
        let (counting, wrong) = (Arc::clone(&heard), Arc::clone(&garbled));
        thread::spawn(move || {
            for peer in listener.incoming() {
                let (mut peer, heard) = (peer.unwrap(), Arc::clone(&counting));
                let garbled = Arc::clone(&wrong);
                thread::spawn(move || {
                    let mut word = [0; MARKER.len()];
                    while peer.read_exact(&mut word).is_ok() {
                        if word != MARKER {
                            garbled.fetch_add(1, Ordering::Relaxed);
                            break;
                        }
                        heard.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
        });
        let (from, ended) = (from.clone(), Arc::clone(&stop));
        let thread = thread::spawn(move || {
            from.enter();
            while !ended.load(Ordering::Relaxed) {
                // Refused while there is no sidecar.
                let Ok(mut peer) = TcpStream::connect_timeout(&address, LIMIT) else {
                    thread::sleep(Duration::from_millis(2));
                    continue;
                };
                while !ended.load(Ordering::Relaxed) && peer.write_all(MARKER).is_ok() {
                    thread::sleep(Duration::from_millis(2));
                }
                // It may be gone already.
                let _ = peer.shutdown(Shutdown::Both);
            }
        });
        let thread = Some(thread);
        Self {
            stop,
            heard,
            garbled,
            thread,
        }
    }

    /// Waits until the other side hears words that are said from now on.
    fn is_heard(&self) {
        let before = self.heard.load(Ordering::Relaxed);
        until("the word is heard", || {
            (self.heard.load(Ordering::Relaxed) > before + 1).then_some(())
        });
    }

    fn stop(mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().unwrap().join().unwrap();
    }
}

// C5, C6: the application sends all the time, over both families, while one sidecar after the other is killed. The
// same capture finds the word when the redirect is taken away at last.
fn let_nothing_out(mesh: &mut Mesh, kills: usize) {
    let (web, api) = (mesh.workload("web"), mesh.workload("api"));
    mesh.allow("web", "api", &[7004, 7006]);
    let mut sidecars = [mesh.sidecar(&web), mesh.sidecar(&api)];
    let capture = Capture::start(mesh, &web);
    let talkers = [
        Talker::start(&web, &api, (api.v4(), 7004).into()),
        Talker::start(&web, &api, (api.v6(), 7006).into()),
    ];
    for cycle in 0..kills {
        talkers.iter().for_each(Talker::is_heard);
        let sidecar = &mut sidecars[cycle % 2];
        sidecar.kill();
        sidecar.start_again();
    }
    talkers.iter().for_each(Talker::is_heard);
    let recorded = capture.stop();
    assert!(!recorded.contains(MARKER), "in clear");
    for talker in &talkers {
        assert_eq!(
            talker.garbled.load(Ordering::Relaxed),
            0,
            "other bytes than were sent"
        );
    }
    assert!(recorded.contains(&[0x16, 3, 3]), "the record has TLS in it");

    let capture = Capture::start(mesh, &web);
    for sidecar in &mut sidecars {
        sidecar.step_aside();
        sidecar.kill();
    }
    talkers.iter().for_each(Talker::is_heard);
    assert!(
        capture.stop().contains(MARKER),
        "the same capture finds it in clear"
    );
    talkers.into_iter().for_each(Talker::stop);
}

#[test]
#[ignore = "needs root or user namespaces, nft and dumpcap: tests/run"]
fn a_hundred_kills_let_nothing_out_in_clear() {
    alone(|mesh| let_nothing_out(mesh, 100));
}

#[test]
#[ignore = "needs root or user namespaces, iptables-nft and dumpcap: tests/run"]
fn a_hundred_kills_let_nothing_out_in_clear_with_iptables() {
    alone(|mesh| {
        mesh.redirect_by("iptables");
        let_nothing_out(mesh, 100);
    });
}

#[test]
#[ignore = "needs root or user namespaces, iptables-legacy and dumpcap: tests/run"]
fn a_hundred_kills_let_nothing_out_in_clear_with_legacy_iptables() {
    alone(|mesh| {
        mesh.redirect_by("iptables-legacy");
        let_nothing_out(mesh, 100);
    });
}
