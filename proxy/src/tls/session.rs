//! Turns records into bytes, bytes into records: one TLS connection without its socket.
//!
//! Built on rustls' unbuffered connections, which keep no buffers of their own: what arrives is decrypted from the
//! caller's buffer, what leaves is encrypted into the caller's, and a connection on which nothing happens owns
//! neither.

use rustls::client::UnbufferedClientConnection;
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{
    ConnectionState, EncodeError, EncodeTlsData, EncryptError, InsufficientSizeError, UnbufferedStatus,
};
use rustls::{CommonState, Error};

use crate::buffer::Buffer;

/// One TLS connection, of either side, from its first byte to its last.
pub struct Session {
    side: Side,
    /// The beginning of a record whose end has not come. rustls remembers places in it, so it is shown to rustls
    /// at every call, those that only write included.
    held: Vec<u8>,
}

enum Side {
    Client(Box<UnbufferedClientConnection>),
    Server(Box<UnbufferedServerConnection>),
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
    /// The side that dialled.
    pub fn client(connection: UnbufferedClientConnection) -> Self {
        Self::new(Side::Client(Box::new(connection)))
    }

    /// The side that was dialled.
    pub fn server(connection: UnbufferedServerConnection) -> Self {
        Self::new(Side::Server(Box::new(connection)))
    }

    const fn new(side: Side) -> Self {
        let held = Vec::new();
        Self { side, held }
    }

    /// What both sides agreed on, for logs: version, key exchange, cipher, the peer's certificates.
    pub fn agreed(&self) -> &CommonState {
        match &self.side {
            Side::Client(connection) => connection,
            Side::Server(connection) => connection,
        }
    }

    /// The beginning of a record that came with the last bytes; the next bytes belong behind it. Shorter than
    /// the longest record: 16,640 bytes (RFC 8446 §5.2), or 64 KiB of handshake.
    pub fn held(&self) -> &[u8] {
        &self.held
    }

    /// Takes what came from the peer: `incoming` is [`held`](Self::held) with the new bytes behind it. Appends
    /// the application's bytes to `plain`, and to `reply` what TLS itself has to say (handshake messages, key
    /// updates): it must be sent before anything that is sealed later. Holds what is not a whole record.
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
        let mut used = 0;
        let mut finished = false;
        loop {
            let (discard, step) = self.step(incoming.get_mut(used..).unwrap_or_default(), plain, reply);
            used += discard;
            match step {
                Ok(Step::Again) => {}
                Ok(Step::PeerFinished) => finished = true,
                Ok(Step::UsedUp(progress)) => {
                    self.hold(incoming.get(used..).unwrap_or_default());
                    return Ok(if finished {
                        Progress::PeerFinished
                    } else {
                        progress
                    });
                }
                Err(error) => {
                    // The alert is one state further on; asking for more than there is would be a mistake.
                    while self.agreed().wants_write() {
                        let (_, step) = self.step(incoming.get_mut(used..).unwrap_or_default(), plain, reply);
                        if step.is_err() {
                            break;
                        }
                    }
                    return Err(error);
                }
            }
        }
    }

    fn step(
        &mut self,
        bytes: &mut [u8],
        plain: &mut Buffer,
        reply: &mut Buffer,
    ) -> (usize, Result<Step, Error>) {
        match &mut self.side {
            Side::Client(connection) => handle(connection.process_tls_records(bytes), plain, reply),
            Side::Server(connection) => handle(connection.process_tls_records(bytes), plain, reply),
        }
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
    /// Before the handshake is over, or when the keys are used up and cannot be renewed.
    pub fn seal(&mut self, plain: &[u8], out: &mut Buffer) -> Result<(), Error> {
        self.write(out, Write::Records(plain))
    }

    /// Says that nothing more will be sent (close_notify, RFC 8446 §6.1). Receiving goes on.
    ///
    /// # Errors
    /// Before the handshake is over.
    pub fn finish(&mut self, out: &mut Buffer) -> Result<(), Error> {
        self.write(out, Write::Finish)
    }

    fn write(&mut self, out: &mut Buffer, what: Write<'_>) -> Result<(), Error> {
        loop {
            let done = match &mut self.side {
                Side::Client(connection) => {
                    written(connection.process_tls_records(&mut self.held), out, what)
                }
                Side::Server(connection) => {
                    written(connection.process_tls_records(&mut self.held), out, what)
                }
            };
            if done? {
                return Ok(());
            }
        }
    }
}

/// What came of one state of a connection.
enum Step {
    Again,
    PeerFinished,
    UsedUp(Progress),
}

/// Handles one state; returns with it how many bytes of the input are used up.
fn handle<Data>(
    status: UnbufferedStatus<'_, '_, Data>,
    plain: &mut Buffer,
    reply: &mut Buffer,
) -> (usize, Result<Step, Error>) {
    let mut discard = status.discard;
    let step = match status.state {
        Err(error) => Err(error),
        Ok(ConnectionState::ReadTraffic(mut traffic)) => loop {
            match traffic.next_record() {
                None => break Ok(Step::Again),
                Some(Ok(record)) => {
                    discard += record.discard;
                    plain.push(record.payload);
                }
                Some(Err(error)) => break Err(error),
            }
        },
        Ok(ConnectionState::EncodeTlsData(data)) => encode(data, reply).map(|()| Step::Again),
        Ok(ConnectionState::TransmitTlsData(data)) => {
            // It is in `reply`, which the caller sends before anything else.
            data.done();
            Ok(Step::Again)
        }
        Ok(ConnectionState::BlockedHandshake) => Ok(Step::UsedUp(Progress::Handshake)),
        Ok(ConnectionState::WriteTraffic(_)) => Ok(Step::UsedUp(Progress::Open)),
        Ok(ConnectionState::PeerClosed) => Ok(Step::PeerFinished),
        Ok(ConnectionState::Closed) => Ok(Step::UsedUp(Progress::PeerFinished)),
        // No configuration of ours accepts early data.
        Ok(_) => Err(Error::General("a TLS state that is never asked for".to_owned())),
    };
    (discard, step)
}

/// Handles one state on the way to writing; true once `what` is written.
fn written<Data>(
    status: UnbufferedStatus<'_, '_, Data>,
    out: &mut Buffer,
    what: Write<'_>,
) -> Result<bool, Error> {
    match status.state? {
        ConnectionState::WriteTraffic(mut traffic) => append(out, |room| {
            Ok(match what {
                Write::Records(plain) => traffic.encrypt(plain, room)?,
                Write::Finish => traffic.queue_close_notify(room)?,
            })
        })
        .map(|()| true),
        ConnectionState::EncodeTlsData(data) => encode(data, out).map(|()| false),
        ConnectionState::TransmitTlsData(data) => {
            data.done();
            Ok(false)
        }
        ConnectionState::PeerClosed => Ok(false),
        // Both sides have finished: there is nobody to write to, and nothing to say.
        ConnectionState::Closed => Ok(true),
        _ => Err(Error::HandshakeNotComplete),
    }
}

fn encode<Data>(mut data: EncodeTlsData<'_, Data>, out: &mut Buffer) -> Result<(), Error> {
    append(out, |room| {
        data.encode(room).map_err(|error| match error {
            EncodeError::InsufficientSize(size) => WriteError::Room(size),
            EncodeError::AlreadyEncoded => WriteError::Failed(Error::General(error.to_string())),
        })
    })
}

/// Lets `write` fill room behind what `out` holds, with as much room as it asks for.
fn append(
    out: &mut Buffer,
    mut write: impl FnMut(&mut [u8]) -> Result<usize, WriteError>,
) -> Result<(), Error> {
    let mut least = 0;
    loop {
        match write(out.room(least)) {
            Ok(count) => {
                out.advance(count);
                return Ok(());
            }
            Err(WriteError::Room(size)) => least = size.required_size,
            Err(WriteError::Failed(error)) => return Err(error),
        }
    }
}

/// What is written once the connection is open.
#[derive(Clone, Copy)]
enum Write<'a> {
    Records(&'a [u8]),
    Finish,
}

enum WriteError {
    Room(InsufficientSizeError),
    Failed(Error),
}

impl From<EncryptError> for WriteError {
    fn from(error: EncryptError) -> Self {
        match error {
            EncryptError::InsufficientSize(size) => Self::Room(size),
            EncryptError::EncryptExhausted => Self::Failed(Error::EncryptError),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
