//! Opens one connection to a workload of the mesh: endpoints are tried until one answers that is who it should be.

use std::sync::Arc;
use std::time::{Duration, Instant};

use ferrule_policy::ServiceName;
use tracing::warn;

use super::connection::{Opened, admit};
use crate::authz::permit::{Grounds, Permit};
use crate::balance::eject::Failure;
use crate::closed::{CloseReason, Closed};
use crate::forward::carry::{Outer, Sealed};
use crate::framing::exchange::{self, OpenError};
use crate::kit::Kit;
use crate::knowledge::map::Endpoint;
use crate::net::dial::{DialError, Dialing, dial};
use crate::observe::account::Account;
use crate::tls::handshake::{HandshakeError, Secured, connect};
use crate::tls::material::Material;

/// How one attempt failed.
enum Attempt {
    /// By the endpoint: another one may do.
    Endpoint { how: Failure, closed: Closed },
    /// By us, or by the rules: another one would not help.
    Here(Closed),
}

/// How long the steps of one attempt may take.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// The connect.
    pub connect: Duration,
    /// The handshake, and the opening of a stream each.
    pub handshake: Duration,
}

/// Tries `endpoints` in their order until one answers. The client has seen nothing yet, and nothing of its bytes was
/// sent, so another attempt is safe. All but the last are given little time.
///
/// # Errors
/// The last endpoint's failure, or the first one that no other endpoint could mend.
pub async fn open(
    service: Option<ServiceName>,
    endpoints: &[Endpoint],
    account: &mut Account,
    kit: &Kit,
) -> Result<Opened, Closed> {
    account.service = service.map(|service| service.to_string()).unwrap_or_default();
    let material = kit.material()?;
    let limits = &kit.config.limits;
    let end = Instant::now() + limits.connect + limits.handshake;
    let mut last = Closed::plainly(CloseReason::Unreachable);
    for (tried, endpoint) in endpoints.iter().enumerate() {
        account.destination = Some(endpoint.address.socket());
        account.destination_id = Some(endpoint.id.clone());
        let mut patience = Patience {
            connect: limits.connect,
            handshake: limits.handshake,
        };
        let is_last = tried + 1 == endpoints.len();
        if !is_last {
            let short = kit.config.balance.attempt;
            patience.connect = patience.connect.min(short);
            patience.handshake = patience.handshake.min(short);
        }
        let load = kit.balancer.begin(endpoint);
        match attempt(endpoint, patience, &material, account, kit).await {
            Ok((permit, outer)) => {
                load.opened();
                let load = Some(load);
                return Ok(Opened { permit, outer, load });
            }
            Err(Attempt::Here(closed)) => return Err(closed),
            Err(Attempt::Endpoint { how, closed }) => {
                load.failed(how, closed.reason.word());
                kit.book.endpoint_failed(closed.reason.word());
                if !is_last {
                    warn!(
                        id = %endpoint.id, address = %endpoint.address,
                        reason = closed.reason.word(), detail = closed.detail,
                        "endpoint failed, another one is tried"
                    );
                }
                last = closed;
            }
        }
        if Instant::now() > end {
            break;
        }
    }
    Err(last)
}

async fn attempt(
    endpoint: &Endpoint,
    patience: Patience,
    material: &Arc<Material>,
    account: &mut Account,
    kit: &Kit,
) -> Result<(Permit, Outer), Attempt> {
    let secured = reach(endpoint, patience, material, kit).await?;
    account.secured(&secured.peer, secured.agreed);
    let peer = secured.peer.clone();
    let address = endpoint.address.ip();
    let permit = admit(Grounds::Server { peer, address }, account, kit).map_err(Attempt::Here)?;
    let outer = stream(secured, patience.handshake).await?;
    Ok((permit, outer))
}

/// Whether an endpoint answers as who it should be, and takes a stream: what a look at an ejected one finds out.
/// Its application sees a connection that ends without a byte.
///
/// # Errors
/// How it failed; none where the failure was ours.
pub async fn look(endpoint: &Endpoint, kit: &Kit) -> Result<(), Option<(Failure, Closed)>> {
    let material = kit.material().map_err(|_| None)?;
    let attempt = kit.config.balance.attempt;
    let patience = Patience {
        connect: attempt,
        handshake: attempt,
    };
    let looked = async {
        let secured = reach(endpoint, patience, &material, kit).await?;
        let (mut tcp, mut channel) = (secured.tcp, secured.channel);
        exchange::open(&mut tcp, &mut channel, secured.arrived, attempt)
            .await
            .map_err(of_opening)?;
        exchange::take_leave(&mut tcp, &mut channel, attempt)
            .await
            .map_err(of_opening)
    };
    looked.await.map_err(|failed| match failed {
        Attempt::Endpoint { how, closed } => Some((how, closed)),
        Attempt::Here(_) => None,
    })
}

async fn reach(
    endpoint: &Endpoint,
    patience: Patience,
    material: &Arc<Material>,
    kit: &Kit,
) -> Result<Secured, Attempt> {
    let how = Dialing {
        limit: patience.connect,
        ..kit.dialing()
    };
    let tcp = dial(endpoint.address, &how)
        .await
        .map_err(|error| Attempt::Endpoint {
            how: match error {
                DialError::Timeout { .. } => Failure::Silent,
                DialError::Refused { .. } => Failure::Refused,
            },
            closed: Closed::because(CloseReason::Unreachable, &error),
        })?;
    let _place = kit.shaking().map_err(Attempt::Here)?;
    let began = Instant::now();
    let (target, id) = (endpoint.address.ip(), endpoint.id.clone());
    let shaken = connect(tcp, target, id, material, patience.handshake).await;
    let outcome = shaken
        .as_ref()
        .map_or_else(|error| error.reason().word(), |_| "ok");
    kit.book.handshake("client", outcome, began.elapsed());
    shaken.map_err(|error| {
        let closed = Closed::because(error.reason(), &error);
        match error {
            HandshakeError::Settings { .. } => Attempt::Here(closed),
            HandshakeError::Timeout { .. } => Attempt::Endpoint {
                how: Failure::Silent,
                closed,
            },
            // Somebody else than the expected one, too: nothing was said to them, and the log tells of them.
            _ => Attempt::Endpoint {
                how: Failure::Refused,
                closed,
            },
        }
    })
}

/// Opens a stream on a connection to a peer who is admitted.
async fn stream(secured: Secured, limit: Duration) -> Result<Outer, Attempt> {
    let (mut tcp, mut channel) = (secured.tcp, secured.channel);
    let arrived = exchange::open(&mut tcp, &mut channel, secured.arrived, limit)
        .await
        .map_err(of_opening)?;
    let sealed = Sealed {
        tcp,
        channel,
        arrived,
    };
    Ok(Outer::Sealed(Box::new(sealed)))
}

fn of_opening(error: OpenError) -> Attempt {
    let closed = Closed::because(CloseReason::of_opening(&error), &error);
    let how = match error {
        // Rules say that: those of another endpoint would, too.
        OpenError::Refused { reason } if reason == CloseReason::Denied.word() => {
            return Attempt::Here(closed);
        }
        OpenError::Timeout { .. } => Failure::Silent,
        _ => Failure::Refused,
    };
    Attempt::Endpoint { how, closed }
}

/// How many endpoints of a service one connection tries.
pub const TRIES: usize = 8;
