//! Opens the machine's ports that lead into the mesh: published ones, the CA's and the directory's, those for other hosts.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use ferrule_daemon::drain::Drain;

use super::control::Places;
use super::plan::{JoinPlan, Plan};
use super::{relay, render};
use crate::failure::Failure;
use crate::state::Capture;

/// Where this machine's programs reach the CA and the directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Doors {
    pub(super) authority: SocketAddr,
    pub(super) directory: SocketAddr,
}

/// Opens all of them; they lead into the mesh until `relays` closes.
///
/// # Errors
/// Names the port that cannot be opened.
pub(super) fn open(plan: &Plan, places: &Places, relays: &Drain) -> Result<Doors, Failure> {
    for publisher in &plan.publishers {
        for port in &publisher.ports {
            let at = SocketAddr::from((Ipv4Addr::LOCALHOST, port.at));
            let listener = relay::listen(at).map_err(Failure::could_not(format!(
                "publish port {} on 127.0.0.1",
                port.at
            )))?;
            let target = render::publish_door(plan, port.at);
            relay::serve(listener, places.relay_in(), target, relays);
        }
    }
    for reached in plan
        .reached_at()
        .map_err(Failure::could_not("open ports for other hosts"))?
    {
        open_for_hosts(reached.at, reached.target, places, relays)?;
    }
    if let Some(JoinPlan {
        authority, directory, ..
    }) = plan.join
    {
        return Ok(Doors { authority, directory });
    }
    let (authority, directory) = (render::authority_address(plan), render::directory_address(plan));
    if let Some(host) = plan.host {
        for inner in [authority, directory] {
            open_for_hosts(SocketAddr::new(host.address, inner.port()), inner, places, relays)?;
        }
    }
    Ok(Doors {
        authority: on_loopback(authority, "CA", plan, places, relays)?,
        directory: on_loopback(directory, "directory", plan, places, relays)?,
    })
}

fn open_for_hosts(
    at: SocketAddr,
    target: SocketAddr,
    places: &Places,
    relays: &Drain,
) -> Result<(), Failure> {
    let listener = relay::listen(at).map_err(Failure::could_not(format!(
        "open {at} for the mesh's other hosts"
    )))?;
    relay::serve(listener, places.relay_in(), target, relays);
    Ok(())
}

/// In namespaces of its own, the mesh is reached by way of a port of this machine's loopback: the usual one, or any where
/// somebody else has that.
fn on_loopback(
    inner: SocketAddr,
    what: &str,
    plan: &Plan,
    places: &Places,
    relays: &Drain,
) -> Result<SocketAddr, Failure> {
    if plan.capture == Capture::Explicit {
        return Ok(inner);
    }
    let loopback = IpAddr::from(Ipv4Addr::LOCALHOST);
    let failed = || Failure::could_not(format!("open a way to the {what} on 127.0.0.1"));
    let listener = relay::listen(SocketAddr::new(loopback, inner.port()))
        .or_else(|_| relay::listen(SocketAddr::new(loopback, 0)))
        .map_err(failed())?;
    let outer = listener.local_addr().map_err(failed())?;
    relay::serve(listener, places.relay_in(), inner, relays);
    Ok(outer)
}
