//! Finds out where somebody listens for TCP in a network namespace.
//!
//! The kernel is asked by its sock_diag(7) messages, which name listeners alone. Its table in `/proc` says the same, but to
//! read it walks through the places of all connections of the machine: milliseconds for each look.

use std::fs;
use std::io::{self, Read as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};

use super::space::{Space, SpaceError};

/// Looks at one network namespace, again and again.
pub(super) struct Listening<'s> {
    space: Option<&'s Space>,
    /// None where the kernel has no such door, as in some containers.
    diag: Option<Diag>,
}

impl<'s> Listening<'s> {
    /// Looks at `space`, and where there is none at the namespace of this process.
    pub(super) fn of(space: Option<&'s Space>) -> Self {
        let diag = match space {
            None => Diag::open(),
            Some(space) => space
                .within(Diag::open)
                .unwrap_or_else(|error| Err(io::Error::other(error))),
        };
        Self {
            space,
            diag: diag.ok(),
        }
    }

    /// Where somebody listens now.
    ///
    /// # Errors
    /// When neither the kernel nor its table can be asked.
    pub(super) fn now(&mut self) -> Result<Vec<SocketAddr>, SpaceError> {
        if let Some(diag) = &mut self.diag {
            match diag.listening() {
                Ok(found) => return Ok(found),
                Err(_) => self.diag = None,
            }
        }
        let found = match self.space {
            None => table(),
            Some(space) => space.within(table)?,
        };
        found.map_err(|source| SpaceError::Listening { source })
    }
}

/// A socket to the namespace of the thread that opened it.
struct Diag {
    socket: Socket,
    sequence: u32,
}

impl Diag {
    fn open() -> io::Result<Self> {
        let socket = Socket::new(
            Domain::from(AF_NETLINK),
            Type::RAW,
            Some(Protocol::from(SOCK_DIAG)),
        )?;
        // The kernel answers while it is asked; this is for the day on which it does not.
        socket.set_read_timeout(Some(PATIENCE))?;
        Ok(Self { socket, sequence: 0 })
    }

    fn listening(&mut self) -> io::Result<Vec<SocketAddr>> {
        let mut found = Vec::new();
        for family in [AF_INET, AF_INET6] {
            self.sequence = self.sequence.wrapping_add(1);
            self.socket.send(&question(family, self.sequence))?;
            let mut answer = vec![0; LONGEST];
            loop {
                let length = self.socket.read(&mut answer)?;
                if take(
                    answer.get(..length).unwrap_or_default(),
                    self.sequence,
                    &mut found,
                )? {
                    break;
                }
            }
        }
        Ok(found)
    }
}

/// Asks for all listeners of TCP of one family: a netlink head, and an `inet_diag_req_v2` (`inet_diag.h`).
fn question(family: u8, sequence: u32) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(QUESTION as usize);
    bytes.extend(QUESTION.to_ne_bytes());
    bytes.extend(BY_FAMILY.to_ne_bytes());
    bytes.extend((REQUEST | DUMP).to_ne_bytes());
    bytes.extend(sequence.to_ne_bytes());
    bytes.extend([0; 4]);
    bytes.extend([family, TCP, 0, 0]);
    bytes.extend((1_u32 << LISTEN_STATE).to_ne_bytes());
    // Whatever its addresses and ports are.
    bytes.resize(QUESTION as usize, 0);
    bytes
}

/// Takes the listeners of one datagram, which has several messages; true when the answer is at its end.
fn take(datagram: &[u8], sequence: u32, found: &mut Vec<SocketAddr>) -> io::Result<bool> {
    let broken = || io::Error::new(io::ErrorKind::InvalidData, "the kernel's answer is none");
    let mut rest = datagram;
    while !rest.is_empty() {
        let length = number(rest, 0).ok_or_else(broken)? as usize;
        let message = rest.get(..length).filter(|message| message.len() >= HEAD);
        let message = message.ok_or_else(broken)?;
        let kind = message
            .get(4..6)
            .and_then(|kind| Some(u16::from_ne_bytes(kind.try_into().ok()?)));
        if number(message, 8) != Some(sequence) {
            return Err(broken());
        }
        match kind {
            Some(DONE) => return Ok(true),
            Some(ERROR) => {
                let code = number(message, HEAD).ok_or_else(broken)?.cast_signed();
                return Err(io::Error::from_raw_os_error(code.saturating_neg()));
            }
            Some(BY_FAMILY) => found.push(address(message).ok_or_else(broken)?),
            _ => return Err(broken()),
        }
        // The next one begins at a multiple of four.
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(false)
}

/// The local address of an `inet_diag_msg`.
fn address(message: &[u8]) -> Option<SocketAddr> {
    let port = u16::from_be_bytes(message.get(HEAD + 4..HEAD + 6)?.try_into().ok()?);
    let octets = message.get(HEAD + 8..HEAD + 24)?;
    let ip: IpAddr = match *message.get(HEAD)? {
        AF_INET => Ipv4Addr::from(<[u8; 4]>::try_from(octets.get(..4)?).ok()?).into(),
        AF_INET6 => Ipv6Addr::from(<[u8; 16]>::try_from(octets).ok()?).to_canonical(),
        _ => return None,
    };
    Some(SocketAddr::new(ip, port))
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

/// The same by the table of the namespace of this thread.
fn table() -> io::Result<Vec<SocketAddr>> {
    let mut found = Vec::new();
    for table in ["tcp", "tcp6"] {
        match fs::read_to_string(format!("/proc/thread-self/net/{table}")) {
            Ok(text) => found.extend(text.lines().filter_map(listener)),
            // There is no tcp6 without IPv6.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(found)
}

/// The address of a line such as `0: 0100007F:1F90 00000000:0000 0A …` (proc(5)), when it is a listener's.
pub(crate) fn listener(line: &str) -> Option<SocketAddr> {
    let mut words = line.split_whitespace().skip(1);
    let (address, port) = words.next()?.split_once(':')?;
    if words.nth(1)? != LISTEN {
        return None;
    }
    Some(SocketAddr::new(
        address_of(address)?,
        u16::from_str_radix(port, 16).ok()?,
    ))
}

/// An address as the kernel prints it: in words of four bytes, each in this machine's own order.
fn address_of(hex: &str) -> Option<IpAddr> {
    let words: Option<Vec<[u8; 4]>> = (0..hex.len() / 8)
        .map(|at| {
            let word = u32::from_str_radix(hex.get(at * 8..at * 8 + 8)?, 16).ok()?;
            Some(word.to_ne_bytes())
        })
        .collect();
    match words?.as_slice() {
        [v4] => Some(Ipv4Addr::from(*v4).into()),
        [a, b, c, d] => {
            let mut octets = [0; 16];
            for (to, from) in octets.iter_mut().zip([a, b, c, d].into_iter().flatten()) {
                *to = *from;
            }
            Some(Ipv6Addr::from(octets).to_canonical())
        }
        _ => None,
    }
}

/// The state of a listening socket in the kernel's table.
const LISTEN: &str = "0A";

/// The same as a number.
const LISTEN_STATE: u32 = 10;

const AF_NETLINK: i32 = 16;
const SOCK_DIAG: i32 = 4;
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
const TCP: u8 = 6;

const BY_FAMILY: u16 = 20;
const ERROR: u16 = 2;
const DONE: u16 = 3;
const REQUEST: u16 = 1;
const DUMP: u16 = 0x300;

/// The bytes of a netlink head.
const HEAD: usize = 16;

/// The bytes of a question: a head, eight of its own, and an empty socket's name.
const QUESTION: u32 = 16 + 8 + 48;

/// The kernel puts as many messages as it has room for into one datagram, and never more than this.
const LONGEST: usize = 32 * 1024;

const PATIENCE: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests;
