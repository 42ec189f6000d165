//! Decides which root and which signing certificate may sign, and when one may come or go.
//!
//! A slot goes `prepared → active → retired → removed`; only a rotation of roots that is rolled back goes back. Nothing here has a clock, a key or a
//! file: each step is a question about a value ([`Slots`]) and an instant, and its answer is the list of
//! changes to write down, or the reason why not. Whoever carries the changes out can be killed at any point:
//! what was written is the state, and the next step follows from it.

mod refusal;
mod slot;

use std::time::Duration;

use ferrule_identity::{Fingerprint, Timestamp};

use crate::ledger::event::{Role, Step};

pub use refusal::SlotRefusal;
pub use slot::Slot;

/// A new root is published for this many refresh hints before it signs anything, so that a peer that polls
/// once per hint has had it for a while (SPIFFE Trust Domain and Bundle §4.1 advises 3 to 5).
pub const PUBLISHED_HINTS: u32 = 5;

/// Everything that a step writes down, as one unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Slots as they are afterwards: new ones, and those whose state changes.
    pub slots: Vec<Slot>,
    /// The bundle's sequence afterwards; higher when the set of trusted roots changes.
    pub sequence: u64,
}

/// All slots with the bundle's sequence: the state that each step starts from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slots {
    slots: Vec<Slot>,
    sequence: u64,
    next: u64,
}

impl Default for Slots {
    /// Before the first root.
    fn default() -> Self {
        Self::new(Vec::new(), 0, 1)
    }
}

impl Slots {
    /// The state as it was written down, oldest slot first, with the sequence of the bundle and the one that its
    /// successor shall have.
    pub fn new(slots: Vec<Slot>, sequence: u64, next: u64) -> Self {
        Self {
            slots,
            sequence,
            next: next.max(sequence.saturating_add(1)),
        }
    }

    /// The bundle's sequence; 0 before the first root.
    pub const fn sequence(&self) -> u64 {
        self.sequence
    }

    /// All slots, oldest first.
    pub fn all(&self) -> &[Slot] {
        &self.slots
    }

    /// The roots that peers trust, oldest first: all but the removed ones.
    pub fn trusted_roots(&self) -> impl Iterator<Item = &Slot> {
        self.of(Role::Root).filter(|slot| slot.state != Step::Removed)
    }

    /// The root that signs signing certificates.
    pub fn active_root(&self) -> Option<&Slot> {
        self.of(Role::Root).find(|slot| slot.state == Step::Active)
    }

    /// The root that waits for its turn.
    pub fn prepared_root(&self) -> Option<&Slot> {
        self.of(Role::Root).find(|slot| slot.state == Step::Prepared)
    }

    /// The root that the active one took over from, while it is still trusted.
    pub fn newest_retired_root(&self) -> Option<&Slot> {
        self.of(Role::Root)
            .filter(|slot| slot.state == Step::Retired)
            .max_by_key(|slot| slot.since)
    }

    /// The signing certificate that `replica` issues with.
    pub fn active_signer(&self, replica: &str) -> Option<&Slot> {
        self.signers_of(replica).find(|slot| slot.state == Step::Active)
    }

    /// The signing certificate of `replica` that waits for its turn.
    pub fn prepared_signer(&self, replica: &str) -> Option<&Slot> {
        self.signers_of(replica).find(|slot| slot.state == Step::Prepared)
    }

    /// The slot of a certificate.
    pub fn find(&self, id: Fingerprint) -> Option<&Slot> {
        self.slots.iter().find(|slot| slot.id == id)
    }

    /// The state after `step`.
    #[must_use]
    pub fn after(&self, step: &Change) -> Self {
        let mut slots = self.slots.clone();
        for changed in &step.slots {
            match slots.iter_mut().find(|slot| slot.id == changed.id) {
                Some(slot) => *slot = changed.clone(),
                None => slots.push(changed.clone()),
            }
        }
        Self::new(slots, step.sequence, self.next)
    }

    /// The first root of a trust domain: active at once, because nobody holds an older bundle.
    ///
    /// # Errors
    /// When there was ever another root, or the root is not valid now.
    pub fn found(&self, root: Slot, now: Timestamp) -> Result<Change, SlotRefusal> {
        if let Some(other) = self.of(Role::Root).next() {
            return Err(SlotRefusal::RootExists { root: other.id });
        }
        self.check_new(&root, Role::Root, now)?;
        Ok(Change {
            slots: vec![moved(&root, Step::Active, now)],
            sequence: self.next,
        })
    }

    /// Publishes a new root beside the active one. It signs nothing yet.
    ///
    /// # Errors
    /// When another one waits, there is none to take over from, it is known already, or it is not valid now.
    pub fn prepare_root(&self, root: Slot, now: Timestamp) -> Result<Change, SlotRefusal> {
        if self.active_root().is_none() {
            return Err(SlotRefusal::NoActiveRoot);
        }
        if let Some(other) = self.prepared_root() {
            return Err(SlotRefusal::AlreadyPrepared { root: other.id });
        }
        self.check_new(&root, Role::Root, now)?;
        Ok(Change {
            slots: vec![moved(&root, Step::Prepared, now)],
            sequence: self.next,
        })
    }

    /// Lets the prepared root sign from now on; the active one becomes retired and stays trusted.
    ///
    /// `lagging` names the live proxies that have not acknowledged the bundle; `None` when nobody can tell,
    /// which counts as a reason to refuse.
    ///
    /// # Errors
    /// When none is prepared, it was published for less than [`PUBLISHED_HINTS`] refresh hints, a proxy lags,
    /// nobody can tell whether one does, or it is not valid now.
    pub fn activate_root(
        &self,
        hint: Duration,
        lagging: Option<&[String]>,
        now: Timestamp,
    ) -> Result<Change, SlotRefusal> {
        let next = self.prepared_root().ok_or(SlotRefusal::NonePrepared)?;
        let due = next.since.plus(hint.saturating_mul(PUBLISHED_HINTS));
        if now < due {
            return Err(SlotRefusal::TooSoon {
                root: next.id,
                due,
                hint,
            });
        }
        check_valid(next, now)?;
        match lagging {
            None => return Err(SlotRefusal::NoAcknowledgements),
            Some([]) => {}
            Some(who) => return Err(SlotRefusal::Lagging { who: who.to_vec() }),
        }
        let mut slots: Vec<Slot> = self
            .active_root()
            .map(|old| moved(old, Step::Retired, now))
            .into_iter()
            .collect();
        slots.push(moved(next, Step::Active, now));
        Ok(Change {
            slots,
            sequence: self.sequence,
        })
    }

    /// Takes the prepared root back out of the bundle; it has signed nothing.
    ///
    /// # Errors
    /// When none is prepared.
    pub fn withdraw_root(&self, now: Timestamp) -> Result<Change, SlotRefusal> {
        let next = self.prepared_root().ok_or(SlotRefusal::NonePrepared)?;
        Ok(Change {
            slots: vec![moved(next, Step::Removed, now)],
            sequence: self.next,
        })
    }

    /// Lets the root that was active before sign again; the active one becomes retired. Both are trusted all the time.
    ///
    /// # Errors
    /// When none is retired, or it is not valid now.
    pub fn roll_back_root(&self, now: Timestamp) -> Result<Change, SlotRefusal> {
        let old = self.newest_retired_root().ok_or(SlotRefusal::NoneRetired)?;
        check_valid(old, now)?;
        let mut slots: Vec<Slot> = self
            .active_root()
            .map(|active| moved(active, Step::Retired, now))
            .into_iter()
            .collect();
        slots.push(moved(old, Step::Active, now));
        Ok(Change {
            slots,
            sequence: self.sequence,
        })
    }

    /// Takes the retired root `id` out of the bundle, with the retired signing certificates below it.
    ///
    /// `last_leaf` is the latest end of a certificate that chains to it, if any was ever issued.
    ///
    /// # Errors
    /// When it is no retired root, a signing certificate below it still signs or waits to, or a certificate
    /// that chains to it has not run out.
    pub fn remove_root(
        &self,
        id: Fingerprint,
        last_leaf: Option<Timestamp>,
        now: Timestamp,
    ) -> Result<Change, SlotRefusal> {
        let old = self.in_state(id, Role::Root, Step::Retired)?;
        let below = |slot: &&Slot| slot.root == id;
        if let Some(signer) = self
            .of(Role::Signing)
            .filter(below)
            .filter(|slot| matches!(slot.state, Step::Prepared | Step::Active))
            // One whose replica never came back stops to count at its end.
            .find(|slot| now <= slot.lifetime.not_after())
        {
            return Err(SlotRefusal::StillSigns {
                root: id,
                signer: signer.id,
                replica: signer.replica.clone(),
            });
        }
        if let Some(until) = last_leaf.filter(|until| now <= *until) {
            return Err(SlotRefusal::LiveLeaves { id, until });
        }
        let mut slots: Vec<Slot> = self
            .of(Role::Signing)
            .filter(below)
            .filter(|slot| slot.state != Step::Removed)
            .map(|slot| moved(slot, Step::Removed, now))
            .collect();
        slots.push(moved(old, Step::Removed, now));
        Ok(Change {
            slots,
            sequence: self.next,
        })
    }

    /// Writes down a signing certificate that does not sign yet.
    ///
    /// # Errors
    /// When its root is not the active one, its replica has one that waits, it is known already, not valid
    /// now, or it would outlive its root.
    pub fn prepare_signer(&self, signer: Slot, now: Timestamp) -> Result<Change, SlotRefusal> {
        let root = self.active_root().ok_or(SlotRefusal::NoActiveRoot)?;
        if signer.root != root.id {
            return Err(SlotRefusal::NotActiveRoot { root: signer.root });
        }
        if let Some(other) = self.prepared_signer(&signer.replica) {
            return Err(SlotRefusal::AlreadyPrepared { root: other.id });
        }
        self.check_new(&signer, Role::Signing, now)?;
        if signer.lifetime.not_after() > root.lifetime.not_after() {
            return Err(SlotRefusal::OutlivesRoot {
                id: signer.id,
                ends: signer.lifetime.not_after(),
                root_ends: root.lifetime.not_after(),
            });
        }
        Ok(Change {
            slots: vec![moved(&signer, Step::Prepared, now)],
            sequence: self.sequence,
        })
    }

    /// Lets the prepared signing certificate of `replica` issue from now on; its active one becomes retired.
    /// Nobody has to be told first, because workloads send it along in their chain.
    ///
    /// # Errors
    /// When none is prepared, its root is not the active one any more, or it is not valid now.
    pub fn activate_signer(&self, replica: &str, now: Timestamp) -> Result<Change, SlotRefusal> {
        let next = self.prepared_signer(replica).ok_or(SlotRefusal::NonePrepared)?;
        if self.active_root().map(|root| root.id) != Some(next.root) {
            return Err(SlotRefusal::NotActiveRoot { root: next.root });
        }
        check_valid(next, now)?;
        let mut slots: Vec<Slot> = self
            .active_signer(replica)
            .map(|old| moved(old, Step::Retired, now))
            .into_iter()
            .collect();
        slots.push(moved(next, Step::Active, now));
        Ok(Change {
            slots,
            sequence: self.sequence,
        })
    }

    /// Gives up a prepared signing certificate (its root moved on), or a retired one with nothing live below
    /// it: its revocation list ends too.
    ///
    /// # Errors
    /// When it is no signing certificate, signs now, or a certificate that it signed has not run out.
    pub fn remove_signer(
        &self,
        id: Fingerprint,
        last_leaf: Option<Timestamp>,
        now: Timestamp,
    ) -> Result<Change, SlotRefusal> {
        let old = self
            .in_state(id, Role::Signing, Step::Retired)
            .or_else(|_| self.in_state(id, Role::Signing, Step::Prepared))?;
        if let Some(until) = last_leaf.filter(|until| now <= *until) {
            return Err(SlotRefusal::LiveLeaves { id, until });
        }
        Ok(Change {
            slots: vec![moved(old, Step::Removed, now)],
            sequence: self.sequence,
        })
    }

    fn of(&self, role: Role) -> impl Iterator<Item = &Slot> {
        self.slots.iter().filter(move |slot| slot.role == role)
    }

    fn signers_of(&self, replica: &str) -> impl Iterator<Item = &Slot> {
        self.of(Role::Signing).filter(move |slot| slot.replica == replica)
    }

    fn in_state(&self, id: Fingerprint, role: Role, state: Step) -> Result<&Slot, SlotRefusal> {
        let slot = self
            .of(role)
            .find(|slot| slot.id == id)
            .ok_or(SlotRefusal::Unknown { id, role })?;
        if slot.state == state {
            Ok(slot)
        } else {
            Err(SlotRefusal::WrongState {
                id,
                is: slot.state,
                needed: state,
            })
        }
    }

    fn check_new(&self, slot: &Slot, role: Role, now: Timestamp) -> Result<(), SlotRefusal> {
        if slot.role != role {
            return Err(SlotRefusal::Unknown { id: slot.id, role });
        }
        if self.find(slot.id).is_some() {
            return Err(SlotRefusal::Known { id: slot.id });
        }
        check_valid(slot, now)
    }
}

fn moved(slot: &Slot, state: Step, now: Timestamp) -> Slot {
    Slot {
        state,
        since: now,
        ..slot.clone()
    }
}

fn check_valid(slot: &Slot, now: Timestamp) -> Result<(), SlotRefusal> {
    if slot.lifetime.contains(now) {
        Ok(())
    } else {
        Err(SlotRefusal::NotValid {
            id: slot.id,
            lifetime: slot.lifetime,
            now,
        })
    }
}

#[cfg(test)]
mod tests;
