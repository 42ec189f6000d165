//! Tells a peer that its stream is taken: along with the application's first bytes where they come soon.

use std::io;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::timeout;

use super::channel::{Channel, First};
use super::exchange::READ_BYTES;
use super::{End, Opening};
use crate::buffer::Buffer;
use crate::forward::moment::Moments;
use crate::forward::relay::{Arrived, Leg, Moved, RelayError};
use crate::net::read::{Piece, read_piece, readable};
use crate::net::write::{write_first, write_now};

/// Takes the stream that the peer opened, on behalf of the application at `inner`; `arrived` came with the opening.
///
/// Where a question came along, the application is likely to answer at once: the word waits for it a moment, and
/// travels in the same record. Nobody else waits for it: the peer may go on without. What a server that speaks first has
/// said already goes along, too.
///
/// # Errors
/// When either side breaks, or the peer reads nothing for `limit`.
pub async fn take(
    tcp: &mut TcpStream,
    channel: &mut Channel,
    inner: &mut TcpStream,
    arrived: &mut Arrived,
    limit: Duration,
    moments: &Moments,
    moved: &Moved,
) -> Result<(), RelayError> {
    if channel.opening() == Opening::Open {
        return Ok(());
    }
    let mut answer = None;
    if !arrived.text.is_empty() && !arrived.finished && hand_over(inner, arrived, moved)? {
        let asked = tokio::select! {
            biased;
            ready = readable(inner) => ready.map(|()| true).map_err(broken(Leg::Inner))?,
            // It goes on, and so do we.
            ready = readable(tcp) => ready.map(|()| false).map_err(broken(Leg::Outer))?,
            () = moments.pass() => false,
        };
        if asked {
            answer = said(inner).await?;
        }
    } else if arrived.text.is_empty() {
        // A server that speaks first has often done so once the runtime has looked. Nobody waits for one that has not:
        // without a question nothing tells it from one that listens.
        inner.writable().await.map_err(broken(Leg::Inner))?;
        answer = said(inner).await?;
    }
    let first = answer
        .as_ref()
        .map_or_else(First::default, |(bytes, piece)| First {
            bytes: bytes.filled(),
            is_all: piece.is_last,
        });
    let mut sealed = Buffer::lent();
    let sealing = channel.accept(first, &mut sealed);
    sealing.map_err(|source| RelayError::Protocol { source })?;
    moved.count_outward(first.bytes.len());
    let failed = answer.and_then(|(_, piece)| piece.failed);
    send(tcp, channel, &sealed, limit).await?;
    match failed {
        None => Ok(()),
        Some(error) => Err(broken(Leg::Inner)(error)),
    }
}

/// What the application has said by now; nothing when it has said nothing.
async fn said(inner: &mut TcpStream) -> Result<Option<(Buffer, Piece)>, RelayError> {
    let mut bytes = Buffer::lent();
    let piece = read_piece(inner, &mut bytes, READ_BYTES)
        .await
        .map_err(broken(Leg::Inner))?;
    Ok(piece.map(|piece| (bytes, piece)))
}

/// Gives the application what came with the opening; whether it took all of it.
fn hand_over(inner: &TcpStream, arrived: &mut Arrived, moved: &Moved) -> Result<bool, RelayError> {
    let written = write_first(inner, &arrived.text).map_err(broken(Leg::Inner))?;
    moved.count_inward(written);
    arrived.text = match arrived.text.get(written..) {
        None | Some([]) => Box::default(),
        Some(rest) => rest.into(),
    };
    Ok(arrived.text.is_empty())
}

async fn send(
    tcp: &TcpStream,
    channel: &mut Channel,
    sealed: &Buffer,
    limit: Duration,
) -> Result<(), RelayError> {
    let mut at = 0;
    channel.sending(true);
    while let Some(rest) = sealed.filled().get(at..).filter(|rest| !rest.is_empty()) {
        match write_now(tcp, rest).map_err(broken(Leg::Outer))? {
            0 => {
                let writable = timeout(limit, tcp.writable()).await;
                let writable = writable.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
                writable.map_err(broken(Leg::Outer))?;
            }
            written => at += written,
        }
    }
    channel.sending(false);
    Ok(())
}

/// Refuses the stream that the peer opened, at once: whether another one may follow on the connection.
pub fn refuse(tcp: &TcpStream, channel: &mut Channel, reason: &str) -> bool {
    let told = super::exchange::tell_end(tcp, |out| channel.refuse(reason, out));
    told == End::Stream && channel.is_reusable()
}

fn broken(leg: Leg) -> impl FnOnce(io::Error) -> RelayError {
    move |source| RelayError::Broken { leg, source }
}
