//! Reads Kubernetes quantities such as `100m`, `1.5`, `64Mi`, as far as containers' resources need them.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

/// A positive amount, kept as it was written and compared by its worth.
#[derive(Debug, Clone)]
pub struct Quantity {
    text: String,
    thousandths: u128,
}

impl Quantity {
    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl FromStr for Quantity {
    type Err = QuantityError;

    /// Reads digits, a fraction of at most three digits, and a unit; no sign, no exponent.
    fn from_str(text: &str) -> Result<Self, QuantityError> {
        let end = text
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(text.len());
        let (number, unit) = text.split_at(end);
        let (_, factor) = UNITS
            .iter()
            .find(|(name, _)| *name == unit)
            .ok_or(QuantityError)?;
        let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
        let is_number = |digits: &str, most: usize| {
            (1..=most).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit())
        };
        if !is_number(whole, 15) || !is_number(fraction, 3) {
            return Err(QuantityError);
        }
        let whole: u128 = whole.parse().map_err(|_| QuantityError)?;
        let fraction: u128 = format!("{fraction:0<3}").parse().map_err(|_| QuantityError)?;
        // In thousandths of thousandths, so that 0.5m still counts.
        let thousandths = (whole * 1000 + fraction) * factor;
        if thousandths == 0 {
            return Err(QuantityError);
        }
        Ok(Self {
            text: text.to_owned(),
            thousandths,
        })
    }
}

impl PartialEq for Quantity {
    fn eq(&self, other: &Self) -> bool {
        self.thousandths == other.thousandths
    }
}

impl Eq for Quantity {}

impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Quantity {
    fn cmp(&self, other: &Self) -> Ordering {
        self.thousandths.cmp(&other.thousandths)
    }
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// A text is no quantity of a resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a quantity such as 100m, 1 or 64Mi")]
pub struct QuantityError;

/// Each unit's worth in thousandths.
const UNITS: [(&str, u128); 8] = [
    ("", 1000),
    ("m", 1),
    ("k", 1_000_000),
    ("M", 1_000_000_000),
    ("G", 1_000_000_000_000),
    ("Ki", 1000 << 10),
    ("Mi", 1000 << 20),
    ("Gi", 1000 << 30),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_compare_by_their_worth() {
        let quantity = |text: &str| text.parse::<Quantity>().unwrap();
        assert_eq!(quantity("1"), quantity("1000m"));
        assert_eq!(quantity("0.5"), quantity("500m"));
        assert!(quantity("64Mi") > quantity("64M"));
        assert!(quantity("1Gi") > quantity("1023Mi"));
        assert_eq!(quantity("1.50").to_string(), "1.50");
    }

    #[test]
    fn what_is_no_amount_is_refused() {
        for text in [
            "", "0", "0m", "-1", "+1", "1e3", "1 Gi", "Mi", "1.2.3", ".5", "1.", "1Ti", "1.0005",
        ] {
            assert!(text.parse::<Quantity>().is_err(), "{text:?}");
        }
    }
}
