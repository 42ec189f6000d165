//! Turns samples into figures that people can compare.

use std::fmt;

use serde::Serialize;

/// What repeated measurements of one thing gave.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub struct Spread {
    /// The one in the middle.
    pub median: f64,
    /// The smallest.
    pub min: f64,
    /// The largest.
    pub max: f64,
}

impl Spread {
    /// The spread of `samples`; all zero where there are none.
    pub fn of(samples: impl IntoIterator<Item = f64>) -> Self {
        let mut samples: Vec<f64> = samples.into_iter().collect();
        samples.sort_by(f64::total_cmp);
        let (Some(min), Some(max)) = (samples.first().copied(), samples.last().copied()) else {
            return Self::default();
        };
        let middle = samples.len() / 2;
        let median = match samples.len() % 2 {
            0 => f64::midpoint(samples[middle - 1], samples[middle]),
            _ => samples[middle],
        };
        Self { median, min, max }
    }

    /// The spread of `samples` in times of `yardstick`, each compared with the one of its own round: what the machine
    /// did otherwise in that round weighs on both. `None` where a round lacks one of the two, or there is none.
    pub fn of_ratios(samples: &[f64], yardstick: &[f64]) -> Option<Self> {
        if samples.is_empty() || samples.len() != yardstick.len() || yardstick.contains(&0.0) {
            return None;
        }
        let rounds = samples.iter().zip(yardstick);
        Some(Self::of(rounds.map(|(sample, yardstick)| sample / yardstick)))
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
pub fn short(number: f64) -> String {
    match number.abs() {
        0.0 => "0".to_owned(),
        size if size >= 100.0 => format!("{number:.0}"),
        size if size >= 10.0 => format!("{number:.1}"),
        _ => format!("{number:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle() {
        let spread = |median, min, max| Spread { median, min, max };
        assert_eq!(Spread::of([3.0, 1.0, 2.0]), spread(2.0, 1.0, 3.0));
        assert_eq!(Spread::of([4.0, 1.0, 2.0, 3.0]).median, 2.5);
        assert_eq!(Spread::of([]), Spread::default());
    }

    #[test]
    fn ratios_are_taken_within_a_round() {
        // The second round was slow for both; of their medians one would think that it is twice.
        let ratio = Spread::of_ratios(&[2.0, 8.0, 3.0], &[1.0, 8.0, 1.5]).unwrap();
        assert_eq!((ratio.median, ratio.min, ratio.max), (2.0, 1.0, 2.0));
    }

    #[test]
    fn there_is_no_ratio_to_nothing() {
        assert_eq!(Spread::of_ratios(&[1.0], &[0.0]), None);
        assert_eq!(Spread::of_ratios(&[1.0, 2.0], &[1.0]), None);
        assert_eq!(Spread::of_ratios(&[], &[]), None);
    }

    #[test]
    fn numbers_have_three_digits_or_so() {
        assert_eq!(
            [0.0, 1.234, 12.34, 1234.5].map(short),
            ["0", "1.23", "12.3", "1234"]
        );
    }
}
