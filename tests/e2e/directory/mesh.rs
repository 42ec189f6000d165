//! A CA and a directory that can be stopped and started again, over a folder of documents.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ferrule_credentials::Credentials;
use ferrule_credentials::join::{Host, join};
use ferrule_credentials::keeper::{Keeper, Kept, Wanted};
use ferrule_daemon::clock::Clock;
use ferrule_daemon::metrics::Metrics;
use ferrule_daemon::signals::{Asking, Signal, Signals};
use ferrule_directory::acks::Proxies;
use ferrule_directory::app::{Served, Surroundings};
use ferrule_directory::config;
use ferrule_identity::tls::TrustCell;
use ferrule_identity::{KeyAlgorithm, SpiffeId};
use tempfile::TempDir;
use tokio::task::JoinHandle;

use crate::authority::{Authority, PATIENCE};

/// Who lives in the mesh: an API that web may call, and others.
pub(crate) const PLACES: &str = "
apiVersion: ferrule.dev/v1alpha1
kind: Workload
metadata: { namespace: shop, name: api-1, labels: { app: api } }
spec: { serviceAccount: api, addresses: [127.0.0.2] }
---
apiVersion: ferrule.dev/v1alpha1
kind: Workload
metadata: { namespace: shop, name: web-1, labels: { app: web } }
spec: { serviceAccount: web, addresses: [127.0.0.3] }
---
apiVersion: ferrule.dev/v1alpha1
kind: Workload
metadata: { namespace: pay, name: card-1, labels: { app: card } }
spec: { serviceAccount: card, addresses: [127.0.0.4] }
---
apiVersion: ferrule.dev/v1alpha1
kind: AccessPolicy
metadata: { namespace: pay, name: card }
spec: { workloads: all, action: allow, rules: [{ from: [{ namespaces: [bank] }] }] }
";

/// Web may call the API.
pub(crate) const ALLOW: &str = "
apiVersion: ferrule.dev/v1alpha1
kind: AccessPolicy
metadata: { namespace: shop, name: api }
spec:
  workloads: { labels: { app: api } }
  action: allow
  rules:
  - { from: [{ identities: [\"spiffe://shop.test/ns/shop/sa/web\"] }] }
";

/// The whole.
pub(crate) struct Mesh {
    pub(crate) authority: Authority,
    pub(crate) clock: Clock,
    pub(crate) home: TempDir,
    pub(crate) port: u16,
    running: Option<Running>,
}

struct Running {
    proxies: Proxies,
    asking: Asking,
    ended: JoinHandle<()>,
}

/// Somebody with a certificate that is kept fresh.
pub(crate) struct Workload {
    pub(crate) trust: Arc<TrustCell>,
    pub(crate) kept: Kept,
    task: JoinHandle<()>,
}

impl Mesh {
    /// One whose time is `clock`'s, with these documents.
    pub(crate) async fn start(clock: &Clock, documents: &[(&str, &str)]) -> Self {
        let authority = Authority::start(clock).await;
        let home = tempfile::tempdir().unwrap();
        fs::create_dir(home.path().join("documents")).unwrap();
        let host = join(
            &authority
                .token_for("spiffe://shop.test/ns/ferrule-system/*")
                .await,
            clock,
        )
        .await
        .unwrap();
        host.write(&home.path().join("host")).unwrap();
        let mut mesh = Self {
            authority,
            clock: clock.clone(),
            home,
            port: 0,
            running: None,
        };
        for (name, text) in documents {
            mesh.write(name, text);
        }
        mesh.resume().await;
        mesh
    }

    /// Writes one of the documents' files.
    pub(crate) fn write(&self, name: &str, text: &str) {
        // Whole or not at all: the directory may look at any moment.
        let (aside, path) = (self.home.path().join("aside"), self.documents().join(name));
        fs::write(&aside, text).unwrap();
        fs::rename(aside, path).unwrap();
    }

    pub(crate) fn documents(&self) -> PathBuf {
        self.home.path().join("documents")
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.home.path().join("directory.sock")
    }

    /// Starts the directory where it was.
    pub(crate) async fn resume(&mut self) {
        let settings = format!(
            "trust_domain: shop.test\n\
             credentials: {{ ca: {{ addresses: [\"{}\"], evidence: {{ host: {} }} }} }}\n\
             source: {{ files: [{}] }}\nlisten: 127.0.0.1:{}\nmesh: {{ ranges: [127.0.0.0/8] }}\n\
             admin: {{ enabled: false, socket: {} }}\ndrain: {{ deadline: 2s }}\n",
            self.authority.address(),
            self.home.path().join("host").display(),
            self.documents().display(),
            self.port,
            self.socket().display(),
        );
        let file = self.home.path().join("directory.yaml");
        fs::write(&file, settings).unwrap();
        let loaded = config::load::<&str, &str>(Some(file.as_path()), [])
            .unwrap_or_else(|problems| panic!("{problems}"));
        let mut signals = Signals::without_system();
        let asking = signals.asking();
        let surroundings = Surroundings {
            metrics: Metrics::new(),
            levels: None,
            clock: self.clock.clone(),
            effective: loaded.effective.render(),
            asking: asking.clone(),
        };
        let served = Served::start(loaded.config, surroundings).unwrap();
        self.port = served.address().port();
        tokio::time::timeout(PATIENCE, served.readiness().ready())
            .await
            .expect("the directory becomes ready");
        let proxies = served.proxies().clone();
        #[allow(clippy::disallowed_methods, reason = "stop waits for its end")]
        let ended = tokio::spawn(async move {
            served.run(&mut signals).await;
        });
        self.running = Some(Running {
            proxies,
            asking,
            ended,
        });
    }

    /// Kills the directory: its port is closed afterwards, what was open is cut.
    pub(crate) async fn kill(&mut self) {
        let running = self.running.take().expect("it runs");
        running.asking.send(Signal::Asked);
        running.asking.send(Signal::Asked);
        tokio::time::timeout(PATIENCE, running.ended)
            .await
            .expect("the directory stops")
            .unwrap();
    }

    pub(crate) fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }

    pub(crate) fn proxies(&self) -> &Proxies {
        &self.running.as_ref().expect("it runs").proxies
    }

    /// A certificate for an account of the namespace `shop`, kept fresh.
    pub(crate) async fn workload(&self, account: &str) -> Workload {
        let host = join(&self.authority.token().await, &self.clock).await.unwrap();
        Workload::keep(&host, account, &self.clock)
    }

    /// The folder of a host that may ask for whatever in the namespace `shop`.
    pub(crate) async fn host(&self, name: &str) -> PathBuf {
        let host = join(&self.authority.token().await, &self.clock).await.unwrap();
        let folder = self.home.path().join(name);
        host.write(&folder).unwrap();
        folder
    }
}

impl Workload {
    fn keep(host: &Host, account: &str, clock: &Clock) -> Self {
        let wanted = Wanted {
            id: SpiffeId::workload(&host.trust_domain, "shop", account).unwrap(),
            algorithm: KeyAlgorithm::EcdsaP256,
            lifetime: None,
            evidence: host.evidence(),
        };
        let trust = Arc::new(host.trust());
        let (keeper, kept) = Keeper::new(wanted, host.addresses.clone(), Arc::clone(&trust), clock.clone());
        #[allow(clippy::disallowed_methods, reason = "aborted when it is dropped")]
        let task = tokio::spawn(async move {
            keeper.run().await;
        });
        Self { trust, kept, task }
    }

    /// What it shows, once there is something.
    pub(crate) async fn credentials(&self) -> Arc<Credentials> {
        let mut newest = self.kept.credentials.clone();
        let held = tokio::time::timeout(PATIENCE, newest.wait_for(Option::is_some)).await;
        held.expect("a certificate comes").unwrap().clone().unwrap()
    }

    /// Writes its certificate, key and bundle into `folder`.
    pub(crate) async fn write(&self, folder: &Path) {
        let credentials = self.credentials().await;
        let trust = self.trust.load();
        let bundle = trust
            .bundles
            .of(&credentials.certificate.id().trust_domain())
            .unwrap()
            .clone();
        ferrule_credentials::store::write(folder, &credentials.certificate, &bundle).unwrap();
    }
}

impl Drop for Workload {
    fn drop(&mut self) {
        self.task.abort();
    }
}
