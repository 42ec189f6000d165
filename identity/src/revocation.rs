//! Remembers what was revoked: identities, certificates, the keys of authorities.

mod crl;

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

pub use crl::{Crl, CrlError};

use crate::path::Link;
use crate::{Fingerprint, SpiffeId};

/// What may not be trusted although its certificate is in order. A value: cheap to clone, never changed in place.
///
/// The deny list is the mesh's own. CRLs (RFC 5280 §5) come from authorities outside. A certificate whose issuer
/// has no CRL here counts as not revoked, and a CRL that is past its nextUpdate goes on counting until a newer
/// one replaces it: lists that stay away must not stop the mesh, and what was revoked stays revoked.
#[derive(Debug, Clone, Default)]
pub struct Revocations(Arc<Lists>);

#[derive(Debug, Default)]
struct Lists {
    generation: u64,
    denied: DenyList,
    crls: Vec<Crl>,
}

/// The mesh's own list of what is revoked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DenyList {
    /// Workloads, whatever certificate they show.
    pub identities: HashSet<SpiffeId>,
    /// Single certificates. A host is revoked as the set of those that were issued to it.
    pub certificates: HashSet<Link>,
    /// The public keys of authorities; everything that one of them signed is refused.
    pub authorities: HashSet<Fingerprint>,
}

impl Revocations {
    /// Nothing revoked, at generation 0.
    pub fn empty() -> Self {
        Self::default()
    }

    /// The state numbered `generation`, which must change whenever the content does: results of verification
    /// are kept by it.
    pub fn new(generation: u64, denied: DenyList, crls: Vec<Crl>) -> Self {
        Self(Arc::new(Lists {
            generation,
            denied,
            crls,
        }))
    }

    /// The number of this state.
    pub fn generation(&self) -> u64 {
        self.0.generation
    }

    /// What our own CA has revoked.
    pub fn denied(&self) -> &DenyList {
        &self.0.denied
    }

    /// The lists of other authorities.
    pub fn crls(&self) -> &[Crl] {
        &self.0.crls
    }

    /// Whether the workload `id` is revoked.
    pub fn revokes(&self, id: &SpiffeId) -> bool {
        self.0.denied.identities.contains(id)
    }

    /// How the certificate is revoked, if it is.
    pub fn judge(&self, certificate: &Link) -> Option<Revoked> {
        let denied = &self.0.denied;
        if denied.authorities.contains(&certificate.issuer) {
            return Some(Revoked::Authority);
        }
        if denied.certificates.contains(certificate) {
            return Some(Revoked::Certificate);
        }
        self.0
            .crls
            .iter()
            .any(|crl| crl.revokes(certificate))
            .then_some(Revoked::Crl)
    }
}

/// By which list a certificate was revoked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Revoked {
    /// By its serial number on the deny list.
    Certificate,
    /// With everything else that its issuer's key signed.
    Authority,
    /// By its issuer's CRL.
    Crl,
}

impl fmt::Display for Revoked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Certificate => "by its serial number",
            Self::Authority => "with everything its issuer's key signed",
            Self::Crl => "by its issuer's revocation list",
        })
    }
}
