//! Carries one permitted connection to its end.

use std::pin::{Pin, pin};
use std::time::Duration;

use tokio::net::TcpStream;

use super::relay::{self, Arrived, Leg, Moved};
use crate::authz::permit::{Direction, Permit};
use crate::closed::{CloseReason, Closed};
use crate::net::socket::reset_on_close;
use crate::tls::handshake::Secured;
use crate::tls::session::Session;

/// The leg towards the other side of a connection.
pub enum Outer {
    /// Sealed with TLS.
    Sealed {
        /// The socket.
        tcp: TcpStream,
        /// The TLS connection over it.
        session: Box<Session>,
        /// What came with the handshake.
        arrived: Arrived,
    },
    /// In clear.
    Clear {
        /// The socket.
        tcp: TcpStream,
        /// What was read from it already.
        peeked: Box<[u8]>,
    },
}

impl From<Secured> for Outer {
    fn from(secured: Secured) -> Self {
        Self::Sealed {
            tcp: secured.tcp,
            session: Box::new(secured.session),
            arrived: secured.arrived,
        }
    }
}

/// Carries bytes between `outer` and the workload's own `inner` until both directions are over, or `permit` is
/// withdrawn. What did not end by itself is reset at both ends.
pub async fn carry(
    permit: &Permit,
    outer: Outer,
    mut inner: TcpStream,
    half_closed: Duration,
    moved: &Moved,
) -> Closed {
    let client = match permit.grounds().direction() {
        Direction::Inbound => Leg::Outer,
        Direction::Outbound => Leg::Inner,
    };
    let (ended, outer) = match outer {
        Outer::Sealed {
            mut tcp,
            mut session,
            arrived,
        } => {
            let ended = {
                let relay = relay::sealed(&mut tcp, &mut session, &mut inner, arrived, half_closed, moved);
                until_revoked(permit, pin!(relay), client).await
            };
            (ended, tcp)
        }
        Outer::Clear { mut tcp, peeked } => {
            let ended = {
                let relay = relay::plain(&mut tcp, &mut inner, peeked, half_closed, moved);
                until_revoked(permit, pin!(relay), client).await
            };
            (ended, tcp)
        }
    };
    if ended.reason != CloseReason::Finished {
        for socket in [&outer, &inner] {
            // A socket that cannot be set is gone already.
            let _ = reset_on_close(socket);
        }
    }
    ended
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
