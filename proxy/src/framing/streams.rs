//! The framing in which one stream after another travels over a TLS connection: `ferrule/1`.

use super::frame::{HEAD, Head, Kind, read_reason};
use super::{End, Framing, FramingError, Heard, Opening};
use crate::buffer::Buffer;

/// Its name in ALPN.
pub const NAME: &[u8] = b"ferrule/1";

/// One end of a connection that carries one stream after another.
///
/// Each side has exactly one last word on a stream: finish, reset, or refused. The stream is over when both have
/// said theirs; so no word can be mistaken for one about the next stream, and none needs a number. Whoever hears a
/// reset or a refusal, and has not said a last word yet, answers with a reset.
#[derive(Debug)]
pub struct Streams {
    side: Side,
    stage: Stage,
    /// Whether our last word on the stream is said.
    said_last: bool,
    /// Whether the peer's is.
    heard_last: bool,
    /// Whether ours was a reset or a refusal: what the peer still sends on the stream concerns nobody.
    has_cut: bool,
    /// Whether the peer has said that nothing follows on the connection.
    is_over: bool,
    /// Whether the peer has broken the framing: nothing that follows means anything.
    is_broken: bool,
    reading: Reading,
    /// What came behind a word, for the next call.
    rest: Vec<u8>,
}

/// Which end of the connection this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The one that dialled, and opens streams.
    Dialling,
    /// The one that was dialled.
    Dialled,
}

/// How far the stream has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// There is none.
    Idle,
    /// Opened, and not answered.
    Opening,
    /// Accepted, until both last words are said.
    Open,
}

/// Where in a frame the bytes read so far end.
#[derive(Debug)]
enum Reading {
    /// Within a head.
    Head { bytes: [u8; HEAD], count: usize },
    /// Within the application's bytes, of which so many are to come.
    Data { left: usize },
    /// Within the reason of a last word.
    Reason { head: Head, reason: Vec<u8> },
}

impl Reading {
    const fn start() -> Self {
        Self::Head {
            bytes: [0; HEAD],
            count: 0,
        }
    }

    const fn is_between(&self) -> bool {
        matches!(self, Self::Head { count: 0, .. })
    }
}

impl Streams {
    /// An end of a connection on which nothing was said.
    pub const fn new(side: Side) -> Self {
        Self {
            side,
            stage: Stage::Idle,
            said_last: false,
            heard_last: false,
            has_cut: false,
            is_over: false,
            is_broken: false,
            reading: Reading::start(),
            rest: Vec::new(),
        }
    }

    fn begin(&mut self) {
        self.stage = Stage::Opening;
        (self.said_last, self.heard_last, self.has_cut) = (false, false, false);
    }

    /// The stream is over once both last words are said.
    fn settle(&mut self) {
        if self.said_last && self.heard_last {
            self.stage = Stage::Idle;
        }
    }

    /// Reads what is there; returns at the first word, and leaves what follows it in `rest`.
    fn read(&mut self, text: &mut Buffer) -> Result<Heard, FramingError> {
        if !self.rest.is_empty() {
            let rest = std::mem::take(&mut self.rest);
            let new = Vec::from(text.filled());
            text.clear();
            text.push(&rest);
            text.push(&new);
        }
        let mut kept = Kept::default();
        let mut at = 0;
        let heard = loop {
            let bytes = text.filled().get(at..).unwrap_or_default();
            if bytes.is_empty() {
                break Heard::Data;
            }
            match &mut self.reading {
                Reading::Data { left } => {
                    let count = bytes.len().min(*left);
                    *left -= count;
                    if *left == 0 {
                        self.reading = Reading::start();
                    }
                    if !self.has_cut {
                        kept.add(text.filled_mut(), at, at + count);
                    }
                    at += count;
                }
                Reading::Head { bytes: head, count } => {
                    let taken = bytes.len().min(HEAD - *count);
                    if let (Some(to), Some(from)) = (head.get_mut(*count..*count + taken), bytes.get(..taken))
                    {
                        to.copy_from_slice(from);
                    }
                    (*count, at) = (*count + taken, at + taken);
                    if *count == HEAD {
                        let head = Head::read(*head)?;
                        self.reading = Reading::start();
                        if let Some(heard) = self.hear(head)? {
                            break heard;
                        }
                    }
                }
                Reading::Reason { head, reason } => {
                    let taken = bytes.len().min(head.length - reason.len());
                    reason.extend_from_slice(bytes.get(..taken).unwrap_or_default());
                    at += taken;
                    if reason.len() == head.length {
                        let (kind, word) = (head.kind, read_reason(reason)?.to_owned());
                        self.reading = Reading::start();
                        if let Some(heard) = self.hear_last(kind, word) {
                            break heard;
                        }
                    }
                }
            }
        };
        self.rest
            .extend_from_slice(text.filled().get(at..).unwrap_or_default());
        text.keep(kept.from, kept.to);
        Ok(heard)
    }

    /// Takes the head of a frame; returns what it says, if it says something by itself.
    fn hear(&mut self, head: Head) -> Result<Option<Heard>, FramingError> {
        let what = head.kind.word();
        if !self.may_come(head.kind) {
            return Err(FramingError::OutOfTurn { what });
        }
        Ok(match head.kind {
            Kind::Open => {
                self.begin();
                Some(Heard::Opened)
            }
            Kind::Accepted => {
                self.stage = Stage::Open;
                (!self.has_cut).then_some(Heard::Accepted)
            }
            Kind::Data => {
                self.reading = Reading::Data { left: head.length };
                None
            }
            Kind::Finish => self.hear_last(head.kind, String::new()),
            Kind::Refused | Kind::Reset if head.length > 0 => {
                let reason = Vec::with_capacity(head.length);
                self.reading = Reading::Reason { head, reason };
                None
            }
            Kind::Refused | Kind::Reset => self.hear_last(head.kind, String::new()),
        })
    }

    /// Whether the peer may say this now.
    fn may_come(&self, kind: Kind) -> bool {
        let is_opener = self.side == Side::Dialled;
        if kind == Kind::Open {
            return is_opener && self.stage == Stage::Idle;
        }
        if self.stage == Stage::Idle || self.heard_last {
            return false;
        }
        match kind {
            Kind::Accepted | Kind::Refused => !is_opener && self.stage == Stage::Opening,
            // Whoever opens speaks at once, whoever takes the stream only then.
            Kind::Data | Kind::Finish => is_opener || self.stage == Stage::Open,
            Kind::Open | Kind::Reset => true,
        }
    }

    /// Takes the peer's last word on the stream.
    fn hear_last(&mut self, kind: Kind, reason: String) -> Option<Heard> {
        self.heard_last = true;
        self.settle();
        if self.has_cut {
            return None;
        }
        Some(match kind {
            Kind::Refused => Heard::Refused(reason),
            Kind::Reset => Heard::Reset(reason),
            _ => Heard::Finished,
        })
    }

    fn say(kind: Kind, reason: &str, out: &mut Buffer) {
        let head = Head {
            kind,
            length: reason.len(),
        };
        out.push(&head.write());
        out.push(reason.as_bytes());
    }

    /// Our last word cuts the stream.
    fn cut(&mut self, kind: Kind, reason: &str, out: &mut Buffer) -> End {
        Self::say(kind, reason, out);
        (self.said_last, self.has_cut) = (true, true);
        self.settle();
        End::Stream
    }
}

/// The application's bytes among those of frames: moved together where they are, the fewer to the more.
#[derive(Default)]
struct Kept {
    from: usize,
    to: usize,
}

impl Kept {
    fn add(&mut self, bytes: &mut [u8], from: usize, to: usize) {
        let length = self.to - self.from;
        if length == 0 {
            (self.from, self.to) = (from, to);
        } else if from == self.to {
            self.to = to;
        } else if to - from <= length {
            bytes.copy_within(from..to, self.to);
            self.to += to - from;
        } else {
            bytes.copy_within(self.from..self.to, from - length);
            (self.from, self.to) = (from - length, to);
        }
    }
}

impl Framing for Streams {
    fn head(&self) -> usize {
        HEAD
    }

    fn pack(&mut self, piece: &mut [u8]) {
        let head = Head {
            kind: Kind::Data,
            length: piece.len().saturating_sub(HEAD),
        };
        if let Some(room) = piece.first_chunk_mut() {
            *room = head.write();
        }
    }

    fn unpack(&mut self, text: &mut Buffer, is_over: bool) -> Result<Heard, FramingError> {
        self.is_over |= is_over;
        let heard = match self.read(text) {
            Ok(heard) => heard,
            Err(error) => {
                self.is_broken = true;
                return Err(error);
            }
        };
        if heard != Heard::Data || !self.is_over {
            return Ok(heard);
        }
        // Nothing is left of what came before the end.
        let is_refused = self.side == Side::Dialling && self.stage == Stage::Opening;
        match self.stage {
            _ if !self.reading.is_between() => Err(FramingError::Unfinished),
            // Who leaves instead of an answer has not taken the stream.
            Stage::Idle => Ok(Heard::Left),
            _ if is_refused || self.has_cut => Ok(Heard::Left),
            // It leaves after its last word; ours may still be said.
            _ if self.heard_last => Ok(heard),
            _ => Err(FramingError::Unfinished),
        }
    }

    fn opening(&self) -> Opening {
        Opening::Awaited
    }

    fn open(&mut self, out: &mut Buffer) {
        debug_assert!(
            self.side == Side::Dialling && self.is_idle(),
            "one stream at a time"
        );
        self.begin();
        Self::say(Kind::Open, "", out);
    }

    fn accept(&mut self, out: &mut Buffer) {
        self.stage = Stage::Open;
        Self::say(Kind::Accepted, "", out);
    }

    fn refuse(&mut self, reason: &str, out: &mut Buffer) -> End {
        self.cut(Kind::Refused, reason, out)
    }

    fn finish(&mut self, out: &mut Buffer) -> End {
        if self.stage != Stage::Idle && !self.said_last {
            Self::say(Kind::Finish, "", out);
            self.said_last = true;
            self.settle();
        }
        End::Stream
    }

    fn reset(&mut self, reason: &str, out: &mut Buffer) -> End {
        match self.stage {
            _ if self.is_broken => End::Connection,
            Stage::Idle => End::Stream,
            // There is one last word; only the end of the connection can take it back.
            _ if self.said_last => End::Connection,
            _ => self.cut(Kind::Reset, reason, out),
        }
    }

    fn is_reusable(&self) -> bool {
        let is_said = self.stage == Stage::Idle || self.said_last;
        is_said && !self.is_over && !self.is_broken
    }

    fn is_idle(&self) -> bool {
        self.stage == Stage::Idle && self.is_reusable()
    }
}

#[cfg(test)]
mod races;
#[cfg(test)]
mod tests;
