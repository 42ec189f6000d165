//! Names certificates by their serial number.

use std::fmt;
use std::str::FromStr;

/// A certificate's serial number: positive, at most 20 octets (RFC 5280 §4.1.2.2).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Serial {
    /// Big-endian, right-aligned.
    octets: [u8; Self::MAX_OCTETS],
}

impl Serial {
    /// The longest serial number, in octets.
    pub const MAX_OCTETS: usize = 20;

    /// The number whose big-endian octets are `octets`; leading zeros do not count.
    ///
    /// # Errors
    /// When the number is zero or longer than 20 octets.
    pub fn from_be_bytes(octets: &[u8]) -> Result<Self, SerialError> {
        let zeros = octets.iter().take_while(|octet| **octet == 0).count();
        let significant = &octets[zeros..];
        if significant.is_empty() {
            return Err(SerialError::Zero);
        }
        let Some(from) = Self::MAX_OCTETS.checked_sub(significant.len()) else {
            return Err(SerialError::TooLong {
                octets: significant.len(),
            });
        };
        let mut serial = Self {
            octets: [0; Self::MAX_OCTETS],
        };
        serial.octets[from..].copy_from_slice(significant);
        Ok(serial)
    }

    /// The big-endian octets without leading zeros.
    pub fn as_be_bytes(&self) -> &[u8] {
        let zeros = self.octets.iter().take_while(|octet| **octet == 0).count();
        &self.octets[zeros..]
    }
}

impl FromStr for Serial {
    type Err = SerialError;

    /// Reads hexadecimal digits in either case; colons between octets are allowed, as OpenSSL prints them.
    fn from_str(text: &str) -> Result<Self, SerialError> {
        let digits: Vec<u8> = text.bytes().filter(|byte| *byte != b':').collect();
        if digits.len() > 4 * Self::MAX_OCTETS {
            return Err(SerialError::TooLong {
                octets: digits.len().div_ceil(2),
            });
        }
        let mut octets = Vec::with_capacity(digits.len().div_ceil(2));
        // An odd number of digits means that the first octet has only one.
        let (first, pairs) = digits.split_at(digits.len() % 2);
        for octet in std::iter::once(first)
            .filter(|octet| !octet.is_empty())
            .chain(pairs.chunks(2))
        {
            let mut value = 0;
            for digit in octet {
                value = value << 4 | nibble(*digit)?;
            }
            octets.push(value);
        }
        Self::from_be_bytes(&octets)
    }
}

impl fmt::Display for Serial {
    /// Lower-case hexadecimal, two digits to an octet.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_be_bytes()
            .iter()
            .try_for_each(|octet| write!(f, "{octet:02x}"))
    }
}

impl fmt::Debug for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Serial({self})")
    }
}

fn nibble(digit: u8) -> Result<u8, SerialError> {
    match digit {
        b'0'..=b'9' => Ok(digit - b'0'),
        b'a'..=b'f' => Ok(digit - b'a' + 10),
        b'A'..=b'F' => Ok(digit - b'A' + 10),
        _ => Err(SerialError::Digit),
    }
}

/// Why octets or a text are no serial number.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SerialError {
    /// The number zero, or no digit at all.
    #[error("a serial number is positive, and this is zero")]
    Zero,
    /// More than 20 octets.
    #[error("the serial number is {octets} octets long, more than {}", Serial::MAX_OCTETS)]
    TooLong {
        /// Its length.
        octets: usize,
    },
    /// Something else than hexadecimal digits with colons between them.
    #[error("the serial number is not hexadecimal")]
    Digit,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_number_has_one_text() {
        for text in ["00ab12", "AB:12", "ab12", "0:ab:12"] {
            assert_eq!(text.parse::<Serial>().unwrap().to_string(), "ab12", "{text}");
        }
        assert_eq!("f".parse::<Serial>().unwrap().to_string(), "0f");
    }

    #[test]
    fn what_is_no_serial_number_is_refused() {
        assert_eq!("".parse::<Serial>(), Err(SerialError::Zero));
        assert_eq!("0000".parse::<Serial>(), Err(SerialError::Zero));
        assert_eq!("0x12".parse::<Serial>(), Err(SerialError::Digit));
        assert_eq!(
            "11".repeat(21).parse::<Serial>(),
            Err(SerialError::TooLong { octets: 21 })
        );
        assert_eq!(
            Serial::from_be_bytes(&[1; 21]),
            Err(SerialError::TooLong { octets: 21 })
        );
        assert_eq!(Serial::from_be_bytes(&[0, 0, 7]).unwrap().as_be_bytes(), [7]);
    }
}
