//! Carries one permitted connection to its end.

use std::pin::{Pin, pin};
use std::time::Duration;

use tokio::net::TcpStream;

use super::relay::{self, Arrived, Leg, Moved};
use crate::authz::permit::{Direction, Permit};
use crate::closed::{CloseReason, Closed};
use crate::framing::End;
use crate::framing::channel::Channel;
use crate::framing::exchange::{self, OpenError, tell_end};
use crate::kit::refuse;
use crate::net::socket::reset_on_close;

/// The leg towards the other side of a connection.
pub enum Outer {
    /// Sealed with TLS.
    Sealed(Box<Sealed>),
    /// In clear.
    Clear {
        /// The socket.
        tcp: TcpStream,
        /// What was read from it already.
        peeked: Box<[u8]>,
        /// What was read from the other leg, the workload's own, already.
        said: Box<[u8]>,
    },
}

/// A TLS connection on which one stream is open.
pub struct Sealed {
    /// The socket.
    pub tcp: TcpStream,
    /// The TLS connection over it.
    pub channel: Channel,
    /// What came of the stream already.
    pub arrived: Arrived,
}

impl Outer {
    /// The socket.
    pub const fn tcp(&self) -> &TcpStream {
        match self {
            Self::Sealed(sealed) => &sealed.tcp,
            Self::Clear { tcp, .. } => tcp,
        }
    }

    /// Takes the stream that the peer opened.
    ///
    /// # Errors
    /// When it went away, or takes longer than `limit`.
    pub async fn accept(&mut self, limit: Duration) -> Result<(), OpenError> {
        match self {
            Self::Sealed(sealed) => exchange::accept(&mut sealed.tcp, &mut sealed.channel, limit).await,
            Self::Clear { .. } => Ok(()),
        }
    }

    /// Refuses what the peer opened: in the words of the framing, or by a reset of the connection.
    pub fn refuse(mut self, closed: Closed) -> Closed {
        if let Self::Sealed(sealed) = &mut self {
            let Sealed { tcp, channel, .. } = &mut **sealed;
            if tell_end(tcp, |out| channel.refuse(closed.reason.word(), out)) == End::Stream {
                return closed;
            }
        }
        refuse(self.tcp(), closed)
    }
}

/// How carrying ended.
pub struct Carried {
    /// Why, for the log.
    pub closed: Closed,
    /// The TLS connection, when the framing lets another stream follow on it.
    pub kept: Option<Box<Sealed>>,
}

/// Carries bytes between `outer` and the workload's own `inner` until both directions are over, or `permit` is
/// withdrawn. What did not end by itself is reset at both ends.
pub async fn carry(
    permit: &Permit,
    outer: Outer,
    mut inner: TcpStream,
    half_closed: Duration,
    moved: &Moved,
) -> Carried {
    let client = match permit.grounds().direction() {
        Direction::Inbound => Leg::Outer,
        Direction::Outbound => Leg::Inner,
    };
    match outer {
        Outer::Sealed(mut sealed) => {
            let closed = {
                let Sealed {
                    tcp,
                    channel,
                    arrived,
                } = &mut *sealed;
                let arrived = std::mem::take(arrived);
                let relay = relay::sealed(tcp, channel, &mut inner, arrived, half_closed, moved);
                until_revoked(permit, pin!(relay), client).await
            };
            if closed.reason != CloseReason::Finished {
                // A socket that cannot be set is gone already.
                let _ = reset_on_close(&inner);
                let Sealed { tcp, channel, .. } = &mut *sealed;
                if tell_end(tcp, |out| channel.reset(out)) == End::Connection {
                    let _ = reset_on_close(tcp);
                    return Carried { closed, kept: None };
                }
            }
            let kept = sealed.channel.is_reusable().then_some(sealed);
            Carried { closed, kept }
        }
        Outer::Clear {
            mut tcp,
            peeked,
            said,
        } => {
            let closed = {
                let relay = relay::plain(&mut tcp, &mut inner, (peeked, said), half_closed, moved);
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
