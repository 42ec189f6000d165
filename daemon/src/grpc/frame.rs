//! Cuts a stream of bytes into messages, and puts messages into it.

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};

/// Collects bytes until a message is whole. Each is preceded by a flag (compressed or not) and its length.
#[derive(Debug)]
pub struct Messages {
    buffer: BytesMut,
    most: usize,
}

impl Messages {
    /// Takes messages of at most `most` bytes.
    pub fn new(most: usize) -> Self {
        Self {
            buffer: BytesMut::new(),
            most,
        }
    }

    /// Takes in what has arrived.
    pub fn add(&mut self, arrived: &[u8]) {
        self.buffer.extend_from_slice(arrived);
    }

    /// The next whole message, if it has arrived.
    ///
    /// # Errors
    /// When it is compressed, which nobody offered, or too long. The stream is of no use then.
    pub fn take(&mut self) -> Result<Option<Bytes>, FrameError> {
        let Some((head, rest)) = self.buffer.split_first_chunk::<HEAD_BYTES>() else {
            return Ok(None);
        };
        let [flag, length @ ..] = *head;
        if flag != 0 {
            return Err(FrameError::Compressed);
        }
        let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
        if length > self.most {
            return Err(FrameError::TooLong {
                length,
                most: self.most,
            });
        }
        if rest.len() < length {
            return Ok(None);
        }
        self.buffer.advance(HEAD_BYTES);
        Ok(Some(self.buffer.split_to(length).freeze()))
    }

    /// Whether nothing of a message is left over.
    pub fn is_empty(&self) -> bool {
        self.buffer.is_empty()
    }
}

/// `message` as it goes into the stream.
///
/// # Errors
/// When it is longer than a length can say.
pub fn frame(message: &[u8]) -> Result<Bytes, FrameError> {
    let length = u32::try_from(message.len()).map_err(|_| FrameError::TooLong {
        length: message.len(),
        most: usize::try_from(u32::MAX).unwrap_or(usize::MAX),
    })?;
    let mut framed = BytesMut::with_capacity(HEAD_BYTES + message.len());
    framed.put_u8(0);
    framed.put_u32(length);
    framed.extend_from_slice(message);
    Ok(framed.freeze())
}

const HEAD_BYTES: usize = 5;

/// Why a stream holds no messages.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Compression that nobody offered.
    #[error("the message is compressed")]
    Compressed,
    /// More than anybody should have to hold.
    #[error("a message of {length} bytes, more than {most}")]
    TooLong {
        /// Its length.
        length: usize,
        /// The most.
        most: usize,
    },
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        // However the bytes arrive, the same messages come out.
        #[test]
        fn messages_survive_the_stream(
            messages in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..40), 0..8),
            cuts in proptest::collection::vec(1..20_usize, 1..8),
        ) {
            let stream: Vec<u8> = messages.iter().flat_map(|message| frame(message).unwrap()).collect();
            let mut reading = Messages::new(40);
            let mut found = Vec::new();
            let (mut rest, mut cuts) = (stream.as_slice(), cuts.into_iter().cycle());
            while !rest.is_empty() {
                let (now, later) = rest.split_at(cuts.next().unwrap().min(rest.len()));
                reading.add(now);
                rest = later;
                while let Some(message) = reading.take().unwrap() {
                    found.push(message.to_vec());
                }
            }
            prop_assert_eq!(found, messages);
            prop_assert!(reading.is_empty());
        }
    }

    #[test]
    fn what_is_too_long_is_refused_before_it_has_come() {
        let mut reading = Messages::new(10);
        reading.add(&[0, 0, 0, 0, 11]);
        let refused = FrameError::TooLong { length: 11, most: 10 };
        assert_eq!(reading.take(), Err(refused));
    }

    #[test]
    fn compression_is_refused() {
        let mut reading = Messages::new(10);
        reading.add(&[1, 0, 0, 0, 0]);
        assert_eq!(reading.take(), Err(FrameError::Compressed));
    }
}
