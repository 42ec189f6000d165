//! Leads one side through a TLS handshake, to the record that ends it and no further.

use rustls::client::UnbufferedClientConnection;
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{ConnectionState, EncodeError, EncodeTlsData, UnbufferedStatus};
use rustls::{CommonState, Error};

use super::open::{Open, Source};
use crate::buffer::Buffer;
use crate::tls::record::HEADER_BYTES;

/// A connection before the end of its handshake.
pub(super) struct Shaking {
    side: Side,
    /// How many of the bytes that are not used up belong to whole records that rustls has seen.
    shown: usize,
}

pub(super) enum Side {
    Client(UnbufferedClientConnection),
    Server(UnbufferedServerConnection),
}

/// How far a handshake has come.
pub(super) struct Shaken {
    /// How many of the bytes are used up.
    pub(super) used: usize,
    /// Whether the handshake is over; then what follows is the connection's.
    pub(super) over: bool,
}

impl Shaking {
    pub(super) const fn new(side: Side) -> Self {
        Self { side, shown: 0 }
    }

    /// What both sides have agreed on so far.
    pub(super) fn agreed(&self) -> &CommonState {
        match &self.side {
            Side::Client(connection) => connection,
            Side::Server(connection) => connection,
        }
    }

    /// Takes the records of the handshake that `incoming` begins with, one after another: rustls must not see, and
    /// so use up, one that comes after the last of them. Appends the answers to `reply`.
    pub(super) fn receive(&mut self, incoming: &mut [u8], reply: &mut Buffer) -> Result<Shaken, Error> {
        // Up to here rustls may look, and up to here it has whole records.
        let (mut used, mut end, mut whole) = (0, self.shown, self.shown);
        loop {
            let shown = incoming.get_mut(used..end).unwrap_or_default();
            let (discard, step) = self.step(shown, reply);
            used += discard;
            let blocked = match step {
                Ok(step) => step == Step::Blocked,
                Err(error) => {
                    // The alert is one state further on; asking for more than there is would be a mistake.
                    while self.agreed().wants_write() {
                        let shown = incoming.get_mut(used..end).unwrap_or_default();
                        let (discard, step) = self.step(shown, reply);
                        used += discard;
                        if step.is_err() {
                            break;
                        }
                    }
                    return Err(error);
                }
            };
            let agreed = self.agreed();
            if !agreed.is_handshaking() && !agreed.wants_write() {
                return if used == end {
                    Ok(Shaken { used, over: true })
                } else {
                    Err(Error::General(
                        "bytes are left of a handshake that is over".to_owned(),
                    ))
                };
            }
            if blocked {
                if end == incoming.len() {
                    self.shown = whole.saturating_sub(used);
                    return Ok(Shaken { used, over: false });
                }
                let record = first_record(incoming.get(end..).unwrap_or_default());
                // Less than a record is shown, too: what is none is then refused at once.
                end = record.map_or(incoming.len(), |length| end + length);
                if record.is_some() {
                    whole = end;
                }
            }
        }
    }

    fn step(&mut self, bytes: &mut [u8], reply: &mut Buffer) -> (usize, Result<Step, Error>) {
        match &mut self.side {
            Side::Client(connection) => handle(connection.process_tls_records(bytes), reply),
            Side::Server(connection) => handle(connection.process_tls_records(bytes), reply),
        }
    }

    /// The connection behind the handshake, which is over.
    pub(super) fn open(self) -> Result<Open, Error> {
        match self.side {
            Side::Client(connection) => {
                let (secrets, kernel) = connection.dangerous_into_kernel_connection()?;
                Open::new(&secrets, Source::Client(kernel))
            }
            Side::Server(connection) => {
                let (secrets, kernel) = connection.dangerous_into_kernel_connection()?;
                Open::new(&secrets, Source::Server(kernel))
            }
        }
    }
}

/// The length of the record that `bytes` begin with, if all of it is there.
fn first_record(bytes: &[u8]) -> Option<usize> {
    let ([_, _, _, high, low], rest) = bytes.split_first_chunk()?;
    let length = usize::from(u16::from_be_bytes([*high, *low]));
    (rest.len() >= length).then_some(HEADER_BYTES + length)
}

/// What came of one state of a handshake.
#[derive(PartialEq, Eq)]
enum Step {
    Again,
    Blocked,
}

/// Handles one state; returns with it how many bytes of the input are used up.
fn handle<Data>(status: UnbufferedStatus<'_, '_, Data>, reply: &mut Buffer) -> (usize, Result<Step, Error>) {
    let step = match status.state {
        Err(error) => Err(error),
        Ok(ConnectionState::EncodeTlsData(data)) => encode(data, reply).map(|()| Step::Again),
        Ok(ConnectionState::TransmitTlsData(data)) => {
            // It is in `reply`, which the caller sends before anything else.
            data.done();
            Ok(Step::Again)
        }
        Ok(ConnectionState::BlockedHandshake | ConnectionState::WriteTraffic(_)) => Ok(Step::Blocked),
        // No configuration of ours accepts early data, and nothing behind the handshake is shown.
        Ok(_) => Err(Error::General("a TLS state that is never asked for".to_owned())),
    };
    (status.discard, step)
}

/// Lets rustls write behind what `out` holds, with as much room as it asks for.
fn encode<Data>(mut data: EncodeTlsData<'_, Data>, out: &mut Buffer) -> Result<(), Error> {
    let mut least = 0;
    loop {
        match data.encode(out.room(least)) {
            Ok(count) => {
                out.advance(count);
                return Ok(());
            }
            Err(EncodeError::InsufficientSize(size)) => least = size.required_size,
            Err(error @ EncodeError::AlreadyEncoded) => return Err(Error::General(error.to_string())),
        }
    }
}
