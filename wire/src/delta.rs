//! Keeps count of who holds which version of what, at both ends of a delta xDS stream.
//!
//! Pure: no stream, no clock. The serving end has a [`Subscription`] for each type of each stream, the asking end a
//! [`Mirror`].

mod mirror;
mod subscription;

use std::fmt;
use std::sync::Arc;

use ferrule_identity::Fingerprint;

pub use mirror::{Mirror, Taken};
pub use subscription::{Answered, Asked, Sending, Subscription, View};

/// A resource's name; shared, because thousands of streams remember the same ones.
pub type Name = Arc<str>;

/// The version of a resource: half of half a SHA-256 of what it says, so that it is the same after a restart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version(u64);

impl Version {
    /// The version of something that is written as `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        let digest = Fingerprint::of(bytes);
        let (first, _) = digest.as_bytes().split_at(8);
        Self(first.iter().fold(0, |all, byte| (all << 8) | u64::from(*byte)))
    }

    /// The version that `text` shows; `None` when it shows none of ours.
    pub fn parse(text: &str) -> Option<Self> {
        let ours = text.len() == 16 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        if !ours {
            return None;
        }
        u64::from_str_radix(text, 16).ok().map(Self)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// The name that stands for everything that concerns whoever asks.
pub const WILDCARD: &str = "*";

#[cfg(test)]
mod tests;
