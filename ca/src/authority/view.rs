//! Reads the ledger's authorities into one value that says who signs, who is trusted and who is on the way out.

use std::sync::Arc;

use ferrule_identity::{Fingerprint, Lifetime, Timestamp, TrustDomain};
use rustls_pki_types::CertificateDer;

use super::active::ActiveSigner;
use super::certificate::AuthorityCertificate;
use super::error::AuthorityError;
use super::root::{self, RootError};
use super::signer::Signer;
use super::slots::{Slot, Slots};
use crate::ledger::event::{Role, Step};
use crate::ledger::{Authority, PublishedBundle};
use crate::x509::IssuedBy;

/// One root or signing certificate that the ledger knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Known {
    pub(crate) slot: Slot,
    pub(crate) certificate: AuthorityCertificate,
    /// This certificate and those between it and the root.
    pub(crate) chain: Vec<CertificateDer<'static>>,
    /// Whether the ledger holds its key.
    pub(crate) sealed: bool,
}

/// The CA's own certificates at one moment. A value; a change makes a new one.
#[derive(Debug, Clone)]
pub struct View {
    /// Their turns.
    pub(super) slots: Slots,
    pub(super) known: Vec<Known>,
    /// The signing certificate in use, with its key; or why there is none.
    pub(super) active: Result<Arc<ActiveSigner>, Arc<AuthorityError>>,
    /// Every signing certificate whose revocation list goes on and whose key is at hand, the active one included.
    pub(super) list_signers: Vec<Arc<ActiveSigner>>,
}

impl View {
    /// Nothing known.
    pub(super) fn empty() -> Self {
        Self {
            slots: Slots::default(),
            known: Vec::new(),
            active: Err(Arc::new(AuthorityError::NoRoot)),
            list_signers: Vec::new(),
        }
    }

    /// What the ledger says, without keys.
    pub(super) fn read(
        replica: &str,
        authorities: &[Authority],
        bundle: &PublishedBundle,
    ) -> Result<Self, AuthorityError> {
        let mut known: Vec<Known> = authorities
            .iter()
            .map(|authority| read_one(replica, authority))
            .collect::<Result<_, _>>()?;
        link_to_roots(&mut known);
        let slots = known.iter().map(|known| known.slot.clone()).collect();
        Ok(Self {
            slots: Slots::new(slots, bundle.sequence, bundle.next),
            known,
            ..Self::empty()
        })
    }

    /// Their turns.
    pub const fn slots(&self) -> &Slots {
        &self.slots
    }

    /// The signing certificate in use, with its key.
    ///
    /// # Errors
    /// Why there is none.
    pub fn active(&self) -> Result<&Arc<ActiveSigner>, &AuthorityError> {
        self.active.as_ref().map_err(AsRef::as_ref)
    }

    /// Every signing certificate whose revocation list goes on and whose key is at hand, the active one included.
    pub fn list_signers(&self) -> &[Arc<ActiveSigner>] {
        &self.list_signers
    }

    /// The certificates of the roots that peers trust, in the bundle's order: the oldest first.
    pub fn trusted_roots(&self) -> Vec<CertificateDer<'static>> {
        let find = |slot: &Slot| self.find(slot.id).map(|known| known.certificate.der.clone());
        self.slots.trusted_roots().filter_map(find).collect()
    }

    /// The roots and signing certificates that are not removed, the oldest first, each with its certificate's
    /// SHA-256 and subject.
    pub fn all(&self) -> impl Iterator<Item = Listed<'_>> {
        self.known.iter().map(|known| Listed {
            slot: &known.slot,
            certificate: known.certificate.fingerprint(),
            subject: &known.certificate.name,
            key_here: known.sealed,
            self_issued: known.certificate.is_self_issued(),
        })
    }

    pub(crate) fn find(&self, id: Fingerprint) -> Option<&Known> {
        self.known.iter().find(|known| known.slot.id == id)
    }

    /// The root above a signing certificate.
    pub(crate) fn root_of(&self, signing: &Known) -> Option<&Known> {
        self.find(signing.slot.root)
            .filter(|known| known.slot.role == Role::Root)
    }
}

/// One root or signing certificate, for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listed<'a> {
    /// Its turn.
    pub slot: &'a Slot,
    /// The SHA-256 of the certificate.
    pub certificate: Fingerprint,
    /// Its subject.
    pub subject: &'a str,
    /// Whether the ledger holds its key: of roots that are ours.
    pub key_here: bool,
    /// Whether it issued itself.
    pub self_issued: bool,
}

fn read_one(replica: &str, authority: &Authority) -> Result<Known, AuthorityError> {
    let damaged = |source| AuthorityError::Kept {
        authority: authority.authority.clone(),
        source,
    };
    let id: Fingerprint = authority.authority.parse().map_err(|_| damaged(None))?;
    let (certificate, chain) =
        root::read_kept(&authority.certificate).map_err(|source| damaged(Some(Box::new(source))))?;
    if certificate.authority() != id {
        return Err(damaged(None));
    }
    let lifetime = Lifetime::new(authority.not_before, authority.not_after).ok_or_else(|| damaged(None))?;
    let slot = Slot {
        id,
        role: authority.role,
        state: authority.step,
        since: authority.since,
        lifetime,
        root: id,
        replica: match authority.role {
            Role::Root => String::new(),
            Role::Signing => replica.to_owned(),
        },
    };
    Ok(Known {
        slot,
        certificate,
        chain,
        sealed: authority.sealed,
    })
}

/// Finds the root of each signing certificate, by the names in the last certificate of its chain. That the
/// signatures are right was checked before it was taken in, and is checked again before it signs.
fn link_to_roots(known: &mut [Known]) {
    let roots: Vec<(Fingerprint, AuthorityCertificate)> = known
        .iter()
        .filter(|known| known.slot.role == Role::Root)
        .map(|known| (known.slot.id, known.certificate.clone()))
        .collect();
    for signing in known.iter_mut().filter(|known| known.slot.role == Role::Signing) {
        let top = match signing.chain.last().map(AuthorityCertificate::read) {
            Some(Ok(top)) => top,
            _ => signing.certificate.clone(),
        };
        if let Some((id, _)) = roots.iter().find(|(_, root)| top.names_as_issuer(root)) {
            signing.slot.root = *id;
        }
    }
}

/// Whether a signing certificate's revocation list goes on: until nothing that it signed is live.
pub(super) fn keeps_list(slot: &Slot) -> bool {
    slot.role == Role::Signing && matches!(slot.state, Step::Active | Step::Retired)
}

/// Checks that peers accept what `signer` signs below `chain`; tells when all of the chain is valid.
pub(super) fn rehearse(
    trust_domain: &TrustDomain,
    signing: &AuthorityCertificate,
    chain: &[CertificateDer<'static>],
    root: &AuthorityCertificate,
    signer: &dyn Signer,
    now: Timestamp,
) -> Result<Lifetime, AuthorityError> {
    let by = IssuedBy {
        signer,
        name: &signing.subject,
        key_id: &signing.key_id,
    };
    root::rehearse(trust_domain, by, chain, root, now).map_err(cannot_use)
}

/// Prepares a signing certificate and its opened key for use, after a rehearsal.
pub(super) fn prepare(
    trust_domain: &TrustDomain,
    view: &View,
    signing: &Known,
    signer: Arc<dyn Signer>,
    now: Timestamp,
) -> Result<ActiveSigner, AuthorityError> {
    let root = &view.root_of(signing).ok_or(AuthorityError::NoRoot)?.certificate;
    let (certificate, chain) = (&signing.certificate, &signing.chain);
    let lifetime = rehearse(trust_domain, certificate, chain, root, signer.as_ref(), now)?;
    ActiveSigner::new(trust_domain, certificate.clone(), chain.clone(), signer, lifetime).map_err(cannot_use)
}

fn cannot_use(source: RootError) -> AuthorityError {
    AuthorityError::Certificate {
        doing: "use the signing certificate",
        source: Box::new(source),
    }
}
