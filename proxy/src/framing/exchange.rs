//! Says and hears what stands before and after the bytes of a stream.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::channel::{Channel, ChannelError, First};
use super::early::Early;
use super::{End, Heard, Opening};
use crate::buffer::Buffer;
use crate::forward::relay::Arrived;
use crate::net::read::{read_now, readable};
use crate::net::write::write_now;

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
    match channel.opening() {
        Opening::Open => begun(channel, arrived),
        Opening::Awaited => {
            unsaid(&arrived)?;
            let mut sealed = Buffer::lent();
            channel
                .open(First::default(), &mut sealed)
                .map_err(ChannelError::Tls)?;
            send(tcp, channel, sealed, limit).await?;
            let waiting = async {
                loop {
                    if let Some(answer) = answer(tcp, channel).await? {
                        return Ok(answer);
                    }
                }
            };
            within(limit, waiting).await
        }
    }
}

/// As [`open`], for the application at `inner`. If `tells`, what it says before the stream is taken goes along, what is
/// there already with the opening itself, and is noted in `early`; otherwise nothing of it is sent before, so that
/// the stream may be opened elsewhere whatever becomes of this.
///
/// # Errors
/// As there, and when the application goes away.
pub async fn open_for(
    inner: &mut TcpStream,
    early: &mut Early,
    tcp: &mut TcpStream,
    channel: &mut Channel,
    arrived: Arrived,
    tells: bool,
    limit: Duration,
) -> Result<Arrived, OpenError> {
    if channel.opening() == Opening::Open {
        let arrived = begun(channel, arrived)?;
        early.told(false);
        tell(tcp, channel, early, limit).await?;
        return Ok(arrived);
    }
    unsaid(&arrived)?;
    if tells {
        early.read(inner).await?;
    }
    let mut sealed = Buffer::lent();
    let first = if tells { early.first() } else { First::default() };
    channel.open(first, &mut sealed).map_err(ChannelError::Tls)?;
    early.told(tells);
    send(tcp, channel, sealed, limit).await?;
    let waiting = async {
        loop {
            tokio::select! {
                biased;
                ready = readable(tcp) => {
                    ready.map_err(broken)?;
                    if let Some(answer) = answer(tcp, channel).await? {
                        return Ok(answer);
                    }
                }
                more = early.more(inner), if tells => {
                    let mut sealed = Buffer::lent();
                    channel.go_on(more?, &mut sealed).map_err(ChannelError::Tls)?;
                    send(tcp, channel, sealed, limit).await?;
                }
            }
        }
    };
    let arrived = within(limit, waiting).await?;
    tell(tcp, channel, early, limit).await?;
    Ok(arrived)
}

/// Sends what was kept of another attempt, and not sent in this one.
async fn tell(
    tcp: &TcpStream,
    channel: &mut Channel,
    early: &mut Early,
    limit: Duration,
) -> Result<(), OpenError> {
    let Some(bytes) = early.untold() else {
        return Ok(());
    };
    let mut sealed = Buffer::lent();
    // The end of it will be read again.
    let more = First { bytes, is_all: false };
    channel.go_on(more, &mut sealed).map_err(ChannelError::Tls)?;
    early.told(true);
    send(tcp, channel, sealed, limit).await
}

/// Nothing may come before the first stream is opened.
fn unsaid(arrived: &Arrived) -> Result<(), OpenError> {
    match arrived {
        Arrived { text, .. } if !text.is_empty() => Err(OpenError::OutOfTurn),
        Arrived { finished: true, .. } => Err(OpenError::Left),
        _ => Ok(()),
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
        Opening::Awaited => {
            let waiting = async {
                let mut text = Buffer::new();
                text.push(&arrived.text);
                drop(arrived.text);
                let mut heard = channel.unpack(&mut text, arrived.finished)?;
                loop {
                    while heard == Heard::Data {
                        drop(text);
                        readable(tcp).await.map_err(broken)?;
                        (heard, text) = hear(tcp, channel).await?;
                    }
                    match heard {
                        Heard::Opened => match following(channel, text) {
                            // It had second thoughts at once: there is a last word to say, and nothing to do.
                            Err(error @ OpenError::Reset { .. }) => {
                                if tell_end(tcp, |out| channel.reset("", out)) == End::Connection {
                                    return Err(error);
                                }
                            }
                            opened => return opened,
                        },
                        Heard::Left => return Err(OpenError::Left),
                        _ => return Err(OpenError::OutOfTurn),
                    }
                    text = Buffer::new();
                    heard = channel.unpack(&mut text, false)?;
                }
            };
            within(limit, waiting).await
        }
    }
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
    let mut sealed = Buffer::new();
    let end = channel.finish(&mut sealed).map_err(ChannelError::Tls)?;
    send(tcp, channel, sealed, limit).await?;
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
        Ok(End::Stream) if sealed.filled().is_empty() => End::Stream,
        // What back-pressure blocks is said by the end of the connection.
        Ok(End::Stream) if tcp.try_write(sealed.filled()).ok() == Some(sealed.filled().len()) => End::Stream,
        _ => End::Connection,
    }
}

/// Says that no stream will be opened or taken any more, and waits until the peer has gone, `limit` at most: closed
/// with bytes unread, the connection would be reset, and the word perhaps lost.
pub async fn part(tcp: &mut TcpStream, channel: &mut Channel, limit: Duration) {
    part_at_once(tcp, channel);
    let parting = async {
        if tcp.shutdown().await.is_err() {
            return;
        }
        let mut rest = [0; 512];
        let mut left = MOST_AFTER_LEAVING;
        while let Ok(read) = tcp.read(&mut rest).await {
            left = left.saturating_sub(read);
            if read == 0 || left == 0 {
                return;
            }
        }
    };
    // A peer that stays is left.
    let _ = timeout(limit, parting).await;
}

/// As [`part`], without the wait: for a side whom nobody opens streams to.
pub fn part_at_once(tcp: &TcpStream, channel: &mut Channel) {
    let mut sealed = Buffer::new();
    if channel.leave(&mut sealed).is_ok() {
        // A peer that cannot be told sees the end of the connection.
        let _ = tcp.try_write(sealed.filled());
    }
}

/// Whether a stream may be opened on a connection on which none is open: hears what has come since, without a wait.
///
/// # Errors
/// When the peer has left, broke the protocol, or the connection broke.
pub fn is_ready(tcp: &TcpStream, channel: &mut Channel) -> Result<bool, OpenError> {
    loop {
        let mut incoming = Buffer::lent();
        incoming.push(channel.held());
        match tcp.try_read(incoming.room(READ_BYTES)) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(channel.is_idle()),
            Err(source) => return Err(broken(source)),
            Ok(0) => return Err(OpenError::Ended),
            Ok(read) => {
                incoming.advance(read);
                let (mut text, mut reply) = (Buffer::lent(), Buffer::new());
                match channel.receive(&mut incoming, &mut text, &mut reply)? {
                    Heard::Data if text.filled().is_empty() => {}
                    Heard::Left => return Err(OpenError::Left),
                    _ => return Err(OpenError::OutOfTurn),
                }
            }
        }
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

/// Hears what is there: the answer to an opening, with what follows it, or nothing yet.
async fn answer(tcp: &mut TcpStream, channel: &mut Channel) -> Result<Option<Arrived>, OpenError> {
    readable(tcp).await.map_err(broken)?;
    match hear(tcp, channel).await? {
        (Heard::Accepted, text) => following(channel, text).map(Some),
        (Heard::Refused(reason), _) => Err(OpenError::Refused { reason }),
        (Heard::Left, _) => Err(OpenError::Left),
        (Heard::Reset(reason), _) => Err(OpenError::Reset { reason }),
        (Heard::Data, text) if text.filled().is_empty() => Ok(None),
        _ => Err(OpenError::OutOfTurn),
    }
}

/// What came of the stream along with the word that begins it, before which nothing of it may come.
fn following(channel: &mut Channel, mut text: Buffer) -> Result<Arrived, OpenError> {
    if !text.filled().is_empty() {
        return Err(OpenError::OutOfTurn);
    }
    match channel.unpack(&mut text, false)? {
        Heard::Data => Ok(Arrived::of(&text, false)),
        Heard::Finished => Ok(Arrived::of(&text, true)),
        Heard::Reset(reason) => Err(OpenError::Reset { reason }),
        _ => Err(OpenError::OutOfTurn),
    }
}

/// Reads what is there; nothing besides an empty piece of data when that is nothing.
async fn hear(tcp: &mut TcpStream, channel: &mut Channel) -> Result<(Heard, Buffer), OpenError> {
    let mut incoming = Buffer::lent();
    incoming.push(channel.held());
    match read_now(tcp, &mut incoming, READ_BYTES).await.map_err(broken)? {
        None => return Ok((Heard::Data, Buffer::new())),
        Some(0) => return Err(OpenError::Ended),
        Some(_) => {}
    }
    let (mut text, mut reply) = (Buffer::lent(), Buffer::new());
    let heard = channel.receive(&mut incoming, &mut text, &mut reply)?;
    Ok((heard, text))
}

async fn within<T>(
    limit: Duration,
    waiting: impl Future<Output = Result<T, OpenError>>,
) -> Result<T, OpenError> {
    match timeout(limit, waiting).await {
        Ok(done) => done,
        Err(_) => Err(OpenError::Timeout { limit }),
    }
}

/// Sends sealed bytes, mostly without a wait.
pub(super) async fn send(
    tcp: &TcpStream,
    channel: &mut Channel,
    sealed: Buffer,
    limit: Duration,
) -> Result<(), OpenError> {
    channel.sending(true);
    let written = write_now(tcp, sealed.filled()).map_err(broken)?;
    if written < sealed.filled().len() {
        // Whoever waits keeps what is left, and no more.
        let left: Box<[u8]> = sealed.filled().get(written..).unwrap_or_default().into();
        drop(sealed);
        let writing = async {
            let mut at = 0;
            while let Some(rest) = left.get(at..).filter(|rest| !rest.is_empty()) {
                tcp.writable().await.map_err(broken)?;
                at += write_now(tcp, rest).map_err(broken)?;
            }
            Ok(())
        };
        within(limit, writing).await?;
    }
    channel.sending(false);
    Ok(())
}

const fn broken(source: io::Error) -> OpenError {
    OpenError::Broken { source }
}

/// What one read takes at most, before the stream is open.
pub(super) const READ_BYTES: usize = 17 * 1024;

/// What a peer may send after it was told that we leave.
const MOST_AFTER_LEAVING: usize = 1024 * 1024;

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
    /// The application's socket failed.
    #[error("the application's connection broke while a stream was opened")]
    Application {
        /// What the system says.
        source: io::Error,
    },
    /// The other side, or the application behind it, cut the stream as soon as it was open.
    #[error("the peer reset the stream as soon as it was open")]
    Reset {
        /// Its word for why; empty where it has none.
        reason: String,
    },
    /// The other side takes no streams any more.
    #[error("the peer takes no more streams on this connection")]
    Left,
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

impl OpenError {
    /// Whether the other side has certainly not taken the stream, so that nobody can have acted upon its bytes.
    pub const fn is_untaken(&self) -> bool {
        matches!(self, Self::Refused { .. } | Self::Left) || self.is_alert()
    }

    /// Whether the other side refused us by an alert of TLS. It had said nothing before, and says nothing afterwards.
    pub const fn is_alert(&self) -> bool {
        matches!(
            self,
            Self::Protocol(ChannelError::Tls(rustls::Error::AlertReceived(_)))
        )
    }
}
