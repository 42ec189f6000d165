//! Turns records into bytes, bytes into records: one TLS connection without its socket.
//!
//! The handshake is rustls' own (its unbuffered connections, which keep no buffers); the records after it are
//! [`record`](super::record)'s. What arrives is decrypted from the caller's buffer into another of the caller's, and
//! what leaves likewise, so a connection on which nothing happens owns neither.

mod open;
mod shaking;

use rustls::client::UnbufferedClientConnection;
use rustls::server::UnbufferedServerConnection;
use rustls::{CipherSuite, CommonState, Error, NamedGroup, ProtocolVersion};

use crate::buffer::Buffer;
use open::Open;
use shaking::{Shaking, Side};

/// One TLS connection, of either side, from its first byte to its last.
pub struct Session {
    stage: Stage,
    /// The beginning of a record whose end has not come.
    held: Vec<u8>,
}

enum Stage {
    Shaking(Box<Shaking>),
    Open {
        open: Box<Open>,
        terms: Option<Box<Terms>>,
    },
    /// It failed.
    Broken,
}

/// What both sides of a handshake have agreed on.
#[derive(Debug)]
pub struct Terms {
    /// The version of TLS.
    pub version: Option<ProtocolVersion>,
    /// The key exchange.
    pub group: Option<NamedGroup>,
    /// The cipher.
    pub cipher: Option<CipherSuite>,
    /// The application's protocol (RFC 7301).
    pub protocol: Option<Vec<u8>>,
}

/// How far a session has come once everything that it was given is used up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// In the handshake, and needs more from the peer.
    Handshake,
    /// Open: bytes may go both ways.
    Open,
    /// The peer has said that it sends nothing more (close_notify); we still may.
    PeerFinished,
}

impl Session {
    /// The side that dialled. Its settings must let secrets be extracted (`enable_secret_extraction`).
    pub fn client(connection: UnbufferedClientConnection) -> Self {
        Self::new(Side::Client(connection))
    }

    /// The side that was dialled. Its settings must let secrets be extracted (`enable_secret_extraction`).
    pub fn server(connection: UnbufferedServerConnection) -> Self {
        Self::new(Side::Server(connection))
    }

    fn new(side: Side) -> Self {
        Self {
            stage: Stage::Shaking(Box::new(Shaking::new(side))),
            held: Vec::new(),
        }
    }

    /// Whether the handshake is still under way.
    pub const fn is_handshaking(&self) -> bool {
        matches!(self.stage, Stage::Shaking(_))
    }

    /// Takes what both sides agreed on; there once the session is open, once.
    pub const fn take_terms(&mut self) -> Option<Box<Terms>> {
        match &mut self.stage {
            Stage::Open { terms, .. } => terms.take(),
            Stage::Shaking(_) | Stage::Broken => None,
        }
    }

    /// The beginning of a record that came with the last bytes; the next bytes belong behind it. Shorter than
    /// the longest record: 16,640 bytes (RFC 8446 §5.2), or 64 KiB of handshake.
    pub fn held(&self) -> &[u8] {
        &self.held
    }

    /// Takes what came from the peer: `incoming` is [`held`](Self::held) with the new bytes behind it. Appends
    /// the application's bytes to `plain`, and to `reply` what TLS itself has to say (handshake messages, alerts):
    /// it must be sent before anything that is sealed later. Holds what is not a whole record.
    ///
    /// Call it with nothing at the start, too: a client speaks first.
    ///
    /// # Errors
    /// When the peer breaks the protocol or is refused. `reply` then ends with the alert that says so; send it,
    /// and use the session no more.
    pub fn receive(
        &mut self,
        incoming: &mut [u8],
        plain: &mut Buffer,
        reply: &mut Buffer,
    ) -> Result<Progress, Error> {
        let received = self.take(incoming, plain, reply);
        if received.is_err() {
            // rustls remembers places in bytes that are gone now.
            self.stage = Stage::Broken;
        }
        received
    }

    fn take(
        &mut self,
        incoming: &mut [u8],
        plain: &mut Buffer,
        reply: &mut Buffer,
    ) -> Result<Progress, Error> {
        let mut used = 0;
        if let Stage::Shaking(shaking) = &mut self.stage {
            let shaken = shaking.receive(incoming, reply)?;
            used = shaken.used;
            if !shaken.over {
                self.hold(incoming.get(used..).unwrap_or_default());
                return Ok(Progress::Handshake);
            }
            self.open()?;
        }
        let Stage::Open { open, .. } = &mut self.stage else {
            return Err(Error::HandshakeNotComplete);
        };
        let rest = incoming.get(used..).unwrap_or_default();
        let (taken, progress) = open.receive(rest, plain, reply)?;
        self.hold(rest.get(taken..).unwrap_or_default());
        Ok(progress)
    }

    /// The handshake is over: its secrets go where its records will be.
    fn open(&mut self) -> Result<(), Error> {
        let Stage::Shaking(shaking) = std::mem::replace(&mut self.stage, Stage::Broken) else {
            return Err(Error::HandshakeNotComplete);
        };
        let terms = Some(Box::new(Terms::of(shaking.agreed())));
        let open = Box::new(shaking.open()?);
        self.stage = Stage::Open { open, terms };
        Ok(())
    }

    fn hold(&mut self, rest: &[u8]) {
        if rest.is_empty() {
            // An idle connection owns no memory for records.
            self.held = Vec::new();
        } else {
            self.held.clear();
            self.held.extend_from_slice(rest);
        }
    }

    /// Encrypts all of `plain` into records behind `out`.
    ///
    /// # Errors
    /// Before the handshake is over, after [`finish`](Self::finish), or when the keys are used up and cannot be
    /// renewed.
    pub fn seal(&mut self, plain: &[u8], out: &mut Buffer) -> Result<(), Error> {
        self.opened()?.seal(plain, out)
    }

    /// Says that nothing more will be sent (close_notify, RFC 8446 §6.1). Receiving goes on.
    ///
    /// # Errors
    /// Before the handshake is over.
    pub fn finish(&mut self, out: &mut Buffer) -> Result<(), Error> {
        self.opened()?.finish(out)
    }

    fn opened(&mut self) -> Result<&mut Open, Error> {
        match &mut self.stage {
            Stage::Open { open, .. } => Ok(open),
            Stage::Shaking(_) => Err(Error::HandshakeNotComplete),
            Stage::Broken => Err(Error::EncryptError),
        }
    }
}

impl Terms {
    fn of(state: &CommonState) -> Self {
        Self {
            version: state.protocol_version(),
            group: state.negotiated_key_exchange_group().map(|group| group.name()),
            cipher: state.negotiated_cipher_suite().map(|suite| suite.suite()),
            protocol: state.alpn_protocol().map(<[u8]>::to_vec),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
