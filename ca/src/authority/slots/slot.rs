//! Holds one certificate of the CA with its turn.

use std::fmt;
use std::str::FromStr;

use ferrule_identity::{Fingerprint, Lifetime, Timestamp};

use super::SlotRefusal;

/// What a certificate of the CA is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Trusted by peers; signs signing certificates.
    Root,
    /// Below a root; signs workload certificates.
    Signing,
}

/// How far a certificate of the CA has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum State {
    /// Known, signs nothing. A prepared root is already in the bundle.
    Prepared,
    /// Signs. There is one active root, and one active signing certificate for each replica.
    Active,
    /// Signs no certificate any more, and is still trusted, because live ones chain to it.
    Retired,
    /// Gone: not trusted, out of the bundle, kept for the record.
    Dropped,
}

impl Role {
    /// The word for it in the ledger, the API and messages.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Root => "root",
            Self::Signing => "signing",
        }
    }
}

impl State {
    /// The word for it in the ledger, the API and messages.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Prepared => "prepared",
            Self::Active => "active",
            Self::Retired => "retired",
            Self::Dropped => "dropped",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Role {
    type Err = SlotRefusal;

    fn from_str(word: &str) -> Result<Self, SlotRefusal> {
        [Self::Root, Self::Signing]
            .into_iter()
            .find(|role| role.as_str() == word)
            .ok_or_else(|| SlotRefusal::Word { word: word.into() })
    }
}

impl FromStr for State {
    type Err = SlotRefusal;

    fn from_str(word: &str) -> Result<Self, SlotRefusal> {
        [Self::Prepared, Self::Active, Self::Retired, Self::Dropped]
            .into_iter()
            .find(|state| state.as_str() == word)
            .ok_or_else(|| SlotRefusal::Word { word: word.into() })
    }
}

/// One certificate of the CA, as far as its turn is concerned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slot {
    /// The SHA-256 of the certificate.
    pub id: Fingerprint,
    /// What it is for.
    pub role: Role,
    /// How far it has come.
    pub state: State,
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
            state: State::Prepared,
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
            state: State::Prepared,
            since: now,
            lifetime,
            root,
            replica: replica.to_owned(),
        }
    }
}
