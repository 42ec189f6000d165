//! Makes links, addresses and routes in a network namespace, by the kernel's rtnetlink messages.
//!
//! The sources are rtnetlink(7), netlink(7) and the kernel's `if_link.h`, `veth.h`. A socket speaks for ever to the
//! namespace of the thread that opened it.

use std::io::{self, Read as _};
use std::net::IpAddr;
use std::os::fd::{AsRawFd as _, BorrowedFd};

use socket2::{Domain, Protocol, Socket, Type};

/// Speaks to one network namespace.
pub(super) struct Netlink {
    socket: Socket,
    sequence: u32,
}

/// A link, by its number in its namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Link(pub(super) u32);

/// The loopback link, in every namespace.
pub(super) const LOOPBACK: Link = Link(1);

impl Netlink {
    /// Opens a socket to the network namespace of this thread.
    ///
    /// # Errors
    /// When the system refuses.
    pub(super) fn open() -> Result<Self, NetlinkError> {
        let open = Socket::new(Domain::from(AF_NETLINK), Type::RAW, Some(Protocol::from(ROUTE)));
        Ok(Self {
            socket: open.map_err(|source| NetlinkError {
                doing: "open a netlink socket".to_owned(),
                source,
            })?,
            sequence: 0,
        })
    }

    /// Makes a bridge with that number and that hardware address, which it keeps, and switches it on.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub(super) fn bridge(&mut self, name: &str, link: Link, address: [u8; 6]) -> Result<(), NetlinkError> {
        let mut message = Message::new(NEW_LINK, CREATE);
        message.link(link.0, UP);
        message.text(IFLA_IFNAME, name);
        message.nest(IFLA_ADDRESS, |inner| inner.bytes(&address));
        message.nest(IFLA_LINKINFO, |info| info.text(IFLA_INFO_KIND, "bridge"));
        self.ask(message, || format!("make the bridge {name}"))
    }

    /// Makes a pair of links: `near` here, as a port of `bridge`; `far`, called eth0, in `namespace`.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub(super) fn pair(
        &mut self,
        name: &str,
        near: Link,
        bridge: Link,
        far: Link,
        namespace: BorrowedFd<'_>,
    ) -> Result<(), NetlinkError> {
        let mut message = Message::new(NEW_LINK, CREATE);
        message.link(near.0, UP);
        message.text(IFLA_IFNAME, name);
        message.number(IFLA_MASTER, bridge.0);
        message.nest(IFLA_LINKINFO, |info| {
            info.text(IFLA_INFO_KIND, "veth");
            info.nest(IFLA_INFO_DATA, |data| {
                data.nest(VETH_INFO_PEER, |peer| {
                    peer.link(far.0, 0);
                    peer.text(IFLA_IFNAME, "eth0");
                    peer.number(IFLA_NET_NS_FD, namespace.as_raw_fd().unsigned_abs());
                });
            });
        });
        self.ask(message, || format!("make the link {name}"))
    }

    /// Switches a link on.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub(super) fn up(&mut self, link: Link) -> Result<(), NetlinkError> {
        let mut message = Message::new(NEW_LINK, 0);
        message.link(link.0, UP);
        self.ask(message, || format!("switch link {} on", link.0))
    }

    /// Gives a link an address, in force at once.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub(super) fn address(&mut self, link: Link, address: IpAddr, bits: u8) -> Result<(), NetlinkError> {
        let mut message = Message::new(NEW_ADDRESS, CREATE);
        message.bytes(&[family(address), bits, 0, 0]);
        message.bytes(&link.0.to_ne_bytes());
        message.ip(IFA_LOCAL, address);
        message.ip(IFA_ADDRESS, address);
        if address.is_ipv6() {
            // Nobody else can have it; without this it could not be used for two seconds.
            message.number(IFA_FLAGS, IFA_F_NODAD);
        }
        self.ask(message, || format!("give a link the address {address}"))
    }

    /// Sends everything that has no nearer way to `gateway`.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub(super) fn default_route(&mut self, gateway: IpAddr) -> Result<(), NetlinkError> {
        let mut message = Message::new(NEW_ROUTE, CREATE);
        message.bytes(&[family(gateway), 0, 0, 0, TABLE_MAIN, PROTOCOL_STATIC, 0, UNICAST]);
        message.bytes(&0_u32.to_ne_bytes());
        message.ip(RTA_GATEWAY, gateway);
        self.ask(message, || format!("make a route by way of {gateway}"))
    }

    fn ask(&mut self, message: Message, doing: impl Fn() -> String) -> Result<(), NetlinkError> {
        let failed = |source| NetlinkError {
            doing: doing(),
            source,
        };
        self.sequence = self.sequence.wrapping_add(1);
        let bytes = message.finish(self.sequence);
        self.socket.send(&bytes).map_err(failed)?;
        let mut answer = [0; 4096];
        let length = self.socket.read(&mut answer).map_err(failed)?;
        outcome(answer.get(..length).unwrap_or_default(), self.sequence).map_err(failed)
    }
}

/// Reads the kernel's acknowledgement: an error number, zero for none.
fn outcome(answer: &[u8], sequence: u32) -> io::Result<()> {
    let number = |at: usize| -> Option<u32> {
        let bytes = answer.get(at..at + 4)?;
        Some(u32::from_ne_bytes(bytes.try_into().ok()?))
    };
    let kind = answer
        .get(4..6)
        .and_then(|bytes| Some(u16::from_ne_bytes(bytes.try_into().ok()?)));
    if kind != Some(ERROR) || number(8) != Some(sequence) {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "the kernel's answer is none",
        ));
    }
    match number(16).map(u32::cast_signed) {
        Some(0) => Ok(()),
        Some(code) => Err(io::Error::from_raw_os_error(code.saturating_neg())),
        None => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

fn family(address: IpAddr) -> u8 {
    if address.is_ipv4() { AF_INET } else { AF_INET6 }
}

/// A message in the making; all numbers are in the machine's own byte order.
struct Message {
    bytes: Vec<u8>,
}

impl Message {
    fn new(kind: u16, flags: u16) -> Self {
        let mut bytes = Vec::with_capacity(128);
        bytes.extend([0; 4]);
        bytes.extend(kind.to_ne_bytes());
        bytes.extend((flags | REQUEST | ACKNOWLEDGE).to_ne_bytes());
        bytes.extend([0; 8]);
        Self { bytes }
    }

    fn finish(mut self, sequence: u32) -> Vec<u8> {
        let length = u32::try_from(self.bytes.len()).unwrap_or(u32::MAX);
        self.bytes[..4].copy_from_slice(&length.to_ne_bytes());
        self.bytes[8..12].copy_from_slice(&sequence.to_ne_bytes());
        self.bytes
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.bytes.extend(bytes);
    }

    /// The head that every message about a link has: its number, and the flags to set.
    fn link(&mut self, number: u32, flags: u32) {
        self.bytes(&[0; 4]);
        self.bytes(&number.to_ne_bytes());
        self.bytes(&flags.to_ne_bytes());
        self.bytes(&flags.to_ne_bytes());
    }

    fn nest(&mut self, kind: u16, write: impl FnOnce(&mut Self)) {
        let start = self.bytes.len();
        self.bytes.extend([0; 2]);
        self.bytes(&kind.to_ne_bytes());
        write(self);
        let length = u16::try_from(self.bytes.len() - start).unwrap_or(u16::MAX);
        self.bytes[start..start + 2].copy_from_slice(&length.to_ne_bytes());
        while !self.bytes.len().is_multiple_of(4) {
            self.bytes.push(0);
        }
    }

    fn text(&mut self, kind: u16, text: &str) {
        self.nest(kind, |inner| {
            inner.bytes(text.as_bytes());
            inner.bytes(&[0]);
        });
    }

    fn number(&mut self, kind: u16, number: u32) {
        self.nest(kind, |inner| inner.bytes(&number.to_ne_bytes()));
    }

    fn ip(&mut self, kind: u16, address: IpAddr) {
        self.nest(kind, |inner| match address {
            IpAddr::V4(address) => inner.bytes(&address.octets()),
            IpAddr::V6(address) => inner.bytes(&address.octets()),
        });
    }
}

const AF_NETLINK: i32 = 16;
const ROUTE: i32 = 0;
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;

const ERROR: u16 = 2;
const REQUEST: u16 = 1;
const ACKNOWLEDGE: u16 = 4;
/// Makes it, and fails where it is already.
const CREATE: u16 = 0x400 | 0x200;

const NEW_LINK: u16 = 16;
const NEW_ADDRESS: u16 = 20;
const NEW_ROUTE: u16 = 24;

const UP: u32 = 1;
const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_MASTER: u16 = 10;
const IFLA_LINKINFO: u16 = 18;
const IFLA_NET_NS_FD: u16 = 28;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;
const VETH_INFO_PEER: u16 = 1;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_FLAGS: u16 = 8;
const IFA_F_NODAD: u32 = 2;
const RTA_GATEWAY: u16 = 5;
const TABLE_MAIN: u8 = 254;
const PROTOCOL_STATIC: u8 = 4;
const UNICAST: u8 = 1;

/// The kernel did not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[error("cannot {doing}")]
pub(super) struct NetlinkError {
    doing: String,
    source: io::Error,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_says_its_length_and_fills_up_its_attributes() {
        let mut message = Message::new(NEW_LINK, CREATE);
        message.link(2, UP);
        message.text(IFLA_IFNAME, "br");
        let bytes = message.finish(7);
        assert_eq!(bytes.len(), 16 + 16 + 8);
        assert_eq!(bytes[..4], 40_u32.to_ne_bytes());
        assert_eq!(bytes[8..12], 7_u32.to_ne_bytes());
        // Four bytes of head and "br" with its zero; the length leaves the filling out.
        assert_eq!(bytes[32..34], 7_u16.to_ne_bytes());
        assert_eq!(bytes[36..], *b"br\0\0");
    }

    #[test]
    fn an_answer_is_an_errors_number_or_none() {
        let answer = |code: i32, sequence: u32| {
            let mut bytes = vec![36, 0, 0, 0];
            bytes.extend(ERROR.to_ne_bytes());
            bytes.extend([0; 2]);
            bytes.extend(sequence.to_ne_bytes());
            bytes.extend([0; 4]);
            bytes.extend(code.to_ne_bytes());
            bytes
        };
        outcome(&answer(0, 7), 7).unwrap();
        let refused = outcome(&answer(-1, 7), 7).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::PermissionDenied);
        for other in [&answer(0, 8)[..], &answer(0, 7)[..18], b""] {
            assert!(outcome(other, 7).is_err());
        }
    }
}
