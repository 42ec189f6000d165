//! Moves bytes both ways between two sockets, one of them sealed with TLS or neither.
//!
//! Each direction ends by itself: end of stream becomes close_notify with FIN, and back. What is not an end of
//! stream, a reset or a TLS stream that stops without close_notify, is an error, which the caller passes on as RST.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;
use std::time::Duration;

use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::task::consume_budget;

use super::appetite::Appetite;
use super::pipe::Pipe;
use crate::buffer::Buffer;
use crate::framing::channel::{Channel, ChannelError};
use crate::framing::{End, FramingError, Heard};
use crate::net::read::{Piece, read_now, read_piece, readable};
use crate::net::write::write_now;

/// Which of the two sockets something happened at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leg {
    /// The one towards another workload's proxy, or the first of two in clear.
    Outer,
    /// The one towards our own application, or the second of two in clear.
    Inner,
}

/// Why a relay ended before both directions were over.
#[derive(Debug, thiserror::Error)]
pub enum RelayError {
    /// A socket was reset or failed.
    #[error("the {leg:?} connection broke")]
    Broken {
        /// Which.
        leg: Leg,
        /// What the system says.
        source: io::Error,
    },
    /// The peer cut the stream, in the words of the framing.
    #[error("the stream was reset{}", because(reason))]
    Reset {
        /// Its word for why; empty where it has none.
        reason: String,
    },
    /// The TLS stream stopped without saying that it was over: somebody cut it (RFC 8446 §6.1).
    #[error("the TLS stream was cut short")]
    Truncated,
    /// The peer broke the protocol.
    #[error("the peer broke the TLS protocol")]
    Protocol {
        /// How.
        source: rustls::Error,
    },
    /// The peer broke the framing within TLS.
    #[error("the peer broke the framing")]
    Framing {
        /// How.
        source: FramingError,
    },
    /// One direction was over, and nothing moved in the other for the time that is allowed then.
    #[error("nothing moved for {limit:?} after one side had finished")]
    HalfClosed {
        /// That time.
        limit: Duration,
    },
}

fn because(reason: &str) -> String {
    match reason {
        "" => String::new(),
        reason => format!(" by the other side: {reason}"),
    }
}

/// Counts what a relay moved. May be read while it runs, from any thread.
#[derive(Debug, Default)]
pub struct Moved {
    inward: AtomicU64,
    outward: AtomicU64,
}

impl Moved {
    /// The application's bytes that came from the outer leg.
    pub fn inward(&self) -> u64 {
        self.inward.load(Ordering::Relaxed)
    }

    /// The application's bytes that went to the outer leg.
    pub fn outward(&self) -> u64 {
        self.outward.load(Ordering::Relaxed)
    }

    /// Counts bytes that came before the relay began.
    pub fn count_inward(&self, bytes: usize) {
        add(&self.inward, bytes);
    }

    /// Counts bytes that went before the relay began.
    pub fn count_outward(&self, bytes: usize) {
        add(&self.outward, bytes);
    }

    fn total(&self) -> u64 {
        self.inward().wrapping_add(self.outward())
    }
}

/// What came from the peer before the relay began, such as bytes that travelled with the end of a handshake.
#[derive(Debug, Default)]
pub struct Arrived {
    /// The application's bytes.
    pub text: Box<[u8]>,
    /// Whether the peer has said that it sends nothing more.
    pub finished: bool,
}

impl Arrived {
    /// These bytes, and nothing more when it is `finished`.
    pub fn of(text: &Buffer, finished: bool) -> Self {
        Self {
            text: text.filled().into(),
            finished,
        }
    }
}

/// Carries bytes between `outer`, sealed by `channel`, and `inner`, until both directions are over.
///
/// There is no idle limit; `half_closed` bounds the silence once one direction is over.
///
/// # Errors
/// When it ended otherwise. The caller resets both sockets then: a cut stream must not look like a finished one.
pub async fn sealed(
    outer: &mut TcpStream,
    channel: &mut Channel,
    inner: &mut TcpStream,
    arrived: Arrived,
    half_closed: Duration,
    moved: &Moved,
) -> Result<(), RelayError> {
    let (outer_read, outer_write) = outer.split();
    let (inner_read, inner_write) = inner.split();
    let channel = RefCell::new(channel);
    let over = Cell::new(false);
    let inward = pin!(async {
        open_flow(outer_read, &channel, inner_write, arrived, &over, &moved.inward).await?;
        over.set(true);
        Ok(())
    });
    let outward = pin!(async {
        seal_flow(inner_read, &channel, outer_write, &moved.outward).await?;
        over.set(true);
        Ok(())
    });
    both(inward, outward, &over, half_closed, moved).await
}

/// Carries bytes between two sockets as they are; otherwise as [`sealed`]. `read` was read before, from `outer`
/// and from `inner`.
///
/// # Errors
/// As [`sealed`].
pub async fn plain(
    outer: &mut TcpStream,
    inner: &mut TcpStream,
    read: (Box<[u8]>, Box<[u8]>),
    half_closed: Duration,
    moved: &Moved,
) -> Result<(), RelayError> {
    let (outer_read, outer_write) = outer.split();
    let (inner_read, inner_write) = inner.split();
    let over = Cell::new(false);
    let inward = pin!(async {
        plain_flow(outer_read, Leg::Outer, inner_write, read.0, &moved.inward).await?;
        over.set(true);
        Ok(())
    });
    let outward = pin!(async {
        plain_flow(inner_read, Leg::Inner, outer_write, read.1, &moved.outward).await?;
        over.set(true);
        Ok(())
    });
    both(inward, outward, &over, half_closed, moved).await
}

/// Each count has one writer, so no read-modify-write is needed.
fn add(count: &AtomicU64, moved: usize) {
    let moved = u64::try_from(moved).unwrap_or(u64::MAX);
    count.store(
        count.load(Ordering::Relaxed).wrapping_add(moved),
        Ordering::Relaxed,
    );
}

/// Runs both directions, and the guard over whichever is left.
async fn both(
    // Pinned where they were made: moved here, they would take their room twice, in every idle connection.
    inward: Pin<&mut impl Future<Output = Result<(), RelayError>>>,
    outward: Pin<&mut impl Future<Output = Result<(), RelayError>>>,
    over: &Cell<bool>,
    half_closed: Duration,
    moved: &Moved,
) -> Result<(), RelayError> {
    let flows = async { tokio::try_join!(inward, outward).map(|_| ()) };
    tokio::select! {
        biased;
        ended = flows => ended,
        limit = silence(over, half_closed, moved) => Err(RelayError::HalfClosed { limit }),
    }
}

/// Ends once one direction is over and nothing has moved for `limit`.
async fn silence(over: &Cell<bool>, limit: Duration, moved: &Moved) -> Duration {
    // Nobody has to wake this: it is looked at after each look at the directions, in the same task.
    poll_fn(|_| {
        if over.get() {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    })
    .await;
    loop {
        let before = moved.total();
        tokio::time::sleep(limit).await;
        if moved.total() == before {
            return limit;
        }
    }
}

/// From the peer to the application.
async fn open_flow(
    mut from: ReadHalf<'_>,
    channel: &RefCell<&mut Channel>,
    mut to: WriteHalf<'_>,
    arrived: Arrived,
    // Whether the other direction is over.
    over: &Cell<bool>,
    count: &AtomicU64,
) -> Result<(), RelayError> {
    if !arrived.text.is_empty() {
        add(count, arrived.text.len());
        to.write_all(&arrived.text).await.map_err(broken(Leg::Inner))?;
    }
    if arrived.finished {
        return to.shutdown().await.map_err(broken(Leg::Inner));
    }
    drop(arrived);
    let mut appetite = Appetite::new();
    loop {
        readable(from.as_ref()).await.map_err(broken(Leg::Outer))?;
        let mut room = Buffer::lent();
        room.push(channel.borrow().held());
        let read = match read_now(&mut from, &mut room, appetite.bytes()).await {
            Ok(Some(0)) => return Err(RelayError::Truncated),
            Ok(Some(read)) => read,
            Ok(None) => continue,
            Err(source) => return Err(broken(Leg::Outer)(source)),
        };
        let mut text = Buffer::lent();
        let heard = receive(*channel.borrow_mut(), &mut room, &mut text)?;
        drop(room);
        if let Heard::Reset(reason) = heard {
            return Err(RelayError::Reset { reason });
        }
        add(count, text.filled().len());
        let waited = write_all(&to, text).await.map_err(broken(Leg::Inner))?;
        appetite.learn(read, waited);
        if heard == Heard::Finished {
            // Where the application has finished, too, the socket is closed now, which says the same.
            return match over.get() {
                true => Ok(()),
                false => to.shutdown().await.map_err(broken(Leg::Inner)),
            };
        }
    }
}

fn receive(channel: &mut Channel, sealed: &mut Buffer, text: &mut Buffer) -> Result<Heard, RelayError> {
    // After the handshake TLS has nothing to say by itself but alerts, and the reset that follows an error says
    // as much; an answer to a key update leaves with the next record.
    let mut reply = Buffer::new();
    match channel.receive(sealed, text, &mut reply) {
        Ok(heard @ (Heard::Data | Heard::Finished | Heard::Reset(_))) => Ok(heard),
        Ok(Heard::Opened | Heard::Accepted | Heard::Refused(_) | Heard::Left) => Err(RelayError::Framing {
            source: FramingError::OutOfTurn {
                what: "a word about another stream",
            },
        }),
        Err(ChannelError::Tls(source)) => Err(RelayError::Protocol { source }),
        Err(ChannelError::Framing(FramingError::Unfinished)) => Err(RelayError::Truncated),
        Err(ChannelError::Framing(source)) => Err(RelayError::Framing { source }),
    }
}

/// From the application to the peer.
async fn seal_flow(
    mut from: ReadHalf<'_>,
    channel: &RefCell<&mut Channel>,
    mut to: WriteHalf<'_>,
    count: &AtomicU64,
) -> Result<(), RelayError> {
    let mut appetite = Appetite::new();
    let protocol = |source| RelayError::Protocol { source };
    loop {
        readable(from.as_ref()).await.map_err(broken(Leg::Inner))?;
        let mut room = Buffer::lent();
        room.skip(channel.borrow().head());
        let Some(Piece {
            read,
            is_last,
            failed,
        }) = read_piece(&mut from, &mut room, appetite.bytes())
            .await
            .map_err(broken(Leg::Inner))?
        else {
            continue;
        };
        let mut sealed = Buffer::lent();
        let end = seal(*channel.borrow_mut(), &mut room, read, is_last, &mut sealed).map_err(protocol)?;
        drop(room);
        add(count, read);
        let waited = send(&to, sealed, channel).await?;
        // What came before goes first.
        if let Some(error) = failed {
            return Err(broken(Leg::Inner)(error));
        }
        match end {
            None => appetite.learn(read, waited),
            Some(End::Stream) => return Ok(()),
            Some(End::Connection) => return to.shutdown().await.map_err(broken(Leg::Outer)),
        }
    }
}

/// Sends sealed bytes; whether all of them went is noted, in case somebody stops this.
async fn send(
    to: &WriteHalf<'_>,
    sealed: Buffer,
    channel: &RefCell<&mut Channel>,
) -> Result<bool, RelayError> {
    channel.borrow_mut().sending(true);
    let waited = write_all(to, sealed).await.map_err(broken(Leg::Outer))?;
    channel.borrow_mut().sending(false);
    Ok(waited)
}

/// From one socket to the other as it is.
async fn plain_flow(
    mut from: ReadHalf<'_>,
    leg: Leg,
    mut to: WriteHalf<'_>,
    peeked: Box<[u8]>,
    count: &AtomicU64,
) -> Result<(), RelayError> {
    let other = match leg {
        Leg::Outer => Leg::Inner,
        Leg::Inner => Leg::Outer,
    };
    if !peeked.is_empty() {
        add(count, peeked.len());
        to.write_all(&peeked).await.map_err(broken(other))?;
    }
    drop(peeked);
    let mut appetite = Appetite::new();
    loop {
        readable(from.as_ref()).await.map_err(broken(leg))?;
        // Little is copied, in two calls; where much comes, the copies cost more than the calls of a pipe.
        if appetite.is_large()
            && let Ok(mut pipe) = Pipe::lent()
        {
            let taken = match pipe.fill(from.as_ref()).map_err(broken(leg))? {
                None => continue,
                Some(0) => return to.shutdown().await.map_err(broken(other)),
                Some(taken) => taken,
            };
            add(count, taken);
            pipe.empty(to.as_ref()).await.map_err(broken(other))?;
            appetite.learn_spliced(taken);
            // What goes through a pipe is not counted by itself, and a fast stream would never let others go on.
            consume_budget().await;
            continue;
        }
        let mut room = Buffer::lent();
        let Some(read) = read_now(&mut from, &mut room, appetite.bytes())
            .await
            .map_err(broken(leg))?
        else {
            continue;
        };
        if read == 0 {
            return to.shutdown().await.map_err(broken(other));
        }
        add(count, read);
        let waited = write_all(&to, room).await.map_err(broken(other))?;
        appetite.learn(read, waited);
    }
}

fn broken(leg: Leg) -> impl FnOnce(io::Error) -> RelayError {
    move |source| RelayError::Broken { leg, source }
}

/// Seals a piece that was read; its end, too, when it is the last one.
fn seal(
    channel: &mut Channel,
    piece: &mut Buffer,
    read: usize,
    is_last: bool,
    sealed: &mut Buffer,
) -> Result<Option<End>, rustls::Error> {
    match (read, is_last) {
        (0, _) => channel.finish(sealed).map(Some),
        (_, true) => channel.seal_last(piece, sealed).map(Some),
        (_, false) => channel.seal(piece, sealed).map(|()| None),
    }
}

/// Writes all bytes; returns whether the receiver had to be waited for. Then only what is left is kept.
async fn write_all(to: &WriteHalf<'_>, bytes: Buffer) -> io::Result<bool> {
    if bytes.filled().is_empty() {
        return Ok(false);
    }
    let written = write_now(to.as_ref(), bytes.filled())?;
    if written == bytes.filled().len() {
        return Ok(false);
    }
    // Many receivers may be slow at once: each holds what it has not taken, and no more.
    let left: Box<[u8]> = bytes.filled().get(written..).unwrap_or_default().into();
    drop(bytes);
    let mut at = 0;
    while let Some(rest) = left.get(at..).filter(|rest| !rest.is_empty()) {
        to.writable().await?;
        at += write_now(to.as_ref(), rest)?;
    }
    Ok(true)
}

#[cfg(test)]
mod tests;
