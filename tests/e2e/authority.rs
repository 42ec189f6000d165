//! A CA that can be stopped and started again at the same place.

use std::path::Path;
use std::time::Duration;

use ferrule_ca::app::{Served, Surroundings};
use ferrule_ca::config::{self, Config};
use ferrule_ca::instance::Instance;
use ferrule_ca::ledger::Ledger as _;
use ferrule_ca::ledger::event::{Subject, TokenCreated};
use ferrule_ca::revoking;
use ferrule_daemon::clock::Clock;
use ferrule_daemon::metrics::Metrics;
use ferrule_daemon::signals::{Asking, Signal, Signals};
use ferrule_identity::{Fingerprint, TrustDomain};
use ferrule_wire::{JoinSecret, JoinToken};
use tempfile::TempDir;
use tokio::task::JoinHandle;

/// How long anything here may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// A CA in a folder of its own, running or not.
pub(crate) struct Authority {
    pub(crate) domain: TrustDomain,
    clock: Clock,
    port: u16,
    running: Option<Running>,
    home: TempDir,
}

struct Running {
    asking: Asking,
    ended: JoinHandle<()>,
}

impl Authority {
    /// Makes and starts a CA whose time is `clock`'s.
    pub(crate) async fn start(clock: &Clock) -> Self {
        let home = tempfile::tempdir().unwrap();
        let config = config_in(home.path(), 0);
        let founded = Instance::open(config, clock.clone(), true).await.unwrap();
        founded.authorities.found_new("test").await.unwrap();
        founded.close().await.unwrap();
        let mut authority = Self {
            domain: TrustDomain::parse("shop.test").unwrap(),
            clock: clock.clone(),
            port: 0,
            running: None,
            home,
        };
        authority.resume().await;
        authority
    }

    /// Starts it again where it was.
    pub(crate) async fn resume(&mut self) {
        let instance = self.instance().await;
        let surroundings = Surroundings {
            metrics: Metrics::new(),
            levels: None,
        };
        let served = Served::start(instance, surroundings).await.unwrap();
        self.port = served.address().port();
        tokio::time::timeout(PATIENCE, served.ready())
            .await
            .expect("the CA becomes ready");
        let mut signals = Signals::without_system();
        let asking = signals.asking();
        #[allow(clippy::disallowed_methods, reason = "stop waits for its end")]
        let ended = tokio::spawn(async move {
            served.run(&mut signals).await.unwrap();
        });
        self.running = Some(Running { asking, ended });
    }

    /// Stops it, in order; its port is closed afterwards.
    pub(crate) async fn stop(&mut self) {
        let running = self.running.take().expect("it runs");
        running.asking.send(Signal::Asked);
        running.asking.send(Signal::Asked);
        tokio::time::timeout(PATIENCE, running.ended)
            .await
            .expect("the CA stops")
            .unwrap();
    }

    /// A join token for whatever identity in the namespace `shop`.
    pub(crate) async fn token(&self) -> JoinToken {
        self.token_for("spiffe://shop.test/ns/shop/*").await
    }

    /// A join token for what `identities` says.
    pub(crate) async fn token_for(&self, identities: &str) -> JoinToken {
        let instance = self.instance().await;
        let token = JoinToken {
            addresses: vec![format!("127.0.0.1:{}", self.port)],
            trust_domain: self.domain.clone(),
            roots: instance
                .authorities
                .view()
                .trusted_roots()
                .iter()
                .map(|root| Fingerprint::of(root))
                .collect(),
            name: format!("host-{:08x}", rand::random::<u32>()),
            secret: JoinSecret::from_bytes(rand::random()),
            identities: vec![identities.to_owned()],
            expires: instance.now().plus(Duration::from_secs(3600)),
        };
        let event = TokenCreated {
            token: token.name.clone(),
            secret: token.secret.hash(),
            identities: token.identities.clone(),
            expires: token.expires,
            by: "test".to_owned(),
        };
        instance.ledger.append(vec![event.into()]).await.unwrap();
        instance.close().await.unwrap();
        token
    }

    /// Revokes an identity, or lifts that.
    pub(crate) async fn revoke(&self, id: &str, lift: bool) {
        let instance = self.instance().await;
        let subject = Subject::Identity(id.to_owned());
        revoking::change(instance.ledger.as_ref(), subject, "a test", "test", lift)
            .await
            .unwrap();
        instance.close().await.unwrap();
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The CA in this process, as its commands open it.
    pub(crate) async fn instance(&self) -> Instance {
        let config = config_in(self.home.path(), self.port);
        Instance::open(config, self.clock.clone(), false).await.unwrap()
    }
}

fn config_in(home: &Path, port: u16) -> Config {
    let settings = [
        ("TRUST_DOMAIN", "shop.test".to_owned()),
        ("DATA", home.join("ca").display().to_string()),
        ("LISTEN", format!("127.0.0.1:{port}")),
        ("ADMIN__ENABLED", "false".to_owned()),
        ("STOP__DEADLINE", "2s".to_owned()),
    ];
    let variables = settings
        .iter()
        .map(|(name, value)| (format!("FERRULE_CA__{name}"), value));
    config::load(None, variables)
        .map_err(|problems| problems.to_string())
        .unwrap()
        .config
}
