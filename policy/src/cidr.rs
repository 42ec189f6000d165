//! Ranges of addresses, and the addresses that no range opens by accident.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// A range of addresses in CIDR notation, such as `10.1.0.0/16`. A range of IPv4-mapped IPv6 addresses is the
/// IPv4 range itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cidr {
    network: IpAddr,
    length: u8,
}

impl Cidr {
    /// The range of the one address.
    pub fn of(address: IpAddr) -> Self {
        let network = address.to_canonical();
        Self {
            network,
            length: width(network),
        }
    }

    /// The first address.
    pub fn network(self) -> IpAddr {
        self.network
    }

    /// How many leading bits the addresses share.
    pub fn length(self) -> u8 {
        self.length
    }

    /// Whether the range is a single address.
    pub fn is_single(self) -> bool {
        self.length == width(self.network)
    }

    /// Whether `address` lies in the range; an IPv4-mapped IPv6 address counts as the IPv4 address.
    pub fn contains(self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        address.is_ipv4() == self.network.is_ipv4() && masked(address, self.length) == bits(self.network)
    }
}

impl FromStr for Cidr {
    type Err = CidrError;

    fn from_str(text: &str) -> Result<Self, CidrError> {
        let Some((address, length)) = text.split_once('/') else {
            return Err(CidrError::Length);
        };
        if address.contains('%') {
            return Err(CidrError::Scope);
        }
        let network: IpAddr = address.parse().map_err(|_| CidrError::Address)?;
        let decimal = length.bytes().all(|byte| byte.is_ascii_digit())
            && (length.len() == 1 || (length.len() <= 3 && !length.starts_with('0')));
        let length: u8 = length.parse().ok().filter(|_| decimal).ok_or(CidrError::Length)?;
        let most = width(network);
        if length > most {
            return Err(CidrError::TooLong { length, most });
        }
        let (network, length) = match (network, network.to_canonical()) {
            (IpAddr::V6(_), v4 @ IpAddr::V4(_)) if length >= 96 => (v4, length - 96),
            _ => (network, length),
        };
        let start = masked(network, length);
        if start != bits(network) {
            return Err(CidrError::HostBits {
                meant: Self {
                    network: address_of(start, network),
                    length,
                },
            });
        }
        Ok(Self { network, length })
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.network, self.length)
    }
}

/// Why a text is no range of addresses.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CidrError {
    /// No address in front of the slash.
    #[error("expected an IPv4 or IPv6 address in front of `/`")]
    Address,
    /// An IPv6 address with a scope, such as `fe80::1%eth0`, which means something else on every machine.
    #[error("an address with a scope (`%`) names no range")]
    Scope,
    /// No length, or not a plain decimal one.
    #[error("expected an address, `/` and a length, such as 192.0.2.0/24, or 192.0.2.1/32 for one address")]
    Length,
    /// More bits than the address has.
    #[error("the length {length} is more than {most}")]
    TooLong {
        /// The length that was asked for.
        length: u8,
        /// How many bits the address has.
        most: u8,
    },
    /// Bits beyond the length are set.
    #[error("the address has bits beyond the length; did you mean {meant}?")]
    HostBits {
        /// The range that the address lies in.
        meant: Cidr,
    },
}

/// Addresses at which clouds hand out credentials to whoever asks. A range that is wider than the address
/// itself never opens them: whoever allows `0.0.0.0/0` did not mean to.
const METADATA: [IpAddr; 8] = [
    // AWS, Azure, Google, Oracle, DigitalOcean, OpenStack; ECS tasks; EKS pod identity.
    IpAddr::V4(Ipv4Addr::new(169, 254, 169, 254)),
    IpAddr::V4(Ipv4Addr::new(169, 254, 170, 2)),
    IpAddr::V4(Ipv4Addr::new(169, 254, 170, 23)),
    // Azure's wire server.
    IpAddr::V4(Ipv4Addr::new(168, 63, 129, 16)),
    // Alibaba.
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
    // The same over IPv6: AWS, EKS, Google.
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x23)),
    IpAddr::V6(Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254)),
];

/// Whether a cloud's metadata service answers at `address`, also when it is reached through NAT64.
pub(crate) fn is_metadata(address: IpAddr) -> bool {
    METADATA.contains(&behind_nat64(address))
}

/// The address that is reached in the end: IPv4-mapped and NAT64 (RFC 6052 §2.1, 64:ff9b::/96) addresses lead
/// to the IPv4 address that they carry.
pub(crate) fn behind_nat64(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => match v6.segments() {
            [0x64, 0xff9b, 0, 0, 0, 0, high, low] => {
                let [a, b] = high.to_be_bytes();
                let [c, d] = low.to_be_bytes();
                IpAddr::V4(Ipv4Addr::new(a, b, c, d))
            }
            _ => IpAddr::V6(v6),
        },
        v4 => v4,
    }
}

fn width(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

/// The address in the lower bits of a number.
pub(crate) fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u128::from(v4.to_bits()),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

/// The first `length` bits of the address, the others zero.
pub(crate) fn masked(address: IpAddr, length: u8) -> u128 {
    let beyond = width(address).saturating_sub(length);
    let mask = u128::MAX.checked_shl(u32::from(beyond)).unwrap_or(0);
    bits(address) & mask
}

fn address_of(bits: u128, family: IpAddr) -> IpAddr {
    match (family, u32::try_from(bits)) {
        (IpAddr::V4(_), Ok(bits)) => IpAddr::V4(Ipv4Addr::from_bits(bits)),
        _ => IpAddr::V6(Ipv6Addr::from_bits(bits)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cidr(text: &str) -> Cidr {
        text.parse().unwrap()
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_range_has_the_addresses_that_share_its_bits() {
        assert!(cidr("10.1.0.0/16").contains(ip("10.1.255.255")));
        assert!(!cidr("10.1.0.0/16").contains(ip("10.2.0.0")));
        assert!(cidr("0.0.0.0/0").contains(ip("255.255.255.255")));
        assert!(!cidr("0.0.0.0/0").contains(ip("::1")));
        assert!(!cidr("::/0").contains(ip("1.2.3.4")));
        assert!(cidr("::/0").contains(ip("2001:db8::1")));
        assert!(cidr("192.0.2.1/32").contains(ip("192.0.2.1")));
        assert!(!cidr("192.0.2.1/32").contains(ip("192.0.2.0")));
        assert!(cidr("192.0.2.1/32").is_single());
    }

    #[test]
    fn a_mapped_address_is_the_address_itself() {
        // D8
        assert_eq!(cidr("::ffff:10.1.0.0/112"), cidr("10.1.0.0/16"));
        assert!(cidr("10.1.0.0/16").contains(ip("::ffff:10.1.2.3")));
        assert!(!cidr("::/0").contains(ip("::ffff:10.1.2.3")));
        assert!(is_metadata(ip("::ffff:169.254.169.254")));
        assert!(is_metadata(ip("64:ff9b::a9fe:a9fe")));
        assert!(!is_metadata(ip("64:ff9b::a9fe:a9fd")));
    }

    #[test]
    fn what_is_no_range_is_refused() {
        // D8
        for (text, error) in [
            ("10.1.0.0", CidrError::Length),
            ("10.1.0.0/", CidrError::Length),
            ("10.1.0.0/016", CidrError::Length),
            ("10.1.0.0/+16", CidrError::Length),
            ("10.1.0.0/256", CidrError::Length),
            ("10.1.0.0/16/16", CidrError::Length),
            ("010.1.0.0/16", CidrError::Address),
            ("10.1/16", CidrError::Address),
            ("/16", CidrError::Address),
            ("fe80::1%eth0/64", CidrError::Scope),
            ("10.1.0.0/33", CidrError::TooLong { length: 33, most: 32 }),
            (
                "10.1.2.3/16",
                CidrError::HostBits {
                    meant: cidr("10.1.0.0/16"),
                },
            ),
            (
                "2001:db8::1/32",
                CidrError::HostBits {
                    meant: cidr("2001:db8::/32"),
                },
            ),
            (
                "::ffff:10.1.2.3/112",
                CidrError::HostBits {
                    meant: cidr("10.1.0.0/16"),
                },
            ),
        ] {
            assert_eq!(text.parse::<Cidr>(), Err(error), "{text}");
        }
    }
}
