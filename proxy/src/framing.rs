//! Names the ways in which streams of applications travel over a TLS connection; ALPN chooses one.

pub mod channel;
pub mod early;
pub mod exchange;
pub mod frame;
pub mod line;
pub mod pool;
pub mod raw;
pub mod streams;
pub mod taking;
pub mod turn;
pub mod warm;

use crate::buffer::Buffer;
use raw::Raw;
use streams::{Side, Streams};

/// How streams of applications travel over one TLS connection, as seen from one of its ends: what is said besides
/// their bytes. It opens no socket and seals nothing, so a framing can be tried without either.
///
/// The order of a stream: the dialling side says [`open`](Self::open), the other one [`accept`](Self::accept) or
/// [`refuse`](Self::refuse); then both send pieces and [`finish`](Self::finish), or [`reset`](Self::reset) at any
/// time. Whether another stream may follow, [`is_reusable`](Self::is_reusable) tells.
pub trait Framing: Send {
    /// How many bytes stand in front of each piece of the application's bytes.
    fn head(&self) -> usize;

    /// Fills in the head of `piece`, which begins with the room for it.
    fn pack(&mut self, piece: &mut [u8]);

    /// Leaves of `text`, which was decrypted just now, the application's bytes alone, and says what else was there.
    /// `is_over` when the peer has said that nothing follows on this connection (close_notify). Whatever follows
    /// a word is kept for the next call, whose `text` may be empty.
    ///
    /// # Errors
    /// When the peer breaks the framing.
    fn unpack(&mut self, text: &mut Buffer, is_over: bool) -> Result<Heard, FramingError>;

    /// Whether a stream has to be opened and agreed to, or is open from the start.
    fn opening(&self) -> Opening;

    /// Appends to `out` what opens a stream.
    fn open(&mut self, out: &mut Buffer);

    /// Appends to `out` that the stream which the peer opened is taken.
    fn accept(&mut self, out: &mut Buffer);

    /// Appends to `out` that it is not, with the word for why.
    fn refuse(&mut self, reason: &str, out: &mut Buffer) -> End;

    /// Appends to `out` that our side of the stream sends nothing more, unless that was said before.
    fn finish(&mut self, out: &mut Buffer) -> End;

    /// Appends to `out` that the stream is cut, in both directions, with the word for why if there is one.
    fn reset(&mut self, reason: &str, out: &mut Buffer) -> End;

    /// Whether we are done with the last stream, and another one may follow once the peer is done, too.
    fn is_reusable(&self) -> bool;

    /// Whether both sides are done with the last stream, and another one may be opened.
    fn is_idle(&self) -> bool;
}

/// What a peer said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Heard {
    /// Nothing besides the application's bytes, of which there may be none.
    Data,
    /// It opens a stream.
    Opened,
    /// It takes the stream that we opened.
    Accepted,
    /// It refuses the stream that we opened, with its word for why.
    Refused(String),
    /// It sends nothing more on this stream.
    Finished,
    /// It has cut this stream, with its word for why if it has one.
    Reset(String),
    /// It takes no stream on this connection any more, and has taken none that it did not say it took.
    Left,
}

/// Whether a stream has to be agreed to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opening {
    /// No: bytes may be sent.
    Open,
    /// Yes: nothing may be sent before [`Heard::Accepted`].
    Awaited,
}

/// What a last word ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The connection: it is said by the end of TLS, or for a reset and a refusal by that of TCP.
    Connection,
    /// The stream alone: what was appended says it.
    Stream,
}

/// The framings that are offered and taken, the preferred one first, by their names in ALPN (RFC 7301).
pub const OFFERED: &[&[u8]] = &[streams::NAME, raw::NAME];

/// Whether `name` is that of one of our framings: how mesh TLS is told from the application's own.
pub fn is_ours(name: &[u8]) -> bool {
    OFFERED.contains(&name)
}

/// The framing that a handshake agreed on, as seen from one `side`. Whoever names none, such as a program that knows
/// nothing of us, speaks [`Raw`].
///
/// # Errors
/// When it is none of ours.
pub fn agreed(alpn: Option<&[u8]>, side: Side) -> Result<Box<dyn Framing>, FramingError> {
    match alpn {
        Some(streams::NAME) => Ok(Box::new(Streams::new(side))),
        None | Some(raw::NAME) => Ok(Box::new(Raw)),
        Some(_) => Err(FramingError::Unknown),
    }
}

/// How a peer breaks a framing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FramingError {
    /// A handshake agreed on something else.
    #[error("the handshake agreed on a framing that nobody here speaks")]
    Unknown,
    /// The connection ended within a stream.
    #[error("the connection ended within a stream")]
    Unfinished,
    /// Something came at a time when it must not.
    #[error("{what} came out of turn")]
    OutOfTurn {
        /// What.
        what: &'static str,
    },
    /// A frame is of no known kind.
    #[error("there is no frame of the kind {byte}")]
    UnknownKind {
        /// The byte where its kind stands.
        byte: u8,
    },
    /// A frame is too long or too short for its kind.
    #[error("no {what} is followed by {length} bytes")]
    Length {
        /// Its kind.
        what: &'static str,
        /// The length that it tells.
        length: usize,
    },
    /// The word for why is none.
    #[error("a reason is not made of small letters, digits and `_`")]
    Reason,
}

#[cfg(test)]
mod tests;
