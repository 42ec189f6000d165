//! Gives a run a network of its own, where it may set what belongs to the whole machine elsewhere.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, bail};
use nix::sched::{CloneFlags, unshare};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::unistd::{Uid, getgid, getuid};

/// What a run may set.
#[derive(Debug)]
pub(crate) struct Space {
    /// Why the network is the machine's own; none where it is the run's.
    pub(crate) shared: Option<String>,
    /// Open files that each process may have.
    pub(crate) files: u64,
}

impl Space {
    /// Moves this process, and what it will start, into a network of its own. To be called before any thread is.
    pub(crate) fn enter() -> anyhow::Result<Self> {
        let shared = match own_network() {
            Ok(()) => None,
            Err(error) => Some(format!("{error:#}")),
        };
        Ok(Self {
            shared,
            files: raise_files()?,
        })
    }

    /// Makes `name` the congestion control of every connection from now on.
    pub(crate) fn congestion(&self, name: &str) -> anyhow::Result<()> {
        if self.shared.is_some() && name != default_congestion()? {
            bail!("the machine's own congestion control is not touched");
        }
        if self.shared.is_none() {
            fs::write(CONGESTION, name).with_context(|| format!("the kernel has no {name}"))?;
        }
        Ok(())
    }
}

/// The congestion control of the machine, as it is set.
pub(crate) fn default_congestion() -> anyhow::Result<String> {
    let text = fs::read_to_string(CONGESTION).with_context(|| format!("cannot read {CONGESTION}"))?;
    Ok(text.trim().to_owned())
}

fn own_network() -> anyhow::Result<()> {
    let (user, group) = (getuid(), getgid());
    if Uid::effective().is_root() {
        unshare(CloneFlags::CLONE_NEWNET).context("there can be no network of its own")?;
    } else {
        unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNET)
            .context("there can be no user and network namespaces")?;
        fs::write("/proc/self/setgroups", "deny").context("cannot map users")?;
        fs::write("/proc/self/uid_map", format!("0 {user} 1")).context("cannot map users")?;
        fs::write("/proc/self/gid_map", format!("0 {group} 1")).context("cannot map users")?;
    }
    let up = Command::new("ip").args(["link", "set", "lo", "up"]).status();
    if !up.context("cannot run ip")?.success() {
        bail!("cannot set up the loopback of a network of its own");
    }
    // New connections by the thousand: every port that no program listens at.
    for (name, value) in [
        ("ip_local_port_range", "22000 65000"),
        ("tcp_tw_reuse", "1"),
        ("tcp_max_syn_backlog", "8192"),
    ] {
        let path = Path::new("/proc/sys/net/ipv4").join(name);
        fs::write(&path, value).with_context(|| format!("cannot write {}", path.display()))?;
    }
    let path = "/proc/sys/net/core/somaxconn";
    fs::write(path, "8192").with_context(|| format!("cannot write {path}"))
}

fn raise_files() -> anyhow::Result<u64> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).context("cannot read the limit of open files")?;
    if soft >= FILES {
        return Ok(soft);
    }
    if setrlimit(Resource::RLIMIT_NOFILE, FILES, hard.max(FILES)).is_ok() {
        return Ok(FILES);
    }
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).context("cannot raise the limit of open files")?;
    Ok(hard)
}

const CONGESTION: &str = "/proc/sys/net/ipv4/tcp_congestion_control";

/// Both ends of ten thousand connections in one process, with room to spare.
const FILES: u64 = 65_536;
