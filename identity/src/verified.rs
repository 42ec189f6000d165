//! Remembers which chains were verified, so that none is verified twice.

use std::collections::HashMap;
use std::mem;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustls_pki_types::CertificateDer;

use crate::{
    Bundles, Fingerprint, PeerIdentity, Revocations, Timestamp, VerifyError, chain_fingerprint, verify,
};

/// Results of [`verify`](verify()), by chain.
///
/// One is used again only where [`verify`](verify()) has to come to the same: for the same chain, octet for octet, by
/// the same bundle and the same revocations, while all of the chain is valid. Refusals are not kept.
#[derive(Debug)]
pub struct Verified {
    half: usize,
    kept: Mutex<Kept>,
}

/// Once the newer half is full, the older one is forgotten, and the newer one becomes the older.
#[derive(Debug, Default)]
struct Kept {
    newer: HashMap<Fingerprint, PeerIdentity>,
    older: HashMap<Fingerprint, PeerIdentity>,
}

impl Verified {
    /// Remembers at most `capacity` chains, some 1 KiB each; two at least.
    pub fn new(capacity: usize) -> Self {
        Self {
            half: (capacity / 2).max(1),
            kept: Mutex::default(),
        }
    }

    /// As [`verify`](verify()).
    ///
    /// # Errors
    /// As [`verify`](verify()).
    pub fn verify(
        &self,
        chain: &[CertificateDer<'_>],
        bundles: &Bundles,
        revocations: &Revocations,
        now: Timestamp,
    ) -> Result<PeerIdentity, VerifyError> {
        let name = chain_fingerprint(chain);
        let known = self.kept().find(&name);
        if let Some(peer) = known.filter(|peer| still_holds(peer, bundles, revocations, now)) {
            return Ok(peer);
        }
        let peer = verify(chain, bundles, revocations, now)?;
        self.kept().keep(name, peer.clone(), self.half);
        Ok(peer)
    }

    /// How many chains are remembered.
    pub fn len(&self) -> usize {
        let kept = self.kept();
        kept.newer.len() + kept.older.len()
    }

    /// Whether none is remembered.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        // Maps of whole values: whatever happened to who held them, they are good.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    fn find(&self, name: &Fingerprint) -> Option<PeerIdentity> {
        self.newer.get(name).or_else(|| self.older.get(name)).cloned()
    }

    fn keep(&mut self, name: Fingerprint, peer: PeerIdentity, half: usize) {
        if self.newer.len() >= half {
            self.older = mem::take(&mut self.newer);
        }
        self.newer.insert(name, peer);
    }
}

/// Whether everything that `peer` was judged by is as it was.
fn still_holds(peer: &PeerIdentity, bundles: &Bundles, revocations: &Revocations, now: Timestamp) -> bool {
    let same_bundle = bundles.about(peer.id()).is_some_and(|bundle| {
        bundle.sequence() == peer.bundle_sequence() && bundle.fingerprint() == peer.bundle_fingerprint()
    });
    // The number of the revocations comes from whoever publishes them, and one that went back in time may give a number
    // twice. Looking it up again costs next to nothing beside the signatures.
    let revoked = || {
        let links = &peer.path().links;
        revocations.revokes(peer.id()) || links.iter().any(|link| revocations.judge(link).is_some())
    };
    same_bundle
        && revocations.generation() == peer.revocation_generation()
        && peer.valid().contains(now)
        && !revoked()
}
