//! Counts time in whole seconds: instants, lives of certificates, shares of a life.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// An instant in whole seconds since 1970-01-01T00:00:00Z, the resolution of an X.509 validity
/// (RFC 5280 §4.1.2.5). Arithmetic stops at the ends of the range instead of wrapping.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

impl Timestamp {
    /// The instant `seconds` after the Unix epoch (before it, when negative).
    pub const fn from_unix(seconds: i64) -> Self {
        Self(seconds)
    }

    /// Seconds since the Unix epoch; negative before it.
    pub const fn unix(self) -> i64 {
        self.0
    }

    /// This instant, `duration` later. Fractions of a second are dropped.
    pub fn plus(self, duration: Duration) -> Self {
        Self(self.0.saturating_add_unsigned(duration.as_secs()))
    }

    /// This instant, `duration` earlier. Fractions of a second are dropped.
    pub fn minus(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub_unsigned(duration.as_secs()))
    }

    /// How long after `earlier` this instant is; zero when it is not after it.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_secs(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }
}

impl From<SystemTime> for Timestamp {
    /// Rounds down to the second. An instant out of range becomes the nearest end of it.
    fn from(time: SystemTime) -> Self {
        match time.duration_since(UNIX_EPOCH) {
            Ok(after) => Self(0).plus(after),
            Err(before) => {
                let before = before.duration();
                let whole = before.as_secs() + u64::from(before.subsec_nanos() > 0);
                Self(0).minus(Duration::from_secs(whole))
            }
        }
    }
}

impl fmt::Display for Timestamp {
    /// RFC 3339 in UTC, such as `2026-11-22T01:20:00Z`; outside the years 0 to 9999, the Unix time as `@123`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let written = OffsetDateTime::from_unix_timestamp(self.0)
            .ok()
            .and_then(|instant| instant.format(&Rfc3339).ok());
        match written {
            Some(text) => f.write_str(&text),
            None => write!(f, "@{}", self.0),
        }
    }
}

/// The life of a certificate: from `not_before` to `not_after`, both included (RFC 5280 §4.1.2.5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lifetime {
    not_before: Timestamp,
    not_after: Timestamp,
}

impl Lifetime {
    /// The life between the two instants, or `None` when it would end before it begins.
    pub fn new(not_before: Timestamp, not_after: Timestamp) -> Option<Self> {
        (not_before <= not_after).then_some(Self {
            not_before,
            not_after,
        })
    }

    /// The first second of the life.
    pub const fn not_before(self) -> Timestamp {
        self.not_before
    }

    /// The last second of the life.
    pub const fn not_after(self) -> Timestamp {
        self.not_after
    }

    /// From the first second to the last.
    pub fn length(self) -> Duration {
        self.not_after.since(self.not_before)
    }

    /// Whether `now` lies within the life, its ends included.
    pub fn contains(self, now: Timestamp) -> bool {
        self.not_before <= now && now <= self.not_after
    }

    /// What is left of the life at `now`; zero once it is over.
    pub fn left(self, now: Timestamp) -> Duration {
        self.not_after.since(now)
    }
}

impl fmt::Display for Lifetime {
    /// `2026-11-22T01:20:00Z to 2026-11-22T13:20:00Z`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} to {}", self.not_before, self.not_after)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arithmetic_stops_at_the_ends() {
        let last = Timestamp::from_unix(i64::MAX);
        assert_eq!(last.plus(Duration::from_secs(1)), last);
        let first = Timestamp::from_unix(i64::MIN);
        assert_eq!(first.minus(Duration::MAX), first);
        assert_eq!(first.since(last), Duration::ZERO);
    }

    #[test]
    fn prints_as_rfc_3339() {
        assert_eq!(Timestamp::from_unix(0).to_string(), "1970-01-01T00:00:00Z");
        assert_eq!(
            Timestamp::from_unix(i64::MAX).to_string(),
            format!("@{}", i64::MAX)
        );
    }

    #[test]
    fn an_instant_before_the_epoch_rounds_down() {
        let half = UNIX_EPOCH - Duration::from_millis(500);
        assert_eq!(Timestamp::from(half).unix(), -1);
    }

    #[test]
    fn a_life_includes_both_its_ends() {
        let life = Lifetime::new(Timestamp::from_unix(10), Timestamp::from_unix(20)).unwrap();
        assert!(life.contains(Timestamp::from_unix(10)));
        assert!(life.contains(Timestamp::from_unix(20)));
        assert!(!life.contains(Timestamp::from_unix(9)));
        assert!(!life.contains(Timestamp::from_unix(21)));
        assert_eq!(life.left(Timestamp::from_unix(15)), Duration::from_secs(5));
        assert_eq!(life.left(Timestamp::from_unix(25)), Duration::ZERO);
    }

    #[test]
    fn a_life_cannot_end_before_it_begins() {
        assert_eq!(
            Lifetime::new(Timestamp::from_unix(2), Timestamp::from_unix(1)),
            None
        );
    }
}
