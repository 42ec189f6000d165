//! Collects the steps of one change of the CA's certificates, to be written down as one unit.

use ferrule_identity::Fingerprint;
use rustls_pki_types::CertificateDer;

use super::certificate::AuthorityCertificate;
use super::root;
use super::slots::{Change, SlotRefusal, Slots};
use super::view::View;
use crate::ledger::Entry;
use crate::ledger::event::{AuthorityPrepared, AuthorityStepped, BundlePublished, Event, Role, Step};

/// Steps that take effect together or not at all.
pub(super) struct Draft<'a> {
    slots: Slots,
    entries: Vec<Entry>,
    /// The certificates' fingerprints by the fingerprints of their keys.
    certificates: Vec<(Fingerprint, Fingerprint)>,
    by: &'a str,
}

impl<'a> Draft<'a> {
    /// Begins from what `view` says; `by` is who asked.
    pub(super) fn new(view: &View, by: &'a str) -> Self {
        let certificates = view.known.iter();
        Self {
            slots: view.slots.clone(),
            entries: Vec::new(),
            certificates: certificates
                .map(|known| (known.slot.id, known.certificate.fingerprint()))
                .collect(),
            by,
        }
    }

    /// Adds a certificate that the ledger does not know yet; the next step is its first. `chain` goes with a signing
    /// certificate, `sealed` is the locked key of a root that is ours.
    pub(super) fn add(
        &mut self,
        role: Role,
        certificate: &AuthorityCertificate,
        chain: &[CertificateDer<'_>],
        sealed: Option<Vec<u8>>,
    ) {
        self.certificates
            .push((certificate.authority(), certificate.fingerprint()));
        let event: Event = AuthorityPrepared {
            authority: certificate.authority().to_string(),
            role,
            fingerprint: certificate.fingerprint(),
            certificate: root::chain_text(chain),
            not_before: certificate.lifetime.not_before(),
            not_after: certificate.lifetime.not_after(),
            by: self.by.to_owned(),
        }
        .into();
        self.entries.push(Entry { event, sealed });
    }

    /// Takes a step, from where the steps before it have led.
    pub(super) fn step(
        &mut self,
        decide: impl FnOnce(&Slots) -> Result<Change, SlotRefusal>,
    ) -> Result<(), SlotRefusal> {
        let change = decide(&self.slots)?;
        let after = self.slots.after(&change);
        for slot in &change.slots {
            // Being prepared is how a certificate begins, and no step of its own.
            if slot.state != Step::Prepared {
                let stepped = AuthorityStepped {
                    authority: slot.id.to_string(),
                    step: slot.state,
                    by: self.by.to_owned(),
                };
                self.entries.push(stepped.into());
            }
        }
        if change.sequence > self.slots.sequence() {
            self.publish(&after);
        }
        self.slots = after;
        Ok(())
    }

    /// Publishes the same roots under the next number, for those who may have seen higher ones.
    pub(super) fn republish(&mut self, next: u64) {
        self.slots = Slots::new(self.slots.all().to_vec(), next, next.saturating_add(1));
        let slots = self.slots.clone();
        self.publish(&slots);
    }

    /// What is to be written down.
    pub(super) fn into_entries(self) -> Vec<Entry> {
        self.entries
    }

    fn publish(&mut self, after: &Slots) {
        let certificate_of = |id: Fingerprint| {
            let found = self.certificates.iter().find(|(key, _)| *key == id)?;
            Some(found.1)
        };
        let anchors = after.trusted_roots().filter_map(|slot| certificate_of(slot.id));
        let published = BundlePublished {
            sequence: after.sequence(),
            anchors: anchors.collect(),
        };
        self.entries.push(published.into());
    }
}

/// Whether the bundle has to be published again: after a restore its number leaps.
pub(super) fn must_republish(sequence: u64, next: u64) -> bool {
    sequence > 0 && next > sequence.saturating_add(1)
}
