//! Holds the authorities that vouch for one trust domain: the trust bundle.

mod anchor;
mod error;
mod json;
mod jwks;
mod set;

use std::time::Duration;

use rustls_pki_types::CertificateDer;

pub use anchor::{Anchor, Anchors};
pub use error::BundleError;
pub use set::Bundles;

use crate::pem::{self, PemLimits};
use crate::{Fingerprint, Timestamp, TrustDomain};

/// The trust anchors of one trust domain, each checked when it came in. A value: a change makes a new bundle.
///
/// A bundle without anchors is valid, and trusts nobody: that is how a domain revokes everything
/// (SPIFFE_Trust_Domain_and_Bundle.md §4.1).
#[derive(Debug, Clone)]
pub struct TrustBundle {
    trust_domain: TrustDomain,
    sequence: u64,
    refresh_hint: Option<Duration>,
    anchors: Anchors,
    expired: Vec<Anchor>,
    fingerprint: Fingerprint,
}

impl TrustBundle {
    /// A bundle of `certificates` for `trust_domain`, whose name comes from configuration and never from the
    /// bundle itself. `sequence` grows with every change; 0 means that the bundle is not numbered.
    /// `refresh_hint` is how often to ask for a newer one, in whole seconds.
    ///
    /// Certificates that have expired at `now` are left out, and told by [`expired`](Self::expired): they linger
    /// in bundles after a rotation. Ones that are not valid yet stay: they are published ahead of one.
    ///
    /// # Errors
    /// When there are more than 256 certificates, one is not fit to be an anchor, or all of them have expired.
    pub fn new(
        trust_domain: TrustDomain,
        sequence: u64,
        refresh_hint: Option<Duration>,
        certificates: &[CertificateDer<'_>],
        now: Timestamp,
    ) -> Result<Self, BundleError> {
        if certificates.len() > MAX_ANCHORS {
            return Err(BundleError::TooMany {
                count: certificates.len(),
            });
        }
        let read =
            |(index, der)| Anchor::from_der(der).map_err(|source| BundleError::anchor(index, der, source));
        let anchors: Vec<Anchor> = certificates
            .iter()
            .enumerate()
            .map(read)
            .collect::<Result<_, _>>()?;
        let (expired, live): (Vec<_>, Vec<_>) = anchors
            .into_iter()
            .partition(|anchor| anchor.lifetime().not_after() < now);
        if let (Some(last), true) = (
            expired.iter().max_by_key(|anchor| anchor.lifetime().not_after()),
            live.is_empty(),
        ) {
            return Err(BundleError::AllExpired {
                subject: last.subject().to_owned(),
                not_after: last.lifetime().not_after(),
                now,
            });
        }
        Ok(Self {
            trust_domain,
            sequence,
            refresh_hint,
            fingerprint: content_fingerprint(&live),
            anchors: Anchors::new(live),
            expired,
        })
    }

    /// Reads PEM text: one certificate or more, nothing else. The bundle is not numbered.
    ///
    /// # Errors
    /// As [`new`](Self::new), or when the text is not strict PEM ([`pem`]).
    pub fn from_pem(trust_domain: TrustDomain, text: &str, now: Timestamp) -> Result<Self, BundleError> {
        let blocks = pem::read_all(text, pem::CERTIFICATE, PemLimits::BUNDLE)
            .map_err(|source| BundleError::Pem { source })?;
        let certificates: Vec<_> = blocks
            .iter()
            .map(|block| CertificateDer::from(block.der().to_vec()))
            .collect();
        Self::new(trust_domain, 0, None, &certificates, now)
    }

    /// Reads a SPIFFE bundle, a JWK set in JSON (SPIFFE_Trust_Domain_and_Bundle.md §4, X509-SVID.md §6).
    /// Entries of other uses or unknown key types are ignored, as the standard asks; of an `x5c`, only the first
    /// value is taken.
    ///
    /// # Errors
    /// As [`new`](Self::new), or when the text is longer than 1 MiB, is not JSON, repeats a key, has no list
    /// `keys`, or has a sequence or hint that is no whole number.
    pub fn from_jwks(trust_domain: TrustDomain, text: &str, now: Timestamp) -> Result<Self, BundleError> {
        jwks::read(trust_domain, &json::read(text)?, now)
    }

    /// The bundle as a SPIFFE bundle in JSON, for [`from_jwks`](Self::from_jwks) and for others.
    pub fn to_jwks(&self) -> String {
        jwks::write(self)
    }

    /// The anchors as PEM text; empty when there are none, which [`from_pem`](Self::from_pem) refuses.
    pub fn to_pem(&self) -> String {
        self.anchors()
            .iter()
            .map(|anchor| pem::write(pem::CERTIFICATE, anchor.der()).to_string())
            .collect()
    }

    /// The trust domain that the anchors vouch for.
    pub const fn trust_domain(&self) -> &TrustDomain {
        &self.trust_domain
    }

    /// The number of this state; 0 when it is not numbered.
    pub const fn sequence(&self) -> u64 {
        self.sequence
    }

    /// How often to ask for a newer bundle, when its publisher said so.
    pub const fn refresh_hint(&self) -> Option<Duration> {
        self.refresh_hint
    }

    /// The anchors that are trusted.
    pub fn anchors(&self) -> &[Anchor] {
        self.anchors.as_slice()
    }

    /// The anchors that were left out because they had expired.
    pub fn expired(&self) -> &[Anchor] {
        &self.expired
    }

    /// The anchors, ready for [`verify_path`](crate::path::verify_path).
    pub const fn trust(&self) -> &Anchors {
        &self.anchors
    }

    /// The SHA-256 over the anchors in their order: equal for bundles that trust the same certificates.
    pub const fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    /// The same bundle without a hint.
    pub(crate) fn without_hint(self) -> Self {
        Self {
            refresh_hint: None,
            ..self
        }
    }
}

fn content_fingerprint(anchors: &[Anchor]) -> Fingerprint {
    let all: Vec<u8> = anchors
        .iter()
        .flat_map(|anchor| *anchor.fingerprint().as_bytes())
        .collect();
    Fingerprint::of(&all)
}

/// The most certificates in one bundle; as many as fit into PEM of the size that we read.
const MAX_ANCHORS: usize = 256;
