//! Holds what the redirect rules are rendered from, checked once.

use std::fmt;
use std::net::IpAddr;
use std::num::NonZeroU16;
use std::str::FromStr;

/// Everything that the redirect rules depend on. The init program, the CNI plugin, `ferrule up` and the tests
/// make one of these and render it with [`rules`](super::rules): there is no second source of rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RedirectPlan {
    /// Where connections that the workload opens are sent; 15001 by default.
    pub outbound_port: NonZeroU16,
    /// Where connections that others open are sent; 15006 by default.
    pub inbound_port: NonZeroU16,
    /// The port that is redirected even for the proxy, so that it can meet itself; 15002 by default.
    pub proof_port: NonZeroU16,
    /// How the proxy's own traffic is told from the workload's.
    pub exemption: Exemption,
    /// Inbound ports that are not redirected, the proxy's metrics port among them.
    pub excluded_inbound: Vec<PortRange>,
    /// Outbound destination ports that are not redirected.
    pub excluded_outbound: Vec<PortRange>,
    /// Outbound destinations that are not redirected.
    pub excluded_ranges: Vec<AddressRange>,
}

impl Default for RedirectPlan {
    /// The ports of the documentation, the user id 2150, and the ports of metrics and probes, 15020 and 15021, left open.
    fn default() -> Self {
        Self {
            outbound_port: port(15001),
            inbound_port: port(15006),
            proof_port: port(15002),
            exemption: Exemption::User(DEFAULT_USER),
            excluded_inbound: vec![PortRange::one(port(15020)), PortRange::one(port(15021))],
            excluded_outbound: Vec::new(),
            excluded_ranges: Vec::new(),
        }
    }
}

/// The user id that the proxy runs under where ids are mapped.
pub const DEFAULT_USER: u32 = 2150;

/// What marks a connection as the proxy's own, which is not sent back to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exemption {
    /// The user id of the process; it must be mapped into the user namespace that owns the rules.
    User(u32),
    /// The socket mark (`SO_MARK`), which only a process with `CAP_NET_ADMIN` can set.
    Mark(u32),
}

/// Ports from `first` to `last`, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PortRange {
    first: NonZeroU16,
    last: NonZeroU16,
}

impl PortRange {
    /// One port alone.
    pub const fn one(port: NonZeroU16) -> Self {
        Self {
            first: port,
            last: port,
        }
    }

    /// Whether `port` lies in the range.
    pub fn contains(self, port: u16) -> bool {
        (self.first.get()..=self.last.get()).contains(&port)
    }

    /// The first and the last port.
    pub const fn bounds(self) -> (u16, u16) {
        (self.first.get(), self.last.get())
    }
}

impl FromStr for PortRange {
    type Err = PlanError;

    /// Reads `22` or `8000-8100`.
    fn from_str(text: &str) -> Result<Self, PlanError> {
        let refused = || PlanError::Ports {
            text: shortened(text),
        };
        let number = |digits: &str| -> Result<NonZeroU16, PlanError> {
            // `+5` and ` 5` are numbers to the standard library and slips to us.
            if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
                return Err(refused());
            }
            digits.parse().map_err(|_| refused())
        };
        let (first, last) = match text.split_once('-') {
            Some((first, last)) => (number(first)?, number(last)?),
            None => (number(text)?, number(text)?),
        };
        if first > last {
            return Err(refused());
        }
        Ok(Self { first, last })
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last {
            write!(f, "{}", self.first)
        } else {
            write!(f, "{}-{}", self.first, self.last)
        }
    }
}

/// Addresses that share a prefix, such as `10.0.0.0/8` or `fd00::/8`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AddressRange {
    base: IpAddr,
    bits: u8,
}

impl AddressRange {
    /// Whether the range is one of IPv4 addresses.
    pub const fn is_ipv4(self) -> bool {
        self.base.is_ipv4()
    }
}

impl FromStr for AddressRange {
    type Err = PlanError;

    /// Reads a range, or a single address. Bits beyond the prefix must be zero: `10.0.0.1/8` is a slip.
    fn from_str(text: &str) -> Result<Self, PlanError> {
        let refused = || PlanError::Range {
            text: shortened(text),
        };
        let (base, bits) = match text.split_once('/') {
            Some((base, bits)) if bits.bytes().all(|byte| byte.is_ascii_digit()) => (base, Some(bits)),
            Some(_) => return Err(refused()),
            None => (text, None),
        };
        let base: IpAddr = base.parse().map_err(|_| refused())?;
        let width: u8 = if base.is_ipv4() { 32 } else { 128 };
        let bits = match bits {
            Some(bits) => bits.parse::<u8>().map_err(|_| refused())?,
            None => width,
        };
        if bits > width || has_bits_beyond(base, bits) {
            return Err(refused());
        }
        Ok(Self { base, bits })
    }
}

impl fmt::Display for AddressRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.base, self.bits)
    }
}

fn has_bits_beyond(base: IpAddr, bits: u8) -> bool {
    match base {
        IpAddr::V4(base) => base
            .to_bits()
            .checked_shl(u32::from(bits))
            .is_some_and(|rest| rest != 0),
        IpAddr::V6(base) => base
            .to_bits()
            .checked_shl(u32::from(bits))
            .is_some_and(|rest| rest != 0),
    }
}

/// A port that is known not to be zero; only used with literals.
const fn port(number: u16) -> NonZeroU16 {
    match NonZeroU16::new(number) {
        Some(port) => port,
        None => NonZeroU16::MIN,
    }
}

fn shortened(text: &str) -> String {
    text.chars().take(64).collect()
}

/// Why a text is no part of a plan.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// Neither a port nor a range of ports.
    #[error("{text:?} is no port from 1 to 65535 and no range such as 8000-8100")]
    Ports {
        /// What was given, cut short.
        text: String,
    },
    /// Neither an address nor a range of addresses.
    #[error("{text:?} is no address range such as 10.0.0.0/8, with zeros after its prefix")]
    Range {
        /// What was given, cut short.
        text: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_read_and_printed_the_same() {
        for text in ["22", "8000-8100", "65535"] {
            assert_eq!(text.parse::<PortRange>().unwrap().to_string(), text);
        }
        for text in ["", "0", "65536", "+5", " 5", "9-8", "1-", "-1", "1-2-3", "a"] {
            assert!(text.parse::<PortRange>().is_err(), "{text:?}");
        }
        assert!("8000-8100".parse::<PortRange>().unwrap().contains(8100));
    }

    #[test]
    fn ranges_are_read_and_printed_the_same() {
        for text in ["10.0.0.0/8", "0.0.0.0/0", "192.0.2.1/32", "fd00::/8", "::/0"] {
            assert_eq!(text.parse::<AddressRange>().unwrap().to_string(), text);
        }
        assert_eq!(
            "192.0.2.1".parse::<AddressRange>().unwrap().to_string(),
            "192.0.2.1/32"
        );
        for text in [
            "10.0.0.1/8",
            "10.0.0.0/33",
            "10.0.0.0/",
            "10.0.0.0/+8",
            "fe80::1%eth0",
            "x",
            "fd00::1/8",
        ] {
            assert!(text.parse::<AddressRange>().is_err(), "{text:?}");
        }
    }

    // C11: what a person may write about exceptions is numbers; nothing else gets into the rules that are loaded.
    #[test]
    fn no_exception_is_more_than_numbers() {
        for more in [
            "; flush ruleset",
            "\nadd rule inet ferrule output accept",
            " accept",
            "}",
            ", 1-65535",
            "$(id)",
            "\0",
            "#",
            "\u{0661}",
        ] {
            for ports in [format!("22{more}"), format!("22-23{more}")] {
                assert!(ports.parse::<PortRange>().is_err(), "{ports:?}");
            }
            for range in [format!("10.0.0.0/8{more}"), format!("10.0.0.1{more}")] {
                assert!(range.parse::<AddressRange>().is_err(), "{range:?}");
            }
        }
    }
}
