//! Waits for what comes at a socket, and reads it, with its end where that is there already.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::Poll;

use tokio::io::{AsyncRead, ReadBuf};
use tokio::net::TcpStream;
use tokio::task::consume_budget;

use crate::buffer::Buffer;

/// Waits until there is something to read at `stream`, or its end. Only the last task that waits so, or reads, is
/// woken: one connection is one task here, and needs no list of those that wait.
///
/// # Errors
/// When the runtime is gone.
pub async fn readable(stream: &TcpStream) -> io::Result<()> {
    poll_fn(|context| stream.poll_read_ready(context)).await
}

/// Reads what is there behind what `room` holds, `most` bytes at most; `None` when nothing is there after all.
///
/// # Errors
/// When the connection broke.
pub async fn read_now(
    from: &mut (impl AsyncRead + Unpin),
    room: &mut Buffer,
    most: usize,
) -> io::Result<Option<usize>> {
    let read = look(from, room, most).await?;
    if read.is_none() {
        // Also a task that has used up its turn reads nothing, while the socket stays readable: it must let others
        // go on here, or it would ask for ever.
        consume_budget().await;
    }
    Ok(read)
}

/// What was read at once.
#[derive(Debug)]
pub struct Piece {
    /// How many bytes.
    pub read: usize,
    /// Whether nothing follows them.
    pub is_last: bool,
    /// How the connection broke behind them, which the system tells of once only.
    pub failed: Option<io::Error>,
}

/// As [`read_now`], with what follows the bytes where the system has told of that along with them.
///
/// # Errors
/// As there, when it broke before them.
pub async fn read_piece(
    from: &mut (impl AsyncRead + Unpin),
    room: &mut Buffer,
    most: usize,
) -> io::Result<Option<Piece>> {
    let Some(read) = read_now(from, room, most).await? else {
        return Ok(None);
    };
    let mut piece = Piece {
        read,
        is_last: read == 0,
        failed: None,
    };
    if read > 0 && read < most {
        match look(from, room, most).await {
            Ok(more) => {
                piece.is_last = more == Some(0);
                piece.read += more.unwrap_or(0);
            }
            Err(error) => piece.failed = Some(error),
        }
    }
    Ok(Some(piece))
}

/// As [`read_now`], without letting others go on. Behind a short read it costs no call, unless the end is there.
async fn look(
    from: &mut (impl AsyncRead + Unpin),
    room: &mut Buffer,
    most: usize,
) -> io::Result<Option<usize>> {
    // Through `poll_read`, not `try_read`: it takes a short read as the sign that the socket is empty, and saves
    // the call that would only say so.
    let read = poll_fn(|context| {
        // Without any room a read would look like the end.
        let space = room.room(1);
        let length = space.len().min(most);
        let mut space = ReadBuf::new(space.get_mut(..length).unwrap_or_default());
        Poll::Ready(match Pin::new(&mut *from).poll_read(context, &mut space) {
            Poll::Ready(Ok(())) => Ok(Some(space.filled().len())),
            Poll::Ready(Err(error)) => Err(error),
            Poll::Pending => Ok(None),
        })
    })
    .await?;
    room.advance(read.unwrap_or(0));
    Ok(read)
}
