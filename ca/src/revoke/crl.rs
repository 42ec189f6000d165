//! Signs the revocation list of each issuer (RFC 5280 §5), anew at each change and well before it is out of date.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use ferrule_identity::Timestamp;

use super::list::{self, Listed};
use crate::authority::ActiveSigner;
use crate::ledger::RevocationList;
use crate::x509::{self, ListFields, X509Error};

/// The revocation lists as they were last signed.
#[derive(Debug)]
pub struct RevocationLists {
    lifetime: Duration,
    signed: Mutex<BTreeMap<String, Signed>>,
}

/// One issuer's list.
#[derive(Debug, Clone)]
struct Signed {
    listed: Vec<Listed>,
    this_update: Timestamp,
    der: Bytes,
}

impl RevocationLists {
    /// Lists that are valid for `lifetime`, and signed again at half of it.
    pub const fn new(lifetime: Duration) -> Self {
        Self {
            lifetime,
            signed: Mutex::new(BTreeMap::new()),
        }
    }

    /// The list of each of `signers` in DER, by its key identifier, as it shall be published at `now`. One that is
    /// still right is given out again as it is.
    ///
    /// # Errors
    /// When a list cannot be signed; the others are kept for the next call.
    pub fn current(
        &self,
        signers: &[Arc<ActiveSigner>],
        revoked: &RevocationList,
        now: Timestamp,
    ) -> Result<Vec<(String, Bytes)>, CrlError> {
        let mut wanted = list::by_issuer(revoked);
        let mut signed = self.signed.lock().unwrap_or_else(PoisonError::into_inner);
        signed.retain(|issuer, _| signers.iter().any(|signer| signer.authority() == issuer));
        // Nobody could verify a list that is signed after the signer's own end.
        let valid = signers
            .iter()
            .filter(|signer| now < signer.lifetime().not_after());
        valid
            .map(|signer| {
                let issuer = signer.authority();
                let listed = wanted.remove(issuer).unwrap_or_default();
                let last = signed.get(issuer);
                let listed = with_late_ones(listed, last, now);
                let der = match last.filter(|last| !self.is_due(last, &listed, now)) {
                    Some(last) => last.der.clone(),
                    None => {
                        let next = self.sign(signer, revoked.generation, listed, now)?;
                        let der = next.der.clone();
                        signed.insert(issuer.to_owned(), next);
                        der
                    }
                };
                Ok((issuer.to_owned(), der))
            })
            .collect()
    }

    /// Whether a new list must be signed in the place of `last`.
    fn is_due(&self, last: &Signed, listed: &[Listed], now: Timestamp) -> bool {
        let half = last.this_update.plus(self.lifetime / 2);
        // A clock that was set back must not leave a list from the future in place.
        last.listed != listed || now >= half || now < last.this_update
    }

    fn sign(
        &self,
        signer: &ActiveSigner,
        generation: u64,
        listed: Vec<Listed>,
        now: Timestamp,
    ) -> Result<Signed, CrlError> {
        let end = signer.lifetime().not_after();
        let fields = ListFields {
            number: number(generation, now),
            this_update: now.minus(BACKDATE),
            next_update: now.plus(self.lifetime).min(end),
            revoked: listed
                .iter()
                .map(|listed| (listed.serial, listed.since))
                .collect(),
        };
        let der = x509::revocation_list(fields, signer.issued_by()).map_err(|source| CrlError {
            issuer: signer.authority().to_owned(),
            source,
        })?;
        Ok(Signed {
            listed,
            this_update: now,
            der: der.into(),
        })
    }
}

/// RFC 5280 §3.3: a certificate leaves the list only once it was on one that was issued after its end.
fn with_late_ones(mut listed: Vec<Listed>, last: Option<&Signed>, now: Timestamp) -> Vec<Listed> {
    let Some(last) = last else {
        return listed;
    };
    let late = |old: &&Listed| old.not_after < now && old.not_after >= last.this_update;
    for old in last.listed.iter().filter(late) {
        if !listed.iter().any(|new| new.serial == old.serial) {
            listed.push(old.clone());
        }
    }
    listed.sort();
    listed
}

/// The list's number: the deny list's own, then the time, so that it grows with every change, with every second, and
/// across restarts and restores, without a counter of its own to lose.
fn number(generation: u64, now: Timestamp) -> Vec<u8> {
    let seconds = u64::try_from(now.unix()).unwrap_or(0);
    [generation.to_be_bytes(), seconds.to_be_bytes()].concat()
}

/// For verifiers whose clock is behind.
const BACKDATE: Duration = Duration::from_secs(300);

/// A revocation list could not be signed.
#[derive(Debug, thiserror::Error)]
#[error("cannot sign the revocation list of {issuer}")]
pub struct CrlError {
    /// The issuer's key identifier.
    pub issuer: String,
    /// The cause.
    pub source: X509Error,
}

#[cfg(test)]
mod tests;
