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
    if Tool::installed()? != Tool::Nft {
        return Err(ApplyError::NoTool.into());
    }
    let hub = [IpAddr::from(Ipv4Addr::new(10, 213, 0, 1))];
    let workload = [IpAddr::from(Ipv4Addr::new(10, 213, 0, 16))];
    prepare_hub(&hub)?;
    let space = Space::make(0, &workload, &hub)?;
    Ok(space.redirect(&redirect(&hub))?)
}

/// Asks a process of its own to try; nothing when it works, otherwise why not and what to enable, in one line.
pub(super) fn refusal() -> Option<String> {
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
    let switches = [
        (
            "kernel/apparmor_restrict_unprivileged_userns",
            "kernel.apparmor_restrict_unprivileged_userns=0",
        ),
        (
            "kernel/unprivileged_userns_clone",
            "kernel.unprivileged_userns_clone=1",
        ),
        ("user/max_user_namespaces", "user.max_user_namespaces=15000"),
    ];
    let present = switches
        .iter()
        .find(|(file, _)| Path::new("/proc/sys").join(file).exists());
    let (_, setting) = present.filter(|_| said.contains("namespace") || said.contains("uid_map"))?;
    Some(format!("to allow user namespaces, as root: sysctl -w {setting}"))
}

/// Why connections cannot be captured here.
#[derive(Debug, thiserror::Error)]
pub(super) enum ProbeError {
    /// The tool is missing.
    #[error(transparent)]
    Tool(#[from] ApplyError),
    /// The kernel refuses.
    #[error(transparent)]
    Space(#[from] SpaceError),
}
