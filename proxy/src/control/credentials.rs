//! Gets the workload's certificate from its source, and prepares it for the workers.

use std::convert::Infallible;
use std::sync::Arc;

use ferrule_credentials::keeper::Health;
use ferrule_credentials::{Credentials, Newest, source};
use ferrule_daemon::clock::Clock;
use ferrule_daemon::logging::Chain;
use ferrule_daemon::ready::Latch;
use ferrule_identity::tls::{TlsError, TrustCell};
use ferrule_identity::{SpiffeId, Timestamp};
use tokio::sync::watch;
use tracing::{info, warn};

use crate::config::Config;
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

/// Keeps the credentials of `config` fresh for ever, and `trust` in place. `changes` counts the news of trust that
/// others have put into `trust`. What cannot be used yet is tried again.
pub async fn keep(
    config: Arc<Config>,
    trust: Arc<TrustCell>,
    changes: watch::Receiver<u64>,
    publisher: Publisher,
) -> Infallible {
    let clock = publisher.clock.clone();
    let (source, id) = (config.credentials.clone(), config.id.clone());
    let (keeping, kept) = source::keep(source, id, Arc::clone(&trust), clock);
    let skew = show_skew(kept.health, publisher.metrics.clone());
    tokio::select! {
        never = keeping => never,
        never = publisher.follow(kept.credentials, trust, changes) => never,
        never = skew => never,
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
    async fn follow(
        self,
        mut newest: Newest,
        trust: Arc<TrustCell>,
        mut changes: watch::Receiver<u64>,
    ) -> Infallible {
        loop {
            changes.borrow_and_update();
            let credentials = newest.borrow_and_update().clone();
            if let Some(credentials) = credentials {
                // Whoever brought the newest trust, it is what lies in the cell now.
                let credentials = Credentials {
                    certificate: credentials.certificate.clone(),
                    trust: trust.load(),
                };
                self.publish(Arc::new(credentials), &trust);
            }
            tokio::select! {
                Ok(()) = newest.changed() => {}
                Ok(()) = changes.changed() => {}
                // The sources are gone, which their own tasks report; what was published stays.
                else => return std::future::pending().await,
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
        if let Some(bundle) = credentials.trust.bundles.about(&self.id) {
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
