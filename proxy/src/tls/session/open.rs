//! Carries the bytes of an open TLS 1.3 connection in records, and answers what TLS itself says meanwhile.
//!
//! rustls makes the handshake and hands over its secrets (`rustls::kernel`); it still computes the keys that follow an
//! update.

use rustls::client::ClientConnectionData;
use rustls::kernel::KernelConnection;
use rustls::server::ServerConnectionData;
use rustls::{
    AlertDescription, ConnectionTrafficSecrets, ContentType, Error, ExtractedSecrets, HandshakeType,
    InvalidMessage, PeerMisbehaved,
};

use super::Progress;
use crate::buffer::Buffer;
use crate::tls::record::{Keys, MOST_CONTENT, Record};

/// A connection after its handshake.
pub(super) struct Open {
    sealing: Keys,
    opening: Keys,
    /// What makes the keys that follow these.
    source: Source,
    /// After how many records our own keys are renewed (RFC 8446 §5.5).
    most_records: u64,
    /// The beginning of a message of TLS itself, whose end is in a record that has not come.
    message: Vec<u8>,
    /// Whether the peer waits for new keys of ours.
    owes_keys: bool,
    /// Whether the peer sends nothing more.
    peer_finished: bool,
    /// Whether we send nothing more.
    finished: bool,
    updates_left: u8,
    warnings_left: u8,
}

/// Where keys come from.
pub(super) enum Source {
    Client(KernelConnection<ClientConnectionData>),
    Server(KernelConnection<ServerConnectionData>),
}

type Renewed = Result<(u64, ConnectionTrafficSecrets), Error>;

impl Source {
    fn renew_sealing(&mut self) -> Renewed {
        match self {
            Self::Client(kernel) => kernel.update_tx_secret(),
            Self::Server(kernel) => kernel.update_tx_secret(),
        }
    }

    fn renew_opening(&mut self) -> Renewed {
        match self {
            Self::Client(kernel) => kernel.update_rx_secret(),
            Self::Server(kernel) => kernel.update_rx_secret(),
        }
    }

    /// How many records one key may protect.
    fn most_records(&self) -> u64 {
        let suite = match self {
            Self::Client(kernel) => kernel.negotiated_cipher_suite(),
            Self::Server(kernel) => kernel.negotiated_cipher_suite(),
        };
        let limit = suite
            .tls13()
            .map_or(0, |suite| suite.common.confidentiality_limit);
        limit.min(MOST_RECORDS)
    }
}

impl Open {
    pub(super) fn new(secrets: &ExtractedSecrets, source: Source) -> Result<Self, Error> {
        let (sealed, sealing) = &secrets.tx;
        let (opened, opening) = &secrets.rx;
        Ok(Self {
            sealing: Keys::new(sealing, *sealed)?,
            opening: Keys::new(opening, *opened)?,
            most_records: source.most_records(),
            source,
            message: Vec::new(),
            owes_keys: false,
            peer_finished: false,
            finished: false,
            updates_left: MOST_UPDATES,
            warnings_left: MOST_WARNINGS,
        })
    }

    /// Takes the whole records that `incoming` begins with; returns how many bytes they are.
    pub(super) fn receive(
        &mut self,
        incoming: &[u8],
        plain: &mut Buffer,
        reply: &mut Buffer,
    ) -> Result<(usize, Progress), Error> {
        let mut used = 0;
        // What follows the end is ignored (RFC 8446 §6.1).
        while !self.peer_finished {
            let rest = incoming.get(used..).unwrap_or_default();
            let taken = Record::first(rest).and_then(|record| match record {
                None => Ok(None),
                Some(record) => self.take(&record, plain).map(|()| Some(record.length())),
            });
            match taken {
                Ok(Some(length)) => used += length,
                Ok(None) => return Ok((used, Progress::Open)),
                Err(error) => {
                    if let Some(alert) = alert(&error) {
                        // A connection whose keys are used up ends without an alert.
                        let _ = self.say(ContentType::Alert, &[FATAL, alert.into()], reply);
                    }
                    self.finished = true;
                    return Err(error);
                }
            }
        }
        Ok((incoming.len(), Progress::PeerFinished))
    }

    fn take(&mut self, record: &Record<'_>, plain: &mut Buffer) -> Result<(), Error> {
        let start = plain.filled().len();
        let kind = self.opening.open(record, plain)?;
        if kind == ContentType::ApplicationData && self.message.is_empty() {
            self.updates_left = MOST_UPDATES;
            return Ok(());
        }
        // What is not the application's never gets to it.
        let said = plain.filled().get(start..).unwrap_or_default().to_vec();
        plain.truncate(start);
        match kind {
            ContentType::Handshake if !said.is_empty() => {
                self.message.extend_from_slice(&said);
                self.take_messages()
            }
            ContentType::Alert if self.message.is_empty() => self.take_alert(&said),
            got_type => Err(Error::InappropriateMessage {
                expect_types: vec![ContentType::ApplicationData, ContentType::Handshake],
                got_type,
            }),
        }
    }

    /// Takes the whole messages that have come (RFC 8446 §4).
    fn take_messages(&mut self) -> Result<(), Error> {
        let mut message = std::mem::take(&mut self.message);
        let mut used = 0;
        while let Some(whole) = first_message(message.get(used..).unwrap_or_default())? {
            used += HEAD_BYTES + whole.body.len();
            match (whole.kind, &mut self.source) {
                (HandshakeType::KeyUpdate, _) => self.take_update(whole.body, used == message.len())?,
                // Nothing of ours resumes, so a ticket is of no use; but it must be one.
                (HandshakeType::NewSessionTicket, Source::Client(kernel)) => {
                    kernel.handle_new_session_ticket(whole.body)?;
                }
                (got_type, _) => {
                    return Err(Error::InappropriateHandshakeMessage {
                        expect_types: vec![HandshakeType::KeyUpdate],
                        got_type,
                    });
                }
            }
        }
        // What is not whole stays where it is, however small the parts are in which it comes.
        message.drain(..used);
        if !message.is_empty() {
            self.message = message;
        }
        Ok(())
    }

    /// The peer has new keys, and may want new ones of ours (RFC 8446 §4.6.3).
    fn take_update(&mut self, body: &[u8], is_last: bool) -> Result<(), Error> {
        let wanted = match body {
            [0] => false,
            [1] => true,
            _ => return Err(InvalidMessage::InvalidKeyUpdate.into()),
        };
        if !is_last {
            return Err(PeerMisbehaved::KeyEpochWithPendingFragment.into());
        }
        let left = self.updates_left.checked_sub(1);
        self.updates_left = left.ok_or(PeerMisbehaved::TooManyKeyUpdateRequests)?;
        let (sequence, secrets) = self.source.renew_opening()?;
        self.opening = Keys::new(&secrets, sequence)?;
        self.owes_keys |= wanted;
        Ok(())
    }

    /// RFC 8446 §6.
    fn take_alert(&mut self, said: &[u8]) -> Result<(), Error> {
        let [level, description] = *said else {
            return Err(InvalidMessage::MessageTooShort.into());
        };
        let description = AlertDescription::from(description);
        match (level, description) {
            (WARNING | FATAL, AlertDescription::CloseNotify) => {
                self.peer_finished = true;
                Ok(())
            }
            // Says nothing by itself: what it announces is a close_notify.
            (WARNING, AlertDescription::UserCanceled) => {
                let left = self.warnings_left.checked_sub(1);
                self.warnings_left = left.ok_or(PeerMisbehaved::TooManyWarningAlertsReceived)?;
                Ok(())
            }
            // Every other one ends the connection, whatever level it claims.
            (_, description) => Err(Error::AlertReceived(description)),
        }
    }

    /// Appends all of `plain` to `out`, in records.
    pub(super) fn seal(&mut self, plain: &[u8], out: &mut Buffer) -> Result<(), Error> {
        for content in plain.chunks(MOST_CONTENT) {
            self.say(ContentType::ApplicationData, content, out)?;
        }
        Ok(())
    }

    /// Appends close_notify to `out`, once.
    pub(super) fn finish(&mut self, out: &mut Buffer) -> Result<(), Error> {
        if self.finished {
            return Ok(());
        }
        let close = [WARNING, AlertDescription::CloseNotify.into()];
        self.say(ContentType::Alert, &close, out)?;
        self.finished = true;
        Ok(())
    }

    /// Appends one record, with new keys before it where they are due.
    fn say(&mut self, kind: ContentType, content: &[u8], out: &mut Buffer) -> Result<(), Error> {
        if self.finished {
            return Err(Error::EncryptError);
        }
        // The record that announces new keys is the last one of the old.
        if self.owes_keys || self.sealing.sequence() >= self.most_records.saturating_sub(1) {
            self.sealing.seal(ContentType::Handshake, &KEY_UPDATE, out)?;
            let (sequence, secrets) = self.source.renew_sealing()?;
            self.sealing = Keys::new(&secrets, sequence)?;
            self.owes_keys = false;
        }
        self.sealing.seal(kind, content, out)
    }

    /// Renews our keys after so many records.
    #[cfg(test)]
    pub(super) const fn renew_after(&mut self, records: u64) {
        self.most_records = records;
    }
}

/// A message of TLS itself.
struct Message<'a> {
    kind: HandshakeType,
    body: &'a [u8],
}

/// The message that `bytes` begin with; none while its end has not come.
fn first_message(bytes: &[u8]) -> Result<Option<Message<'_>>, Error> {
    let Some(([kind, high, middle, low], rest)) = bytes.split_first_chunk::<HEAD_BYTES>() else {
        return Ok(None);
    };
    let length = usize::try_from(u32::from_be_bytes([0, *high, *middle, *low])).unwrap_or(usize::MAX);
    if length > MOST_MESSAGE {
        return Err(InvalidMessage::HandshakePayloadTooLarge.into());
    }
    Ok(rest.get(..length).map(|body| Message {
        kind: HandshakeType::from(*kind),
        body,
    }))
}

/// What a peer is told of its fault; nothing when it was the one who told.
fn alert(error: &Error) -> Option<AlertDescription> {
    Some(match error {
        Error::AlertReceived(_) => return None,
        Error::DecryptError => AlertDescription::BadRecordMac,
        Error::PeerSentOversizedRecord => AlertDescription::RecordOverflow,
        Error::InvalidMessage(InvalidMessage::UnknownProtocolVersion) => AlertDescription::ProtocolVersion,
        Error::InvalidMessage(_) => AlertDescription::DecodeError,
        Error::InappropriateMessage { .. }
        | Error::InappropriateHandshakeMessage { .. }
        | Error::PeerMisbehaved(_) => AlertDescription::UnexpectedMessage,
        _ => AlertDescription::InternalError,
    })
}

/// `KeyUpdate`, which asks for none in return (RFC 8446 §4.6.3).
const KEY_UPDATE: [u8; 5] = [24, 0, 0, 1, 0];

const WARNING: u8 = 1;
const FATAL: u8 = 2;

/// How many records one key protects where the cipher sets no lower limit.
const MOST_RECORDS: u64 = 1 << 48;

/// How often a peer may renew its keys without a byte of the application: as often as rustls lets it.
const MOST_UPDATES: u8 = 32;

/// How many alerts that say nothing are taken: as many as rustls takes.
const MOST_WARNINGS: u8 = 4;

/// A message's kind and length.
const HEAD_BYTES: usize = 4;

/// The longest message after a handshake: that of a ticket (RFC 8446 §4.6.1), and a little more.
const MOST_MESSAGE: usize = 0xffff;
