//! The few bytes with which a connection begins: what the near end wants of the far one.

use std::io;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// What a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wish {
    /// The near end sends until it is done; the far end says now and then how many bytes have come, as a number of
    /// eight bytes, and at the end how many came in all.
    Upload,
    /// The far end says 0 at once, then [`START_BYTES`] when so many have come, then `size` when so many more have, each
    /// in eight bytes. The near end waits for each, and is done.
    Amount {
        /// The amount that counts, in bytes.
        size: u32,
    },
    /// The far end sends until the near end is done.
    Download,
    /// Each message of that many bytes is sent back.
    Echo {
        /// The size, in bytes.
        size: u32,
    },
}

impl Wish {
    fn bytes(self) -> [u8; LENGTH] {
        let (kind, size) = match self {
            Self::Upload => (b'u', 0),
            Self::Amount { size } => (b'a', size),
            Self::Download => (b'd', 0),
            Self::Echo { size } => (b'e', size),
        };
        let [a, b, c, d] = size.to_be_bytes();
        let [x, y, z] = MAGIC;
        [x, y, z, kind, a, b, c, d]
    }

    fn of(bytes: [u8; LENGTH]) -> Option<Self> {
        let [x, y, z, kind, a, b, c, d] = bytes;
        let size = u32::from_be_bytes([a, b, c, d]);
        match ([x, y, z], kind) {
            (MAGIC, b'u') => Some(Self::Upload),
            (MAGIC, b'a') if size > 0 => Some(Self::Amount { size }),
            (MAGIC, b'd') => Some(Self::Download),
            (MAGIC, b'e') if (1..=MOST_BYTES).contains(&size) => Some(Self::Echo { size }),
            _ => None,
        }
    }

    /// Tells the far end.
    pub(crate) async fn say(self, tcp: &mut TcpStream) -> io::Result<()> {
        tcp.write_all(&self.bytes()).await
    }

    /// Hears what the near end wants.
    pub(crate) async fn hear(tcp: &mut TcpStream) -> io::Result<Self> {
        let mut bytes = [0; LENGTH];
        tcp.read_exact(&mut bytes).await?;
        Self::of(bytes).ok_or_else(|| io::ErrorKind::InvalidData.into())
    }
}

/// What a connection of [`Wish::Amount`] carries before anything counts: the kernels' windows begin at 64 KiB, and grow to
/// several times a proxy's buffer with the first half megabyte, which comes in small pieces until then.
pub(crate) const START_BYTES: u32 = 512 * 1024;

const LENGTH: usize = 8;
const MAGIC: [u8; 3] = *b"flb";

/// The largest message that is sent back.
const MOST_BYTES: u32 = 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_is_what_is_heard() {
        for wish in [
            Wish::Upload,
            Wish::Amount { size: u32::MAX },
            Wish::Download,
            Wish::Echo { size: 1024 },
        ] {
            assert_eq!(Wish::of(wish.bytes()), Some(wish));
        }
    }

    #[test]
    fn somebody_elses_words_are_none() {
        assert_eq!(Wish::of(*b"GET / HT"), None);
        assert_eq!(Wish::of(Wish::Echo { size: 0 }.bytes()), None);
        assert_eq!(Wish::of(Wish::Amount { size: 0 }.bytes()), None);
        let size = MOST_BYTES + 1;
        assert_eq!(Wish::of(Wish::Echo { size }.bytes()), None);
    }
}
