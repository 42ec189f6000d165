//! Reads durations and sizes with their units.

use std::time::Duration;

/// Reads a duration: a whole number and one of `ms`, `s`, `m`, `h`, `d`, such as `250ms`, `30s`, `7d`.
///
/// # Errors
/// When the unit is missing or another one, or the number does not fit.
pub fn parse_duration(text: &str) -> Result<Duration, UnitError> {
    let millis = parse(text, &DURATIONS, UnitError::Duration)?;
    Ok(Duration::from_millis(millis))
}

/// Reads a size in bytes: a whole number and one of `B`, `KiB`, `MiB`, `GiB`, such as `64KiB`.
///
/// # Errors
/// When the unit is missing or another one, or the number does not fit.
pub fn parse_size(text: &str) -> Result<u64, UnitError> {
    parse(text, &SIZES, UnitError::Size)
}

/// Writes a duration in its largest whole unit, as [`parse_duration`] reads it; less than a millisecond is
/// dropped.
pub fn print_duration(duration: Duration) -> String {
    print(
        u64::try_from(duration.as_millis()).unwrap_or(u64::MAX),
        &DURATIONS,
    )
}

/// Writes a size in its largest whole unit, as [`parse_size`] reads it.
pub fn print_size(bytes: u64) -> String {
    print(bytes, &SIZES)
}

/// Smallest first; the first one is the unit that is counted in.
const DURATIONS: [(&str, u64); 5] = [
    ("ms", 1),
    ("s", 1000),
    ("m", 60_000),
    ("h", 3_600_000),
    ("d", 86_400_000),
];
const SIZES: [(&str, u64); 4] = [("B", 1), ("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30)];

fn parse(text: &str, units: &[(&str, u64)], missing: UnitError) -> Result<u64, UnitError> {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    if number.is_empty() {
        return Err(missing);
    }
    let (_, factor) = units.iter().find(|(name, _)| *name == unit).ok_or(missing)?;
    number
        .parse::<u64>()
        .ok()
        .and_then(|number| number.checked_mul(*factor))
        .ok_or(UnitError::TooLarge)
}

fn print(count: u64, units: &[(&str, u64)]) -> String {
    let fitting = units
        .iter()
        .rev()
        .find(|(_, factor)| count > 0 && count.is_multiple_of(*factor));
    match fitting {
        Some((unit, factor)) => format!("{}{unit}", count / factor),
        None => format!("{count}{}", units[0].0),
    }
}

/// Why a text is no duration or no size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UnitError {
    /// Not a whole number followed by a unit of time.
    #[error("expected a duration: a whole number and a unit (ms, s, m, h or d), such as `30s`")]
    Duration,
    /// Not a whole number followed by a unit of size.
    #[error("expected a size: a whole number and a unit (B, KiB, MiB or GiB), such as `64KiB`")]
    Size,
    /// More than 2⁶⁴ milliseconds or bytes.
    #[error("the number is too large")]
    TooLarge,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_duration_needs_a_unit() {
        assert_eq!(parse_duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(parse_duration("7d"), Ok(Duration::from_secs(7 * 86_400)));
        for text in ["30", "", "s", "1.5s", "-1s", "1 s", "1S", "1m30s", "١s", "1µs"] {
            assert_eq!(parse_duration(text), Err(UnitError::Duration), "{text:?}");
        }
        assert_eq!(parse_duration("99999999999999999999s"), Err(UnitError::TooLarge));
        assert_eq!(parse_duration("18446744073709551615d"), Err(UnitError::TooLarge));
    }

    #[test]
    fn a_size_needs_a_unit() {
        assert_eq!(parse_size("64KiB"), Ok(65_536));
        for text in ["64", "64K", "64KB", "64kib", "1.5MiB"] {
            assert_eq!(parse_size(text), Err(UnitError::Size), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_printed_is_read_again(millis in 0..u64::MAX, bytes: u64) {
            let duration = Duration::from_millis(millis);
            prop_assert_eq!(parse_duration(&print_duration(duration)), Ok(duration));
            prop_assert_eq!(parse_size(&print_size(bytes)), Ok(bytes));
        }
    }
}
