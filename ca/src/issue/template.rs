//! Fills in a leaf certificate: our own fields, whatever a request says.

use std::time::Duration;

use ferrule_identity::{Lifetime, PublicKey, SpiffeId, Timestamp};
use rustls_pki_types::ServerName;

use crate::ledger::Serial;
use crate::x509::{self, Fields, Subject, Use, X509Error};

/// Whom a leaf names, and with that the kind of leaf it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Profile {
    /// An X509-SVID: one URI name, both ends of a mutual handshake.
    Workload(SpiffeId),
    /// A serving certificate of the control plane: DNS names and addresses, a server alone.
    Serving(Vec<ServerName<'static>>),
}

impl Profile {
    /// The word for it in the ledger.
    pub(super) const fn as_str(&self) -> &'static str {
        match self {
            Self::Workload(_) => "workload",
            Self::Serving(_) => "serving",
        }
    }

    /// The name in it, or the names with commas between them.
    pub(super) fn name(&self) -> String {
        match self {
            Self::Workload(id) => id.to_string(),
            Self::Serving(names) => {
                let names: Vec<_> = names.iter().map(ServerName::to_str).collect();
                names.join(",")
            }
        }
    }

    /// The certificate's fields.
    ///
    /// # Errors
    /// When a name has no encoding.
    pub(super) fn fields<'a>(
        &self,
        key: &'a PublicKey,
        serial: Serial,
        lifetime: Lifetime,
    ) -> Result<Fields<'a>, X509Error> {
        let (used_for, name) = match self {
            // RFC 5280 §4.1.2.6: with an empty subject the name is critical.
            Self::Workload(id) => (Use::Peer, x509::uri_name(id.as_str(), true)?),
            Self::Serving(names) => (Use::Server, x509::server_names(names)?),
        };
        let mut extensions = x509::use_extensions(used_for, key)?;
        extensions.push(name);
        Ok(Fields {
            serial,
            subject: Subject::empty(),
            key,
            lifetime,
            extensions,
        })
    }
}

/// The life of a leaf that is asked for now and should last for `wanted` from now on.
///
/// It begins five minutes ago, for peers whose clock is behind, but by no more than a tenth of its life, and not
/// before the chain above it; it ends with that chain at the latest. `None` when nothing of it would be left.
pub(super) fn leaf_life(wanted: Duration, chain: Lifetime, now: Timestamp) -> Option<Lifetime> {
    let not_after = now.plus(wanted).min(chain.not_after());
    let ahead = not_after.since(now);
    // A tenth of the whole life, the part in the past included, is a ninth of the part ahead.
    let behind = MAX_BACKDATE.min(ahead / 9);
    let not_before = now.minus(behind).max(chain.not_before());
    if ahead.is_zero() {
        return None;
    }
    Lifetime::new(not_before, not_after)
}

/// When the holder should renew, before its own jitter: after a third of what lies ahead.
pub(super) fn renew_at(lifetime: Lifetime, now: Timestamp) -> Timestamp {
    now.plus(lifetime.left(now) / 3)
}

/// A serial number of 128 random bits whose first octet is not zero, so that all are written alike.
///
/// `None` when the system has no randomness.
pub(crate) fn random_serial() -> Option<Serial> {
    for _ in 0..MAX_DRAWS {
        let mut octets = [0; SERIAL_OCTETS];
        aws_lc_rs::rand::fill(&mut octets).ok()?;
        if octets[0] != 0 {
            return Serial::from_be_bytes(&octets).ok();
        }
    }
    None
}

/// How far into the past a life reaches at most.
const MAX_BACKDATE: Duration = Duration::from_secs(300);

/// 128 bits; RFC 5280 §4.1.2.2 allows 20 octets, the sign's included.
const SERIAL_OCTETS: usize = 16;

/// One draw in 256 begins with a zero; sixteen in a row are no chance.
const MAX_DRAWS: usize = 16;

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_unix(1_800_000_000 + seconds)
    }

    fn chain() -> Lifetime {
        Lifetime::new(at(-86_400), at(90 * 86_400)).unwrap()
    }

    #[test]
    fn the_default_life_begins_five_minutes_ago() {
        let life = leaf_life(Duration::from_secs(12 * 3600), chain(), at(0)).unwrap();
        assert_eq!(life.not_before(), at(-300));
        assert_eq!(life.not_after(), at(12 * 3600));
        assert_eq!(renew_at(life, at(0)), at(4 * 3600));
    }

    #[test]
    fn a_short_life_is_back_dated_by_a_tenth_of_it() {
        let life = leaf_life(Duration::from_secs(60), chain(), at(0)).unwrap();
        assert_eq!(life.not_before(), at(-6));
        assert_eq!(life.length(), Duration::from_secs(66));
    }

    /// A13, A4: never issues past the end of what is above.
    #[test]
    fn a_life_ends_with_the_chain_above_it() {
        let end = Lifetime::new(at(-100), at(600)).unwrap();
        let life = leaf_life(Duration::from_secs(12 * 3600), end, at(0)).unwrap();
        assert_eq!(life, Lifetime::new(at(-66), at(600)).unwrap());
        assert_eq!(leaf_life(Duration::from_secs(60), end, at(600)), None);
        assert_eq!(leaf_life(Duration::from_secs(60), end, at(601)), None);
    }

    #[test]
    fn serial_numbers_are_random_and_written_alike() {
        let serials: HashSet<String> = (0..2000).map(|_| random_serial().unwrap().to_string()).collect();
        assert_eq!(serials.len(), 2000);
        assert!(serials.iter().all(|serial| serial.len() == 32));
    }

    proptest! {
        #[test]
        fn a_life_is_never_longer_than_asked_by_more_than_a_tenth(
            wanted in 1_u64..40_000_000,
            now in -86_400_i64..8_000_000,
        ) {
            if let Some(life) = leaf_life(Duration::from_secs(wanted), chain(), at(now)) {
                let behind = at(now).since(life.not_before());
                prop_assert!(behind <= MAX_BACKDATE);
                prop_assert!(behind * 10 <= life.length());
                prop_assert!(life.contains(at(now)));
                prop_assert!(life.not_after() <= at(now).plus(Duration::from_secs(wanted)));
                prop_assert!(life.not_after() <= chain().not_after());
                prop_assert!(life.not_before() >= chain().not_before());
            }
        }
    }
}
