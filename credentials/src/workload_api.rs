//! Takes a certificate and trust from a SPIFFE Workload API, which says them anew whenever they change.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use ferrule_daemon::backoff::{Backoff, Jitter};
use ferrule_daemon::clock::Clock;
use ferrule_daemon::dial::{DialError, dial};
use ferrule_daemon::grpc::client::{Channel, Receiver};
use ferrule_daemon::grpc::{Limits, Status};
use ferrule_daemon::logging::Chain;
use ferrule_identity::tls::{TrustCell, TrustSnapshot};
use ferrule_identity::{
    BundleError, Bundles, CertificateError, Crl, CrlError, KeyError, PrivateKey, Revocations, SpiffeId,
    SpiffeIdError, Timestamp, TrustBundle, TrustDomain, WorkloadCertificate,
};
use ferrule_wire::workload_api::{
    Endpoint, FETCH_SVID, HEADER, HEADER_VALUE, RowError, X509svid, X509svidRequest, X509svidResponse,
    certificates,
};
use http::{HeaderName, HeaderValue};
use prost::Message as _;
use rustls_pki_types::CertificateDer;
use tokio::net::UnixStream;
use tokio::sync::watch;
use tokio::time::timeout;
use tracing::{info, warn};

use crate::Credentials;

/// Follows a Workload API for the certificate of one identity.
#[derive(Debug)]
pub struct Follower {
    /// Where it is served.
    pub endpoint: Endpoint,
    /// Whose certificate is taken, of those that are offered.
    pub id: SpiffeId,
    /// Where trust is put.
    pub trust: Arc<TrustCell>,
    /// The time.
    pub clock: Clock,
}

impl Follower {
    /// Says to `credentials` whatever the server says, for ever. A server that goes away is called again, and what it
    /// said last stays in force; so does a message that cannot be used.
    pub async fn run(self, credentials: &watch::Sender<Option<Arc<Credentials>>>) -> Infallible {
        let mut failures = 0;
        loop {
            let error = match self.session(credentials, &mut failures).await {
                Ok(()) => "the server has ended the stream".to_owned(),
                Err(error) => Chain(&error).to_string(),
            };
            failures += 1;
            warn!(endpoint = %self.endpoint, error, "the Workload API tells nothing, the last credentials stay in force");
            tokio::time::sleep(LEAST_WAIT + AGAIN.delay(failures, Jitter::random())).await;
        }
    }

    /// One connection, from its opening to its end.
    async fn session(
        &self,
        credentials: &watch::Sender<Option<Arc<Credentials>>>,
        failures: &mut u32,
    ) -> Result<(), WorkloadApiError> {
        // The channel has to live as long as the call.
        let (_channel, mut messages) = self.call().await?;
        let mut is_first = true;
        loop {
            let next = messages.next();
            // The first message comes at once, or something is wrong; the others when there is news.
            let message = if is_first {
                let limit = PATIENCE;
                let next = timeout(limit, next).await;
                next.map_err(|_| WorkloadApiError::Silent { limit })?
            } else {
                next.await
            };
            is_first = false;
            let Some(message) = message.map_err(|source| WorkloadApiError::Refused { source })? else {
                return Ok(());
            };
            let response = X509svidResponse::decode(message)
                .map_err(|source| WorkloadApiError::Unreadable { source })?;
            let now = Timestamp::from_unix(self.clock.unix());
            let taken = take(&response, &self.id, now)?;
            *failures = 0;
            let certificate = taken.certificate;
            info!(
                id = %certificate.id(), serial = %certificate.serial(),
                not_after = %certificate.lifetime().not_after(), "certificate taken from the Workload API"
            );
            // The deny list comes from elsewhere, and stays.
            let Ok(_) = self.trust.update(|held| {
                let held = &held.revocations;
                let revocations = Revocations::new(held.generation(), held.denied().clone(), taken.crls);
                Ok::<_, Infallible>(Some(TrustSnapshot {
                    bundles: taken.bundles,
                    revocations,
                }))
            });
            credentials.send_replace(Some(Arc::new(Credentials {
                certificate,
                trust: self.trust.load(),
            })));
        }
    }

    async fn call(&self) -> Result<(Channel, Receiver), WorkloadApiError> {
        let opened = |source| WorkloadApiError::Refused { source };
        let authority = "localhost".to_owned();
        let channel = match &self.endpoint {
            Endpoint::Unix(path) => {
                let stream = timeout(PATIENCE, UnixStream::connect(path))
                    .await
                    .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
                    .map_err(|source| WorkloadApiError::Connect {
                        endpoint: self.endpoint.clone(),
                        source,
                    })?;
                Channel::open(stream, authority, LIMITS).await
            }
            Endpoint::Tcp(address) => {
                let stream = dial(*address, PATIENCE)
                    .await
                    .map_err(|source| WorkloadApiError::Dial { source })?;
                Channel::open(stream, authority, LIMITS).await
            }
        };
        let mut channel = channel.map_err(opened)?.with_header(
            HeaderName::from_static(HEADER),
            HeaderValue::from_static(HEADER_VALUE),
        );
        let request = X509svidRequest {}.encode_to_vec();
        let receiver = channel
            .hear(FETCH_SVID, &request, PATIENCE)
            .await
            .map_err(opened)?;
        Ok((channel, receiver))
    }
}

/// What one message says, checked.
#[derive(Debug)]
pub struct Taken {
    /// The certificate of the wanted identity, with its key.
    pub certificate: WorkloadCertificate,
    /// Whom to trust: the own trust domain, and those that are federated.
    pub bundles: Bundles,
    /// What is revoked.
    pub crls: Vec<Crl>,
}

/// Takes from a message, which says everything anew, the certificate of `id` and whom to trust at `now`.
///
/// # Errors
/// When it has no certificate of `id`, or any part of it cannot be used: then all of it is not.
pub fn take(response: &X509svidResponse, id: &SpiffeId, now: Timestamp) -> Result<Taken, WorkloadApiError> {
    let is_wanted = |svid: &&X509svid| svid.spiffe_id == id.as_str();
    let svid = response.svids.iter().find(is_wanted).ok_or_else(|| {
        let offered: Vec<&str> = response
            .svids
            .iter()
            .map(|svid| svid.spiffe_id.as_str())
            .take(MOST_NAMED)
            .collect();
        WorkloadApiError::OtherIdentity {
            wanted: id.clone(),
            offered: offered.join(", "),
        }
    })?;
    let row = |text: &[u8], what| certificates(text).map_err(|source| WorkloadApiError::Row { what, source });
    let bundle_of = |trust_domain: TrustDomain, text: &[u8]| {
        let roots = row(text, "roots")?;
        TrustBundle::new(trust_domain, 0, None, &roots, now).map_err(|source| WorkloadApiError::Bundle {
            source: Box::new(source),
        })
    };
    let own = bundle_of(id.trust_domain(), &svid.bundle)?;
    let chain = row(&svid.x509_svid, "certificates")?;
    let key =
        PrivateKey::from_pkcs8_der(&svid.x509_svid_key).map_err(|source| WorkloadApiError::Key { source })?;
    let mut issuers: Vec<CertificateDer<'static>> = chain.clone();
    let certificate =
        WorkloadCertificate::new(chain, key, &own, now).map_err(|source| WorkloadApiError::Certificate {
            source: Box::new(source),
        })?;
    let mut bundles = vec![own];
    for (name, text) in &response.federated_bundles {
        let name = name.strip_prefix("spiffe://").unwrap_or(name);
        let trust_domain = TrustDomain::parse(name).map_err(|source| WorkloadApiError::Name { source })?;
        // Our own roots come with our own certificate, and from nowhere else.
        if trust_domain != id.trust_domain() {
            bundles.push(bundle_of(trust_domain, text)?);
        }
    }
    for bundle in &bundles {
        issuers.extend(bundle.anchors().iter().map(|anchor| anchor.der().clone()));
    }
    let crls = response
        .crl
        .iter()
        .map(|crl| Crl::from_der(crl, &issuers, now))
        .collect::<Result<_, _>>()
        .map_err(|source| WorkloadApiError::Crl {
            source: Box::new(source),
        })?;
    Ok(Taken {
        certificate,
        bundles: Bundles::from_iter(bundles),
        crls,
    })
}

const LIMITS: Limits = Limits {
    message_bytes: 4 * 1024 * 1024,
    calls: 8,
    header_bytes: 16 * 1024,
    ping_after: Duration::from_secs(60),
    ping_time: Duration::from_secs(20),
    write_stall_time: Duration::from_secs(10),
};

/// How long a connect, an answer, and the first message may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// How soon a server that went away is called again: soon at first, and never rarely.
const AGAIN: Backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(15));
const LEAST_WAIT: Duration = Duration::from_millis(100);

/// How many identities that were offered in vain are named.
const MOST_NAMED: usize = 8;

/// Why a Workload API gives no credentials.
#[derive(Debug, thiserror::Error)]
pub enum WorkloadApiError {
    /// Nobody is at the socket.
    #[error("cannot connect to {endpoint}")]
    Connect {
        /// Where.
        endpoint: Endpoint,
        /// What the system says.
        source: io::Error,
    },
    /// Nobody is at the address.
    #[error("cannot reach the Workload API")]
    Dial {
        /// Why.
        source: DialError,
    },
    /// The server says no, or broke off.
    #[error("the Workload API refuses")]
    Refused {
        /// Its words.
        source: Status,
    },
    /// The server says nothing.
    #[error("the Workload API said nothing within {limit:?}")]
    Silent {
        /// How long.
        limit: Duration,
    },
    /// A message that is none.
    #[error("the message of the Workload API cannot be read")]
    Unreadable {
        /// Why.
        source: prost::DecodeError,
    },
    /// No certificate of the wanted identity.
    #[error("the Workload API has no certificate of {wanted}, only of: {offered}")]
    OtherIdentity {
        /// Whose is wanted.
        wanted: SpiffeId,
        /// Whose there are.
        offered: String,
    },
    /// Bytes that are no certificates.
    #[error("the {what} of the Workload API are not in DER")]
    Row {
        /// Which.
        what: &'static str,
        /// Why.
        source: RowError,
    },
    /// A key that is none.
    #[error("the private key of the Workload API is refused")]
    Key {
        /// Why.
        source: KeyError,
    },
    /// A chain that peers would refuse.
    #[error("the certificate of the Workload API is refused")]
    Certificate {
        /// Why.
        source: Box<CertificateError>,
    },
    /// Roots that are not trusted.
    #[error("the roots of the Workload API are refused")]
    Bundle {
        /// Why.
        source: Box<BundleError>,
    },
    /// Roots of something that is no trust domain.
    #[error("the Workload API has roots of something that is no trust domain")]
    Name {
        /// Why.
        source: SpiffeIdError,
    },
    /// Lists that are not taken.
    #[error("the revocation lists of the Workload API are refused")]
    Crl {
        /// Why.
        source: Box<CrlError>,
    },
}
