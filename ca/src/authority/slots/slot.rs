//! Holds one certificate of the CA with its turn.

use ferrule_identity::{Fingerprint, Lifetime, Timestamp};

use crate::ledger::event::{Role, Step};

/// One certificate of the CA, as far as its turn is concerned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slot {
    /// The SHA-256 of its public key, by which everything names it.
    pub id: Fingerprint,
    /// What it is for.
    pub role: Role,
    /// How far it has come.
    pub state: Step,
    /// When it reached that state.
    pub since: Timestamp,
    /// Its life.
    pub lifetime: Lifetime,
    /// The root that a signing certificate chains to; of a root, itself.
    pub root: Fingerprint,
    /// The replica that holds the key of a signing certificate; empty for a root.
    pub replica: String,
}

impl Slot {
    /// A root that nothing is known about yet but its certificate.
    pub fn root(id: Fingerprint, lifetime: Lifetime, now: Timestamp) -> Self {
        Self {
            id,
            role: Role::Root,
            state: Step::Prepared,
            since: now,
            lifetime,
            root: id,
            replica: String::new(),
        }
    }

    /// A signing certificate of `replica` below `root`.
    pub fn signing(
        id: Fingerprint,
        lifetime: Lifetime,
        root: Fingerprint,
        replica: &str,
        now: Timestamp,
    ) -> Self {
        Self {
            id,
            role: Role::Signing,
            state: Step::Prepared,
            since: now,
            lifetime,
            root,
            replica: replica.to_owned(),
        }
    }
}
