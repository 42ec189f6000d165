//! A real sidecar on a thread of its own, which follows the directory.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::mpsc::sync_channel;
use std::thread::JoinHandle;
use std::time::Duration;

use ferrule_daemon::clock::Clock;
use ferrule_daemon::metrics::Metrics;
use ferrule_daemon::signals::{Asking, Signal, Signals};
use ferrule_proxy::app::{Proxy, Surroundings};
use ferrule_proxy::config;

use crate::authority::PATIENCE;

pub(crate) struct Sidecar {
    pub(crate) doors: Vec<SocketAddr>,
    pub(crate) metrics: Metrics,
    asking: Asking,
    thread: Option<JoinHandle<()>>,
}

impl Sidecar {
    /// One with these settings, once it is ready.
    pub(crate) fn start(home: &Path, settings: &str) -> Self {
        let file = home.join(format!("sidecar-{:08x}.yaml", rand::random::<u32>()));
        std::fs::write(&file, settings).unwrap();
        let loaded = config::load::<&str, &str>(Some(file.as_path()), [])
            .unwrap_or_else(|problems| panic!("{problems}"));
        let metrics = Metrics::new();
        let registry = metrics.clone();
        let (started, is_started) = sync_channel(1);
        let (ready, is_ready) = sync_channel(1);
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async move {
                let mut signals = Signals::without_system();
                let surroundings = Surroundings {
                    metrics: registry,
                    levels: None,
                    clock: Clock::system(),
                    effective: String::new(),
                    asking: signals.asking(),
                };
                let proxy = Proxy::start(loaded.config, surroundings).unwrap();
                let doors: Vec<SocketAddr> =
                    proxy.doors().iter().map(|door| door.address().socket()).collect();
                started.send((doors, signals.asking())).unwrap();
                let readiness = proxy.readiness().clone();
                tokio::select! {
                    _ = proxy.run(&mut signals) => {}
                    () = async {
                        readiness.ready().await;
                        let _ = ready.send(());
                        std::future::pending::<()>().await;
                    } => {}
                }
            });
        });
        let (doors, asking) = is_started.recv_timeout(PATIENCE).expect("the sidecar starts");
        is_ready
            .recv_timeout(PATIENCE)
            .expect("the sidecar becomes ready");
        Self {
            doors,
            metrics,
            asking,
            thread: Some(thread),
        }
    }
}

impl Drop for Sidecar {
    fn drop(&mut self) {
        self.asking.send(Signal::Asked);
        self.asking.send(Signal::Asked);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// An application that sends back what it receives.
pub(crate) fn echo() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for client in listener.incoming() {
            let mut client = client.unwrap();
            std::thread::spawn(move || {
                let mut bytes = [0; 1024];
                while let Ok(count @ 1..) = client.read(&mut bytes) {
                    if client.write_all(&bytes[..count]).is_err() {
                        return;
                    }
                }
            });
        }
    });
    address
}

/// A connection on which something has gone there and back; `None` when it was refused.
pub(crate) fn open(door: SocketAddr) -> Option<TcpStream> {
    let mut stream = TcpStream::connect_timeout(&door, PATIENCE).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(b"hello").ok()?;
    let mut back = [0; 5];
    stream.read_exact(&mut back).ok()?;
    Some(stream)
}

/// Waits until the connection is ended by the other side; how long that took.
pub(crate) fn ended(mut stream: TcpStream) -> Duration {
    let began = std::time::Instant::now();
    let mut bytes = [0; 16];
    loop {
        match stream.read(&mut bytes) {
            Ok(1..) => {}
            Ok(0) => return began.elapsed(),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => panic!("it is still open"),
            Err(_) => return began.elapsed(),
        }
    }
}
