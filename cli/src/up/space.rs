//! Makes network namespaces, and lets work be done within one of them.

use std::fs::{self, File};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsFd as _;

use ferrule_proxy::redirect::apply::{self, ApplyError, Tool};
use ferrule_proxy::redirect::plan::RedirectPlan;
use nix::sched::{CloneFlags, setns, unshare};

use super::netlink::{LOOPBACK, Link, Netlink, NetlinkError};
use super::plan::{V4_BITS, V6_BITS};

/// A network namespace; it lasts as long as this, or as the last process in it.
#[derive(Debug)]
pub(super) struct Space {
    file: File,
}

/// The namespace in the middle, in which the CA and the directory live; the process inside is in it.
pub(super) fn prepare_hub(addresses: &[IpAddr]) -> Result<(), SpaceError> {
    let mut here = Netlink::open()?;
    here.up(LOOPBACK)?;
    here.bridge("ferrule0", BRIDGE)?;
    for address in addresses {
        here.address(BRIDGE, *address, bits(*address))?;
    }
    Ok(())
}

impl Space {
    /// Makes the namespace of workload `number`, linked to the bridge of this one.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub(super) fn make(number: u32, addresses: &[IpAddr], hub: &[IpAddr]) -> Result<Self, SpaceError> {
        let mut outside = Netlink::open()?;
        // A thread of its own, because a thread that has left its namespace is good for nothing else.
        in_thread(move || {
            unshare(CloneFlags::CLONE_NEWNET).map_err(|error| SpaceError::Make { source: error.into() })?;
            let file = File::open(HERE).map_err(|source| SpaceError::Make { source })?;
            outside.pair(
                &format!("w{number}"),
                Link(FIRST_PORT + number),
                BRIDGE,
                ETH0,
                file.as_fd(),
            )?;
            let mut inside = Netlink::open()?;
            inside.up(LOOPBACK)?;
            for address in addresses {
                inside.address(ETH0, *address, bits(*address))?;
            }
            inside.up(ETH0)?;
            for gateway in hub {
                inside.default_route(*gateway)?;
            }
            // The workload has no capability, and may use its own low ports all the same. Where /proc is read-only it
            // cannot, which it will say itself.
            let _ = fs::write("/proc/sys/net/ipv4/ip_unprivileged_port_start", "0");
            Ok(Self { file })
        })
    }

    /// Does `work` in this namespace; processes that it starts are in it too.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub(super) fn within<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T, SpaceError> {
        in_thread(|| {
            setns(&self.file, CloneFlags::CLONE_NEWNET)
                .map_err(|error| SpaceError::Enter { source: error.into() })?;
            Ok(work())
        })
    }

    /// Puts the redirect in force.
    ///
    /// # Errors
    /// When the tool refuses.
    pub(super) fn redirect(&self, plan: &RedirectPlan) -> Result<(), SpaceError> {
        self.within(|| apply::install(Tool::Nft, plan))?
            .map_err(|source| SpaceError::Redirect { source })
    }

    /// Where somebody listens for TCP.
    ///
    /// # Errors
    /// When the namespace or its tables cannot be read.
    pub(super) fn listening(&self) -> Result<Vec<SocketAddr>, SpaceError> {
        self.within(listening)?
            .map_err(|source| SpaceError::Listening { source })
    }
}

/// Where somebody listens for TCP in the namespace of this thread.
pub(super) fn listening() -> io::Result<Vec<SocketAddr>> {
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

fn in_thread<T: Send>(work: impl FnOnce() -> Result<T, SpaceError> + Send) -> Result<T, SpaceError> {
    std::thread::scope(|scope| {
        let started = std::thread::Builder::new()
            .name("space".to_owned())
            .spawn_scoped(scope, work);
        match started.map_err(|source| SpaceError::Make { source })?.join() {
            Ok(done) => done,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

fn bits(address: IpAddr) -> u8 {
    if address.is_ipv4() { V4_BITS } else { V6_BITS }
}

/// The state of a listening socket in the kernel's table.
const LISTEN: &str = "0A";

const HERE: &str = "/proc/thread-self/ns/net";

const BRIDGE: Link = Link(2);

const ETH0: Link = Link(2);

/// Links of the hub below this are its own.
const FIRST_PORT: u32 = 16;

/// Why there is no namespace as it should be.
#[derive(Debug, thiserror::Error)]
pub(super) enum SpaceError {
    /// It cannot be made.
    #[error("cannot make a network namespace")]
    Make {
        /// Why.
        source: io::Error,
    },
    /// It cannot be entered.
    #[error("cannot enter a network namespace")]
    Enter {
        /// Why.
        source: io::Error,
    },
    /// Its links or addresses cannot be made.
    #[error("cannot set up a network namespace")]
    Network {
        /// Why.
        #[from]
        source: NetlinkError,
    },
    /// The redirect cannot be put in force.
    #[error("cannot redirect connections")]
    Redirect {
        /// Why.
        source: ApplyError,
    },
    /// Its listeners cannot be read.
    #[error("cannot read who listens in a network namespace")]
    Listening {
        /// Why.
        source: io::Error,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listeners_line_is_told_from_others() {
        let line = |at: &str, state: &str| format!("   0: {at} 00000000:0000 {state} 00000000:00000000 00:0");
        let read = |at: &str| listener(&line(at, "0A")).map(|at| at.to_string());
        assert_eq!(read("0100007F:1F90").as_deref(), Some("127.0.0.1:8080"));
        assert_eq!(read("00000000:0050").as_deref(), Some("0.0.0.0:80"));
        let (any, own) = ("0".repeat(32), format!("{}01000000", "0".repeat(24)));
        assert_eq!(read(&format!("{any}:0050")).as_deref(), Some("[::]:80"));
        assert_eq!(read(&format!("{own}:0050")).as_deref(), Some("[::1]:80"));
        let mapped = format!("{}FFFF00000100007F:0050", "0".repeat(16));
        assert_eq!(read(&mapped).as_deref(), Some("127.0.0.1:80"));
        assert_eq!(listener(&line("0100007F:1F90", "01")), None);
        let head = "  sl  local_address rem_address   st tx_queue";
        assert_eq!(listener(head), None);
    }
}
