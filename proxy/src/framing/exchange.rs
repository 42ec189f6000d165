//! Opens a stream, and answers one that a peer opens, before its first byte.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::channel::{Channel, ChannelError};
use super::{End, Heard, Opening};
use crate::buffer::Buffer;
use crate::forward::relay::Arrived;

/// Opens a stream, and waits until the other side takes it where it has to; `arrived` came before. Returns what
/// came of the stream meanwhile.
///
/// # Errors
/// When the other side refuses, breaks the protocol or goes away, or `limit` is over.
pub async fn open(
    tcp: &mut TcpStream,
    channel: &mut Channel,
    arrived: Arrived,
    limit: Duration,
) -> Result<Arrived, OpenError> {
    let mut sealed = Buffer::new();
    channel.open(&mut sealed).map_err(ChannelError::Tls)?;
    send(tcp, channel, &sealed, limit).await?;
    match channel.opening() {
        Opening::Open => begun(channel, arrived),
        Opening::Awaited => match hear(tcp, channel, arrived, limit).await? {
            (Heard::Accepted, rest) => Ok(rest),
            (Heard::Refused(reason), _) => Err(OpenError::Refused { reason }),
            (Heard::Reset, _) => Err(OpenError::Ended),
            _ => Err(OpenError::OutOfTurn),
        },
    }
}

/// Waits until the peer opens a stream, where it has to; returns what came of the stream with that.
///
/// # Errors
/// As [`open`].
pub async fn next(
    tcp: &mut TcpStream,
    channel: &mut Channel,
    arrived: Arrived,
    limit: Duration,
) -> Result<Arrived, OpenError> {
    match channel.opening() {
        Opening::Open => begun(channel, arrived),
        Opening::Awaited => match hear(tcp, channel, arrived, limit).await? {
            (Heard::Opened, rest) => Ok(rest),
            (Heard::Finished, _) => Err(OpenError::Ended),
            _ => Err(OpenError::OutOfTurn),
        },
    }
}

/// Tells the peer that its stream is taken.
///
/// # Errors
/// When it went away, or takes longer than `limit`.
pub async fn accept(tcp: &mut TcpStream, channel: &mut Channel, limit: Duration) -> Result<(), OpenError> {
    let mut sealed = Buffer::new();
    channel.accept(&mut sealed).map_err(ChannelError::Tls)?;
    send(tcp, channel, &sealed, limit).await
}

/// Ends a stream on which nothing was said, and looks whether the other side is still there then. One that goes on
/// silently, as it may, counts as there once `limit` is over.
///
/// # Errors
/// When it broke off instead.
pub async fn take_leave(
    tcp: &mut TcpStream,
    channel: &mut Channel,
    limit: Duration,
) -> Result<(), OpenError> {
    let broken = |source| OpenError::Broken { source };
    let mut sealed = Buffer::new();
    let end = channel.finish(&mut sealed).map_err(ChannelError::Tls)?;
    send(tcp, channel, &sealed, limit).await?;
    if end == End::Connection {
        tcp.shutdown().await.map_err(broken)?;
    }
    let (mut incoming, mut text, mut reply) = (Buffer::new(), Buffer::new(), Buffer::new());
    incoming.push(channel.held());
    match timeout(limit, tcp.read(incoming.room(READ_BYTES))).await {
        Err(_) => Ok(()),
        Ok(Err(source)) => Err(broken(source)),
        Ok(Ok(0)) => Err(OpenError::Ended),
        Ok(Ok(read)) => {
            incoming.advance(read);
            channel.receive(&mut incoming, &mut text, &mut reply)?;
            Ok(())
        }
    }
}

/// Tells the peer at once, without a wait, that its stream is refused or cut. [`End::Connection`] when this could
/// not be said so, and the connection must be reset.
pub fn tell_end(tcp: &TcpStream, seal: impl FnOnce(&mut Buffer) -> Result<End, rustls::Error>) -> End {
    let mut sealed = Buffer::new();
    match seal(&mut sealed) {
        // What back-pressure blocks is said by the end of the connection.
        Ok(End::Stream) if tcp.try_write(sealed.filled()).ok() == Some(sealed.filled().len()) => End::Stream,
        _ => End::Connection,
    }
}

/// What came of a stream that is open from the start.
fn begun(channel: &mut Channel, arrived: Arrived) -> Result<Arrived, OpenError> {
    let mut text = Buffer::new();
    text.push(&arrived.text);
    match channel.unpack(&mut text, arrived.finished)? {
        Heard::Data => Ok(Arrived::of(&text, false)),
        Heard::Finished => Ok(Arrived::of(&text, true)),
        _ => Err(OpenError::OutOfTurn),
    }
}

/// Waits for one word about a stream; returns with it the bytes of the stream that came along.
async fn hear(
    tcp: &mut TcpStream,
    channel: &mut Channel,
    arrived: Arrived,
    limit: Duration,
) -> Result<(Heard, Arrived), OpenError> {
    let mut text = Buffer::new();
    text.push(&arrived.text);
    let mut heard = channel.unpack(&mut text, arrived.finished)?;
    let waiting = async {
        while heard == Heard::Data {
            if !text.filled().is_empty() {
                return Err(OpenError::OutOfTurn);
            }
            let mut incoming = Buffer::new();
            incoming.push(channel.held());
            let read = tcp
                .read(incoming.room(READ_BYTES))
                .await
                .map_err(|source| OpenError::Broken { source })?;
            if read == 0 {
                return Err(OpenError::Ended);
            }
            incoming.advance(read);
            let mut reply = Buffer::new();
            heard = channel.receive(&mut incoming, &mut text, &mut reply)?;
        }
        Ok(heard)
    };
    let heard = timeout(limit, waiting)
        .await
        .map_err(|_| OpenError::Timeout { limit })??;
    let mut rest = Buffer::new();
    let finished = match channel.unpack(&mut rest, false)? {
        Heard::Data => false,
        Heard::Finished => true,
        _ => return Err(OpenError::OutOfTurn),
    };
    text.push(rest.filled());
    Ok((heard, Arrived::of(&text, finished)))
}

async fn send(
    tcp: &mut TcpStream,
    channel: &mut Channel,
    sealed: &Buffer,
    limit: Duration,
) -> Result<(), OpenError> {
    if sealed.filled().is_empty() {
        return Ok(());
    }
    channel.sending(true);
    match timeout(limit, tcp.write_all(sealed.filled())).await {
        Err(_) => Err(OpenError::Timeout { limit }),
        Ok(Err(source)) => Err(OpenError::Broken { source }),
        Ok(Ok(())) => {
            channel.sending(false);
            Ok(())
        }
    }
}

/// What one read takes at most, while nothing but words about streams may come.
const READ_BYTES: usize = 16 * 1024;

/// Why a stream is not open.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The other side says no.
    #[error("the peer refused the stream: {reason}")]
    Refused {
        /// Its word for why.
        reason: String,
    },
    /// Too slow.
    #[error("the peer did not answer the opening of a stream within {limit:?}")]
    Timeout {
        /// The time that is allowed.
        limit: Duration,
    },
    /// The socket failed.
    #[error("the connection broke while a stream was opened")]
    Broken {
        /// What the system says.
        source: io::Error,
    },
    /// The other side went away.
    #[error("the peer left while a stream was opened")]
    Ended,
    /// The other side said something else.
    #[error("the peer answered the opening of a stream out of turn")]
    OutOfTurn,
    /// The other side breaks the protocol.
    #[error("cannot open a stream")]
    Protocol(#[from] ChannelError),
}
