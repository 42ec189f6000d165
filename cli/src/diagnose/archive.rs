//! Writes a tar archive (POSIX.1-1988 ustar), compressed with gzip.

use std::io::{self, Write as _};

use flate2::Compression;
use flate2::write::GzEncoder;

/// An archive that grows.
pub(super) struct Archive {
    out: GzEncoder<Vec<u8>>,
    time: i64,
}

impl Archive {
    /// An archive whose entries are from `time`, in seconds since 1970.
    pub(super) fn new(time: i64) -> Self {
        Self {
            out: GzEncoder::new(Vec::new(), Compression::default()),
            time,
        }
    }

    /// Adds a file for its owner's eyes alone.
    ///
    /// # Errors
    /// When the name has more than 100 bytes, which this plain form cannot tell.
    pub(super) fn add(&mut self, name: &str, content: &[u8]) -> io::Result<()> {
        self.out
            .write_all(&header(name, content.len(), self.time.max(0))?)?;
        self.out.write_all(content)?;
        let rest = content.len() % BLOCK;
        if rest > 0 {
            self.out.write_all(&[0; BLOCK][rest..])?;
        }
        Ok(())
    }

    /// The whole archive.
    ///
    /// # Errors
    /// When compression fails.
    pub(super) fn finish(mut self) -> io::Result<Vec<u8>> {
        self.out.write_all(&[0; 2 * BLOCK])?;
        self.out.finish()
    }
}

fn header(name: &str, size: usize, time: i64) -> io::Result<[u8; BLOCK]> {
    let mut header = [0; BLOCK];
    if name.len() > 100 {
        return Err(io::Error::other(format!("the name {name} is too long")));
    }
    let mut put = |at: usize, text: &str| {
        for (to, from) in header.iter_mut().skip(at).zip(text.bytes()) {
            *to = from;
        }
    };
    put(0, name);
    put(100, "0000600\0");
    put(108, "0000000\0");
    put(116, "0000000\0");
    put(124, &format!("{size:011o}\0"));
    put(136, &format!("{time:011o}\0"));
    // The checksum is taken with blanks in its own place.
    put(148, "        ");
    put(156, "0");
    put(257, "ustar\0");
    put(263, "00");
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    for (to, from) in header.iter_mut().skip(148).zip(format!("{sum:06o}\0 ").bytes()) {
        *to = from;
    }
    Ok(header)
}

const BLOCK: usize = 512;
