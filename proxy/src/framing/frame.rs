//! Reads and writes the heads of frames of `ferrule/1`.

use super::FramingError;

/// The bytes of a head: its kind, and how many bytes follow, the highest first.
pub const HEAD: usize = 4;

/// The most bytes of the application in one frame. A longer run of them is several frames.
pub const MOST_DATA: usize = 1024 * 1024;

/// The most bytes of a word for why.
pub const MOST_REASON: usize = 64;

/// What a frame is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Opens a stream. The dialling side's; nothing follows.
    Open,
    /// Takes the stream. The dialled side's; nothing follows.
    Accepted,
    /// Does not take the stream. The dialled side's, its last word on it; the reason follows.
    Refused,
    /// The application's bytes follow, at least one.
    Data,
    /// Says that this side sends nothing more: its last word on the stream. Nothing follows.
    Finish,
    /// Cuts the stream in both directions: this side's last word on it. A reason may follow.
    Reset,
}

/// The head of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// What it is.
    pub kind: Kind,
    /// How many bytes follow.
    pub length: usize,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Open,
        Self::Accepted,
        Self::Refused,
        Self::Data,
        Self::Finish,
        Self::Reset,
    ];

    /// Its byte on the wire.
    pub const fn byte(self) -> u8 {
        match self {
            Self::Open => 1,
            Self::Accepted => 2,
            Self::Refused => 3,
            Self::Data => 4,
            Self::Finish => 5,
            Self::Reset => 6,
        }
    }

    /// The word for it in errors.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Accepted => "accepted",
            Self::Refused => "refused",
            Self::Data => "data",
            Self::Finish => "finish",
            Self::Reset => "reset",
        }
    }

    /// How many bytes may follow.
    const fn lengths(self) -> (usize, usize) {
        match self {
            Self::Open | Self::Accepted | Self::Finish => (0, 0),
            Self::Refused => (1, MOST_REASON),
            Self::Data => (1, MOST_DATA),
            Self::Reset => (0, MOST_REASON),
        }
    }
}

impl Head {
    /// Reads a head.
    ///
    /// # Errors
    /// When there is no such kind, or none of that length.
    pub fn read(bytes: [u8; HEAD]) -> Result<Self, FramingError> {
        let [first, high, middle, low] = bytes;
        let kind = Kind::ALL.into_iter().find(|kind| kind.byte() == first);
        let kind = kind.ok_or(FramingError::UnknownKind { byte: first })?;
        let length = (usize::from(high) << 16) | (usize::from(middle) << 8) | usize::from(low);
        let (least, most) = kind.lengths();
        if length < least || length > most {
            return Err(FramingError::Length {
                what: kind.word(),
                length,
            });
        }
        Ok(Self { kind, length })
    }

    /// Writes it. What is longer than a frame may be is cut off, which no caller asks for.
    pub fn write(self) -> [u8; HEAD] {
        let (_, most) = self.kind.lengths();
        // Three bytes: no kind is allowed more.
        let length = u32::try_from(self.length.min(most)).unwrap_or_default();
        let [_, high, middle, low] = length.to_be_bytes();
        [self.kind.byte(), high, middle, low]
    }
}

/// Reads the word for why: small letters, digits and `_`, as words of metrics and logs are.
///
/// # Errors
/// When it is something else.
pub fn read_reason(bytes: &[u8]) -> Result<&str, FramingError> {
    let is_fine = |byte: &u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_');
    match std::str::from_utf8(bytes) {
        Ok(reason) if bytes.iter().all(is_fine) => Ok(reason),
        _ => Err(FramingError::Reason),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_are_read_as_they_were_written() {
        for kind in Kind::ALL {
            let (least, most) = kind.lengths();
            for length in [least, least.midpoint(most), most] {
                let head = Head { kind, length };
                assert_eq!(Head::read(head.write()), Ok(head));
            }
        }
        let data = Head {
            kind: Kind::Data,
            length: 0x01_02_03,
        };
        assert_eq!(data.write(), [4, 1, 2, 3]);
    }

    #[test]
    fn heads_of_other_kinds_and_lengths_are_refused() {
        for byte in [0, 7, 22, 255] {
            let unknown = Err(FramingError::UnknownKind { byte });
            assert_eq!(Head::read([byte, 0, 0, 0]), unknown);
        }
        let wrong: [([u8; 4], &str, usize); 7] = [
            ([1, 0, 0, 1], "open", 1),
            ([2, 0, 0, 1], "accepted", 1),
            ([3, 0, 0, 0], "refused", 0),
            ([3, 0, 0, 65], "refused", 65),
            ([4, 0, 0, 0], "data", 0),
            ([4, 16, 0, 1], "data", MOST_DATA + 1),
            ([6, 0, 0, 65], "reset", 65),
        ];
        for (bytes, what, length) in wrong {
            assert_eq!(Head::read(bytes), Err(FramingError::Length { what, length }));
        }
    }

    #[test]
    fn reasons_are_words() {
        assert_eq!(read_reason(b"not_ready"), Ok("not_ready"));
        assert_eq!(read_reason(b""), Ok(""));
        for wrong in [&b"Denied"[..], b"not ready", b"a\n", b"\xff", "é".as_bytes()] {
            assert_eq!(read_reason(wrong), Err(FramingError::Reason));
        }
    }
}
