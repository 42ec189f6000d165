//! Protects records of TLS 1.3 in one direction: bytes into records, records into bytes (RFC 8446 §5).

use aws_lc_rs::aead::{
    AES_128_GCM, AES_256_GCM, Aad, Algorithm, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey,
};
use rustls::{ConnectionTrafficSecrets, ContentType, Error};

use crate::buffer::Buffer;

/// The keys of one direction, and how many records they have protected.
pub struct Keys {
    key: LessSafeKey,
    iv: [u8; NONCE_BYTES],
    /// The number of the next record. Never used twice with one key, and never turned round (RFC 8446 §5.3).
    sequence: u64,
}

impl Keys {
    /// The keys that a handshake, or a key update, came to; the next record has the number `sequence`.
    ///
    /// # Errors
    /// When the keys are of a cipher that is never offered.
    pub fn new(secrets: &ConnectionTrafficSecrets, sequence: u64) -> Result<Self, Error> {
        let (algorithm, key, iv) = match secrets {
            ConnectionTrafficSecrets::Aes128Gcm { key, iv } => (&AES_128_GCM, key, iv),
            ConnectionTrafficSecrets::Aes256Gcm { key, iv } => (&AES_256_GCM, key, iv),
            ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv } => (&CHACHA20_POLY1305, key, iv),
            _ => {
                return Err(Error::General(
                    "keys of a cipher that is never offered".to_owned(),
                ));
            }
        };
        Self::from_parts(algorithm, key.as_ref(), iv.as_ref(), sequence)
    }

    fn from_parts(
        algorithm: &'static Algorithm,
        key: &[u8],
        iv: &[u8],
        sequence: u64,
    ) -> Result<Self, Error> {
        let unfit = || Error::General("keys that do not fit their cipher".to_owned());
        Ok(Self {
            key: LessSafeKey::new(UnboundKey::new(algorithm, key).map_err(|_| unfit())?),
            iv: iv.try_into().map_err(|_| unfit())?,
            sequence,
        })
    }

    /// How many records these keys have protected.
    pub const fn sequence(&self) -> u64 {
        self.sequence
    }

    /// The nonce of the next record, which is counted (RFC 8446 §5.3); none when the numbers are used up.
    fn next(&mut self) -> Option<Nonce> {
        let mut nonce = self.iv;
        for (byte, number) in nonce.iter_mut().rev().zip(self.sequence.to_le_bytes()) {
            *byte ^= number;
        }
        self.sequence = self.sequence.checked_add(1)?;
        Some(Nonce::assume_unique_for_key(nonce))
    }

    /// Appends to `out` one record of `kind` with `content`, [`MOST_CONTENT`] bytes at most.
    ///
    /// # Errors
    /// When the content is too long, or the numbers of records are used up.
    pub fn seal(&mut self, kind: ContentType, content: &[u8], out: &mut Buffer) -> Result<(), Error> {
        if content.len() > MOST_CONTENT {
            return Err(Error::EncryptError);
        }
        let payload = content.len() + TAIL_BYTES;
        let header = header(payload)?;
        let nonce = self.next().ok_or(Error::EncryptError)?;
        let record = out.room(HEADER_BYTES + payload).get_mut(..HEADER_BYTES + payload);
        let (front, rest) = record.ok_or(Error::EncryptError)?.split_at_mut(HEADER_BYTES);
        let (sealed, tail) = rest.split_at_mut(content.len());
        front.copy_from_slice(&header);
        // From one buffer into the other: no copy besides.
        let sealing = self.key.seal_out_of_place_scatter(
            nonce,
            Aad::from(header),
            content,
            sealed,
            &[kind.into()],
            tail,
        );
        sealing.map_err(|_| Error::EncryptError)?;
        out.advance(HEADER_BYTES + payload);
        Ok(())
    }

    /// Appends to `text` the content of a record; returns its kind.
    ///
    /// # Errors
    /// When it is not what the peer sealed next, or holds nothing that has a kind. `text` is then as it was.
    pub fn open(&mut self, record: &Record<'_>, text: &mut Buffer) -> Result<ContentType, Error> {
        let nonce = self.next().ok_or(Error::DecryptError)?;
        let Record { header, payload } = *record;
        let split = payload.len().checked_sub(TAG_BYTES);
        let (sealed, tag) = split
            .and_then(|at| payload.split_at_checked(at))
            .ok_or(Error::DecryptError)?;
        let room = text.room(sealed.len()).get_mut(..sealed.len());
        let opened = room.ok_or(Error::DecryptError)?;
        self.key
            .open_separate_gather(nonce, Aad::from(header), sealed, tag, opened)
            .map_err(|_| Error::DecryptError)?;
        // The kind stands behind the content, before as many zeros as the sender liked (RFC 8446 §5.4).
        let last = opened.iter().rposition(|byte| *byte != 0);
        let length = last.ok_or(Error::PeerMisbehaved(
            rustls::PeerMisbehaved::IllegalTlsInnerPlaintext,
        ))?;
        if opened.len() > MOST_CONTENT + 1 {
            return Err(Error::PeerSentOversizedRecord);
        }
        let kind = opened.get(length).copied().unwrap_or_default();
        text.advance(length);
        Ok(ContentType::from(kind))
    }
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Keys([redacted], {})", self.sequence)
    }
}

fn header(payload: usize) -> Result<[u8; HEADER_BYTES], Error> {
    let [high, low] = u16::try_from(payload)
        .map_err(|_| Error::EncryptError)?
        .to_be_bytes();
    Ok([APPLICATION_DATA, 3, 3, high, low])
}

/// One protected record, as it came.
#[derive(Debug, Clone, Copy)]
pub struct Record<'a> {
    header: [u8; HEADER_BYTES],
    payload: &'a [u8],
}

impl<'a> Record<'a> {
    /// The record that `bytes` begin with; none while its end has not come.
    ///
    /// # Errors
    /// As soon as the first bytes show that it is none of TLS 1.3's protected records, or longer than one may be.
    pub fn first(bytes: &'a [u8]) -> Result<Option<Self>, Error> {
        let Some((header, rest)) = bytes.split_first_chunk() else {
            return Ok(None);
        };
        let [kind, major, minor, high, low] = *header;
        if kind != APPLICATION_DATA {
            return Err(Error::InappropriateMessage {
                expect_types: vec![ContentType::ApplicationData],
                got_type: ContentType::from(kind),
            });
        }
        if (major, minor) != (3, 3) {
            return Err(rustls::InvalidMessage::UnknownProtocolVersion.into());
        }
        let length = usize::from(u16::from_be_bytes([high, low]));
        if length > MOST_PAYLOAD {
            return Err(Error::PeerSentOversizedRecord);
        }
        let record = rest.get(..length).map(|payload| Self {
            header: *header,
            payload,
        });
        Ok(record)
    }

    /// How many bytes it is long, header included.
    pub const fn length(&self) -> usize {
        HEADER_BYTES + self.payload.len()
    }
}

/// The most bytes that one record carries (RFC 8446 §5.1).
pub const MOST_CONTENT: usize = 16 * 1024;

/// The longest payload of a protected record that is taken (RFC 8446 §5.2).
const MOST_PAYLOAD: usize = MOST_CONTENT + 256;

/// The length of a record's header.
pub const HEADER_BYTES: usize = 5;

const NONCE_BYTES: usize = 12;
const TAG_BYTES: usize = 16;
/// What stands behind the content: its kind, and the tag.
const TAIL_BYTES: usize = 1 + TAG_BYTES;
/// What every protected record claims to be.
const APPLICATION_DATA: u8 = 23;

#[cfg(test)]
mod tests;
