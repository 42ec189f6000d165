//! Leads one connection from the workload from its acceptance to its end.

use std::rc::Rc;
use std::sync::Arc;

use tokio::net::TcpStream;

use super::mesh;
use super::route::{self, Route};
use crate::authz::permit::{Direction, Grounds, Permit};
use crate::balance::Load;
use crate::closed::{CloseReason, Closed};
use crate::config::Upstream;
use crate::egress::beyond;
use crate::forward::carry::{Outer, carry};
use crate::kit::{Kit, refuse};
use crate::net::address::{ClientAddr, UpstreamAddr};
use crate::net::dial::dial;
use crate::net::original::original_dst;
use crate::observe::account::{Account, Tls};
use crate::proof;

/// The way that a connection came.
#[derive(Debug, Clone)]
pub enum Way {
    /// By redirect: the kernel knows where it was going.
    Captured,
    /// To an explicit port.
    Explicit(Arc<Upstream>),
}

/// A connection that may carry bytes.
pub struct Opened {
    /// The leave.
    pub permit: Permit,
    /// The leg that leaves the workload.
    pub outer: Outer,
    /// What it counts as, where it goes to an endpoint of the mesh.
    pub load: Option<Load>,
    /// How many bytes of the workload's have gone there already.
    pub said: usize,
}

impl Opened {
    /// One over which nothing has gone.
    const fn untold(permit: Permit, outer: Outer, load: Option<Load>) -> Self {
        Self {
            permit,
            outer,
            load,
            said: 0,
        }
    }
}

/// Runs one connection.
pub async fn run(mut inner: TcpStream, client: ClientAddr, way: Way, kit: Rc<Kit>) {
    let mut account = kit.book.account(Direction::Outbound, client);
    account.source_id = Some(kit.config.id.clone());
    let opened = tokio::select! {
        biased;
        () = kit.outbound.cut() => Err(Closed::plainly(CloseReason::Cut)),
        opened = open(&mut inner, &way, &mut account, &kit) => opened,
    };
    match opened {
        Ok(Some(Opened {
            permit,
            outer,
            load,
            said,
        })) => {
            let entry = kit.book.enter(account);
            entry.moved().count_outward(said);
            let carried = carry(&permit, outer, inner, kit.carrying(), entry.moved()).await;
            if let Some(line) = carried.kept {
                kit.pool.put(line, kit.turn.number());
            }
            if let Some(load) = load {
                load.ended(carried.closed.reason, entry.moved().inward());
            }
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
    inner: &mut TcpStream,
    way: &Way,
    account: &mut Account,
    kit: &Kit,
) -> Result<Option<Opened>, Closed> {
    if kit.outbound.open() > kit.config.limits.connections {
        return Err(Closed::plainly(CloseReason::Busy));
    }
    let route = match way {
        Way::Explicit(upstream) => route::explicit(upstream, kit).await?,
        Way::Captured => {
            let original = original_dst(inner)
                .map_err(|error| Closed::because(CloseReason::UnknownDestination, &error))?;
            account.destination = Some(original.socket());
            if proof::is_proof(original, &kit.config) {
                return Ok(None);
            }
            Box::pin(route::captured(original, account.client(), kit)).await?
        }
    };
    match route {
        Route::Mesh { service, endpoints } => {
            let opened = Box::pin(mesh::open(service, &endpoints, inner, account, kit)).await?;
            Ok(Some(opened))
        }
        Route::Itself { target, load } => {
            account.tls = Tls::Local;
            account.destination_id = Some(kit.config.id.clone());
            let (permit, outer) = to_itself(target, account, kit).await?;
            Ok(Some(Opened::untold(permit, outer, load)))
        }
        Route::Beyond { target, service } => {
            let (permit, outer) = Box::pin(beyond::open(inner, target, service, account, kit)).await?;
            let load = None;
            Ok(Some(Opened::untold(permit, outer, load)))
        }
    }
}

async fn to_itself(
    target: UpstreamAddr,
    account: &mut Account,
    kit: &Kit,
) -> Result<(Permit, Outer), Closed> {
    let permit = admit(Grounds::Itself { port: target.port() }, account, kit)?;
    let tcp = dial(target, &kit.dialing())
        .await
        .map_err(|error| Closed::because(CloseReason::of_dial(&error), &error))?;
    let (peeked, said) = (Box::default(), Box::default());
    Ok((permit, Outer::clear(tcp, peeked, said)))
}

/// Asks for leave, and notes the answer.
pub(super) fn admit(grounds: Grounds, account: &mut Account, kit: &Kit) -> Result<Permit, Closed> {
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
