//! Takes the making of a certificate apart, so that each step can be measured alone.

use std::sync::Arc;

use ferrule_identity::{Lifetime, PublicKey, SpiffeId, Timestamp};
use rustls_pki_types::CertificateDer;

use super::IssueError;
use super::sign::{self, Signed};
use super::template::{self, Profile};
use crate::authority::{ActiveSigner, Authorities};

/// What the steps of issuing to one workload have in common. Nothing that comes from here is on record, so none of
/// it may leave.
#[derive(Debug)]
pub struct Steps {
    signer: Arc<ActiveSigner>,
    profile: Profile,
    lifetime: Lifetime,
    now: Timestamp,
}

impl Steps {
    /// The steps of issuing a certificate of `hours` hours for `id` at `now`, with the signing certificate in use.
    /// `None` when there is none, or it ends before.
    pub fn new(authorities: &Authorities, id: SpiffeId, hours: u64, now: Timestamp) -> Option<Self> {
        let signer = authorities.active_signer().ok()?;
        let wanted = std::time::Duration::from_secs(hours * 3600);
        let lifetime = template::leaf_life(wanted, signer.lifetime(), now)?;
        Some(Self {
            signer,
            profile: Profile::Workload(id),
            lifetime,
            now,
        })
    }

    /// Fills in a certificate for `key`, and signs it.
    ///
    /// # Errors
    /// When it cannot be built.
    pub fn sign(&self, key: &PublicKey) -> Result<CertificateDer<'static>, IssueError> {
        let Signed { leaf, .. } = sign::draft(&self.profile, key, self.lifetime, &self.signer)?;
        Ok(leaf)
    }

    /// Judges a certificate from [`sign`](Self::sign) for `key` by the rules of a peer.
    ///
    /// # Errors
    /// When a peer would refuse it.
    pub fn verify(&self, key: &PublicKey, leaf: &CertificateDer<'static>) -> Result<(), IssueError> {
        sign::check(&self.profile, key, leaf, self.signer.own_bundle(), self.now)
    }

    /// The chain of such a certificate as it is answered, in PEM.
    pub fn chain_pem(&self, leaf: &CertificateDer<'_>) -> String {
        self.signer.chain_pem(leaf)
    }

    /// The key identifier of the authority that signs.
    pub fn issuer(&self) -> &str {
        self.signer.authority()
    }

    /// The life of the certificates.
    pub const fn lifetime(&self) -> Lifetime {
        self.lifetime
    }
}
