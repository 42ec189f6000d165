//! Leads one connection from the workload from its acceptance to its end.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use ferrule_policy::ServiceName;
use tokio::net::TcpStream;

use super::route::{self, Route};
use crate::authz::permit::{Direction, Grounds, Permit};
use crate::closed::{CloseReason, Closed};
use crate::config::Upstream;
use crate::egress::beyond;
use crate::forward::carry::{Outer, Sealed, carry};
use crate::framing::exchange;
use crate::kit::{Kit, refuse};
use crate::knowledge::map::Endpoint;
use crate::net::address::{ClientAddr, UpstreamAddr};
use crate::net::dial::dial;
use crate::net::original::original_dst;
use crate::net::socket::prepare;
use crate::observe::account::{Account, Tls};
use crate::proof;
use crate::tls::handshake::{Secured, connect};

/// The way that a connection came.
#[derive(Debug, Clone)]
pub enum Way {
    /// By redirect: the kernel knows where it was going.
    Captured,
    /// To an explicit port.
    Explicit(Arc<Upstream>),
}

/// Runs one connection.
pub async fn run(inner: TcpStream, client: ClientAddr, way: Way, kit: Rc<Kit>) {
    let mut account = kit.book.account(Direction::Outbound, client);
    account.source_id = Some(kit.config.id.clone());
    let opened = tokio::select! {
        biased;
        () = kit.outbound.cut() => Err(Closed::plainly(CloseReason::Cut)),
        opened = open(&inner, &way, &mut account, &kit) => opened,
    };
    match opened {
        Ok(Some((permit, outer))) => {
            let entry = kit.book.enter(account);
            let half_closed = kit.config.connection.half_closed;
            let carried = carry(&permit, outer, inner, half_closed, entry.moved()).await;
            entry.close(&carried.closed);
        }
        // The proxy met itself.
        Ok(None) => proof::meet(inner, kit.token).await,
        Err(closed) => {
            let closed = refuse(&inner, closed);
            drop(inner);
            kit.book.refused(&account, &closed);
        }
    }
}

/// Everything before the first byte; `None` when it is the proxy's own proof.
async fn open(
    inner: &TcpStream,
    way: &Way,
    account: &mut Account,
    kit: &Kit,
) -> Result<Option<(Permit, Outer)>, Closed> {
    if kit.outbound.open() > kit.config.limits.connections {
        return Err(Closed::plainly(CloseReason::Busy));
    }
    let broken = |error: std::io::Error| Closed::because(CloseReason::ClientReset, &error);
    prepare(inner, kit.config.connection.keepalive).map_err(broken)?;
    let route = match way {
        Way::Explicit(upstream) => route::explicit(upstream, kit).await?,
        Way::Captured => {
            let original =
                original_dst(inner).map_err(|error| Closed::because(CloseReason::NoDestination, &error))?;
            account.destination = Some(original.socket());
            if proof::is_proof(original, &kit.config) {
                return Ok(None);
            }
            route::captured(original, account.client(), kit)?
        }
    };
    match route {
        Route::Mesh { service, endpoints } => to_mesh(service, &endpoints, account, kit).await,
        Route::Itself { target } => {
            account.tls = Tls::Local;
            account.destination_id = Some(kit.config.id.clone());
            in_clear(Grounds::Itself { port: target.port() }, target, account, kit).await
        }
        Route::Beyond { target, service } => {
            let opened = Box::pin(beyond::open(inner, target, service, account, kit)).await?;
            Ok(Some(opened))
        }
    }
}

/// Dials endpoints until one answers; who answers must be the one that is expected there.
async fn to_mesh(
    service: Option<ServiceName>,
    endpoints: &[Endpoint],
    account: &mut Account,
    kit: &Kit,
) -> Result<Option<(Permit, Outer)>, Closed> {
    account.service = service.map(|service| service.to_string()).unwrap_or_default();
    let material = kit.material()?;
    let mut last = Closed::plainly(CloseReason::Unreachable);
    for endpoint in endpoints.iter().take(TRIES) {
        account.destination = Some(endpoint.address.socket());
        account.destination_id = Some(endpoint.id.clone());
        let tcp = match dial(endpoint.address, &kit.dialing()).await {
            Ok(tcp) => tcp,
            Err(error) => {
                last = Closed::because(CloseReason::Unreachable, &error);
                continue;
            }
        };
        let _place = kit.shaking()?;
        let began = Instant::now();
        let (target, id) = (endpoint.address.ip(), endpoint.id.clone());
        let shaken = connect(tcp, target, id, &material, kit.config.limits.handshake).await;
        let outcome = shaken
            .as_ref()
            .map_or_else(|error| error.reason().word(), |_| "ok");
        kit.book.handshake("client", outcome, began.elapsed());
        // Not tried elsewhere: somebody is there who is not who they should be, and that must be seen.
        let secured = shaken.map_err(|error| Closed::because(error.reason(), &error))?;
        account.secured(&secured.peer, secured.agreed);
        let peer = secured.peer.clone();
        let permit = admit(Grounds::Server { peer }, account, kit)?;
        let outer = stream(secured, kit).await?;
        return Ok(Some((permit, outer)));
    }
    Err(last)
}

/// Opens a stream on a connection to a peer who is admitted.
async fn stream(secured: Secured, kit: &Kit) -> Result<Outer, Closed> {
    let (mut tcp, mut channel) = (secured.tcp, secured.channel);
    let limit = kit.config.limits.handshake;
    let arrived = exchange::open(&mut tcp, &mut channel, secured.arrived, limit)
        .await
        .map_err(|error| Closed::because(CloseReason::of_opening(&error), &error))?;
    let sealed = Sealed {
        tcp,
        channel,
        arrived,
    };
    Ok(Outer::Sealed(Box::new(sealed)))
}

async fn in_clear(
    grounds: Grounds,
    target: UpstreamAddr,
    account: &mut Account,
    kit: &Kit,
) -> Result<Option<(Permit, Outer)>, Closed> {
    let permit = admit(grounds, account, kit)?;
    let tcp = dial(target, &kit.dialing())
        .await
        .map_err(|error| Closed::because(CloseReason::Unreachable, &error))?;
    let (peeked, said) = (Box::default(), Box::default());
    Ok(Some((permit, Outer::Clear { tcp, peeked, said })))
}

fn admit(grounds: Grounds, account: &mut Account, kit: &Kit) -> Result<Permit, Closed> {
    match kit.gate.admit(grounds) {
        Ok(permit) => {
            account.judged = Some(permit.judged().clone());
            Ok(permit)
        }
        Err(denied) => {
            account.judged = Some(denied.judged);
            Err(denied.closed)
        }
    }
}

/// How many endpoints of a service one connection tries.
const TRIES: usize = 3;
