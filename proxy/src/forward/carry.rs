//! Carries one permitted connection to its end.

use std::pin::{Pin, pin};
use std::time::Duration;

use tokio::net::TcpStream;

use super::moment::Moments;
use super::relay::{self, Leg, Moved};
use crate::authz::permit::{Direction, Permit};
use crate::closed::{Blame, CloseReason, Closed};
use crate::framing::End;
use crate::framing::exchange::tell_end;
use crate::framing::line::Line;
use crate::framing::taking;
use crate::kit::refuse;
use crate::net::socket::reset_on_close;

/// The leg towards the other side of a connection.
pub enum Outer {
    /// Sealed with TLS.
    Sealed(Box<Line>),
    /// In clear.
    Clear(Box<Clear>),
}

/// A leg in clear.
pub struct Clear {
    /// The socket.
    pub tcp: TcpStream,
    /// What was read from it already.
    pub peeked: Box<[u8]>,
    /// What was read from the other leg, the workload's own, already.
    pub said: Box<[u8]>,
}

impl Outer {
    /// A leg in clear, of which this was read already: from itself, and from the workload's own.
    pub fn clear(tcp: TcpStream, peeked: Box<[u8]>, said: Box<[u8]>) -> Self {
        Self::Clear(Box::new(Clear { tcp, peeked, said }))
    }

    /// The socket.
    pub fn tcp(&self) -> &TcpStream {
        match self {
            Self::Sealed(line) => &line.tcp,
            Self::Clear(clear) => &clear.tcp,
        }
    }

    /// Refuses what the peer opened: in the words of the framing, or by a reset of the connection. The connection,
    /// when another stream may follow on it.
    pub fn refuse(mut self, closed: Closed) -> Carried {
        if let Self::Sealed(line) = &mut self
            && taking::refuse(&line.tcp, &mut line.channel, closed.reason.word())
        {
            return match self {
                Self::Sealed(line) => Carried {
                    closed,
                    kept: Some(line),
                },
                Self::Clear(_) => Carried { closed, kept: None },
            };
        }
        Carried {
            closed: refuse(self.tcp(), closed),
            kept: None,
        }
    }
}

/// How carrying ended.
pub struct Carried {
    /// Why, for the log.
    pub closed: Closed,
    /// The TLS connection, when the framing lets another stream follow on it.
    pub kept: Option<Box<Line>>,
}

/// Carries bytes between `outer` and the workload's own `inner` until both directions are over, or `permit` is
/// withdrawn. What did not end by itself is reset at both ends.
pub async fn carry(
    permit: &Permit,
    outer: Outer,
    mut inner: TcpStream,
    limits: Limits<'_>,
    moved: &Moved,
) -> Carried {
    let client = match permit.grounds().direction() {
        Direction::Inbound => Leg::Outer,
        Direction::Outbound => Leg::Inner,
    };
    match outer {
        Outer::Sealed(mut line) => {
            let closed = {
                let Line {
                    tcp,
                    channel,
                    arrived,
                    is_asked,
                    ..
                } = &mut *line;
                let mut arrived = std::mem::take(arrived);
                let is_asked = std::mem::take(is_asked);
                let relay = async {
                    if is_asked {
                        let Limits { taking, moments, .. } = limits;
                        taking::take(tcp, channel, &mut inner, &mut arrived, taking, moments, moved).await?;
                    }
                    relay::sealed(tcp, channel, &mut inner, arrived, limits.half_closed, moved).await
                };
                until_revoked(permit, pin!(relay), client).await
            };
            if closed.reason != CloseReason::Finished {
                // A socket that cannot be set is gone already.
                let _ = reset_on_close(&inner);
                let Line { tcp, channel, .. } = &mut *line;
                if tell_end(tcp, |out| channel.reset(why(&closed), out)) == End::Connection {
                    let _ = reset_on_close(tcp);
                    return Carried { closed, kept: None };
                }
            }
            let kept = line.channel.is_reusable().then_some(line);
            Carried { closed, kept }
        }
        Outer::Clear(clear) => {
            let Clear {
                mut tcp,
                peeked,
                said,
            } = *clear;
            let closed = {
                let relay = relay::plain(&mut tcp, &mut inner, (peeked, said), limits.half_closed, moved);
                until_revoked(permit, pin!(relay), client).await
            };
            if closed.reason != CloseReason::Finished {
                for socket in [&tcp, &inner] {
                    let _ = reset_on_close(socket);
                }
            }
            Carried { closed, kept: None }
        }
    }
}

/// The word that a reset carries: none where an application began it.
const fn why(closed: &Closed) -> &'static str {
    match closed.reason.blame() {
        Blame::Client | Blame::Upstream | Blame::Nobody => "",
        Blame::Policy | Blame::Us => closed.reason.word(),
    }
}

/// How long carrying may wait.
#[derive(Debug, Clone, Copy)]
pub struct Limits<'k> {
    /// For a peer to read that its stream is taken.
    pub taking: Duration,
    /// For an application's first bytes.
    pub moments: &'k Moments,
    /// For anything to move once one direction is over.
    pub half_closed: Duration,
}

async fn until_revoked(
    permit: &Permit,
    // Pinned where it was made: moved here, it would take its room twice, in every idle connection.
    relay: Pin<&mut impl Future<Output = Result<(), relay::RelayError>>>,
    client: Leg,
) -> Closed {
    tokio::select! {
        biased;
        revoked = permit.revoked() => revoked,
        ended = relay => match ended {
            Ok(()) => Closed::plainly(CloseReason::Finished),
            Err(error) => Closed::because(CloseReason::of_relay(&error, client), &error),
        },
    }
}
