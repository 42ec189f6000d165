//! Takes each host statement once, while it is fresh.

use std::collections::{BTreeMap, HashSet};
use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use ferrule_identity::Timestamp;

/// How far a statement's time may lie from the CA's clock, either way: what a host's clock may be wrong by and a
/// request may take.
pub const WINDOW: Duration = Duration::from_secs(300);

/// Remembers the statements that were taken for as long as they would be fresh.
///
/// Bounded: when `capacity` statements are remembered, the next one is refused, because forgetting one would let
/// it be used again. The memory is this process's own; after a restart a statement can be used again within its
/// window, which gains its thief nothing: it is bound to one request, whose private key the host holds.
#[derive(Debug)]
pub struct Statements {
    capacity: usize,
    len: usize,
    /// Keyed hashes of what was taken, by the minute of the statement's own time.
    taken: BTreeMap<i64, HashSet<u64>>,
    hasher: RandomState,
    /// The first minute that is not forgotten. Statements from before it are refused even when the clock was set
    /// back to them.
    from: i64,
}

impl Statements {
    /// Nothing taken yet, room for `capacity` statements (about 20 bytes each).
    pub fn new(capacity: usize) -> Self {
        Self {
            capacity,
            len: 0,
            taken: BTreeMap::new(),
            hasher: RandomState::new(),
            from: i64::MIN,
        }
    }

    /// Whether a statement of `time` is fresh at `now`. Cheap, so it comes before the signature is looked at.
    ///
    /// # Errors
    /// When its time lies more than [`WINDOW`] from `now`.
    pub fn fresh(time: Timestamp, now: Timestamp) -> Result<(), StatementFault> {
        if time.since(now) > WINDOW || now.since(time) > WINDOW {
            return Err(StatementFault::Stale { time, now });
        }
        Ok(())
    }

    /// Takes the statement that `host` made at `time` with `nonce`. To be called once its signature is checked, so
    /// that nobody fills the memory with forgeries.
    ///
    /// # Errors
    /// When it is not fresh, was taken before, or there is no room to remember it.
    pub fn take(
        &mut self,
        host: &str,
        nonce: &[u8],
        time: Timestamp,
        now: Timestamp,
    ) -> Result<(), StatementFault> {
        Self::fresh(time, now)?;
        self.forget(now);
        let minute = minute_of(time);
        if minute < self.from {
            return Err(StatementFault::Stale { time, now });
        }
        if self.len >= self.capacity {
            return Err(StatementFault::Full {
                capacity: self.capacity,
            });
        }
        // Keyed with what only this process knows: nobody can look for two nonces of the same hash.
        let hash = self.hasher.hash_one((host, nonce, time.unix()));
        if !self.taken.entry(minute).or_default().insert(hash) {
            return Err(StatementFault::Replayed);
        }
        self.len += 1;
        Ok(())
    }

    /// Drops the minutes whose last statement is no longer fresh.
    fn forget(&mut self, now: Timestamp) {
        let from = minute_of(now.minus(WINDOW));
        while let Some(oldest) = self.taken.first_entry().filter(|oldest| *oldest.key() < from) {
            self.len -= oldest.remove().len();
        }
        self.from = self.from.max(from);
    }
}

fn minute_of(time: Timestamp) -> i64 {
    time.unix().div_euclid(60)
}

/// Why a statement is not taken, however good its signature.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StatementFault {
    /// Too old, or from the future.
    #[error(
        "the statement was made at {time}, more than {} minutes from this CA's clock, {now}; \
         correct the host's clock", WINDOW.as_secs() / 60
    )]
    Stale {
        /// When it was made, by the host's clock.
        time: Timestamp,
        /// The CA's clock.
        now: Timestamp,
    },
    /// Used before.
    #[error("the statement was used before; each request needs one of its own")]
    Replayed,
    /// The memory is full.
    #[error("{capacity} statements are remembered, no more can be taken for some minutes")]
    Full {
        /// How many.
        capacity: usize,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_unix(1_800_000_000 + seconds)
    }

    #[test]
    fn each_statement_is_taken_once() {
        let mut statements = Statements::new(10);
        assert_eq!(statements.take("web-1", b"n", at(0), at(0)), Ok(()));
        assert_eq!(
            statements.take("web-1", b"n", at(0), at(0)),
            Err(StatementFault::Replayed)
        );
        assert_eq!(
            statements.take("web-1", b"n", at(0), at(300)),
            Err(StatementFault::Replayed)
        );
        assert_eq!(statements.take("web-2", b"n", at(0), at(0)), Ok(()));
        assert_eq!(statements.take("web-1", b"m", at(0), at(0)), Ok(()));
    }

    #[test]
    fn a_statement_is_fresh_for_five_minutes_either_way() {
        for seconds in [-300, -1, 0, 299, 300] {
            assert_eq!(Statements::fresh(at(seconds), at(0)), Ok(()), "{seconds}");
        }
        for seconds in [-301, 301, i64::MIN / 2, i64::MAX / 4] {
            let fault = Statements::fresh(at(seconds), at(0)).unwrap_err();
            assert!(
                fault.to_string().contains(&at(0).to_string()),
                "shows the CA's clock: {fault}"
            );
        }
    }

    #[test]
    fn a_statement_stays_used_for_as_long_as_it_is_fresh() {
        let mut statements = Statements::new(100);
        // Made by a clock that is ahead, so that it is fresh for ten minutes.
        statements.take("web-1", b"n", at(300), at(0)).unwrap();
        for seconds in 0..=600 {
            let again = statements.take("web-1", b"n", at(300), at(seconds));
            assert_eq!(again, Err(StatementFault::Replayed), "{seconds} s later");
        }
        assert!(matches!(
            statements.take("web-1", b"n", at(300), at(601)),
            Err(StatementFault::Stale { .. })
        ));
    }

    #[test]
    fn a_clock_that_is_set_back_does_not_bring_a_used_statement_back() {
        let mut statements = Statements::new(100);
        statements.take("web-1", b"n", at(0), at(0)).unwrap();
        statements.take("web-1", b"m", at(3600), at(3600)).unwrap();
        let again = statements.take("web-1", b"n", at(0), at(0));
        assert!(matches!(again, Err(StatementFault::Stale { .. })), "{again:?}");
    }

    #[test]
    fn memory_is_bounded_and_comes_back() {
        let mut statements = Statements::new(3);
        for nonce in 0..3_u8 {
            statements.take("web-1", &[nonce], at(0), at(0)).unwrap();
        }
        let full = StatementFault::Full { capacity: 3 };
        assert_eq!(statements.take("web-1", &[3], at(0), at(0)), Err(full));
        assert_eq!(statements.take("web-1", &[3], at(400), at(400)), Ok(()));
        assert_eq!(statements.len, 1);
    }
}
