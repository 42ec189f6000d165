//! Turns samples into figures that people can compare.

use std::fmt;
use std::time::Duration;

use serde::Serialize;

/// What repeated measurements of one thing gave.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct Spread {
    /// The one in the middle.
    pub(crate) median: f64,
    /// The smallest.
    pub(crate) min: f64,
    /// The largest.
    pub(crate) max: f64,
}

impl Spread {
    /// The spread of `samples`; all zero where there are none.
    pub(crate) fn of(samples: impl IntoIterator<Item = f64>) -> Self {
        let mut samples: Vec<f64> = samples.into_iter().collect();
        samples.sort_by(f64::total_cmp);
        let (Some(min), Some(max)) = (samples.first().copied(), samples.last().copied()) else {
            return Self {
                median: 0.0,
                min: 0.0,
                max: 0.0,
            };
        };
        let middle = samples.len() / 2;
        let median = match samples.len() % 2 {
            0 => f64::midpoint(samples[middle - 1], samples[middle]),
            _ => samples[middle],
        };
        Self { median, min, max }
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} ({} to {})",
            short(self.median),
            short(self.min),
            short(self.max)
        )
    }
}

/// A number with as many digits as anybody can use.
pub(crate) fn short(number: f64) -> String {
    match number.abs() {
        0.0 => "0".to_owned(),
        size if size >= 100.0 => format!("{number:.0}"),
        size if size >= 10.0 => format!("{number:.1}"),
        _ => format!("{number:.2}"),
    }
}

/// The delay that `per_mille` of all `delays` did not exceed, in milliseconds; sorts them.
pub(crate) fn percentile(delays: &mut [Duration], per_mille: usize) -> f64 {
    delays.sort_unstable();
    let rank = (delays.len() * per_mille).div_ceil(1000).max(1);
    delays
        .get(rank - 1)
        .map_or(0.0, |delay| delay.as_secs_f64() * 1e3)
}

/// A count as a number to divide by and with.
pub(crate) fn number(count: usize) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(
            Spread::of([3.0, 1.0, 2.0]),
            Spread {
                median: 2.0,
                min: 1.0,
                max: 3.0
            }
        );
        assert_eq!(Spread::of([4.0, 1.0, 2.0, 3.0]).median, 2.5);
        assert_eq!(
            Spread::of([]),
            Spread {
                median: 0.0,
                min: 0.0,
                max: 0.0
            }
        );
    }

    #[test]
    fn a_percentile_is_one_of_the_delays() {
        let mut delays: Vec<Duration> = (1..=200).rev().map(Duration::from_millis).collect();
        assert_eq!(percentile(&mut delays, 500), 100.0);
        assert_eq!(percentile(&mut delays, 990), 198.0);
        assert_eq!(percentile(&mut delays, 1000), 200.0);
        assert_eq!(percentile(&mut [], 500), 0.0);
    }
}
