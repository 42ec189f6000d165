//! Decides how long to wait before the next try.

use std::time::Duration;

/// Chance, as a number from 0 to 1: an argument of decisions that must not be the same everywhere at once.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
pub struct Jitter(f64);

impl Jitter {
    /// `share`, brought into the range from 0 to 1; what is not a number counts as 1, the longest wait.
    pub fn new(share: f64) -> Self {
        Self(if share.is_nan() {
            1.0
        } else {
            share.clamp(0.0, 1.0)
        })
    }

    /// A fresh random share, even over the range.
    pub fn random() -> Self {
        Self(rand::random())
    }

    /// The share, from 0 to 1.
    pub fn share(self) -> f64 {
        self.0
    }
}

/// Delays that double from try to try up to a cap, each drawn from its whole range ("full jitter"), so that those
/// who failed together do not come back together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    first: Duration,
    cap: Duration,
}

impl Backoff {
    /// At most `first` before the first retry, twice that before the second, and so on up to `cap`.
    pub const fn new(first: Duration, cap: Duration) -> Self {
        Self { first, cap }
    }

    /// The wait after `failures` failures in a row: the share `jitter` of the range. None after no failure.
    pub fn delay(self, failures: u32, jitter: Jitter) -> Duration {
        self.most(failures).mul_f64(jitter.share())
    }

    /// The longest wait that [`Backoff::delay`] may give after `failures` failures in a row.
    pub fn most(self, failures: u32) -> Duration {
        let Some(doublings) = failures.checked_sub(1) else {
            return Duration::ZERO;
        };
        let factor = 1_u32.checked_shl(doublings).unwrap_or(u32::MAX);
        self.first.saturating_mul(factor).min(self.cap)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BACKOFF: fn() -> Backoff = || Backoff::new(Duration::from_millis(100), Duration::from_secs(15));

    #[test]
    fn doubles_up_to_the_cap() {
        let most: Vec<_> = (0..=10)
            .map(|failures| BACKOFF().most(failures).as_millis())
            .collect();
        assert_eq!(
            most,
            [0, 100, 200, 400, 800, 1_600, 3_200, 6_400, 12_800, 15_000, 15_000]
        );
        assert_eq!(BACKOFF().most(u32::MAX).as_secs(), 15);
    }

    #[test]
    fn a_large_cap_never_lets_the_delay_fall_again() {
        let backoff = Backoff::new(Duration::from_nanos(1), Duration::MAX);
        let most: Vec<_> = (0..200).map(|failures| backoff.most(failures)).collect();
        assert!(most.is_sorted(), "{most:?}");
    }

    #[test]
    fn chance_spreads_over_the_whole_range() {
        assert_eq!(BACKOFF().delay(4, Jitter::new(0.0)), Duration::ZERO);
        assert_eq!(BACKOFF().delay(4, Jitter::new(0.5)).as_millis(), 400);
        assert_eq!(BACKOFF().delay(4, Jitter::new(7.0)).as_millis(), 800);
        assert_eq!(BACKOFF().delay(4, Jitter::new(f64::NAN)).as_millis(), 800);
        let random = Jitter::random().share();
        assert!((0.0..=1.0).contains(&random), "{random}");
    }
}
