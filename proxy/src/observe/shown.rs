//! Shows numbers and addresses as lines about connections have them, each in one piece.
//!
//! Every connection has such a line. What the standard library writes digit by digit, through a call for each, costs more
//! there than all of the text.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// The number of a connection: sixteen digits of hexadecimal.
#[derive(Debug, Clone, Copy)]
pub(super) struct Number(pub u64);

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut text = Text::<16>::default();
        for octet in self.0.to_be_bytes() {
            text.push(DIGITS[usize::from(octet >> 4)]);
            text.push(DIGITS[usize::from(octet & 0x0f)]);
        }
        text.fmt(f)
    }
}

/// An address with its port, as `SocketAddr` shows it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Socket(pub SocketAddr);

impl fmt::Display for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            SocketAddr::V4(v4) => {
                let mut text = dotted(*v4.ip());
                text.push(b':');
                text.push_number(v4.port());
                text.fmt(f)
            }
            SocketAddr::V6(v6) => v6.fmt(f),
        }
    }
}

/// An address, as `IpAddr` shows it; nothing where there is none.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ip(pub Option<IpAddr>);

impl fmt::Display for Ip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(IpAddr::V4(v4)) => dotted(v4).fmt(f),
            Some(IpAddr::V6(v6)) => v6.fmt(f),
            None => Ok(()),
        }
    }
}

fn dotted(ip: Ipv4Addr) -> Text<21> {
    let mut text = Text::default();
    for (at, octet) in ip.octets().into_iter().enumerate() {
        if at > 0 {
            text.push(b'.');
        }
        text.push_number(octet.into());
    }
    text
}

/// A few bytes of ASCII; what does not fit is left out.
struct Text<const N: usize> {
    bytes: [u8; N],
    length: usize,
}

impl<const N: usize> Default for Text<N> {
    fn default() -> Self {
        Self {
            bytes: [0; N],
            length: 0,
        }
    }
}

impl<const N: usize> Text<N> {
    fn push(&mut self, byte: u8) {
        if let Some(place) = self.bytes.get_mut(self.length) {
            *place = byte;
            self.length += 1;
        }
    }

    fn push_number(&mut self, number: u16) {
        let mut digits = itoa::Buffer::new();
        digits.format(number).bytes().for_each(|digit| self.push(digit));
    }
}

impl<const N: usize> fmt::Display for Text<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = self.bytes.get(..self.length).unwrap_or_default();
        f.write_str(std::str::from_utf8(bytes).map_err(|_| fmt::Error)?)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn they_are_shown_as_the_standard_library_shows_them(number: u64, small in 0_u64..100_000, v4: u32, v6: u128, port: u16) {
            for number in [number, small] {
                prop_assert_eq!(Number(number).to_string(), format!("{number:016x}"));
            }
            for ip in [IpAddr::from(v4.to_be_bytes()), IpAddr::from(v6.to_be_bytes())] {
                prop_assert_eq!(Ip(Some(ip)).to_string(), ip.to_string());
                let socket = SocketAddr::new(ip, port);
                prop_assert_eq!(Socket(socket).to_string(), socket.to_string());
            }
        }
    }

    #[test]
    fn the_longest_and_the_shortest_fit() {
        let addresses = [
            "255.255.255.255:65535",
            "0.0.0.0:0",
            "10.9.100.1:10000",
            "1.2.3.4:9999",
        ];
        for text in addresses {
            let socket: SocketAddr = text.parse().unwrap();
            assert_eq!(Socket(socket).to_string(), text);
        }
        assert_eq!(Ip(None).to_string(), "");
        assert_eq!(Number(u64::MAX).to_string(), "ffffffffffffffff");
    }
}
