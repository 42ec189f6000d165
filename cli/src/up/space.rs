//! Makes network namespaces, and lets work be done within one of them.

use std::fs::{self, File};
use std::io;
use std::net::IpAddr;
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
    here.bridge("ferrule0", BRIDGE, BRIDGE_ADDRESS)?;
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

const HERE: &str = "/proc/thread-self/ns/net";

const BRIDGE: Link = Link(2);

const ETH0: Link = Link(2);

/// The hardware address of the bridge, locally administered. A bridge without one takes the lowest of its ports' addresses,
/// another one with many a new port, and for seconds nobody who knew the old one would reach the CA and the directory.
const BRIDGE_ADDRESS: [u8; 6] = [0x02, 0x66, 0x72, 0x72, 0x6c, 0x00];

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
