//! Makes what callers at a Unix socket call themselves towards something that the HTTP library takes.
//!
//! Clients built on gRPC's C core (Python, Ruby, C++, PHP) put the path of the socket into `:authority`, with `%2F` for
//! each slash; others put it there as it is. Neither is an authority (RFC 9113 §8.3.1), so the HTTP library resets the
//! call. Here [`Authority`] follows the client's bytes and writes `-` for each `%` and `/` in such a value, and touches
//! nothing else. As no length changes, frames, and the tables of HPACK at both ends, stay what they were.
//!
//! Nobody reads the value afterwards: a socket has one service, whatever it is called.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A connection whose reader finds only authorities that are none too strange.
#[derive(Debug)]
pub(super) struct Plain<S> {
    stream: S,
    authority: Authority,
}

impl<S> Plain<S> {
    /// Reads `stream`, of which nothing was read yet.
    pub(super) fn new(stream: S) -> Self {
        let authority = Authority::default();
        Self { stream, authority }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Plain<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buf);
        if let Some(new) = buf.filled_mut().get_mut(before..) {
            self.authority.pass(new);
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Plain<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// Where in the bytes of an HTTP/2 client one is (RFC 9113 §3.4, §4.1), from its first byte on.
///
/// Bytes that are no HTTP/2 pass as they are, and so does everything after them: the HTTP library has its own word for
/// them. So do values in Huffman's code, and names that stand in HPACK's dynamic table; no client is known that sends
/// the path of a socket in such a way.
#[derive(Debug, Default)]
pub struct Authority {
    place: Place,
    fields: Fields,
}

#[derive(Debug, Clone, Copy)]
enum Place {
    /// So many bytes of the preface have come.
    Preface(usize),
    /// So many bytes of a frame's head have come.
    Head { bytes: [u8; HEAD], have: usize },
    /// The number of bytes of padding comes next, in a frame with so many bytes.
    Padding { left: u32, priority: u32 },
    /// So many bytes come in front of the fields, so many of fields, so many behind them.
    Frame { before: u32, fields: u32, behind: u32 },
    /// This is no HTTP/2.
    Lost,
}

impl Default for Place {
    fn default() -> Self {
        Self::Preface(0)
    }
}

impl Authority {
    /// Goes on through `bytes`, which follow those of the last time, and changes them where that has to be.
    pub fn pass(&mut self, bytes: &mut [u8]) {
        for byte in bytes {
            self.place = self.step(byte);
        }
    }

    fn step(&mut self, byte: &mut u8) -> Place {
        match self.place {
            Place::Lost => Place::Lost,
            Place::Preface(have) => match PREFACE.get(have) {
                Some(expected) if expected == byte && have + 1 == PREFACE.len() => NEXT,
                Some(expected) if expected == byte => Place::Preface(have + 1),
                _ => Place::Lost,
            },
            Place::Head { mut bytes, have } => {
                if let Some(place) = bytes.get_mut(have) {
                    *place = *byte;
                }
                match have + 1 {
                    HEAD => self.frame(bytes),
                    have => Place::Head { bytes, have },
                }
            }
            Place::Padding { left, priority } => {
                let behind = u32::from(*byte);
                match (left - 1).checked_sub(priority + behind) {
                    Some(fields) => Place::Frame {
                        before: priority,
                        fields,
                        behind,
                    }
                    .or_next(),
                    None => Place::Lost,
                }
            }
            Place::Frame {
                before,
                fields,
                behind,
            } if before > 0 => {
                let before = before - 1;
                Place::Frame {
                    before,
                    fields,
                    behind,
                }
                .or_next()
            }
            Place::Frame {
                before,
                fields,
                behind,
            } if fields > 0 => match self.fields.step(byte) {
                Ok(()) => Place::Frame {
                    before,
                    fields: fields - 1,
                    behind,
                }
                .or_next(),
                Err(NoHpack) => Place::Lost,
            },
            Place::Frame {
                before,
                fields,
                behind,
            } => {
                let behind = behind.saturating_sub(1);
                Place::Frame {
                    before,
                    fields,
                    behind,
                }
                .or_next()
            }
        }
    }

    /// What follows the head of a frame.
    fn frame(&mut self, head: [u8; HEAD]) -> Place {
        let [high, middle, low, kind, flags, ..] = head;
        let left = u32::from_be_bytes([0, high, middle, low]);
        let has = |flag: u8| flags & flag != 0;
        match kind {
            HEADERS => {
                self.fields = Fields::default();
                let priority = if has(PRIORITY) { PRIORITY_BYTES } else { 0 };
                match (has(PADDED), left.checked_sub(priority)) {
                    (true, Some(1..)) => Place::Padding { left, priority },
                    (false, Some(fields)) => Place::Frame {
                        before: priority,
                        fields,
                        behind: 0,
                    }
                    .or_next(),
                    _ => Place::Lost,
                }
            }
            CONTINUATION => Place::Frame {
                before: 0,
                fields: left,
                behind: 0,
            }
            .or_next(),
            _ => Place::Frame {
                before: left,
                fields: 0,
                behind: 0,
            }
            .or_next(),
        }
    }
}

impl Place {
    /// This place in a frame, or the next frame when nothing of this one is left.
    const fn or_next(self) -> Self {
        match self {
            Self::Frame {
                before: 0,
                fields: 0,
                behind: 0,
            } => NEXT,
            place => place,
        }
    }
}

/// Where in a block of fields one is (RFC 7541 §6).
#[derive(Debug, Default, Clone, Copy)]
enum Fields {
    /// A field begins.
    #[default]
    Next,
    /// A number goes on (§5.1).
    Number { what: What, value: u32, shift: u32 },
    /// A name begins with its length.
    NameLength,
    /// So much of a name is still to come; of [`NAME`], so many bytes have come, when it may be that.
    Name { left: u32, same: Option<usize> },
    /// A value begins with its length.
    ValueLength { is_authority: bool },
    /// So much of a value is still to come.
    Value { left: u32, is_plain_authority: bool },
}

/// What a number is.
#[derive(Debug, Clone, Copy)]
enum What {
    /// All there is of a field, or the new size of the table.
    Whole,
    /// Where the name of a field stands.
    Place,
    /// The length of a name.
    Name { is_plain: bool },
    /// The length of a value.
    Value { is_plain_authority: bool },
}

/// These bytes are no fields in HPACK.
#[derive(Debug)]
struct NoHpack;

impl Fields {
    fn step(&mut self, byte: &mut u8) -> Result<(), NoHpack> {
        *self = match *self {
            Self::Next => match *byte {
                first @ 0x80.. => Self::number(What::Whole, first, 0x7f),
                first @ 0x40.. => Self::number(What::Place, first, 0x3f),
                first @ 0x20.. => Self::number(What::Whole, first, 0x1f),
                first => Self::number(What::Place, first, 0x0f),
            },
            Self::Number { what, value, shift } => {
                let part = u32::from(*byte & 0x7f);
                // Nothing that a call has is so long.
                let value = value + (part << shift);
                if value > MOST || shift + 7 > MOST_SHIFT {
                    return Err(NoHpack);
                }
                match *byte & 0x80 {
                    0 => what.of(value),
                    _ => Self::Number {
                        what,
                        value,
                        shift: shift + 7,
                    },
                }
            }
            Self::NameLength => {
                let is_plain = *byte & HUFFMAN == 0;
                Self::number(What::Name { is_plain }, *byte, 0x7f)
            }
            Self::Name { left, same } => {
                let same = same.filter(|at| NAME.get(*at) == Some(byte)).map(|at| at + 1);
                match left {
                    1 => Self::ValueLength {
                        is_authority: same == Some(NAME.len()),
                    },
                    _ => Self::Name { left: left - 1, same },
                }
            }
            Self::ValueLength { is_authority } => {
                let is_plain_authority = is_authority && *byte & HUFFMAN == 0;
                Self::number(What::Value { is_plain_authority }, *byte, 0x7f)
            }
            Self::Value {
                left,
                is_plain_authority,
            } => {
                if is_plain_authority && matches!(*byte, b'%' | b'/') {
                    *byte = b'-';
                }
                match left {
                    1 => Self::Next,
                    _ => Self::Value {
                        left: left - 1,
                        is_plain_authority,
                    },
                }
            }
        };
        Ok(())
    }

    /// What follows a number that begins in the bits `mask` of `first`.
    fn number(what: What, first: u8, mask: u8) -> Self {
        let value = u32::from(first & mask);
        match first & mask == mask {
            true => Self::Number {
                what,
                value,
                shift: 0,
            },
            false => what.of(value),
        }
    }
}

impl What {
    /// What follows when it is `value`.
    const fn of(self, value: u32) -> Fields {
        match self {
            Self::Whole => Fields::Next,
            Self::Place if value == 0 => Fields::NameLength,
            Self::Place => Fields::ValueLength {
                is_authority: value == AUTHORITY,
            },
            Self::Name { .. } if value == 0 => Fields::ValueLength { is_authority: false },
            Self::Name { is_plain } => {
                let same = if is_plain { Some(0) } else { None };
                Fields::Name { left: value, same }
            }
            Self::Value { .. } if value == 0 => Fields::Next,
            Self::Value { is_plain_authority } => Fields::Value {
                left: value,
                is_plain_authority,
            },
        }
    }
}

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const NAME: &[u8] = b":authority";

/// The place of [`NAME`] in HPACK's static table (RFC 7541, appendix A).
const AUTHORITY: u32 = 1;

/// Says that a string is in Huffman's code.
const HUFFMAN: u8 = 0x80;

const HEAD: usize = 9;
const NEXT: Place = Place::Head {
    bytes: [0; HEAD],
    have: 0,
};

const HEADERS: u8 = 1;
const CONTINUATION: u8 = 9;
const PADDED: u8 = 0x8;
const PRIORITY: u8 = 0x20;
const PRIORITY_BYTES: u32 = 5;

/// The largest number that is followed; the longest frame has fewer bytes.
const MOST: u32 = 1 << 24;
const MOST_SHIFT: u32 = 28;

#[cfg(test)]
mod tests;
