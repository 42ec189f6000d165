//! Says why no certificate was issued.

use std::time::Duration;

use ferrule_identity::{KeyAlgorithm, Lifetime, SpiffeId, Timestamp, TrustDomain};

use crate::attest::{Caller, Entitlement};
use crate::crypto::listed;
use crate::ledger::LedgerError;
use crate::x509::X509Error;

/// Why an attested caller gets no certificate. The text is for the caller and for the ledger; it repeats nothing
/// of the request but names.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The caller may not have this identity.
    #[error("{caller} may not have {id}; it may have {entitlement}")]
    NotEntitled {
        /// Who asked.
        caller: Caller,
        /// What it asked for.
        id: SpiffeId,
        /// What it may have.
        entitlement: Entitlement,
    },
    /// Nobody of that trust domain is vouched for here.
    #[error("{id} is not in the trust domain {trust_domain} of this CA")]
    ForeignTrustDomain {
        /// What was asked for.
        id: SpiffeId,
        /// The trust domain of this CA.
        trust_domain: TrustDomain,
    },
    /// The request names no identity, and the evidence several or none.
    #[error("say which identity is wanted: {caller} may have {entitlement}")]
    IdMissing {
        /// Who asked.
        caller: Caller,
        /// What it may have.
        entitlement: Entitlement,
    },
    /// A life outside the limits.
    #[error(
        "a life of {asked} seconds is outside the limits of this CA: {} to {} seconds",
        min.as_secs(),
        max.as_secs()
    )]
    Lifetime {
        /// What was asked for, in seconds.
        asked: i64,
        /// The shortest that is issued.
        min: Duration,
        /// The longest that is issued.
        max: Duration,
    },
    /// A key of a kind that workloads do not get certificates for.
    #[error("the request's key is {algorithm}; this CA takes {}", listed(accepted))]
    Key {
        /// The kind of key.
        algorithm: KeyAlgorithm,
        /// What is accepted.
        accepted: &'static [KeyAlgorithm],
    },
    /// The request asks for something beyond the one identity.
    #[error("the request asks for {what}, and a certificate for {id} has nothing but that name")]
    AsksForMore {
        /// What else it asks for.
        what: String,
        /// The identity that would be issued.
        id: SpiffeId,
    },
    /// It is no part of the control plane.
    #[error("{id} is not one of the CA's `servers`, which alone get serving certificates")]
    NoServer {
        /// Who asked.
        id: SpiffeId,
    },
    /// The identity is revoked, until somebody lifts it.
    #[error("{id} is revoked")]
    IdentityRevoked {
        /// The identity.
        id: String,
    },
    /// The host whose evidence it is was revoked.
    #[error("the host {host} is revoked")]
    HostRevoked {
        /// The host.
        host: String,
    },
}

impl Refusal {
    /// The stable word for programs, for the ledger and as a metric's label.
    pub const fn word(&self) -> &'static str {
        match self {
            Self::NoServer { .. } => "not_a_server",
            Self::NotEntitled { .. } => "not_entitled",
            Self::ForeignTrustDomain { .. } => "foreign_trust_domain",
            Self::IdMissing { .. } => "id_missing",
            Self::Lifetime { .. } => "lifetime_out_of_range",
            Self::Key { .. } => "key_not_accepted",
            Self::AsksForMore { .. } => "request_asks_too_much",
            Self::IdentityRevoked { .. } => "identity_revoked",
            Self::HostRevoked { .. } => "host_revoked",
        }
    }
}

/// Why the CA did not issue.
#[derive(Debug, thiserror::Error)]
pub enum IssueError {
    /// The caller's fault; it is in the ledger.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// This replica has no signing certificate that is active.
    #[error("this CA has no active signing certificate: {reason}")]
    NoSigner {
        /// Why not.
        reason: String,
    },
    /// The CA's own certificates are not valid by its own clock, so nobody could verify what it issues.
    #[error(
        "the CA's own certificates are valid from {lifetime}, and by its clock it is {now}: it issues nothing"
    )]
    ChainNotValid {
        /// The life that all of them share.
        lifetime: Lifetime,
        /// The CA's clock.
        now: Timestamp,
    },
    /// Too little is left of the signing certificate's life.
    #[error("the signing certificate ends at {ends}, too soon for a certificate of {min:?}")]
    EndsTooSoon {
        /// The end of the chain.
        ends: Timestamp,
        /// The shortest life that is issued.
        min: Duration,
    },
    /// What was built broke our own rules; it was thrown away.
    #[error("what was built for {name} would not be accepted by its peers, so it was not issued")]
    Unverifiable {
        /// The name in it.
        name: String,
        /// Which rule it breaks.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Nothing could be built or signed.
    #[error("cannot build a certificate for {name}")]
    Build {
        /// The name in it.
        name: String,
        /// The cause.
        source: X509Error,
    },
    /// A serving certificate without names, or with a name that is no DNS name or address.
    #[error("{name:?} cannot be in a serving certificate")]
    ServingName {
        /// The name; empty when there is none.
        name: String,
    },
    /// The record could not be made durable, so the certificate was thrown away.
    #[error("cannot record the certificate for {name}, so it was not issued")]
    Record {
        /// The name in it.
        name: String,
        /// The cause.
        source: LedgerError,
    },
    /// The system has no randomness.
    #[error("no randomness for a serial number")]
    Random,
}

impl IssueError {
    /// The stable word for programs and as a metric's label.
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Refused(refusal) => refusal.word(),
            Self::NoSigner { .. } => "no_signer",
            Self::ChainNotValid { .. } => "ca_not_valid",
            Self::EndsTooSoon { .. } => "ca_ends_too_soon",
            Self::Record { .. } => "ledger_unavailable",
            Self::ServingName { .. } => "bad_serving_name",
            Self::Unverifiable { .. } | Self::Build { .. } | Self::Random => "internal",
        }
    }
}
