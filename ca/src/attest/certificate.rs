//! Knows callers by certificates of ours that are still valid.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ferrule_identity::{Bundles, PeerIdentity, Revocations, Timestamp, Verified, VerifyError};
use rustls_pki_types::CertificateDer;

use super::recent::Recent;
use super::{Attested, Caller, CallerKind, Entitlement};
use crate::ledger::serial::SerialError;
use crate::ledger::{Ledger, LedgerError, Serial};

/// Judges the client certificate of a connection again for each request, because a connection may be older than a
/// revocation. What was verified in the handshake and is still so is not verified anew.
#[derive(Debug)]
pub struct Certificates {
    ledger: Arc<dyn Ledger>,
    verified: Arc<Verified>,
    on_record: Mutex<Recent<Serial, OnRecord>>,
}

/// What the ledger says about a certificate for as long as it is valid.
#[derive(Debug, Clone)]
struct OnRecord {
    id: String,
    host: Option<String>,
}

impl Certificates {
    /// Knows the certificates that `ledger` has on record.
    pub fn new(ledger: Arc<dyn Ledger>) -> Self {
        let verified = Arc::new(Verified::new(REMEMBERED));
        let on_record = Mutex::new(Recent::new(REMEMBERED));
        Self {
            ledger,
            verified,
            on_record,
        }
    }

    /// The chains that were verified here, for handshakes to use and to add to.
    pub fn verified(&self) -> Arc<Verified> {
        Arc::clone(&self.verified)
    }

    /// Who showed `chain`: an identity of ours, verified as any peer would.
    ///
    /// # Errors
    /// When there is no chain, or it does not verify now.
    pub fn identify(
        &self,
        chain: &[CertificateDer<'_>],
        bundles: &Bundles,
        revocations: &Revocations,
        now: Timestamp,
    ) -> Result<PeerIdentity, CertificateFault> {
        if chain.is_empty() {
            return Err(CertificateFault::None);
        }
        self.verified
            .verify(chain, bundles, revocations, now)
            .map_err(|source| CertificateFault::Refused { source })
    }

    /// What `peer` may ask for: its own identity again, on the evidence of the same host, where one stood behind it.
    ///
    /// # Errors
    /// When its certificate is not on record here: after a restore nobody could tell whether the host behind it was
    /// revoked.
    pub async fn attest(&self, peer: &PeerIdentity) -> Result<Attested, CertificateFault> {
        let serial = serial_of(peer)?;
        let known = self.on_record().find(&serial).cloned();
        let record = match known {
            Some(record) => Some(record),
            None => self.look_up(serial).await?,
        };
        let record = record
            .filter(|record| record.id == peer.id().as_str())
            .ok_or_else(|| CertificateFault::NotOnRecord {
                serial: peer.serial().to_string(),
            })?;
        Ok(Attested {
            caller: Caller::new(CallerKind::Certificate, peer.id().as_str()),
            entitlement: Entitlement::exactly(peer.id().clone()),
            host: record.host,
        })
    }

    /// Remembers a certificate for `id` that went on record with `host` behind it, so that its holder's next request
    /// does not have to look it up.
    pub fn remember(&self, serial: Serial, id: &str, host: Option<&str>) {
        let record = OnRecord {
            id: id.to_owned(),
            host: host.map(str::to_owned),
        };
        self.on_record().keep(serial, record);
    }

    async fn look_up(&self, serial: Serial) -> Result<Option<OnRecord>, CertificateFault> {
        let found = self.ledger.certificate(serial).await;
        let found = found.map_err(|source| CertificateFault::Ledger { source })?;
        Ok(found.map(|found| {
            self.remember(serial, &found.id, found.host.as_deref());
            OnRecord {
                id: found.id,
                host: found.host,
            }
        }))
    }

    fn on_record(&self) -> MutexGuard<'_, Recent<Serial, OnRecord>> {
        // Whole values go in and come out: there is nothing half done for a panic to leave.
        self.on_record.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn serial_of(peer: &PeerIdentity) -> Result<Serial, CertificateFault> {
    Serial::from_be_bytes(peer.serial().magnitude()).map_err(|source| CertificateFault::Serial { source })
}

/// Chains, and certificates on record, that are remembered: as many as may come at once after an outage, in 5 MiB.
const REMEMBERED: usize = 4_096;

/// Why a client certificate does not show who is asking.
#[derive(Debug, thiserror::Error)]
pub enum CertificateFault {
    /// None was shown.
    #[error("a client certificate is needed; open the connection with one")]
    None,
    /// It does not verify.
    #[error("the client certificate is refused")]
    Refused {
        /// Why.
        source: VerifyError,
    },
    /// Its serial number is none that this CA gives out.
    #[error("the client certificate's serial number is not one of ours")]
    Serial {
        /// What is wrong with it.
        source: SerialError,
    },
    /// It verifies, but this CA does not remember it.
    #[error("the certificate {serial} is not on record here; show other evidence")]
    NotOnRecord {
        /// Its serial number.
        serial: String,
    },
    /// The ledger cannot be read.
    #[error("cannot look up the client certificate")]
    Ledger {
        /// The cause.
        source: LedgerError,
    },
}

impl CertificateFault {
    /// The stable word for it.
    pub const fn word(&self) -> &'static str {
        match self {
            Self::None => "certificate_required",
            Self::Refused { .. } | Self::Serial { .. } | Self::NotOnRecord { .. } => "certificate_refused",
            Self::Ledger { .. } => "ledger_unavailable",
        }
    }
}
