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
    /// When the name is longer than this plain form can tell: 100 bytes, with 155 more before one of its slashes.
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
    let Some((folder, file)) = split(name) else {
        return Err(io::Error::other(format!("the name {name} is too long")));
    };
    let mut put = |at: usize, text: &str| {
        for (to, from) in header.iter_mut().skip(at).zip(text.bytes()) {
            *to = from;
        }
    };
    put(0, file);
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
    put(345, folder);
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    for (to, from) in header.iter_mut().skip(148).zip(format!("{sum:06o}\0 ").bytes()) {
        *to = from;
    }
    Ok(header)
}

/// The name in the two parts that a header has for it, the first of which may be empty.
fn split(name: &str) -> Option<(&str, &str)> {
    if name.len() <= MOST_FILE {
        return Some(("", name));
    }
    let mut slashes = name.match_indices('/');
    slashes.find_map(|(at, _)| {
        let (folder, file) = (name.get(..at)?, name.get(at + 1..)?);
        (folder.len() <= MOST_FOLDER && file.len() <= MOST_FILE).then_some((folder, file))
    })
}

const BLOCK: usize = 512;
const MOST_FILE: usize = 100;
const MOST_FOLDER: usize = 155;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_name_is_told_in_two_parts() {
        assert_eq!(split("about.json"), Some(("", "about.json")));
        let (namespace, pod) = ("n".repeat(63), "p".repeat(70));
        let name = format!("sidecars/{namespace}/{pod}/connections.json");
        let (folder, file) = split(&name).unwrap();
        assert_eq!(format!("{folder}/{file}"), name);
        let header = header(&name, 1, 0).unwrap();
        assert!(header[345..].starts_with(folder.as_bytes()), "{folder}");
        assert_eq!(split(&"x".repeat(101)), None);
    }
}
