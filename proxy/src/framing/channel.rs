//! Joins a TLS session with the framing that it carries.

use rustls::Error;

use super::{End, Framing, FramingError, Heard, Opening};
use crate::buffer::Buffer;
use crate::tls::session::{Progress, Session};

/// A TLS connection without its socket, which carries streams of applications.
pub struct Channel {
    session: Session,
    framing: Box<dyn Framing>,
    /// Whether sealed bytes are on their way to the socket: what stops there stops within a record.
    sending: bool,
}

impl Channel {
    /// Carries streams over `session` in `framing`.
    pub const fn new(session: Session, framing: Box<dyn Framing>) -> Self {
        Self {
            session,
            framing,
            sending: false,
        }
    }

    /// The beginning of a record whose end has not come: what is read next belongs behind it.
    pub fn held(&self) -> &[u8] {
        self.session.held()
    }

    /// How many bytes of room a piece for [`seal`](Self::seal) begins with.
    pub fn head(&self) -> usize {
        self.framing.head()
    }

    /// Takes what came from the peer, [`held`](Self::held) with the new bytes behind it; appends the application's
    /// bytes to `text`, which is empty, and what TLS itself has to say to `reply`.
    ///
    /// # Errors
    /// When the peer breaks TLS or the framing.
    pub fn receive(
        &mut self,
        incoming: &mut Buffer,
        text: &mut Buffer,
        reply: &mut Buffer,
    ) -> Result<Heard, ChannelError> {
        let progress = self.session.receive(incoming.filled_mut(), text, reply)?;
        self.unpack(text, progress == Progress::PeerFinished)
    }

    /// As [`receive`](Self::receive), for what was decrypted already.
    ///
    /// # Errors
    /// When the peer breaks the framing.
    pub fn unpack(&mut self, text: &mut Buffer, is_over: bool) -> Result<Heard, ChannelError> {
        Ok(self.framing.unpack(text, is_over)?)
    }

    /// Seals a piece of the application's bytes, which begins with [`head`](Self::head) bytes of room.
    ///
    /// # Errors
    /// When the keys are used up and cannot be renewed.
    pub fn seal(&mut self, piece: &mut Buffer, sealed: &mut Buffer) -> Result<(), Error> {
        self.framing.pack(piece.filled_mut());
        self.session.seal(piece.filled(), sealed)
    }

    /// As [`seal`](Self::seal) and [`finish`](Self::finish), in one record where they fit.
    ///
    /// # Errors
    /// As there.
    pub fn seal_last(&mut self, piece: &mut Buffer, sealed: &mut Buffer) -> Result<End, Error> {
        self.framing.pack(piece.filled_mut());
        let end = self.framing.finish(piece);
        self.session.seal(piece.filled(), sealed)?;
        if end == End::Connection {
            self.session.finish(sealed)?;
        }
        Ok(end)
    }

    /// Whether a stream has to be opened and agreed to.
    pub fn opening(&self) -> Opening {
        self.framing.opening()
    }

    /// Seals what opens a stream, with the application's `first` bytes and the end of them, in one record where they fit.
    ///
    /// # Errors
    /// As [`seal`](Self::seal).
    pub fn open(&mut self, first: First<'_>, sealed: &mut Buffer) -> Result<(), Error> {
        let mut words = Buffer::lent();
        self.framing.open(&mut words);
        self.begin(words, first, sealed)
    }

    /// Seals that the peer's stream is taken, with the application's `first` bytes and the end of them.
    ///
    /// # Errors
    /// As [`seal`](Self::seal).
    pub fn accept(&mut self, first: First<'_>, sealed: &mut Buffer) -> Result<(), Error> {
        let mut words = Buffer::lent();
        self.framing.accept(&mut words);
        self.begin(words, first, sealed)
    }

    fn begin(&mut self, mut words: Buffer, first: First<'_>, sealed: &mut Buffer) -> Result<(), Error> {
        self.more(first, &mut words);
        self.say(&words, sealed)
    }

    /// Seals more of the application's bytes, copied, and the end of them: what comes before the stream is taken.
    ///
    /// # Errors
    /// As [`seal`](Self::seal).
    pub fn go_on(&mut self, more: First<'_>, sealed: &mut Buffer) -> Result<(), Error> {
        let words = Buffer::lent();
        self.begin(words, more, sealed)
    }

    fn more(&mut self, first: First<'_>, words: &mut Buffer) {
        if !first.bytes.is_empty() {
            let from = words.filled().len();
            words.skip(self.framing.head());
            words.push(first.bytes);
            self.framing
                .pack(words.filled_mut().get_mut(from..).unwrap_or_default());
        }
        if first.is_all {
            self.framing.finish(words);
        }
    }

    /// Seals that the peer's stream is not taken, and why.
    ///
    /// # Errors
    /// As [`seal`](Self::seal).
    pub fn refuse(&mut self, reason: &str, sealed: &mut Buffer) -> Result<End, Error> {
        let mut words = Buffer::new();
        let end = self.framing.refuse(reason, &mut words);
        self.say(&words, sealed)?;
        Ok(end)
    }

    /// Seals that we send nothing more: on this stream, or where that ends with it, on this connection.
    ///
    /// # Errors
    /// As [`seal`](Self::seal).
    pub fn finish(&mut self, sealed: &mut Buffer) -> Result<End, Error> {
        let mut words = Buffer::new();
        let end = self.framing.finish(&mut words);
        self.say(&words, sealed)?;
        if end == End::Connection {
            self.session.finish(sealed)?;
        }
        Ok(end)
    }

    /// Seals that the stream is cut. [`End::Connection`] where only a reset of the connection can say that.
    ///
    /// # Errors
    /// As [`seal`](Self::seal).
    pub fn reset(&mut self, reason: &str, sealed: &mut Buffer) -> Result<End, Error> {
        if self.sending {
            return Ok(End::Connection);
        }
        let mut words = Buffer::new();
        let end = self.framing.reset(reason, &mut words);
        self.say(&words, sealed)?;
        Ok(end)
    }

    /// Seals that no stream will be opened or taken any more (close_notify); to be said where none is open.
    ///
    /// # Errors
    /// As [`seal`](Self::seal).
    pub fn leave(&mut self, sealed: &mut Buffer) -> Result<(), Error> {
        self.session.finish(sealed)
    }

    /// Whether another stream may follow on this connection, once the peer is done with the last one.
    pub fn is_reusable(&self) -> bool {
        !self.sending && self.framing.is_reusable()
    }

    /// Whether another stream may be opened on this connection now.
    pub fn is_idle(&self) -> bool {
        !self.sending && self.framing.is_idle()
    }

    /// Notes that sealed bytes are on their way to the socket, or have all gone there.
    pub const fn sending(&mut self, sending: bool) {
        self.sending = sending;
    }

    fn say(&mut self, words: &Buffer, sealed: &mut Buffer) -> Result<(), Error> {
        if words.filled().is_empty() {
            return Ok(());
        }
        self.session.seal(words.filled(), sealed)
    }
}

/// The application's first bytes on a stream.
#[derive(Debug, Clone, Copy, Default)]
pub struct First<'a> {
    /// The bytes; there may be none.
    pub bytes: &'a [u8],
    /// Whether it sends nothing more.
    pub is_all: bool,
}

/// How a peer breaks a connection's protocol.
#[derive(Debug, thiserror::Error)]
pub enum ChannelError {
    /// TLS.
    #[error("the peer broke the TLS protocol")]
    Tls(#[from] Error),
    /// What TLS carries.
    #[error("the peer broke the framing")]
    Framing(#[from] FramingError),
}
