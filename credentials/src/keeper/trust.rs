//! Keeps the trust bundle and the deny list fresh.

use std::sync::Arc;
use std::time::Duration;

use ferrule_daemon::again::{Failure, Failures};
use ferrule_daemon::backoff::{Backoff, Jitter};
use ferrule_daemon::clock::Clock;
use ferrule_daemon::logging::Chain;
use ferrule_identity::tls::TrustCell;
use ferrule_identity::{BundleError, TrustBundle, TrustDomain};
use ferrule_wire::ca::RevocationsReply;
use tokio::sync::{Notify, watch};
use tracing::{info, warn};

use crate::Credentials;
use crate::client::{CaClient, ClientError, Fetched, Since};
use crate::trust::{self, Rollback};

/// Fetches what the CA publishes into a [`TrustCell`]. Clones share it.
#[derive(Debug, Clone)]
pub(super) struct TrustKeeper {
    cell: Arc<TrustCell>,
    trust_domain: TrustDomain,
    clock: Clock,
}

/// What was fetched last, by its name.
#[derive(Debug, Default)]
struct Versions {
    bundle: Option<String>,
    revocations: Option<String>,
}

impl TrustKeeper {
    pub(super) const fn new(trust_domain: TrustDomain, cell: Arc<TrustCell>, clock: Clock) -> Self {
        Self {
            cell,
            trust_domain,
            clock,
        }
    }

    pub(super) fn cell(&self) -> &TrustCell {
        &self.cell
    }

    /// Fetches the bundle unless it has this sequence already: the new certificate may need its newest root. A
    /// failure is no reason to refuse the certificate yet: it is judged by the bundle that is there.
    pub(super) async fn at_least(&self, sequence: u64, client: &mut CaClient) {
        let held = self.cell.load();
        if held
            .bundles
            .of(&self.trust_domain)
            .is_some_and(|bundle| bundle.sequence() >= sequence)
        {
            return;
        }
        if let Err(error) = self.fetch_bundle(client, &mut Versions::default()).await {
            warn!(error = %Chain(&error), "bundle not fetched");
        }
    }

    /// Fetches for ever; publishes with the certificate that is held whatever is new.
    pub(super) async fn run(
        self,
        mut client: CaClient,
        credentials: &watch::Sender<Option<Arc<Credentials>>>,
        fetch: &Notify,
    ) -> std::convert::Infallible {
        let mut failures = Failures::new(PATIENCE);
        let mut versions = Versions::default();
        loop {
            match self.round(&mut client, &mut versions).await {
                Ok(changed) => {
                    failures.none();
                    if changed {
                        let trust = self.cell.load();
                        credentials.send_if_modified(|held| match held {
                            Some(held) => {
                                let certificate = held.certificate.clone();
                                *held = Arc::new(Credentials { certificate, trust });
                                true
                            }
                            None => false,
                        });
                    }
                }
                Err(error) => {
                    let wait = failures.wait(error.kind(), Jitter::random());
                    let failures = failures.count();
                    // An outage has many, a second apart.
                    if failures.is_power_of_two() {
                        warn!(failures, error = %Chain(&error), "trust not refreshed");
                    }
                    tokio::select! {
                        () = self.clock.sleep(wait) => {}
                        // A certificate came: the CA is back.
                        () = fetch.notified() => {}
                    }
                }
            }
        }
    }

    /// Fetches both once; true when either changed. The bundle changes rarely and its news may wait for the next
    /// round; a revocation may not, so it is waited for.
    async fn round(&self, client: &mut CaClient, versions: &mut Versions) -> Result<bool, TrustError> {
        let changed = self.fetch_bundle(client, versions).await?;
        // A change that is known is published before the wait, not after it.
        let wait = if changed { Duration::ZERO } else { WAIT };
        Ok(changed | self.fetch_revocations(client, versions, wait).await?)
    }

    async fn fetch_bundle(&self, client: &mut CaClient, versions: &mut Versions) -> Result<bool, TrustError> {
        let since = Since {
            etag: versions.bundle.as_deref(),
            wait: Duration::ZERO,
        };
        let fetched = client
            .bundle(since)
            .await
            .map_err(|source| TrustError::Ca { source })?;
        let Fetched::New { value, etag } = fetched else {
            return Ok(false);
        };
        let sequence = value.sequence();
        let changed = self.take_bundle(value)?;
        versions.bundle = etag;
        if changed {
            info!(trust_domain = %self.trust_domain, sequence, "trust bundle changed");
        }
        Ok(changed)
    }

    fn take_bundle(&self, bundle: TrustBundle) -> Result<bool, TrustError> {
        trust::take_bundle(&self.cell, bundle).map_err(|source| TrustError::Bundle { source })
    }

    async fn fetch_revocations(
        &self,
        client: &mut CaClient,
        versions: &mut Versions,
        wait: Duration,
    ) -> Result<bool, TrustError> {
        let since = Since {
            etag: versions.revocations.as_deref(),
            wait,
        };
        let fetched = client
            .revocations(since)
            .await
            .map_err(|source| TrustError::Ca { source })?;
        let Fetched::New { value, etag } = fetched else {
            return Ok(false);
        };
        let changed = self.take_revocations(&value)?;
        versions.revocations = etag;
        Ok(changed)
    }

    fn take_revocations(&self, reply: &RevocationsReply) -> Result<bool, TrustError> {
        let list = reply.to_list().map_err(|source| TrustError::List { source })?;
        let changed = trust::take_deny_list(&self.cell, reply.generation, list)
            .map_err(|source| TrustError::Rollback { source })?;
        if changed {
            info!(generation = reply.generation, "deny list changed");
        }
        Ok(changed)
    }
}

/// How long the CA is asked to wait for news.
const WAIT: Duration = Duration::from_secs(25);

/// How long a CA is left alone that answers, and not as it should.
const PATIENCE: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(30));

/// Why trust was not refreshed. What was known before stays in force.
#[derive(Debug, thiserror::Error)]
pub(super) enum TrustError {
    #[error("the CA did not answer as it should")]
    Ca { source: ClientError },
    #[error("the bundle is not taken")]
    Bundle { source: BundleError },
    #[error("the deny list is not taken")]
    List {
        source: ferrule_wire::ca::RevocationsError,
    },
    #[error("the deny list is not taken")]
    Rollback { source: Rollback },
}

impl TrustError {
    fn kind(&self) -> Failure {
        match self {
            Self::Ca {
                source: ClientError::Unreachable { source, .. },
            } if source.is_away() => Failure::Away,
            _ => Failure::Broken,
        }
    }
}
