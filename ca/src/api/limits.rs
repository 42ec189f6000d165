//! Counts what each caller and each address may still ask for: token buckets in a bounded map.

use std::collections::HashMap;
use std::hash::Hash;
use std::mem;
use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU32;
use std::time::Duration;

/// How fast a bucket fills, in tokens a second, with the most that it holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Tokens that come back each second.
    pub per_second: NonZeroU32,
    /// The most that may be taken at once, and what a new bucket holds.
    pub burst: NonZeroU32,
}

/// One bucket for each key, all at the same [`Rate`].
///
/// The map is bounded: once half of `capacity` keys were touched, the half that was not touched since is
/// forgotten. A forgotten key starts again with a full bucket, so a caller gains at most one burst from
/// an attacker who fills the map, and never loses by it.
#[derive(Debug)]
pub struct Buckets<K> {
    rate: Rate,
    half: usize,
    touched: HashMap<K, Bucket>,
    older: HashMap<K, Bucket>,
}

/// What a bucket holds, in millionths of a token, at an instant.
#[derive(Debug, Clone, Copy)]
struct Bucket {
    millionths: u64,
    at: Duration,
}

/// A bucket had too little: when to come again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Empty {
    /// How long until the bucket holds enough, rounded up to whole seconds, at least one.
    pub retry_after: Duration,
}

const TOKEN: u64 = 1_000_000;

impl<K: Hash + Eq + Clone> Buckets<K> {
    /// Buckets that fill at `rate`, for at most `capacity` keys (two at least).
    pub fn new(rate: Rate, capacity: usize) -> Self {
        Self {
            rate,
            half: (capacity / 2).max(1),
            touched: HashMap::new(),
            older: HashMap::new(),
        }
    }

    /// Takes one token for `key`; `now` is counted from any fixed instant that does not go back.
    ///
    /// # Errors
    /// When the bucket is empty; it is left as it is, so asking too often costs the caller nothing more.
    pub fn take(&mut self, key: &K, now: Duration) -> Result<(), Empty> {
        let rate = self.rate;
        let bucket = self.bucket(key, now);
        if bucket.millionths >= TOKEN {
            bucket.millionths -= TOKEN;
            return Ok(());
        }
        Err(bucket.shortfall(rate))
    }

    /// Whether [`take`](Self::take) would succeed, without taking or remembering anything.
    ///
    /// # Errors
    /// When the bucket of `key` is empty.
    pub fn check(&self, key: &K, now: Duration) -> Result<(), Empty> {
        let found = self.touched.get(key).or_else(|| self.older.get(key));
        match found.map(|bucket| bucket.filled(self.rate, now)) {
            Some(bucket) if bucket.millionths < TOKEN => Err(bucket.shortfall(self.rate)),
            _ => Ok(()),
        }
    }

    /// How many keys are remembered.
    pub fn len(&self) -> usize {
        self.touched.len() + self.older.len()
    }

    /// Whether no key is remembered.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bucket of `key`, filled up to `now` and counted as touched.
    fn bucket(&mut self, key: &K, now: Duration) -> &mut Bucket {
        if !self.touched.contains_key(key) {
            if self.touched.len() >= self.half {
                self.older = mem::take(&mut self.touched);
            }
            let known = self.older.remove(key);
            self.touched
                .insert(key.clone(), known.unwrap_or_else(|| Bucket::full(self.rate, now)));
        }
        let rate = self.rate;
        let bucket = self
            .touched
            .entry(key.clone())
            .or_insert_with(|| Bucket::full(rate, now));
        *bucket = bucket.filled(rate, now);
        bucket
    }
}

impl Bucket {
    fn full(rate: Rate, now: Duration) -> Self {
        Self {
            millionths: u64::from(rate.burst.get()) * TOKEN,
            at: now,
        }
    }

    fn filled(self, rate: Rate, now: Duration) -> Self {
        let passed = now.saturating_sub(self.at);
        // A token a second is one millionth each microsecond.
        let micros = u64::try_from(passed.as_micros()).unwrap_or(u64::MAX);
        let gained = micros.saturating_mul(u64::from(rate.per_second.get()));
        let most = u64::from(rate.burst.get()) * TOKEN;
        Self {
            millionths: self.millionths.saturating_add(gained).min(most),
            at: self.at.max(now),
        }
    }

    fn shortfall(self, rate: Rate) -> Empty {
        let missing = TOKEN.saturating_sub(self.millionths);
        let micros = missing.div_ceil(u64::from(rate.per_second.get()));
        Empty {
            retry_after: Duration::from_secs(micros.div_ceil(1_000_000).max(1)),
        }
    }
}

/// The part of a client's address that one party can be held to: an IPv4 address whole, an IPv6 address up
/// to its /64, because whoever has one address of a /64 has them all. A mapped IPv4 address counts as IPv4.
pub fn accountable(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rate(per_second: u32, burst: u32) -> Rate {
        Rate {
            per_second: NonZeroU32::new(per_second).unwrap(),
            burst: NonZeroU32::new(burst).unwrap(),
        }
    }

    const START: Duration = Duration::from_secs(100);

    #[test]
    fn a_burst_is_served_and_then_the_rate_holds() {
        let mut buckets = Buckets::new(rate(2, 3), 10);
        for _ in 0..3 {
            assert_eq!(buckets.take(&"a", START), Ok(()));
        }
        assert_eq!(
            buckets.take(&"a", START),
            Err(Empty {
                retry_after: Duration::from_secs(1)
            })
        );
        assert_eq!(buckets.take(&"a", START + Duration::from_millis(500)), Ok(()));
        assert!(buckets.take(&"a", START + Duration::from_millis(500)).is_err());
    }

    #[test]
    fn one_caller_does_not_spend_another_callers_tokens() {
        let mut buckets = Buckets::new(rate(1, 1), 10);
        assert_eq!(buckets.take(&"a", START), Ok(()));
        assert!(buckets.take(&"a", START).is_err());
        assert_eq!(buckets.take(&"b", START), Ok(()));
    }

    #[test]
    fn a_flood_of_keys_stays_within_the_capacity() {
        let mut buckets = Buckets::new(rate(1, 1), 100);
        for key in 0..10_000 {
            assert_eq!(buckets.take(&key, START), Ok(()));
            assert!(buckets.len() <= 100);
        }
    }

    #[test]
    fn a_key_in_use_survives_a_flood_of_others() {
        let mut buckets = Buckets::new(rate(1, 1), 100);
        assert_eq!(buckets.take(&0, START), Ok(()));
        for key in 1..10_000 {
            buckets.take(&key, START).unwrap();
            assert!(buckets.take(&0, START).is_err(), "forgotten after {key} others");
        }
    }

    #[test]
    fn looking_neither_takes_nor_remembers() {
        let mut buckets = Buckets::new(rate(1, 1), 10);
        assert_eq!(buckets.check(&"a", START), Ok(()));
        assert!(buckets.is_empty());
        buckets.take(&"a", START).unwrap();
        assert!(buckets.check(&"a", START).is_err());
        assert_eq!(buckets.check(&"a", START + Duration::from_secs(1)), Ok(()));
    }

    #[test]
    fn a_clock_that_goes_back_gives_nothing() {
        let mut buckets = Buckets::new(rate(1, 1), 10);
        buckets.take(&"a", START).unwrap();
        assert!(buckets.take(&"a", Duration::ZERO).is_err());
        assert!(buckets.take(&"a", START + Duration::from_millis(999)).is_err());
    }

    #[test]
    fn addresses_of_one_network_count_as_one() {
        let one: IpAddr = "2001:db8:1:2:3::4".parse().unwrap();
        let two: IpAddr = "2001:db8:1:2::5".parse().unwrap();
        let other: IpAddr = "2001:db8:1:3::5".parse().unwrap();
        assert_eq!(accountable(one), accountable(two));
        assert_ne!(accountable(one), accountable(other));
        let mapped: IpAddr = "::ffff:192.0.2.1".parse().unwrap();
        assert_eq!(accountable(mapped), "192.0.2.1".parse::<IpAddr>().unwrap());
    }

    proptest! {
        #[test]
        fn nobody_gets_more_than_burst_and_rate(steps in proptest::collection::vec(0_u64..400, 1..200)) {
            let mut buckets = Buckets::new(rate(5, 7), 10);
            let mut now = START;
            let mut taken = 0_u128;
            for step in steps {
                now += Duration::from_millis(step);
                if buckets.take(&"a", now).is_ok() {
                    taken += 1;
                }
                prop_assert!(taken <= 7 + (now - START).as_millis() * 5 / 1000);
            }
        }
    }
}
