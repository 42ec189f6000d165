//! Sidecars that get their certificates from a running CA.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::sync_channel;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use ferrule_credentials::join::join;
use ferrule_daemon::clock::{Clock, Hand};
use ferrule_daemon::metrics::Metrics;
use ferrule_daemon::signals::{Asking, Signal, Signals};
use ferrule_proxy::app::{Proxy, Surroundings};
use ferrule_proxy::config;
use tempfile::TempDir;

use crate::authority::{Authority, PATIENCE};

/// Noon of some day.
const START: i64 = 1_800_000_000;
/// The default life of a leaf.
const LIFE: Duration = Duration::from_secs(12 * 3600);

const API: &str = "spiffe://shop.test/ns/shop/sa/api";
const WEB: &str = "spiffe://shop.test/ns/shop/sa/web";
const RULES: &str = "apiVersion: ferrule.dev/v1alpha1\nkind: AccessPolicy\n\
    metadata: { namespace: shop, name: api }\n\
    spec: { workloads: all, action: allow, rules: [{ from: [{ identities: [spiffe://shop.test/ns/shop/sa/web] }] }] }\n";

/// A sidecar at work. Dropping it cuts it.
struct Sidecar {
    door: SocketAddr,
    metrics: Metrics,
    asking: Asking,
    thread: Option<JoinHandle<()>>,
}

impl Sidecar {
    fn start(settings: &str, clock: Clock) -> Self {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), settings).unwrap();
        let loaded = config::load::<&str, &str>(Some(file.path()), []).unwrap();
        let metrics = Metrics::new();
        let registry = metrics.clone();
        let (started, is_started) = sync_channel(1);
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(async move {
                let mut signals = Signals::without_system();
                let surroundings = Surroundings {
                    metrics: registry,
                    levels: None,
                    clock,
                    effective: String::new(),
                    asking: signals.asking(),
                };
                let proxy = Proxy::start(loaded.config, surroundings).unwrap();
                let door = proxy.doors()[0].address().socket();
                started.send((door, signals.asking())).unwrap();
                proxy.run(&mut signals).await;
            });
        });
        let (door, asking) = is_started.recv_timeout(PATIENCE).unwrap();
        Self {
            door,
            metrics,
            asking,
            thread: Some(thread),
        }
    }

    /// The value of the first metric whose line contains all of `words`.
    fn metric(&self, words: &[&str]) -> Option<f64> {
        let text = self.metrics.encode().unwrap();
        let mut lines = text.lines().filter(|line| !line.starts_with('#'));
        let line = lines.find(|line| words.iter().all(|word| line.contains(word)))?;
        line.rsplit(' ').next()?.parse().ok()
    }

    /// When its own certificate ends.
    fn leaf_ends(&self) -> f64 {
        self.metric(&["certificate_not_after", "leaf"]).unwrap_or(0.0)
    }
}

impl Drop for Sidecar {
    fn drop(&mut self) {
        self.asking.send(Signal::Asked);
        self.asking.send(Signal::Asked);
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

/// `web` calls `api`, each behind a sidecar; everybody goes by one clock.
struct Mesh {
    authority: Authority,
    hand: Hand,
    app: TcpListener,
    api: Sidecar,
    web: Sidecar,
    _folder: TempDir,
}

impl Mesh {
    async fn start() -> Self {
        let (clock, hand) = Clock::manual(START);
        let authority = Authority::start(&clock).await;
        let folder = tempfile::tempdir().unwrap();
        let rules = folder.path().join("rules");
        fs::create_dir(&rules).unwrap();
        fs::write(rules.join("api.yaml"), RULES).unwrap();
        let app = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut settings = Vec::new();
        for name in ["api", "web"] {
            let host = join(&authority.token().await, &clock).await.unwrap();
            let home = folder.path().join(name);
            host.write(&home).unwrap();
            settings.push(format!(
                "trust_domain: shop.test\n\
                 workload: {{ namespace: shop, name: {name}, service_account: {name} }}\n\
                 credentials: {{ ca: {{ addresses: [\"{}\"], evidence: {{ host: {} }} }} }}\n\
                 rules: {{ folder: {} }}\nadmin: {{ enabled: false }}\nworkers: 1\n",
                host.addresses[0],
                home.display(),
                rules.display(),
            ));
        }
        let serves = format!(
            "{}serves: [{{ listen: \"127.0.0.1:0\", to: \"{}\" }}]\n",
            settings[0],
            app.local_addr().unwrap()
        );
        let api = Sidecar::start(&serves, clock.clone());
        let upstreams = format!(
            "{}upstreams: [{{ listen: \"127.0.0.1:0\", address: \"{}\", identity: \"{API}\" }}]\n",
            settings[1], api.door
        );
        let web = Sidecar::start(&upstreams, clock);
        let mesh = Self {
            authority,
            hand,
            app,
            api,
            web,
            _folder: folder,
        };
        mesh.until("both have certificates and rules", || {
            [&mesh.api, &mesh.web].iter().all(|sidecar| {
                sidecar.leaf_ends() > 0.0
                    && sidecar
                        .metric(&["ferrule_rules "])
                        .is_some_and(|rules| rules > 0.0)
            })
        });
        mesh
    }

    /// Waits for `state` while the clock goes on, a second at a time.
    fn until(&self, what: &str, mut state: impl FnMut() -> bool) {
        let end = Instant::now() + PATIENCE;
        while !state() {
            assert!(
                Instant::now() < end,
                "not in time: {what}; api:\n{}\nweb:\n{}",
                self.api.metrics.encode().unwrap(),
                self.web.metrics.encode().unwrap(),
            );
            std::thread::sleep(Duration::from_millis(5));
            self.hand.advance(Duration::from_secs(1));
        }
    }

    /// Opens a connection through both sidecars, and sees that it carries.
    fn connect(&self) -> (TcpStream, TcpStream) {
        let mut client = self.dial();
        let (server, _) = self.app.accept().unwrap();
        let mut server = patient(server);
        say(&mut client, &mut server);
        (client, server)
    }

    #[allow(clippy::disallowed_methods, reason = "a test dials as an application does")]
    fn dial(&self) -> TcpStream {
        patient(TcpStream::connect(self.web.door).unwrap())
    }

    /// Waits until `api` has ended a connection for `reason`.
    fn ended(&self, reason: &str) {
        let reason = format!("reason=\"{reason}\"");
        let words = ["connections_total", "inbound", &reason];
        self.until(&reason, || self.api.metric(&words).is_some());
    }
}

fn patient(stream: TcpStream) -> TcpStream {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream
}

fn say(from: &mut TcpStream, to: &mut TcpStream) {
    from.write_all(b"hello").unwrap();
    let mut heard = [0; 5];
    to.read_exact(&mut heard).unwrap();
    assert_eq!(&heard, b"hello");
}

/// Whether the other end was reset, and nothing came before.
fn was_reset(stream: &mut TcpStream) -> bool {
    let ended = stream.read(&mut [0; 1]);
    ended.is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionReset)
}

#[tokio::test(flavor = "multi_thread")]
async fn sidecars_enrol_and_renew_without_dropping_connections() {
    let mesh = Mesh::start().await;
    let (mut client, mut server) = mesh.connect();
    let before = (mesh.api.leaf_ends(), mesh.web.leaf_ends());
    mesh.hand.advance(LIFE / 3 + LIFE / 20);
    mesh.until("both have later certificates", || {
        mesh.api.leaf_ends() > before.0 && mesh.web.leaf_ends() > before.1
    });
    say(&mut client, &mut server);
    // And new connections are made with the new ones.
    mesh.connect();
}

// B12, B14: a revocation at the CA ends the connections of whom it names, and keeps them out.
#[tokio::test(flavor = "multi_thread")]
async fn a_revocation_at_the_ca_ends_an_open_connection() {
    let mesh = Mesh::start().await;
    let (mut client, mut server) = mesh.connect();
    let began = Instant::now();
    mesh.authority.revoke(WEB, false).await;
    assert!(was_reset(&mut server));
    let took = began.elapsed();
    assert!(took < Duration::from_secs(2), "it took {took:?}");
    assert!(was_reset(&mut client));
    mesh.ended("revoked");
    assert!(was_reset(&mut mesh.dial()));
}

// F1: without the CA everything goes on until certificates end; then nothing does, and nobody has to help it up.
#[tokio::test(flavor = "multi_thread")]
async fn without_the_ca_everything_goes_on_until_certificates_end() {
    let mut mesh = Mesh::start().await;
    mesh.authority.stop().await;
    mesh.hand.advance(LIFE * 9 / 10);
    let (mut client, mut server) = mesh.connect();
    // The minute after the end of the peer's certificate.
    let ends = mesh.web.leaf_ends().min(mesh.api.leaf_ends());
    #[allow(clippy::cast_possible_truncation, reason = "seconds since the epoch")]
    mesh.hand.set(ends as i64 + 30);
    say(&mut client, &mut server);
    mesh.hand.advance(LIFE / 10);
    assert!(was_reset(&mut server));
    mesh.ended("expired");
    assert!(was_reset(&mut mesh.dial()));

    mesh.authority.resume().await;
    let before = (mesh.api.leaf_ends(), mesh.web.leaf_ends());
    mesh.until("both have later certificates", || {
        mesh.api.leaf_ends() > before.0 && mesh.web.leaf_ends() > before.1
    });
    mesh.connect();
}
