//! Keeps many delays as a histogram of three digits, from a microsecond's fraction to minutes.

use std::time::Duration;

use hdrhistogram::Histogram;

/// How long many things took.
#[derive(Debug, Clone)]
pub struct Delays(Histogram<u64>);

impl Default for Delays {
    fn default() -> Self {
        // Only a number of digits above five is refused.
        #[allow(clippy::expect_used, reason = "three is allowed")]
        Self(Histogram::new(3).expect("three digits"))
    }
}

impl Delays {
    /// Adds one.
    pub fn record(&mut self, delay: Duration) {
        // A histogram that may grow takes every number that fits into memory, and no delay is years long.
        let _ = self.0.record(u64::try_from(delay.as_nanos()).unwrap_or(u64::MAX));
    }

    /// Adds all of another's.
    pub fn add(&mut self, other: &Self) {
        // Both were made alike, so nothing is out of the other's range.
        let _ = self.0.add(&other.0);
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        self.0.reset();
    }

    /// How many there are.
    pub fn count(&self) -> u64 {
        self.0.len()
    }

    /// The delay that `share` of all, from 0 to 1, did not exceed, in microseconds; 0 without any.
    pub fn micros(&self, share: f64) -> f64 {
        self.0.value_at_quantile(share) as f64 / 1e3
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_of_all_delays_is_below_each_quantile() {
        let mut delays = Delays::default();
        let mut others = Delays::default();
        for millis in 1..=500 {
            delays.record(Duration::from_millis(millis));
            others.record(Duration::from_millis(500 + millis));
        }
        delays.add(&others);
        assert_eq!(delays.count(), 1000);
        for (share, wanted) in [(0.5, 500_000.0), (0.99, 990_000.0), (0.999, 999_000.0)] {
            let found = delays.micros(share);
            assert!((found - wanted).abs() / wanted < 0.002, "{share}: {found}");
        }
        delays.clear();
        assert_eq!((delays.count(), delays.micros(0.99)), (0, 0.0));
    }
}
