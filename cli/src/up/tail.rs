//! Follows files that others add lines to.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::PathBuf;

/// A file, and how far it has been read.
#[derive(Debug)]
pub(super) struct Tail {
    path: PathBuf,
    file: Option<File>,
    read: u64,
    /// A line that has no end yet.
    begun: Vec<u8>,
}

impl Tail {
    /// Follows `path`, which need not be there yet, from its present end on.
    pub(super) fn from_end(path: PathBuf) -> Self {
        let read = std::fs::metadata(&path).map_or(0, |data| data.len());
        Self {
            path,
            file: None,
            read,
            begun: Vec::new(),
        }
    }

    /// The whole lines that have been added since the last call, half a mebibyte at most; what is no UTF-8 is
    /// replaced, and lines beyond 64 KiB are cut.
    ///
    /// # Errors
    /// When the file is there and cannot be read.
    pub(super) fn lines(&mut self) -> io::Result<Vec<String>> {
        let file = match &mut self.file {
            Some(file) => file,
            empty => match File::open(&self.path) {
                Ok(file) => empty.insert(file),
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
                Err(error) => return Err(error),
            },
        };
        if file.metadata()?.len() <= self.read {
            return Ok(Vec::new());
        }
        file.seek(SeekFrom::Start(self.read))?;
        let mut bytes = Vec::new();
        let read = file.take(AT_ONCE).read_to_end(&mut bytes)?;
        self.read += u64::try_from(read).unwrap_or(u64::MAX);
        let mut lines = Vec::new();
        for byte in bytes {
            if byte == b'\n' {
                lines.push(String::from_utf8_lossy(&self.begun).into_owned());
                self.begun.clear();
            } else if self.begun.len() < LONGEST {
                self.begun.push(byte);
            }
        }
        Ok(lines)
    }
}

const AT_ONCE: u64 = 512 * 1024;

const LONGEST: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write as _;

    use super::*;

    #[test]
    fn whole_lines_come_once_and_what_was_there_before_never() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let mut early = Tail::from_end(path.clone());
        assert!(early.lines().unwrap().is_empty());
        fs::write(&path, "old\n").unwrap();
        let mut late = Tail::from_end(path.clone());
        let mut file = fs::OpenOptions::new().append(true).open(&path).unwrap();
        file.write_all(b"new\nhalf").unwrap();
        assert_eq!(early.lines().unwrap(), ["old", "new"]);
        assert_eq!(late.lines().unwrap(), ["new"]);
        file.write_all(b" a line\n").unwrap();
        assert_eq!(late.lines().unwrap(), ["half a line"]);
        assert!(late.lines().unwrap().is_empty());
    }
}
