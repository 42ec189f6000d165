//! Keeps one workload's certificate and trust fresh from the CA, through outages, for ever.

mod trust;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use ferrule_daemon::backoff::Jitter;
use ferrule_daemon::clock::Clock;
use ferrule_daemon::logging::Chain;
use ferrule_identity::tls::TrustCell;
use ferrule_identity::{
    CertificateError, KeyAlgorithm, KeyError, PrivateKey, RequestError, SigningRequest, SpiffeId, Timestamp,
    TrustDomain, WorkloadCertificate,
};
use ferrule_wire::ca::{IssueReply, IssueRequest};
use tokio::sync::{Notify, watch};
use tracing::{info, warn};

use crate::client::{Anchor, CaClient, ClientError};
use crate::evidence::{Evidence, EvidenceError};
use crate::renewal::{Renewal, Step, next_step};
use crate::{Credentials, Newest};
use trust::TrustKeeper;

/// Whose certificate is kept, and how it is asked for.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// Whose.
    pub id: SpiffeId,
    /// The kind of key; a fresh one is made for each certificate.
    pub algorithm: KeyAlgorithm,
    /// The life to ask for; the CA's default when none is given.
    pub lifetime: Option<Duration>,
    /// What shows the CA who is asking.
    pub evidence: Evidence,
}

/// How the keeper is doing, for metrics and for people.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Health {
    /// Tries that failed since the last that did not.
    pub failures: u32,
    /// Why the last try failed, with its causes; none when it did not.
    pub problem: Option<String>,
    /// How far our clock is behind the CA's, in seconds; negative when it is ahead.
    pub skew: i64,
    /// When the last certificate came, by our clock.
    pub renewed: Option<Timestamp>,
}

/// Asks the CA for certificates in time, and for trust all the time. Runs until it is dropped.
#[derive(Debug)]
pub struct Keeper {
    wanted: Wanted,
    client: CaClient,
    /// A second one, because it is mostly waiting for news.
    trust_client: CaClient,
    clock: Clock,
    trust: TrustKeeper,
    credentials: watch::Sender<Option<Arc<Credentials>>>,
    health: watch::Sender<Health>,
}

/// What comes out of a [`Keeper`].
#[derive(Debug, Clone)]
pub struct Kept {
    /// The newest credentials; none before the first certificate came. An expired certificate stays here: whoever
    /// shows it is refused by others.
    pub credentials: Newest,
    /// How it is going.
    pub health: watch::Receiver<Health>,
}

impl Keeper {
    /// Keeps what is `wanted` from the CA at `addresses`. `trust` is where to start from and is kept fresh in place:
    /// verifiers that were given it see each change at once.
    pub fn new(wanted: Wanted, addresses: Vec<String>, trust: Arc<TrustCell>, clock: Clock) -> (Self, Kept) {
        let trust_domain = wanted.id.trust_domain();
        let client = |trust: &Arc<TrustCell>| {
            let anchor = Anchor::Trust(Arc::clone(trust));
            CaClient::new(addresses.clone(), trust_domain.clone(), anchor, clock.clone())
        };
        let (credentials, for_credentials) = watch::channel(None);
        let (health, for_health) = watch::channel(Health::default());
        let keeper = Self {
            client: client(&trust),
            trust_client: client(&trust),
            trust: TrustKeeper::new(trust_domain.clone(), trust, clock.clone()),
            wanted,
            clock,
            credentials,
            health,
        };
        (
            keeper,
            Kept {
                credentials: for_credentials,
                health: for_health,
            },
        )
    }

    /// Starts from a certificate that is there already, such as one that [`store`](crate::store) wrote: it is used
    /// at once, and renewed in its time. Needed with [`Evidence::Certificate`].
    #[must_use]
    pub fn with_certificate(self, certificate: WorkloadCertificate) -> Self {
        let trust = self.trust.cell().load();
        self.credentials
            .send_replace(Some(Arc::new(Credentials { certificate, trust })));
        self
    }

    /// Keeps on. Never ends by itself: no outage is long enough to give up.
    pub async fn run(self) -> Infallible {
        let fetch = Notify::new();
        let Self {
            wanted,
            client,
            trust_client,
            clock,
            trust,
            credentials,
            health,
        } = self;
        let following = trust.clone().run(trust_client, &credentials, &fetch);
        let mut certificates = Certificates {
            wanted,
            client,
            clock,
            trust,
            credentials: &credentials,
            health,
        };
        tokio::select! {
            never = certificates.keep(&fetch) => never,
            never = following => never,
        }
    }
}

/// The half that asks for certificates.
struct Certificates<'a> {
    wanted: Wanted,
    client: CaClient,
    clock: Clock,
    trust: TrustKeeper,
    credentials: &'a watch::Sender<Option<Arc<Credentials>>>,
    health: watch::Sender<Health>,
}

impl Certificates<'_> {
    async fn keep(&mut self, fetch: &Notify) -> Infallible {
        let mut state = self.first_state();
        // One draw for each certificate: drawing anew at each look would make the earliest time the likeliest.
        let mut jitter = Jitter::random();
        loop {
            let now = self.now();
            match next_step(&state, now, jitter) {
                Step::At(time) => {
                    self.clock.sleep_until(time.unix()).await;
                    continue;
                }
                Step::After(wait) => self.clock.sleep(wait).await,
                Step::Now => {}
            }
            match self.renew().await {
                Ok(certificate) => {
                    state = Renewal {
                        life: Some(certificate.lifetime()),
                        issued: self.now(),
                        failures: 0,
                    };
                    fetch.notify_one();
                }
                Err(error) => {
                    state.failures = state.failures.saturating_add(1);
                    self.report(&error, state.failures);
                }
            }
            jitter = Jitter::random();
        }
    }

    fn first_state(&self) -> Renewal {
        let life = self
            .credentials
            .borrow()
            .as_ref()
            .map(|held| held.certificate.lifetime());
        let issued = life.map_or(self.now(), |life| life.not_before());
        Renewal {
            life,
            issued,
            failures: 0,
        }
    }

    /// Gets one certificate, and publishes it.
    async fn renew(&mut self) -> Result<WorkloadCertificate, KeepError> {
        let before = self.client.skew();
        let certificate = match self.obtain().await {
            // The CA's answer told us its time: a statement made by the wrong one deserves a second try.
            Err(KeepError::Ca {
                source: ClientError::Refused { skew, .. },
            }) if skew.abs_diff(before) > CLOCK_NEWS_SECONDS => self.obtain().await?,
            other => other?,
        };
        let skew = self.client.skew();
        info!(
            id = %certificate.id(), serial = %certificate.serial(),
            not_after = %certificate.lifetime().not_after(), skew, "certificate renewed"
        );
        let trust = self.trust.cell().load();
        let held = Credentials {
            certificate: certificate.clone(),
            trust,
        };
        self.credentials.send_replace(Some(Arc::new(held)));
        let renewed = Some(self.now());
        self.health.send_replace(Health {
            failures: 0,
            problem: None,
            skew,
            renewed,
        });
        Ok(certificate)
    }

    async fn obtain(&mut self) -> Result<WorkloadCertificate, KeepError> {
        let key = PrivateKey::generate(self.wanted.algorithm).map_err(|source| KeepError::Key { source })?;
        let csr = SigningRequest::build_pem(&key).map_err(|source| KeepError::Request { source })?;
        let trust_domain = self.wanted.id.trust_domain();
        let now = self.client.ca_time();
        let evidence = self
            .wanted
            .evidence
            .show(&trust_domain, &self.wanted.id, &csr, now)
            .map_err(|source| KeepError::Evidence { source })?;
        let request = IssueRequest {
            csr,
            id: Some(self.wanted.id.to_string()),
            lifetime_seconds: self
                .wanted
                .lifetime
                .and_then(|life| i64::try_from(life.as_secs()).ok()),
            serving: false,
            evidence,
        };
        let reply = self
            .ask(&request)
            .await
            .map_err(|source| KeepError::Ca { source })?;
        self.trust.at_least(reply.bundle_sequence, &mut self.client).await;
        self.accept(&reply, key, &trust_domain)
    }

    async fn ask(&mut self, request: &IssueRequest) -> Result<IssueReply, ClientError> {
        if request.evidence.is_some() {
            return self.client.issue(request).await;
        }
        let own = self.credentials.borrow().clone();
        match own {
            Some(own) => self.client.renew(request, &own.certificate).await,
            None => Err(ClientError::NoCertificate),
        }
    }

    /// Takes a certificate only when a peer would, and when it is the one that was asked for.
    fn accept(
        &self,
        reply: &IssueReply,
        key: PrivateKey,
        trust_domain: &TrustDomain,
    ) -> Result<WorkloadCertificate, KeepError> {
        let trust = self.trust.cell().load();
        let bundle = trust
            .bundles
            .of(trust_domain)
            .ok_or_else(|| KeepError::NoBundle {
                trust_domain: trust_domain.clone(),
            })?;
        let now = self.now();
        let certificate =
            WorkloadCertificate::from_pem(&reply.certificates, key, bundle, now).map_err(|source| {
                KeepError::Unfit {
                    ours: now,
                    ca: Timestamp::from_unix(reply.server_time),
                    source,
                }
            })?;
        if *certificate.id() != self.wanted.id {
            return Err(KeepError::OtherId {
                wanted: self.wanted.id.clone(),
                found: certificate.id().clone(),
            });
        }
        Ok(certificate)
    }

    fn report(&self, error: &KeepError, failures: u32) {
        let skew = self.client.skew();
        warn!(id = %self.wanted.id, failures, skew, error = %Chain(error), "certificate not renewed");
        self.health.send_modify(|health| {
            health.failures = failures;
            health.problem = Some(Chain(error).to_string());
            health.skew = skew;
        });
    }

    fn now(&self) -> Timestamp {
        Timestamp::from_unix(self.clock.unix())
    }
}

/// A change of the known difference between the clocks that is worth a second try at once.
const CLOCK_NEWS_SECONDS: u64 = 30;

/// Why a certificate was not renewed.
#[derive(Debug, thiserror::Error)]
pub enum KeepError {
    /// No key.
    #[error("cannot make a key")]
    Key {
        /// Why.
        source: KeyError,
    },
    /// No request.
    #[error("cannot make a request")]
    Request {
        /// Why.
        source: RequestError,
    },
    /// Nothing to show.
    #[error("cannot show who is asking")]
    Evidence {
        /// Why.
        source: EvidenceError,
    },
    /// The CA cannot be reached, or refuses.
    #[error("the CA issued no certificate")]
    Ca {
        /// Why.
        source: ClientError,
    },
    /// No bundle to judge the certificate by.
    #[error("there is no trust bundle for {trust_domain}")]
    NoBundle {
        /// The trust domain.
        trust_domain: TrustDomain,
    },
    /// Peers would refuse the certificate now; most often because a clock is wrong.
    #[error("the CA's certificate is refused: our clock shows {ours}, the CA's {ca}")]
    Unfit {
        /// Our time.
        ours: Timestamp,
        /// The CA's time.
        ca: Timestamp,
        /// Why.
        source: CertificateError,
    },
    /// Somebody else's certificate.
    #[error("the CA's certificate is for {found}, not for {wanted}")]
    OtherId {
        /// Whose was asked for.
        wanted: SpiffeId,
        /// Whose came.
        found: SpiffeId,
    },
}
