//! Holds what the API answers to those who verify, ready to be sent.

use std::collections::BTreeMap;

use bytes::Bytes;
use ferrule_identity::path::Link;
use ferrule_identity::{
    BundleError, Bundles, DenyList, Fingerprint, Revocations, SerialNumber, SpiffeId, Timestamp, TrustBundle,
};
use http::HeaderValue;

use crate::authority::Authorities;
use crate::ledger::event::Subject;
use crate::ledger::{Ledger, LedgerError, RevocationList, Serial};
use crate::revoke::{CrlError, RevocationLists};

/// The trust bundle, the deny list and the revocation lists at one moment. Made anew at each change, then shared.
#[derive(Debug, Clone)]
pub struct Trust {
    /// The bundle's sequence.
    pub sequence: u64,
    /// The bundle as SPIFFE JWKS.
    pub jwks: Versioned,
    /// The bundle in PEM.
    pub pem: Versioned,
    /// The bundle, to verify callers by.
    pub bundles: Bundles,
    /// The deny list's number.
    pub generation: u64,
    /// The deny list.
    pub denied: DenyList,
    /// Its tag.
    pub denied_tag: HeaderValue,
    /// The deny list, to verify callers by.
    pub revocations: Revocations,
    /// The revocation lists in DER, by the key identifier of their issuer.
    pub crls: BTreeMap<String, Versioned>,
}

/// Something to be sent, with its entity tag.
#[derive(Debug, Clone)]
pub struct Versioned {
    /// What is sent.
    pub body: Bytes,
    /// Its tag: changes whenever it does.
    pub tag: HeaderValue,
}

impl Trust {
    /// What is to be answered from now on.
    pub fn new(
        bundle: TrustBundle,
        generation: u64,
        denied: DenyList,
        crls: impl IntoIterator<Item = (String, Bytes)>,
    ) -> Self {
        let mut bundles = Bundles::new();
        let sequence = bundle.sequence();
        let jwks = Versioned::new(bundle.to_jwks().into());
        let pem = Versioned::new(bundle.to_pem().into());
        bundles.insert(bundle).expect("a map without bundles takes any");
        Self {
            sequence,
            jwks,
            pem,
            bundles,
            generation,
            denied_tag: tag(&generation.to_be_bytes()),
            revocations: Revocations::new(generation, denied.clone(), Vec::new()),
            denied,
            crls: crls
                .into_iter()
                .map(|(issuer, der)| (issuer, Versioned::new(der)))
                .collect(),
        }
    }
}

impl Trust {
    /// Reads what is trusted, and what is not any more, at `now`.
    ///
    /// # Errors
    /// When the ledger cannot be read, or what it holds makes no bundle.
    pub async fn read(
        authorities: &Authorities,
        ledger: &dyn Ledger,
        lists: &RevocationLists,
        now: Timestamp,
    ) -> Result<Self, TrustError> {
        let revoked = ledger
            .revocations()
            .await
            .map_err(|source| TrustError::Ledger { source })?;
        let view = authorities.view();
        let settings = authorities.settings();
        let sequence = view.slots().sequence();
        let roots = view.trusted_roots();
        let hint = Some(settings.refresh_hint);
        // When all of them have ended the last ones are still told: whoever comes to repair it needs to see them.
        let ends = view.slots().trusted_roots().map(|root| root.lifetime.not_after());
        let at = ends.max().map_or(now, |end| now.min(end));
        let bundle = TrustBundle::new(settings.trust_domain.clone(), sequence, hint, &roots, at)
            .map_err(|source| TrustError::Bundle { source })?;
        let crls = lists
            .current(view.list_signers(), &revoked, now)
            .map_err(|source| TrustError::Lists { source })?;
        Ok(Self::new(bundle, revoked.generation, denied(&revoked)?, crls))
    }

    /// Whether a client would see no difference.
    pub fn says_the_same(&self, other: &Self) -> bool {
        self.jwks.tag == other.jwks.tag
            && self.generation == other.generation
            && self.denied == other.denied
            && self.crls.len() == other.crls.len()
            && self
                .crls
                .iter()
                .all(|(issuer, crl)| other.crls.get(issuer).is_some_and(|old| old.tag == crl.tag))
    }
}

/// The deny list that the ledger's revocations amount to.
fn denied(revoked: &RevocationList) -> Result<DenyList, TrustError> {
    let mut list = DenyList::default();
    let link = |serial: &Serial, issuer: &str| {
        let kept = || TrustError::Kept {
            what: format!("the certificate {serial}"),
        };
        let issuer = issuer.parse().map_err(|_| kept())?;
        let serial = SerialNumber::from_magnitude(serial.as_be_bytes()).map_err(|_| kept())?;
        Ok(Link { issuer, serial })
    };
    for entry in &revoked.entries {
        match (&entry.subject, &entry.issuer) {
            (Subject::Identity(id), _) => {
                let id = SpiffeId::parse(id).map_err(|_| TrustError::Kept {
                    what: format!("the identity {id}"),
                })?;
                list.identities.insert(id);
            }
            (Subject::Serial(serial), Some(issuer)) => {
                list.certificates.insert(link(serial, issuer)?);
            }
            // Never issued here, or over: nothing to deny. A host is denied by its certificates below.
            (Subject::Serial(_), None) | (Subject::Host(_), _) => {}
        }
    }
    for certificate in &revoked.host_certificates {
        list.certificates
            .insert(link(&certificate.serial, &certificate.issuer)?);
    }
    Ok(list)
}

/// Why there is nothing new to answer.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// The ledger cannot be read.
    #[error("cannot read the revocations")]
    Ledger {
        /// The cause.
        source: LedgerError,
    },
    /// The roots make no bundle.
    #[error("the roots make no trust bundle")]
    Bundle {
        /// What is wrong.
        source: BundleError,
    },
    /// A revocation list cannot be signed.
    #[error("the revocation lists cannot be signed anew")]
    Lists {
        /// The cause.
        source: CrlError,
    },
    /// A revocation on record cannot be used.
    #[error("the revocation of {what} cannot be used")]
    Kept {
        /// Of what.
        what: String,
    },
}

impl Versioned {
    /// `body` with the tag that its content has.
    pub fn new(body: Bytes) -> Self {
        let tag = tag(&body);
        Self { body, tag }
    }
}

/// A strong entity tag: half a SHA-256, in quotes.
fn tag(content: &[u8]) -> HeaderValue {
    let digest = Fingerprint::of(content).to_string();
    HeaderValue::try_from(format!("\"{}\"", &digest[..32])).expect("hex digits in quotes are a header value")
}
