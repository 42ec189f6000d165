//! Opens one connection to a destination beyond the mesh, judged by its address or by the host that the client names.

use std::net::SocketAddr;

use ferrule_policy::{HostName, ServiceName};
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::first::{First, Unnamed, first_words};
use crate::authz::gate::Denied;
use crate::authz::permit::{Direction, Grounds, Permit};
use crate::closed::{CloseReason, Closed};
use crate::forward::carry::Outer;
use crate::kit::Kit;
use crate::net::address::UpstreamAddr;
use crate::net::dial::{Dialing, dial};
use crate::observe::account::{Account, Tls};

/// Opens the connection of the workload `inner`, which was going to `target`.
///
/// # Errors
/// When no rule allows it, or what is allowed does not answer.
pub async fn open(
    inner: &TcpStream,
    target: UpstreamAddr,
    service: Option<ServiceName>,
    account: &mut Account,
    kit: &Kit,
) -> Result<(Permit, Outer), Closed> {
    account.tls = Tls::Plaintext;
    account.service = service.as_ref().map(ToString::to_string).unwrap_or_default();
    let opened = if kit.gate.awaits_host(target, service.as_ref()) {
        by_host(inner, target, service, account, kit).await
    } else {
        let permit = admit(target, service, None, account, kit)?;
        connect(permit, target, Box::default(), kit).await
    }?;
    let why = account.judged.as_ref().map_or("", |judged| judged.why);
    kit.book.plaintext(Direction::Outbound, why);
    Ok(opened)
}

/// Waits for the name, and goes where it leads: wherever the workload dialled, a name that is not its own gains it
/// nothing.
async fn by_host(
    inner: &TcpStream,
    target: UpstreamAddr,
    service: Option<ServiceName>,
    account: &mut Account,
    kit: &Kit,
) -> Result<(Permit, Outer), Closed> {
    let First { named, bytes } = first_words(inner, kit.config.limits.name).await;
    let host = match named {
        Ok(host) => host,
        Err(unnamed) => {
            kit.book.name(unnamed.word());
            // Without a name the address decides alone, where the mode or a trial lets it.
            let permit =
                admit(target, service, None, account, kit).map_err(|closed| unnamed.explain(closed))?;
            return connect(permit, target, bytes, kit).await;
        }
    };
    account.service = host.to_string();
    let permit = match admit(target, service.clone(), Some(host.clone()), account, kit) {
        Ok(permit) => permit,
        Err(closed) => {
            kit.book.name("denied");
            return Err(closed);
        }
    };
    if !permit.judged().by_host {
        kit.book.name("passed");
        return connect(permit, target, bytes, kit).await;
    }
    let places = places(&host, target, kit).await?;
    let mut last = Closed::plainly(CloseReason::Unreachable);
    let end = Instant::now() + kit.config.limits.connect;
    for (tried, place) in places.iter().enumerate() {
        let place = UpstreamAddr::new(*place);
        account.destination = Some(place.socket());
        // Judged where it really goes, so that a change of the rules is judged by that, too.
        let permit = admit(place, service.clone(), Some(host.clone()), account, kit)?;
        // Each has an even share of the time that is left: one that swallows packets must not use it all.
        let untried = u32::try_from(places.len() - tried).unwrap_or(u32::MAX);
        let how = Dialing {
            limit: end.saturating_duration_since(Instant::now()) / untried,
            ..kit.dialing()
        };
        match dial(place, &how).await {
            Ok(tcp) => {
                kit.book.name("found");
                return Ok((permit, clear(tcp, bytes)));
            }
            Err(error) => last = Closed::because(CloseReason::of_dial(&error), &error),
        }
    }
    kit.book.name("unreachable");
    Err(last)
}

/// Where the name leads, the family that the workload dialled first; nowhere that a name must not lead.
async fn places(host: &HostName, target: UpstreamAddr, kit: &Kit) -> Result<Vec<SocketAddr>, Closed> {
    let found = kit.resolver.find(host).await.map_err(|error| {
        kit.book.name("not_found");
        Closed::because(CloseReason::Unreachable, &error)
    })?;
    let mut forbidden = None;
    let mut places = Vec::new();
    for address in &*found {
        match kit.gate.resolved(*address) {
            Ok(()) => places.push(SocketAddr::new(*address, target.port())),
            Err(error) => forbidden = Some(error),
        }
    }
    if let (true, Some(error)) = (places.is_empty(), forbidden) {
        kit.book.name("forbidden");
        return Err(Closed {
            reason: CloseReason::Denied,
            detail: format!("{host} is allowed, but {error}, which no name may lead to"),
        });
    }
    places.sort_by_key(|place| place.is_ipv4() != target.socket().is_ipv4());
    Ok(places)
}

fn admit(
    target: UpstreamAddr,
    service: Option<ServiceName>,
    host: Option<HostName>,
    account: &mut Account,
    kit: &Kit,
) -> Result<Permit, Closed> {
    let grounds = Grounds::Beyond {
        target,
        service,
        host,
    };
    match kit.gate.admit(grounds) {
        Ok(permit) => {
            account.judged = Some(permit.judged().clone());
            Ok(permit)
        }
        Err(Denied { judged, closed }) => {
            account.judged = Some(judged);
            Err(closed)
        }
    }
}

async fn connect(
    permit: Permit,
    target: UpstreamAddr,
    said: Box<[u8]>,
    kit: &Kit,
) -> Result<(Permit, Outer), Closed> {
    let tcp = dial(target, &kit.dialing())
        .await
        .map_err(|error| Closed::because(CloseReason::of_dial(&error), &error))?;
    Ok((permit, clear(tcp, said)))
}

fn clear(tcp: TcpStream, said: Box<[u8]>) -> Outer {
    let peeked = Box::default();
    Outer::clear(tcp, peeked, said)
}

impl Unnamed {
    /// The word for it in metrics.
    const fn word(&self) -> &'static str {
        match self {
            Self::Nameless { .. } => "nameless",
            Self::Silent { .. } => "silent",
            Self::Finished | Self::Broken { .. } => "left",
        }
    }

    /// A refusal for want of a name says so.
    fn explain(&self, closed: Closed) -> Closed {
        match (self, closed.reason) {
            (Self::Broken { source }, _) => Closed::because(CloseReason::ClientReset, source),
            (_, CloseReason::Denied) => Closed {
                reason: CloseReason::Denied,
                detail: format!("{self}, so no rule about hosts allows it; {}", closed.detail),
            },
            _ => closed,
        }
    }
}
