//! Names certificates within their issuer: serial numbers.

use std::fmt;
use std::str::FromStr;

/// A certificate's serial number: positive, at most 20 octets (RFC 5280 §4.1.2.2).
///
/// Prints and reads as hex digits in lower case, two per octet. Equal numbers are equal values, whatever
/// zeros their encodings began with.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SerialNumber(Box<[u8]>);

impl SerialNumber {
    /// Takes the content octets of an `INTEGER`, most significant first.
    ///
    /// # Errors
    /// When the number is zero or negative, or longer than 20 octets.
    pub fn from_der_content(octets: &[u8]) -> Result<Self, SerialError> {
        if octets.len() > MAX_SERIAL_OCTETS {
            return Err(SerialError::TooLong { octets: octets.len() });
        }
        if octets.first().is_some_and(|first| first & 0x80 != 0) {
            return Err(SerialError::NotPositive);
        }
        Self::from_magnitude(octets)
    }

    /// Takes an unsigned number, most significant octet first, such as 16 random octets.
    ///
    /// # Errors
    /// When the number is zero, or its encoding would be longer than 20 octets.
    pub fn from_magnitude(octets: &[u8]) -> Result<Self, SerialError> {
        let zeros = octets.iter().take_while(|octet| **octet == 0).count();
        let significant = &octets[zeros..];
        let sign = significant.first().ok_or(SerialError::NotPositive)? >> 7;
        let encoded = significant.len() + usize::from(sign);
        if encoded > MAX_SERIAL_OCTETS {
            return Err(SerialError::TooLong { octets: encoded });
        }
        Ok(Self(significant.into()))
    }

    /// The number without leading zeros, most significant octet first.
    pub fn magnitude(&self) -> &[u8] {
        &self.0
    }

    /// The content octets of the DER `INTEGER`: the magnitude, after a zero octet when its highest bit is set.
    pub fn der_content(&self) -> Vec<u8> {
        let sign = self.0.first().is_some_and(|first| first & 0x80 != 0);
        sign.then_some(0)
            .into_iter()
            .chain(self.0.iter().copied())
            .collect()
    }
}

impl fmt::Display for SerialNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        // One piece in place of one for each octet: every line about a connection has a number in it.
        let mut text = [0; 2 * MAX_SERIAL_OCTETS];
        for (pair, octet) in text.chunks_exact_mut(2).zip(&self.0) {
            pair.copy_from_slice(&[DIGITS[usize::from(octet >> 4)], DIGITS[usize::from(octet & 0x0f)]]);
        }
        let text = text.get(..2 * self.0.len()).unwrap_or_default();
        f.write_str(std::str::from_utf8(text).map_err(|_| fmt::Error)?)
    }
}

impl fmt::Debug for SerialNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SerialNumber({self})")
    }
}

impl FromStr for SerialNumber {
    type Err = SerialError;

    /// Reads what `Display` writes; upper case and an odd number of digits are refused.
    fn from_str(text: &str) -> Result<Self, SerialError> {
        if text.len() > 2 * MAX_SERIAL_OCTETS {
            return Err(SerialError::TooLong {
                octets: text.len().div_ceil(2),
            });
        }
        let digits: Vec<u8> = text.bytes().filter_map(hex_digit).collect();
        if digits.len() != text.len() || !digits.len().is_multiple_of(2) {
            return Err(SerialError::Hex);
        }
        let octets: Vec<u8> = digits
            .chunks_exact(2)
            .map(|pair| pair[0] << 4 | pair[1])
            .collect();
        Self::from_magnitude(&octets)
    }
}

fn hex_digit(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    }
}

/// Why a number is no serial number.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SerialError {
    /// Zero, or below it.
    #[error("the serial number is not positive")]
    NotPositive,
    /// More than 20 octets.
    #[error("the serial number has {octets} octets, more than {MAX_SERIAL_OCTETS}")]
    TooLong {
        /// Its length as an `INTEGER`.
        octets: usize,
    },
    /// Not pairs of hex digits in lower case.
    #[error("the serial number is not written as pairs of hex digits in lower case")]
    Hex,
}

/// The longest serial number, in content octets of its `INTEGER` (RFC 5280 §4.1.2.2).
const MAX_SERIAL_OCTETS: usize = 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_numbers_are_equal_values() {
        let padded = SerialNumber::from_der_content(&[0, 0x80, 1]).unwrap();
        assert_eq!(padded, SerialNumber::from_magnitude(&[0x80, 1]).unwrap());
        assert_eq!(padded.to_string(), "8001");
        assert_eq!(padded.der_content(), [0, 0x80, 1]);
        assert_eq!("8001".parse::<SerialNumber>().unwrap(), padded);
    }

    #[test]
    fn zero_negative_long_and_misspelt_numbers_are_refused() {
        assert_eq!(
            SerialNumber::from_der_content(&[0]),
            Err(SerialError::NotPositive)
        );
        assert_eq!(SerialNumber::from_der_content(&[]), Err(SerialError::NotPositive));
        assert_eq!(
            SerialNumber::from_der_content(&[0x80]),
            Err(SerialError::NotPositive)
        );
        assert_eq!(
            SerialNumber::from_der_content(&[1; 21]),
            Err(SerialError::TooLong { octets: 21 })
        );
        // Twenty octets with the highest bit set need a twenty-first for the sign.
        assert_eq!(
            SerialNumber::from_magnitude(&[0xff; 20]),
            Err(SerialError::TooLong { octets: 21 })
        );
        assert!(SerialNumber::from_der_content(&[0x7f; 20]).is_ok());
        for text in ["", "0", "8A", "zz", "0x12", "00"] {
            assert!(text.parse::<SerialNumber>().is_err(), "{text}");
        }
    }
}
