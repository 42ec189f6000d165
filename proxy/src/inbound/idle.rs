//! Waits for the stream that a peer opens on its connection.

use std::time::Duration;

use ferrule_daemon::drain::Phase;

use crate::closed::{CloseReason, Closed};
use crate::framing::Opening;
use crate::framing::exchange::{self, OpenError};
use crate::framing::line::Line;
use crate::kit::Kit;

/// Which stream of its connection is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turns {
    /// The first one: the connection was made for it, or to be there in time.
    First,
    /// One that follows another.
    Further,
}

/// Waits until the peer opens a stream on its connection, which counts as carrying nothing meanwhile; false when it
/// will open none, and has been told the same.
///
/// # Errors
/// When the peer breaks the protocol.
pub async fn next(line: &mut Line, turns: Turns, kit: &Kit) -> Result<bool, Closed> {
    let Line {
        tcp,
        channel,
        arrived,
        is_asked,
        about,
    } = line;
    let awaited = channel.opening() == Opening::Awaited;
    let first = std::mem::take(arrived);
    let opened = {
        let _parking = awaited.then(|| kit.park());
        let opening = exchange::next(tcp, channel, first, limit(kit));
        let leaving = async {
            let is_needed = turns == Turns::First;
            if is_needed {
                // Its peer is about to open a stream, which is not refused only because we stop.
                tokio::time::sleep(kit.config.limits.handshake).await;
            }
            // Whoever began after that would never see another turn.
            if kit.inbound.phase() == Phase::Running {
                kit.turn.after(about.turn).await;
            }
        };
        tokio::select! {
            biased;
            () = kit.inbound.cut() => return Ok(false),
            opened = opening => Some(opened),
            () = leaving, if awaited => None,
        }
    };
    match opened {
        Some(Ok(came)) => {
            (*arrived, *is_asked) = (came, awaited);
            Ok(true)
        }
        // It carries nothing, and its peer is done with it.
        Some(Err(OpenError::Left | OpenError::Ended | OpenError::Broken { .. })) => Ok(false),
        None | Some(Err(OpenError::Timeout { .. })) => {
            exchange::part(tcp, channel, PARTING).await;
            Ok(false)
        }
        Some(Err(error @ (OpenError::OutOfTurn | OpenError::Protocol(_)))) => {
            Err(Closed::because(CloseReason::HandshakeFailed, &error))
        }
        Some(Err(error)) => Err(Closed::because(CloseReason::of_opening(&error), &error)),
    }
}

/// How long a connection without a stream is kept: longer than those who opened it keep it, so that it is mostly they
/// who end it.
fn limit(kit: &Kit) -> Duration {
    kit.config.connection.pool.idle + LONGER
}

const LONGER: Duration = Duration::from_secs(15);

/// How long a peer has to take that we leave.
pub(super) const PARTING: Duration = Duration::from_secs(1);
