//! Chains the rows of the log by their hashes.
//!
//! Each row's hash covers the hash before it, so that nobody can change, drop or insert a row without changing
//! every hash after it. Nothing here reads a clock or a file.

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::digest::{self, SHA256};
use ferrule_identity::{Fingerprint, Timestamp};

use super::error::Conflict;

/// The SHA-256 hash of a row, which the next row builds on.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct RowHash([u8; 32]);

impl RowHash {
    /// What the first row of a chain builds on.
    pub const NONE: Self = Self([0; 32]);

    /// The hash whose octets are `octets`.
    pub const fn new(octets: [u8; 32]) -> Self {
        Self(octets)
    }

    /// The 32 octets.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for RowHash {
    /// Lower-case hexadecimal.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|octet| write!(f, "{octet:02x}"))
    }
}

impl fmt::Debug for RowHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RowHash({self})")
    }
}

impl FromStr for RowHash {
    type Err = <Fingerprint as FromStr>::Err;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse::<Fingerprint>().map(|hash| Self(*hash.as_bytes()))
    }
}

/// A row without its hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RowContent<'a> {
    /// The replica that recorded it.
    pub replica: &'a str,
    /// Counts the restores of this chain, from 1.
    pub epoch: u64,
    /// Counts the rows of this chain, from 1, without gaps.
    pub sequence: u64,
    /// When it was recorded, by the replica's clock.
    pub time: Timestamp,
    /// The event's kind, such as `issued`.
    pub kind: &'a str,
    /// The event as JSON.
    pub body: &'a str,
}

impl RowContent<'_> {
    /// The row's hash: SHA-256 over a fixed first field and then `previous` and every field of the row, each
    /// preceded by its length in octets as a 64-bit big-endian number, so that no two rows are the same octets.
    pub fn hash(&self, previous: &RowHash) -> RowHash {
        let mut context = digest::Context::new(&SHA256);
        let mut field = |octets: &[u8]| {
            context.update(&(octets.len() as u64).to_be_bytes());
            context.update(octets);
        };
        field(DOMAIN);
        field(&previous.0);
        field(self.replica.as_bytes());
        field(&self.epoch.to_be_bytes());
        field(&self.sequence.to_be_bytes());
        field(&self.time.unix().to_be_bytes());
        field(self.kind.as_bytes());
        field(self.body.as_bytes());
        let mut hash = [0; 32];
        hash.copy_from_slice(context.finish().as_ref());
        RowHash(hash)
    }
}

/// The end of a chain: what the next row builds on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// The epoch of the last row.
    pub epoch: u64,
    /// The number of the last row; 0 before the first.
    pub sequence: u64,
    /// The hash of the last row.
    pub hash: RowHash,
}

impl Head {
    /// The end of a chain without rows.
    pub const EMPTY: Self = Self {
        epoch: 1,
        sequence: 0,
        hash: RowHash::NONE,
    };

    /// Goes one row on, when `row` with `hash` is what follows.
    ///
    /// # Errors
    /// When the number has a gap, the epoch is not the one that follows, or the hash is not that of the row.
    /// `opens_epoch` says whether the row is one that begins the next epoch.
    pub fn follow(
        &mut self,
        row: &RowContent<'_>,
        hash: &RowHash,
        opens_epoch: bool,
    ) -> Result<(), ChainFault> {
        let expected = self.sequence + 1;
        if row.sequence != expected {
            return Err(ChainFault::Gap {
                expected,
                found: row.sequence,
            });
        }
        let epoch = self.epoch + u64::from(opens_epoch);
        if row.epoch != epoch {
            return Err(ChainFault::Epoch {
                sequence: row.sequence,
                expected: epoch,
                found: row.epoch,
            });
        }
        if row.hash(&self.hash) != *hash {
            return Err(ChainFault::Hash {
                sequence: row.sequence,
            });
        }
        *self = Self {
            epoch,
            sequence: row.sequence,
            hash: *hash,
        };
        Ok(())
    }
}

/// The first place where a log does not hold together.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChainFault {
    /// No row at all.
    #[error("the log has no rows")]
    Empty,
    /// A row is missing, or was inserted.
    #[error("row {expected} is missing: row {found} is in its place")]
    Gap {
        /// The number that should follow.
        expected: u64,
        /// The number that does.
        found: u64,
    },
    /// A row's epoch does not follow.
    #[error("row {sequence} is of epoch {found}, where epoch {expected} should follow")]
    Epoch {
        /// The row.
        sequence: u64,
        /// The epoch that should follow.
        expected: u64,
        /// The epoch that does.
        found: u64,
    },
    /// A row, or one before it, was changed.
    #[error("row {sequence} was changed: its hash does not match what it says")]
    Hash {
        /// The row.
        sequence: u64,
    },
    /// The first row does not open the chain.
    #[error("row {sequence} should open the chain with its trust domain, replica and key, and does not")]
    Opening {
        /// The row.
        sequence: u64,
    },
    /// A row that is not readable as what it says it is.
    #[error("row {sequence} cannot be read as the event {kind}")]
    Body {
        /// The row.
        sequence: u64,
        /// Its kind.
        kind: String,
    },
    /// A checkpoint's statement does not match its row.
    #[error("the checkpoint at row {sequence} states another hash, epoch or replica than the row has")]
    Checkpoint {
        /// The row.
        sequence: u64,
    },
    /// A checkpoint's signature is not the replica's.
    #[error("the checkpoint at row {sequence} is not signed by the replica's key {key}")]
    Signature {
        /// The row.
        sequence: u64,
        /// The fingerprint of the key on record.
        key: Fingerprint,
    },
    /// A checkpoint beyond the last row: rows were cut off.
    #[error("the log ends with row {last}, but a checkpoint vouches for row {sequence}: rows were cut off")]
    CutOff {
        /// The checkpoint's row.
        sequence: u64,
        /// The last row there is.
        last: u64,
    },
    /// The store could not read a row.
    #[error("nothing after row {after} can be read: {reason}")]
    Unreadable {
        /// The last row that was read.
        after: u64,
        /// What the store reported.
        reason: String,
    },
    /// A row that could not have been recorded after those before it.
    #[error("row {sequence} contradicts the rows before it: {conflict}")]
    Impossible {
        /// The row.
        sequence: u64,
        /// What speaks against it.
        conflict: Conflict,
    },
    /// The tables of what holds now do not match what the log says.
    #[error("the table {table} does not say what the log up to row {sequence} says")]
    State {
        /// The table.
        table: &'static str,
        /// The log's last row.
        sequence: u64,
    },
    /// The replica's key is not the one that was expected.
    #[error("the chain is signed with the key {found}, not with the expected {expected}")]
    OtherKey {
        /// The fingerprint on record.
        found: Fingerprint,
        /// The fingerprint that was expected.
        expected: Fingerprint,
    },
    /// The chain does not reach, or does not pass through, a row that is known from elsewhere.
    #[error("row {sequence} with the hash {hash}, known from elsewhere, is not in the log")]
    Foreign {
        /// The row.
        sequence: u64,
        /// Its hash.
        hash: RowHash,
    },
}

const DOMAIN: &[u8] = b"ferrule ledger row 1";

#[cfg(test)]
mod tests;
