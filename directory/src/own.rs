//! Keeps the directory's own certificate in use, and what it trusts before everybody's eyes.

use std::convert::Infallible;
use std::sync::Arc;

use ferrule_credentials::Newest;
use ferrule_credentials::client::now;
use ferrule_daemon::clock::Clock;
use ferrule_daemon::grpc::ALPN;
use ferrule_daemon::logging::Chain;
use ferrule_identity::tls::{
    Expected, PeerVerifier, Presented, TlsError, TrustCell, TrustSnapshot, peer_server_config,
};
use ferrule_identity::{SpiffeId, WorkloadCertificate};
use rustls::ServerConfig;
use tokio::sync::watch;
use tracing::{info, warn};

/// Follows the directory's own credentials.
pub(crate) struct Own {
    pub(crate) id: SpiffeId,
    pub(crate) trust: Arc<TrustCell>,
    pub(crate) clock: Clock,
    /// The settings to serve with, once there is a certificate.
    pub(crate) tls: watch::Sender<Option<Arc<ServerConfig>>>,
    /// What is trusted, for the proxies.
    pub(crate) snapshot: watch::Sender<Arc<TrustSnapshot>>,
}

impl Own {
    /// Follows `newest` for ever.
    pub(crate) async fn follow(self, mut newest: Newest) -> Infallible {
        let mut serial = None;
        loop {
            let credentials = newest.borrow_and_update().clone();
            if let Some(credentials) = credentials {
                let certificate = &credentials.certificate;
                if serial.as_ref() != Some(certificate.serial()) {
                    match self.settings(certificate) {
                        Ok(settings) => {
                            info!(id = %self.id, serial = %certificate.serial(), "certificate in use");
                            self.tls.send_replace(Some(Arc::new(settings)));
                            serial = Some(certificate.serial().clone());
                        }
                        Err(error) => warn!(error = %Chain(&error), "the certificate cannot be used"),
                    }
                }
                self.snapshot.send_replace(self.trust.load());
            }
            if newest.changed().await.is_err() {
                return std::future::pending().await;
            }
        }
    }

    fn settings(&self, certificate: &WorkloadCertificate) -> Result<ServerConfig, OwnError> {
        if *certificate.id() != self.id {
            return Err(OwnError::OtherId {
                found: certificate.id().clone(),
                wanted: self.id.clone(),
            });
        }
        let tls = |source| OwnError::Tls { source };
        let presented = Presented::workload(certificate).map_err(tls)?;
        let verifier = PeerVerifier::new(Arc::clone(&self.trust), Expected::Anyone);
        peer_server_config(verifier, &presented, &[ALPN], now(&self.clock)).map_err(tls)
    }
}

/// Why a certificate is not used.
#[derive(Debug, thiserror::Error)]
enum OwnError {
    #[error("the certificate is for {found}, not for {wanted}")]
    OtherId { found: SpiffeId, wanted: SpiffeId },
    #[error("TLS does not take it")]
    Tls { source: TlsError },
}
