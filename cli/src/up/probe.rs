//! Tries out whether this machine lets us capture connections, by doing it once.

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::process::Stdio;

use ferrule_proxy::redirect::apply::{ApplyError, Tool};
use ferrule_proxy::redirect::plan::{Exemption, RedirectPlan};

use super::parts;
use super::render::MARK;
use super::space::{Space, SpaceError, prepare_hub};

/// The redirect of every copy of a workload. Only the CA and the directory, at the hub's addresses, are reached past
/// the sidecar: they demand TLS themselves, and the sidecar cannot mark what it sends them.
pub(super) fn redirect(hub: &[IpAddr]) -> RedirectPlan {
    RedirectPlan {
        exemption: Exemption::Mark(MARK),
        excluded_inbound: Vec::new(),
        excluded_ranges: hub
            .iter()
            .filter_map(|address| address.to_string().parse().ok())
            .collect(),
        ..RedirectPlan::default()
    }
}

/// Makes one workload's network, in namespaces that nobody else uses.
pub(super) fn run() -> Result<(), ProbeError> {
    match Tool::installed() {
        Ok(Tool::Nft) => {}
        Ok(_) | Err(ApplyError::NoTool) => return Err(ProbeError::NoNft),
        Err(error) => return Err(error.into()),
    }
    let hub = [IpAddr::from(Ipv4Addr::new(10, 213, 0, 1))];
    let workload = [IpAddr::from(Ipv4Addr::new(10, 213, 0, 16))];
    prepare_hub(&hub)?;
    let space = Space::make(0, &workload, &hub)?;
    space.redirect(&redirect(&hub))?;
    try_isolation()
}

/// Becomes what an application becomes, in a process of its own: root may make all the rest and yet not this.
fn try_isolation() -> Result<(), ProbeError> {
    let mut command = parts::command(true, "exec", ["isolate", "", "/", "ferrule", "--version"]);
    let tried = command.stdin(Stdio::null()).stdout(Stdio::null()).output();
    let done = tried.map_err(|source| ProbeError::Start { source })?;
    if done.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&done.stderr);
    let said = said.trim();
    Err(ProbeError::Isolate {
        said: said.strip_prefix("ferrule: ").unwrap_or(said).to_owned(),
    })
}

/// Asks a process of its own to try; nothing when it works, otherwise why not and what to enable, in one line.
pub(crate) fn refusal() -> Option<String> {
    let mut command = parts::command(true, "root", ["probe"]);
    let tried = command.stdin(Stdio::null()).stdout(Stdio::null()).output();
    let said = match tried {
        Ok(done) if done.status.success() => return None,
        Ok(done) => String::from_utf8_lossy(&done.stderr).trim().to_owned(),
        Err(error) => error.to_string(),
    };
    let said = said.lines().last().unwrap_or("no reason given");
    let said = said.strip_prefix("ferrule: ").unwrap_or(said);
    Some(match remedy(said) {
        Some(remedy) => format!("{said}; {remedy}"),
        None => said.to_owned(),
    })
}

/// What an operator can do about it.
fn remedy(said: &str) -> Option<String> {
    if said.contains("nft") && !said.contains("user namespace") {
        return Some("to capture connections, install the package nftables".to_owned());
    }
    if !said.contains("namespace") && !said.contains("uid_map") {
        return None;
    }
    // Each is a reason only where it stands as the kernel or the distribution can forbid by it.
    let switches = [
        (
            "kernel/apparmor_restrict_unprivileged_userns",
            "1",
            "kernel.apparmor_restrict_unprivileged_userns=0",
        ),
        (
            "kernel/unprivileged_userns_clone",
            "0",
            "kernel.unprivileged_userns_clone=1",
        ),
        ("user/max_user_namespaces", "0", "user.max_user_namespaces=15000"),
    ];
    let stands = |file: &str| std::fs::read_to_string(Path::new("/proc/sys").join(file)).unwrap_or_default();
    let (.., setting) = switches
        .iter()
        .find(|(file, forbids, _)| stands(file).trim() == *forbids)?;
    Some(format!("to allow user namespaces, as root: sysctl -w {setting}"))
}

/// Why connections cannot be captured here.
#[derive(Debug, thiserror::Error)]
pub(super) enum ProbeError {
    /// The tool is missing.
    #[error("nft is not installed")]
    NoNft,
    /// The tool does not answer.
    #[error(transparent)]
    Tool(#[from] ApplyError),
    /// The kernel refuses.
    #[error(transparent)]
    Space(#[from] SpaceError),
    /// No process can be started.
    #[error("cannot start a process")]
    Start {
        /// Why.
        source: std::io::Error,
    },
    /// An application cannot be kept from the rest of the machine.
    #[error("{said}")]
    Isolate {
        /// What the process said that tried.
        said: String,
    },
}
