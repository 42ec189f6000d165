//! Plans the network of one program that `ferrule run` runs alone, and opens the ways into it and out of it.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use ferrule_daemon::drain::Drain;
use tokio::net::TcpListener;

use super::control::Places;
use super::plan::{Machine, Plan};
use super::render::MARK;
use super::{outside, relay};
use crate::arguments::Run;
use crate::failure::Failure;
use crate::state::Capture;

pub(crate) use super::inside::{Alone, INTERRUPT};
pub(crate) use super::probe::refusal;

/// The network of `arguments`, whose sidecar's settings lie in `folder`.
///
/// # Errors
/// When the folder that the caller is in cannot be found.
pub(crate) fn alone(arguments: &Run, folder: &Path, authorities: Vec<IpAddr>) -> Result<Alone, Failure> {
    let plan = plan(arguments.identity.trust_domain().as_str());
    let addresses = plan
        .addresses_of(0)
        .map_err(Failure::could_not("plan the network"))?;
    let absolute = |path: &std::path::PathBuf| std::path::absolute(path);
    let log = arguments.log.as_ref().map(absolute).transpose();
    Ok(Alone {
        addresses,
        authorities,
        plan,
        state: folder.to_owned(),
        settings: folder.join("proxy.yaml"),
        control: folder.join("proxy.sock"),
        log: log.map_err(Failure::could_not("find the log"))?,
        program: arguments.program.clone(),
        folder: std::env::current_dir().map_err(Failure::could_not("find this folder"))?,
    })
}

/// What the settings of a sidecar in such a network have beside the others.
pub(crate) fn settings(trust_domain: &str, settings: &mut serde_json::Value) -> Result<(), Failure> {
    let plan = plan(trust_domain);
    let addresses = plan
        .addresses_of(0)
        .map_err(Failure::could_not("plan the network"))?;
    settings["workload"]["addresses"] = serde_json::json!(addresses);
    settings["capture"] = serde_json::json!({ "mark": MARK });
    settings["mesh"] = serde_json::json!({ "resolvers": plan.hub });
    Ok(())
}

/// Dials for the network what lies beyond it, until `drain` closes.
///
/// # Errors
/// When the socket cannot be made.
pub(crate) fn serve_outside(alone: &Alone, drain: &Drain) -> io::Result<()> {
    outside::serve(&Places::new(&alone.state).relay_out(), drain)
}

/// Carries what comes to `listener` to `target` in the network, until `drain` closes.
pub(crate) fn serve_inside(listener: TcpListener, alone: &Alone, target: SocketAddr, drain: &Drain) {
    relay::serve(listener, Places::new(&alone.state).relay_in(), target, drain);
}

fn plan(trust_domain: &str) -> Plan {
    Plan::empty(
        trust_domain,
        Machine {
            capture: Capture::Transparent,
            ipv6: Path::new("/proc/net/if_inet6").exists(),
            loopback: 0,
        },
    )
}
