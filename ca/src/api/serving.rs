//! Keeps the API's own certificate fresh.

use std::sync::Arc;
use std::time::Duration;

use ferrule_daemon::backoff::{Backoff, Jitter};
use ferrule_daemon::clock::Clock;
use ferrule_daemon::logging::Chain;
use ferrule_identity::tls::{
    Expected, Now, PeerVerifier, Presented, TlsError, TrustCell, control_server_config,
};
use ferrule_identity::{KeyAlgorithm, KeyError, PrivateKey, Timestamp, Verified};
use rustls::ServerConfig;
use rustls_pki_types::ServerName;
use tokio::sync::watch;

use crate::authority::Authorities;
use crate::crypto::CryptoProfile;
use crate::issue::{IssueError, Issued, Issuer};

/// Issues the API's certificate, with a new key each time, and puts it into TLS settings.
pub struct Serving {
    issuer: Issuer,
    authorities: Arc<Authorities>,
    trust: Arc<TrustCell>,
    verified: Arc<Verified>,
    names: Vec<ServerName<'static>>,
    clock: Clock,
}

/// TLS settings, and until when they are good.
struct Made {
    config: ServerConfig,
    issued: Issued,
}

impl Serving {
    /// A certificate for `names`; clients may show a certificate that `trust` accepts, which is remembered in `verified`.
    pub fn new(
        issuer: Issuer,
        authorities: Arc<Authorities>,
        trust: Arc<TrustCell>,
        verified: Arc<Verified>,
        names: Vec<ServerName<'static>>,
        clock: Clock,
    ) -> Self {
        Self {
            issuer,
            authorities,
            trust,
            verified,
            names,
            clock,
        }
    }

    /// Tries until there are settings to serve with, tells each failure, and says the first settings to `ready`. Then
    /// keeps them fresh, for ever: a new certificate well before the last one ends, and at once when another signing
    /// certificate takes over.
    pub async fn run(self, ready: watch::Sender<Option<Arc<ServerConfig>>>) {
        let backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(30));
        let mut failures = 0_u32;
        let mut views = self.authorities.subscribe();
        loop {
            views.mark_unchanged();
            let next = match self.make().await {
                Ok(Made { config, issued }) => {
                    failures = 0;
                    tracing::info!(
                        event = "serving_certificate",
                        names = issued.name,
                        serial = %issued.serial,
                        not_after = %issued.lifetime.not_after(),
                        "the API has a new certificate"
                    );
                    ready.send_replace(Some(Arc::new(config)));
                    Next::Renew {
                        at: issued.renew_at,
                        issuer: issued.issuer,
                    }
                }
                Err(error) => {
                    failures = failures.saturating_add(1);
                    tracing::error!(error = %Chain(&error), "the API's certificate cannot be issued");
                    Next::Retry {
                        after: backoff.delay(failures, Jitter::random()).max(MIN_WAIT),
                    }
                }
            };
            match next {
                Next::Retry { after } => tokio::select! {
                    () = tokio::time::sleep(after) => {}
                    // Most likely what was missing.
                    _ = views.changed() => {}
                },
                Next::Renew { at, issuer } => loop {
                    tokio::select! {
                        () = self.clock.sleep_until(at.unix()) => break,
                        changed = views.changed() => {
                            let active = self.authorities.active_signer();
                            if changed.is_err() || active.is_ok_and(|active| active.authority() != issuer) {
                                break;
                            }
                        }
                    }
                },
            }
        }
    }

    async fn make(&self) -> Result<Made, ServingError> {
        let algorithm = match self.issuer.policy().crypto {
            CryptoProfile::Standard => KeyAlgorithm::EcdsaP256,
            CryptoProfile::Cnsa1 => KeyAlgorithm::EcdsaP384,
        };
        let key = PrivateKey::generate(algorithm).map_err(|source| ServingError::Key { source })?;
        let issued = self.issuer.issue_serving(&self.names, key.public_key()).await;
        let issued = issued.map_err(|source| ServingError::Issue { source })?;
        let now = Timestamp::from(self.clock.now());
        let trust = self.trust.load();
        let bundle = trust
            .bundles
            .of(&self.issuer.policy().trust_domain)
            .ok_or(ServingError::NoBundle)?;
        // The root goes along, for clients that know it by its fingerprint alone.
        let mut chain = issued.chain.clone();
        chain.extend(self.root_of(&issued));
        let tls = |source| ServingError::Tls { source };
        let presented = Presented::serving(chain, &key, bundle, &self.names, now).map_err(tls)?;
        let verifier = PeerVerifier::new(Arc::clone(&self.trust), Expected::Anyone)
            .remembering(Arc::clone(&self.verified));
        let clock = self.clock.clone();
        let time: Arc<dyn Now> = Arc::new(move || Timestamp::from(clock.now()));
        let config = control_server_config(verifier, &presented, &[b"http/1.1"], time).map_err(tls)?;
        Ok(Made { config, issued })
    }

    /// The root that the certificate chains to.
    fn root_of(&self, issued: &Issued) -> Option<rustls_pki_types::CertificateDer<'static>> {
        let view = self.authorities.view();
        let signing = view
            .all()
            .find(|listed| listed.slot.id.to_string() == issued.issuer)?;
        let at = view
            .slots()
            .trusted_roots()
            .position(|root| root.id == signing.slot.root)?;
        view.trusted_roots().into_iter().nth(at)
    }
}

enum Next {
    Renew { at: Timestamp, issuer: String },
    Retry { after: Duration },
}

/// Why the API has no new certificate.
#[derive(Debug, thiserror::Error)]
enum ServingError {
    #[error("cannot make a key for the API's certificate")]
    Key { source: KeyError },
    #[error("cannot issue the API's certificate")]
    Issue { source: IssueError },
    #[error("no trust bundle is published yet")]
    NoBundle,
    #[error("cannot serve with the API's certificate")]
    Tls { source: TlsError },
}

const MIN_WAIT: Duration = Duration::from_millis(100);
