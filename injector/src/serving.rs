//! Keeps the webhook's own certificate and the bundle that it is trusted by fresh, from our own CA.

use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ferrule_credentials::client::{Anchor, CaClient, ClientError, Fetched, Since};
use ferrule_credentials::evidence::{Evidence, EvidenceError};
use ferrule_daemon::backoff::{Backoff, Jitter};
use ferrule_daemon::clock::Clock;
use ferrule_daemon::logging::Chain;
use ferrule_identity::tls::{TrustCell, TrustSnapshot};
use ferrule_identity::{
    BundleError, Bundles, KeyAlgorithm, KeyError, PrivateKey, RequestError, Revocations, SigningRequest,
    SpiffeId, Timestamp, TrustBundle, TrustDomain,
};
use ferrule_wire::ca::IssueRequest;
use rustls::ServerConfig;
use rustls::server::NoServerSessionStorage;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use tokio::sync::watch;
use tracing::{info, warn};

use crate::config::CaConfig;

/// What the CA gave last.
#[derive(Debug, Clone, Default)]
pub struct Served {
    /// The webhook's TLS settings.
    pub tls: Option<Arc<ServerConfig>>,
    /// The trust bundle in PEM; empty before the first.
    pub bundle: String,
}

/// Asks the CA, for ever.
pub struct Serving {
    trust_domain: TrustDomain,
    id: SpiffeId,
    config: CaConfig,
    clock: Clock,
    served: watch::Sender<Served>,
}

impl Serving {
    /// For the identity `id`, which the CA's setting `servers` names.
    pub fn new(id: SpiffeId, config: CaConfig, clock: Clock) -> (Self, watch::Receiver<Served>) {
        let (served, newest) = watch::channel(Served::default());
        let serving = Self {
            trust_domain: id.trust_domain(),
            id,
            config,
            clock,
            served,
        };
        (serving, newest)
    }

    /// Keeps on. No outage is long enough to give up.
    pub async fn run(self) -> Infallible {
        let backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(30));
        let mut failures = 0_u32;
        let trust = loop {
            match self.first_trust() {
                Ok(trust) => break Arc::new(trust),
                Err(error) => warn!(error = %Chain(&error), "the CA cannot be asked yet"),
            }
            self.clock.sleep(LOOK_AGAIN).await;
        };
        let anchor = Anchor::Trust(Arc::clone(&trust));
        let addresses = self.config.addresses.clone();
        let mut client = CaClient::new(addresses, self.trust_domain.clone(), anchor, self.clock.clone());
        let mut etag = None;
        let mut renew_at = Timestamp::from_unix(0);
        loop {
            match self.round(&mut client, &trust, &mut etag, &mut renew_at).await {
                Ok(()) => {
                    failures = 0;
                    self.clock.sleep(LOOK_AGAIN).await;
                }
                Err(error) => {
                    failures = failures.saturating_add(1);
                    warn!(failures, error = %Chain(&error), "the webhook's certificate is not renewed");
                    // The CA may have been made anew: then the ConfigMap knows it, and we do not.
                    if let Ok(first) = self.first_trust() {
                        trust.store((*first.load()).clone());
                    }
                    let wait = backoff.delay(failures, Jitter::random());
                    self.clock.sleep(wait.max(LEAST_WAIT)).await;
                }
            }
        }
    }

    async fn round(
        &self,
        client: &mut CaClient,
        trust: &TrustCell,
        etag: &mut Option<String>,
        renew_at: &mut Timestamp,
    ) -> Result<(), ServingError> {
        let since = Since {
            etag: etag.as_deref(),
            wait: Duration::ZERO,
        };
        let fetched = client.bundle(since).await;
        if let Fetched::New { value, etag: newest } = fetched.map_err(|source| ServingError::Ca { source })? {
            let bundle = value.to_pem();
            trust.store(TrustSnapshot {
                bundles: Bundles::from_iter([value]),
                revocations: Revocations::empty(),
            });
            *etag = newest;
            self.served.send_modify(|served| served.bundle = bundle);
        }
        if self.now() < *renew_at {
            return Ok(());
        }
        let key =
            PrivateKey::generate(KeyAlgorithm::EcdsaP256).map_err(|source| ServingError::Key { source })?;
        let csr = SigningRequest::build_pem(&key).map_err(|source| ServingError::Request { source })?;
        let evidence = Evidence::KubernetesToken {
            path: self.config.token.clone(),
        };
        let shown = evidence
            .show(&self.trust_domain, &self.id, &csr, client.ca_time())
            .map_err(|source| ServingError::Evidence { source })?;
        let request = IssueRequest {
            csr,
            id: Some(self.id.to_string()),
            lifetime_seconds: None,
            serving: true,
            evidence: shown,
        };
        let reply = client
            .issue(&request)
            .await
            .map_err(|source| ServingError::Ca { source })?;
        let tls = tls(&reply.certificates, &key)?;
        info!(
            event = "serving_certificate",
            names = reply.id,
            serial = reply.serial,
            "the webhook has a certificate"
        );
        self.served.send_modify(|served| served.tls = Some(Arc::new(tls)));
        *renew_at = Timestamp::from_unix(reply.renew_at);
        Ok(())
    }

    fn first_trust(&self) -> Result<TrustCell, ServingError> {
        let path = &self.config.bundle;
        let text = std::fs::read_to_string(path).map_err(|source| ServingError::Read {
            path: path.clone(),
            source,
        })?;
        let bundle =
            TrustBundle::from_pem(self.trust_domain.clone(), &text, self.now()).map_err(|source| {
                ServingError::Bundle {
                    path: path.clone(),
                    source: Box::new(source),
                }
            })?;
        Ok(TrustCell::new(TrustSnapshot {
            bundles: Bundles::from_iter([bundle]),
            revocations: Revocations::empty(),
        }))
    }

    fn now(&self) -> Timestamp {
        Timestamp::from_unix(self.clock.unix())
    }
}

/// TLS 1.3 without client certificates: the API server has none that says who it is. It is the NetworkPolicy that
/// lets nobody else in, and what is answered here is no secret.
fn tls(chain: &str, key: &PrivateKey) -> Result<ServerConfig, ServingError> {
    let unusable = || ServingError::Chain;
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(chain.as_bytes())
        .collect::<Result<_, _>>()
        .map_err(|_| unusable())?;
    let key = key.to_rustls();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key))
        .map_err(|source| ServingError::Tls { source })?;
    config.send_tls13_tickets = 0;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

/// Between looks at the bundle and at the certificate's age.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
const LEAST_WAIT: Duration = Duration::from_millis(100);

/// Why there is no new certificate.
#[derive(Debug, thiserror::Error)]
enum ServingError {
    #[error("cannot read the bundle {path}", path = path.display())]
    Read { path: PathBuf, source: std::io::Error },
    #[error("the bundle {path} is refused", path = path.display())]
    Bundle { path: PathBuf, source: Box<BundleError> },
    #[error("cannot make a key")]
    Key { source: KeyError },
    #[error("cannot make a request")]
    Request { source: RequestError },
    #[error("cannot show who is asking")]
    Evidence { source: EvidenceError },
    #[error("the CA gave no certificate")]
    Ca { source: ClientError },
    #[error("the CA's certificate cannot be read")]
    Chain,
    #[error("cannot serve with the CA's certificate")]
    Tls { source: rustls::Error },
}
