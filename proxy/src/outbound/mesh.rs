//! Opens one connection to a workload of the mesh: endpoints are tried until one answers that is who it should be.

use std::sync::Arc;
use std::time::{Duration, Instant};

use ferrule_policy::ServiceName;
use tokio::net::TcpStream;
use tracing::warn;

use super::connection::{Opened, admit};
use crate::authz::permit::{Grounds, Permit};
use crate::balance::eject::Failure;
use crate::closed::{CloseReason, Closed};
use crate::forward::carry::Outer;
use crate::framing::End;
use crate::framing::early::Early;
use crate::framing::exchange::{self, OpenError};
use crate::framing::line::Line;
use crate::kit::Kit;
use crate::knowledge::map::Endpoint;
use crate::net::dial::{DialError, Dialing, dial};
use crate::observe::account::Account;
use crate::tls::handshake::{HandshakeError, Secured, connect};
use crate::tls::material::Material;

/// How one attempt failed.
enum Attempt {
    /// At the endpoint: another one may do.
    Endpoint {
        /// What the endpoint did wrong; nothing where it was not even asked.
        how: Option<Failure>,
        closed: Closed,
        /// Whether the client's bytes may have been acted upon, so that no other one may be tried.
        is_final: bool,
    },
    /// By us, or by the rules: another one would not help.
    Here(Closed),
}

/// How long the steps of one attempt may take.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// The connect.
    pub connect: Duration,
    /// The handshake, or the opening of a stream on a connection that was there already.
    pub handshake: Duration,
    /// The opening of a stream by whoever has just shaken hands.
    pub opening: Duration,
}

/// Tries `endpoints` in their order until one answers the client at `inner`. It has seen nothing yet, so another attempt
/// is safe as long as nobody can have acted upon its bytes. All but the last are given little time.
///
/// # Errors
/// The last endpoint's failure, or the first one that no other endpoint could mend.
pub async fn open(
    service: Option<ServiceName>,
    endpoints: &[Endpoint],
    inner: &mut TcpStream,
    account: &mut Account,
    kit: &Kit,
) -> Result<Opened, Closed> {
    account.service = service.map(|service| service.to_string()).unwrap_or_default();
    let material = kit.material()?;
    let limits = &kit.config.limits;
    let end = Instant::now() + limits.connect + limits.handshake;
    let mut last = Closed::plainly(CloseReason::Unreachable);
    let early = Early::default();
    let mut caller = Caller {
        inner,
        early,
        account,
    };
    for (tried, endpoint) in endpoints.iter().enumerate() {
        caller.account.destination = Some(endpoint.address.socket());
        caller.account.destination_id = Some(endpoint.id.clone());
        let mut patience = Patience {
            connect: limits.connect,
            handshake: limits.handshake,
            opening: limits.handshake,
        };
        let is_last = tried + 1 == endpoints.len();
        if !is_last {
            let short = kit.config.balance.attempt;
            patience.connect = patience.connect.min(short);
            patience.handshake = patience.handshake.min(short);
        }
        let load = kit.balancer.begin(endpoint);
        match attempt(endpoint, patience, is_last, &material, &mut caller, kit).await {
            Ok((permit, outer)) => {
                load.opened();
                return Ok(Opened {
                    permit,
                    outer,
                    load: Some(load),
                    said: caller.early.count(),
                });
            }
            Err(Attempt::Here(closed)) => return Err(closed),
            Err(Attempt::Endpoint {
                how,
                closed,
                is_final,
            }) => {
                if let Some(how) = how {
                    load.failed(how, closed.reason.word());
                }
                kit.book.endpoint_failed(closed.reason.word());
                if is_final {
                    return Err(closed);
                }
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

/// One connection of the workload's, on its way to an endpoint.
struct Caller<'a> {
    inner: &'a mut TcpStream,
    /// What it has said before anybody takes it.
    early: Early,
    account: &'a mut Account,
}

async fn attempt(
    endpoint: &Endpoint,
    patience: Patience,
    is_last: bool,
    material: &Arc<Material>,
    caller: &mut Caller<'_>,
    kit: &Kit,
) -> Result<(Permit, Outer), Attempt> {
    if kit.config.connection.pool.warm > 0 {
        kit.warmth.called(endpoint);
    }
    if let Some((line, is_fresh)) = kit.pool.take(endpoint, kit.turn.number()) {
        // Most clients speak at once: after this the runtime knows whether this one has.
        tokio::task::yield_now().await;
        caller.account.is_reused = true;
        // Whoever hangs may act upon what it was sent when it goes on: nobody else could be asked then.
        let tells = is_fresh && is_last;
        let opened = stream(line, tells, endpoint, patience.handshake, caller, kit).await;
        match opened {
            Ok(opened) => return Ok(opened),
            // Silence costs the time of an attempt: another endpoint is the better next one.
            Err(failed) if failed.is_silence && !is_last => return Err(failed.attempt),
            // Of the connection alone; those that began with it may have ended with it.
            Err(failed) if failed.may_try_again && failed.is_of_line => kit.pool.forget(endpoint),
            Err(failed) => return Err(failed.attempt),
        }
        caller.account.is_reused = false;
    }
    let turn = kit.turn.number();
    let secured = reach(endpoint, patience, material, kit).await?;
    let line = Line::new(secured, endpoint.address.socket(), turn);
    // Who has just shaken hands is there, but judges our certificate only now (RFC 8446 §4.4.4), and its refusal may be
    // lost in a reset: that would end the call where the client had been told.
    let opened = stream(line, is_last, endpoint, patience.opening, caller, kit).await;
    opened.map_err(|failed| failed.attempt)
}

/// How a stream was not opened.
struct Unopened {
    attempt: Attempt,
    /// Whether nobody can have acted upon what the client has said.
    may_try_again: bool,
    /// Whether it has to do with the connection, and would not be so on a new one.
    is_of_line: bool,
    /// Whether no answer came in time.
    is_silence: bool,
}

/// Opens a stream on a connection, if its peer is admitted.
async fn stream(
    mut line: Box<Line>,
    tells: bool,
    endpoint: &Endpoint,
    limit: Duration,
    caller: &mut Caller<'_>,
    kit: &Kit,
) -> Result<(Permit, Outer), Unopened> {
    caller.account.secured(&line.about.peer, line.about.agreed);
    let peer = line.about.peer.clone();
    let address = endpoint.address.ip();
    let permit = admit(Grounds::Server { peer, address }, caller.account, kit);
    let permit = permit.map_err(|closed| Unopened {
        attempt: Attempt::Here(closed),
        may_try_again: true,
        is_of_line: true,
        is_silence: false,
    })?;
    let Line {
        tcp,
        channel,
        arrived,
        ..
    } = &mut *line;
    let (inner, early) = (&mut *caller.inner, &mut caller.early);
    let opening = exchange::open_for(inner, early, tcp, channel, std::mem::take(arrived), tells, limit);
    let error = match opening.await {
        Ok(arrived) => {
            line.arrived = arrived;
            return Ok((permit, Outer::Sealed(line)));
        }
        Err(error) => error,
    };
    // An application that was reached has seen a connection, with bytes or without.
    let was_reached = matches!(error, OpenError::Reset { .. });
    let is_silence = matches!(error, OpenError::Timeout { .. });
    let may_try_again = error.is_untaken() || (!caller.early.is_told() && !was_reached);
    let is_of_line = match &error {
        OpenError::Refused { reason } => {
            let is_of_line = STALE.iter().any(|stale| stale.word() == reason);
            // The last word that the peer waits for; what it refused is one stream, not the connection.
            if exchange::tell_end(&line.tcp, |out| line.channel.reset("", out)) == End::Stream && !is_of_line
            {
                kit.pool.put(line, kit.turn.number());
            }
            is_of_line
        }
        OpenError::Application { .. } | OpenError::Reset { .. } => {
            // Taken or not, the stream is cut, which has to be said from both sides.
            if exchange::tell_end(&line.tcp, |out| line.channel.reset("", out)) == End::Stream {
                kit.pool.put(line, kit.turn.number());
            }
            false
        }
        _ => true,
    };
    let attempt = match of_opening(error) {
        Attempt::Endpoint { how, closed, .. } => Attempt::Endpoint {
            how,
            closed,
            is_final: !may_try_again,
        },
        here @ Attempt::Here(_) => here,
    };
    Err(Unopened {
        attempt,
        may_try_again,
        is_of_line,
        is_silence,
    })
}

/// What a peer says of us that a new handshake may mend.
const STALE: [CloseReason; 5] = [
    CloseReason::Expired,
    CloseReason::Revoked,
    CloseReason::UnknownAuthority,
    CloseReason::UnknownTrustDomain,
    CloseReason::BadCertificate,
];

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
        opening: attempt,
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
        Attempt::Endpoint { how, closed, .. } => how.map(|how| (how, closed)),
        Attempt::Here(_) => None,
    })
}

/// A connection to an endpoint that answers as who it should be, for later.
pub async fn line(endpoint: &Endpoint, kit: &Kit) -> Option<Box<Line>> {
    let material = kit.material().ok()?;
    let limits = &kit.config.limits;
    let patience = Patience {
        connect: limits.connect,
        handshake: limits.handshake,
        opening: limits.handshake,
    };
    let turn = kit.turn.number();
    let secured = reach(endpoint, patience, &material, kit).await.ok()?;
    let line = Line::new(secured, endpoint.address.socket(), turn);
    // Nothing else than `ferrule/1` can wait for its stream.
    line.channel.is_idle().then_some(line)
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
                DialError::Timeout { .. } => Some(Failure::Silent),
                DialError::Refused { .. } => Some(Failure::Refused),
                DialError::Shortage { .. } => None,
            },
            closed: Closed::because(CloseReason::of_dial(&error), &error),
            is_final: false,
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
                how: Some(Failure::Silent),
                closed,
                is_final: false,
            },
            // Somebody else than the expected one, too: nothing was said to them, and the log tells of them.
            _ => Attempt::Endpoint {
                how: Some(Failure::Refused),
                closed,
                is_final: false,
            },
        }
    })
}

fn of_opening(error: OpenError) -> Attempt {
    let closed = Closed::because(CloseReason::of_opening(&error), &error);
    let how = match error {
        // Rules say that: those of another endpoint would, too.
        OpenError::Refused { reason } if reason == CloseReason::Denied.word() => {
            return Attempt::Here(closed);
        }
        // So does the workload itself.
        OpenError::Application { .. } => return Attempt::Here(closed),
        OpenError::Timeout { .. } => Failure::Silent,
        _ => Failure::Refused,
    };
    Attempt::Endpoint {
        how: Some(how),
        closed,
        is_final: false,
    }
}

/// How many endpoints of a service one connection tries.
pub const TRIES: usize = 8;
