//! Gets the workload's certificate from its source, and prepares it for the workers.

use std::convert::Infallible;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ferrule_credentials::evidence::Evidence;
use ferrule_credentials::files::{FileKeeper, Files};
use ferrule_credentials::join::{Host, JoinError};
use ferrule_credentials::keeper::{Health, Keeper, Wanted};
use ferrule_credentials::{Credentials, Newest};
use ferrule_daemon::clock::Clock;
use ferrule_daemon::logging::Chain;
use ferrule_daemon::ready::Latch;
use ferrule_identity::tls::{TlsError, TrustCell, TrustSnapshot};
use ferrule_identity::{BundleError, Bundles, Revocations, SpiffeId, Timestamp, TrustBundle, TrustDomain};
use tokio::sync::watch;
use tracing::{info, warn};

use crate::config::{CaConfig, Config, CredentialsConfig, EvidenceConfig};
use crate::observe::metrics::ProxyMetrics;
use crate::tls::material::Material;

/// Where credentials are published.
pub struct Publisher {
    /// Who they have to be for.
    pub id: SpiffeId,
    /// Certificates with trust, for judging again.
    pub credentials: watch::Sender<Option<Arc<Credentials>>>,
    /// What handshakes need.
    pub material: watch::Sender<Option<Arc<Material>>>,
    /// Released when the first certificate is there.
    pub latch: Latch,
    /// Where ends of certificates are shown.
    pub metrics: ProxyMetrics,
    /// The time.
    pub clock: Clock,
}

/// Keeps the credentials of `config` fresh for ever. What cannot be used yet is tried again.
pub async fn keep(config: Arc<Config>, publisher: Publisher) -> Infallible {
    let clock = publisher.clock.clone();
    match &config.credentials {
        CredentialsConfig::Files(files) => {
            let trust = Arc::new(TrustCell::default());
            let (keeper, newest) = open_files(files, &trust, &clock).await;
            tokio::select! {
                never = keeper.run() => never,
                never = publisher.follow(newest, trust) => never,
            }
        }
        CredentialsConfig::Ca(ca) => {
            let (evidence, trust) = first_trust(ca, config.mesh.trust_domain.clone(), &clock).await;
            let trust = Arc::new(trust);
            let wanted = Wanted {
                id: config.id.clone(),
                algorithm: ca.algorithm,
                lifetime: ca.lifetime,
                evidence,
            };
            let (keeper, kept) = Keeper::new(wanted, ca.addresses.clone(), Arc::clone(&trust), clock);
            let skew = show_skew(kept.health, publisher.metrics.clone());
            tokio::select! {
                never = keeper.run() => never,
                never = publisher.follow(kept.credentials, trust) => never,
                never = skew => never,
            }
        }
    }
}

async fn open_files(files: &Files, trust: &Arc<TrustCell>, clock: &Clock) -> (FileKeeper, Newest) {
    let mut said = None;
    loop {
        match FileKeeper::open(files.clone(), Arc::clone(trust), clock.clone()) {
            Ok(opened) => return opened,
            Err(error) => say_once(
                &mut said,
                Chain(&error).to_string(),
                "credential files not taken yet",
            ),
        }
        tokio::time::sleep(TRY_AGAIN).await;
    }
}

/// What shows the CA who is asking, with the trust to begin from.
async fn first_trust(ca: &CaConfig, trust_domain: TrustDomain, clock: &Clock) -> (Evidence, TrustCell) {
    let mut said = None;
    loop {
        let now = Timestamp::from_unix(clock.unix());
        let read = match &ca.evidence {
            EvidenceConfig::Host(folder) => Host::read(folder, now)
                .map(|host| (host.evidence(), host.trust()))
                .map_err(|source| FirstTrustError::Host { source }),
            EvidenceConfig::KubernetesToken { token, bundle } => {
                read_bundle(bundle, trust_domain.clone(), now).map(|bundle| {
                    let trust = TrustCell::new(TrustSnapshot {
                        bundles: Bundles::from_iter([bundle]),
                        revocations: Revocations::empty(),
                    });
                    (Evidence::KubernetesToken { path: token.clone() }, trust)
                })
            }
        };
        match read {
            Ok(first) => return first,
            Err(error) => say_once(&mut said, Chain(&error).to_string(), "the CA cannot be asked yet"),
        }
        tokio::time::sleep(TRY_AGAIN).await;
    }
}

fn read_bundle(
    path: &Path,
    trust_domain: TrustDomain,
    now: Timestamp,
) -> Result<TrustBundle, FirstTrustError> {
    let text = fs::read_to_string(path).map_err(|source| FirstTrustError::Read {
        path: path.to_owned(),
        source,
    })?;
    let bundle = if path.extension().is_some_and(|extension| extension == "json") {
        TrustBundle::from_jwks(trust_domain, &text, now)
    } else {
        TrustBundle::from_pem(trust_domain, &text, now)
    };
    bundle.map_err(|source| FirstTrustError::Bundle {
        path: path.to_owned(),
        source: Box::new(source),
    })
}

fn say_once(said: &mut Option<String>, error: String, message: &'static str) {
    if said.as_ref() != Some(&error) {
        warn!(error, "{message}");
        *said = Some(error);
    }
}

async fn show_skew(mut health: watch::Receiver<Health>, metrics: ProxyMetrics) -> Infallible {
    loop {
        metrics.clock_skew.set(health.borrow_and_update().skew);
        if health.changed().await.is_err() {
            return std::future::pending().await;
        }
    }
}

impl Publisher {
    async fn follow(self, mut newest: Newest, trust: Arc<TrustCell>) -> Infallible {
        loop {
            let credentials = newest.borrow_and_update().clone();
            if let Some(credentials) = credentials {
                self.publish(credentials, &trust);
            }
            if newest.changed().await.is_err() {
                // The source is gone, which its own task reports; what was published stays.
                return std::future::pending().await;
            }
        }
    }

    fn publish(&self, credentials: Arc<Credentials>, trust: &Arc<TrustCell>) {
        let certificate = &credentials.certificate;
        if *certificate.id() != self.id {
            warn!(
                found = %certificate.id(), wanted = %self.id,
                "the certificate is somebody else's and is not used"
            );
            return;
        }
        let is_new = self
            .material
            .borrow()
            .as_ref()
            .is_none_or(|material| material.serial() != certificate.serial());
        if is_new {
            match self.prepare(&credentials, trust) {
                Ok(material) => {
                    self.material.send_replace(Some(Arc::new(material)));
                    info!(id = %self.id, serial = %certificate.serial(), "certificate in use");
                }
                Err(error) => {
                    warn!(error = %Chain(&error), "the certificate cannot be used");
                    return;
                }
            }
        }
        let end = |kind, time: Timestamp| {
            let gauge = self.metrics.not_after.get_or_create_owned(&[("kind", kind)]);
            gauge.set(time.unix());
        };
        end("leaf", certificate.lifetime().not_after());
        if let Some(bundle) = credentials.trust.bundles.of(&self.id.trust_domain()) {
            let sequence = i64::try_from(bundle.sequence()).unwrap_or(i64::MAX);
            self.metrics.bundle_generation.set(sequence);
            let ends = bundle
                .anchors()
                .iter()
                .map(|anchor| anchor.lifetime().not_after());
            if let Some(first) = ends.min() {
                end("root", first);
            }
        }
        self.credentials.send_replace(Some(credentials));
        self.latch.release();
    }

    fn prepare(&self, credentials: &Credentials, trust: &Arc<TrustCell>) -> Result<Material, TlsError> {
        Material::new(&credentials.certificate, Arc::clone(trust), self.clock.clone())
    }
}

/// How soon what cannot be used yet is looked at again.
const TRY_AGAIN: Duration = Duration::from_secs(1);

/// Why the CA cannot be asked yet.
#[derive(Debug, thiserror::Error)]
enum FirstTrustError {
    #[error("the host's folder cannot be used")]
    Host { source: JoinError },
    #[error("cannot read the bundle {path}", path = path.display())]
    Read { path: PathBuf, source: std::io::Error },
    #[error("the bundle {path} is refused", path = path.display())]
    Bundle { path: PathBuf, source: Box<BundleError> },
}
