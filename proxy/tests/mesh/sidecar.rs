//! Starts sidecars on threads of this process, and waits for what they say.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use ferrule_daemon::clock::Clock;
use ferrule_daemon::metrics::Metrics;
use ferrule_daemon::signals::{Asking, Signal, Signals};
use ferrule_daemon::stop::Ended;
use ferrule_proxy::app::{Proxy, Surroundings};
use ferrule_proxy::config;
use tempfile::TempDir;

use ferrule_tests::pki::{Authority, Files};

pub(crate) const WEB: &str = "spiffe://shop.local/ns/shop/sa/web";
pub(crate) const API: &str = "spiffe://shop.local/ns/shop/sa/api";
pub(crate) const DAY: Duration = Duration::from_secs(80_000);

/// How long anything here may take.
pub(crate) const LIMIT: Duration = Duration::from_secs(20);

/// A running sidecar. Dropping it cuts it.
pub(crate) struct Sidecar {
    doors: Vec<SocketAddr>,
    metrics: Metrics,
    asking: Asking,
    thread: Option<JoinHandle<Ended>>,
}

impl Sidecar {
    /// Starts one with these settings, and waits until it is ready.
    pub(crate) fn start(settings: &str) -> Self {
        let (sidecar, ready) = Self::starting(settings);
        ready.recv_timeout(LIMIT).expect("it becomes ready");
        sidecar
    }

    /// Starts one with these settings, and what says when it is ready.
    pub(crate) fn starting(settings: &str) -> (Self, Receiver<()>) {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), settings).unwrap();
        let loaded =
            config::load::<&str, &str>(Some(file.path()), []).unwrap_or_else(|problems| panic!("{problems}"));
        let metrics = Metrics::new();
        let (started, is_started) = sync_channel(1);
        let (ready, is_ready) = sync_channel(1);
        let registry = metrics.clone();
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
                    effective: loaded.effective.render(),
                    asking: signals.asking(),
                };
                let proxy = Proxy::start(loaded.config, surroundings).unwrap();
                let doors: Vec<SocketAddr> =
                    proxy.doors().iter().map(|door| door.address().socket()).collect();
                started.send((doors, signals.asking())).unwrap();
                let readiness = proxy.readiness().clone();
                let telling = async {
                    readiness.ready().await;
                    let _ = ready.send(());
                    std::future::pending::<()>().await;
                };
                tokio::select! {
                    ended = proxy.run(&mut signals) => ended,
                    () = telling => unreachable!(),
                }
            })
        });
        let (doors, asking) = is_started.recv_timeout(LIMIT).expect("it starts");
        let sidecar = Self {
            doors,
            metrics,
            asking,
            thread: Some(thread),
        };
        (sidecar, is_ready)
    }

    /// Where its door of that number is.
    pub(crate) fn door(&self, number: usize) -> SocketAddr {
        self.doors[number]
    }

    /// Waits until a line of the metrics contains all of `words`, and ends with a number above zero; returns that.
    pub(crate) fn counts(&self, words: &[&str]) -> f64 {
        let end = Instant::now() + LIMIT;
        loop {
            let text = self.metrics.encode().unwrap();
            let found = text
                .lines()
                .find(|line| words.iter().all(|word| line.contains(word)));
            let number = found.and_then(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
            match number {
                Some(number) if number > 0.0 => return number,
                _ if Instant::now() > end => panic!("no {words:?} in:\n{text}"),
                _ => std::thread::sleep(Duration::from_millis(5)),
            }
        }
    }

    /// The sum of all lines of the metrics that contain all of `words`, as it is now.
    pub(crate) fn count(&self, words: &[&str]) -> f64 {
        let text = self.metrics.encode().unwrap();
        let lines = text
            .lines()
            .filter(|line| !line.starts_with('#') && words.iter().all(|word| line.contains(word)));
        lines
            .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
            .sum()
    }

    /// Asks it to stop.
    pub(crate) fn ask_to_stop(&self) {
        self.asking.send(Signal::Asked);
    }

    /// Waits for its end.
    pub(crate) fn ended(mut self) -> Ended {
        self.thread.take().unwrap().join().unwrap()
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

/// A mesh of `web`, who calls, and `api`, who is called.
pub(crate) struct Mesh {
    pub(crate) folder: TempDir,
    pub(crate) authority: Authority,
    pub(crate) web: Files,
    pub(crate) api: Files,
    /// The application of `api`.
    pub(crate) app: TcpListener,
}

impl Mesh {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let authority = Authority::new();
        fs::create_dir(folder.path().join("rules")).unwrap();
        Self {
            web: authority.files(folder.path(), "web", WEB, DAY),
            api: authority.files(folder.path(), "api", API, DAY),
            authority,
            folder,
            app: TcpListener::bind("127.0.0.1:0").unwrap(),
        }
    }

    /// Allows `web` to reach the application of `api`.
    pub(crate) fn allow(&self) {
        let port = self.app.local_addr().unwrap().port();
        let text = format!(
            "apiVersion: ferrule.dev/v1alpha1\nkind: AccessPolicy\nmetadata: {{ namespace: shop, name: api }}\n\
             spec:\n  workloads: {{ labels: {{ app: api }} }}\n  action: allow\n  rules:\n  \
             - {{ from: [{{ identities: [{WEB}] }}], ports: [{port}] }}\n"
        );
        fs::write(self.rules().join("api.yaml"), text).unwrap();
    }

    /// Takes the rule away again.
    pub(crate) fn forbid(&self) {
        fs::remove_file(self.rules().join("api.yaml")).unwrap();
    }

    pub(crate) fn rules(&self) -> std::path::PathBuf {
        self.folder.path().join("rules")
    }

    /// The sidecar of `api`.
    pub(crate) fn api_sidecar(&self, more: &str) -> Sidecar {
        Sidecar::start(&self.api_settings(more))
    }

    /// The settings of the sidecar of `api`.
    pub(crate) fn api_settings(&self, more: &str) -> String {
        let app = self.app.local_addr().unwrap();
        let ways = format!("serves: [{{ listen: \"127.0.0.1:0\", to: \"{app}\" }}]");
        self.settings("api", &self.api, &ways, more)
    }

    /// The sidecar of `web`, whose way out leads to `to`, where `id` is expected.
    pub(crate) fn web_sidecar(&self, to: SocketAddr, id: &str, more: &str) -> Sidecar {
        Sidecar::start(&self.web_settings(to, id, more))
    }

    /// The settings of that sidecar.
    pub(crate) fn web_settings(&self, to: SocketAddr, id: &str, more: &str) -> String {
        let ways =
            format!("upstreams: [{{ listen: \"127.0.0.1:0\", address: \"{to}\", identity: \"{id}\" }}]");
        self.settings("web", &self.web, &ways, more)
    }

    pub(crate) fn settings(&self, name: &str, files: &Files, ways: &str, more: &str) -> String {
        let path = |path: &Path| path.display().to_string();
        format!(
            "trust_domain: shop.local\n\
             workload: {{ namespace: shop, name: {name}, labels: {{ app: {name} }}, service_account: {name} }}\n\
             credentials: {{ files: {{ chain: {}, key: {}, bundle: {} }} }}\n\
             rules: {{ folder: {} }}\n\
             admin: {{ enabled: false }}\n\
             workers: 2\n{ways}\n{more}\n",
            path(&files.chain),
            path(&files.key),
            path(&files.bundle),
            path(&self.rules()),
        )
    }

    /// Accepts one connection of the application.
    pub(crate) fn accept(&self) -> TcpStream {
        let (stream, _) = self.app.accept().unwrap();
        limited(stream)
    }
}

impl Mesh {
    /// As [`Mesh::accept`], for so long at most.
    pub(crate) fn accept_within(&self, time: Duration) -> std::io::Result<TcpStream> {
        let end = Instant::now() + time;
        self.app.set_nonblocking(true)?;
        let accepted = loop {
            match self.app.accept() {
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock && Instant::now() < end => {
                    std::thread::sleep(Duration::from_millis(2));
                }
                accepted => break accepted,
            }
        };
        self.app.set_nonblocking(false)?;
        let (stream, _) = accepted?;
        stream.set_nonblocking(false)?;
        Ok(limited(stream))
    }
}

/// Connects, with a limit on every wait.
pub(crate) fn dial(address: SocketAddr) -> TcpStream {
    limited(TcpStream::connect(address).unwrap())
}

fn limited(stream: TcpStream) -> TcpStream {
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    stream.set_write_timeout(Some(LIMIT)).unwrap();
    stream
}

/// Sends a word one way, and checks that it arrives.
pub(crate) fn say(from: &mut TcpStream, to: &mut TcpStream, word: &[u8]) {
    from.write_all(word).unwrap();
    let mut heard = vec![0; word.len()];
    to.read_exact(&mut heard).unwrap();
    assert_eq!(heard, word);
}

/// Reads to the end; whether the end was a clean one, and what came before it.
pub(crate) fn rest(stream: &mut TcpStream) -> (Vec<u8>, bool) {
    let mut all = Vec::new();
    match stream.read_to_end(&mut all) {
        Ok(_) => (all, true),
        Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => (all, false),
        Err(error) => panic!("neither end nor reset: {error}"),
    }
}
