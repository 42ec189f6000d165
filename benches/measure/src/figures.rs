//! Turns samples into figures that people can compare.

use std::time::Duration;

pub use ferrule_load::spread::{Spread, short};

/// The delay that `per_mille` of all `delays` did not exceed, in milliseconds; sorts them.
pub fn percentile(delays: &mut [Duration], per_mille: usize) -> f64 {
    delays.sort_unstable();
    let rank = (delays.len() * per_mille).div_ceil(1000).max(1);
    delays
        .get(rank - 1)
        .map_or(0.0, |delay| delay.as_secs_f64() * 1e3)
}

/// A count as a number to divide by and with.
pub fn number(count: usize) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_one_of_the_delays() {
        let mut delays: Vec<Duration> = (1..=200).rev().map(Duration::from_millis).collect();
        assert_eq!(percentile(&mut delays, 500), 100.0);
        assert_eq!(percentile(&mut delays, 990), 198.0);
        assert_eq!(percentile(&mut delays, 1000), 200.0);
        assert_eq!(percentile(&mut [], 500), 0.0);
    }
}
