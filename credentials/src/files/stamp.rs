//! Tells from the marks that the system keeps of files whether they may have changed.

use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

/// The marks of one file, or of what a link of that name leads to: a swapped link leads to another inode, and every
/// write sets the change time, which no program can set back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    /// The marks as they are now.
    pub(super) fn of(path: &Path) -> io::Result<Self> {
        let metadata = std::fs::metadata(path)?;
        Ok(Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        })
    }
}

/// Remembers the marks of the last looks, and says when nothing needs to be read.
#[derive(Debug, Default)]
pub(super) struct Watched {
    stamps: Vec<Stamp>,
    /// How often the files have been read with these marks.
    reads: u32,
    /// How many looks ago they were read.
    looks: u32,
}

impl Watched {
    /// Whether files with these marks have to be read.
    ///
    /// A kernel's clock moves in steps, so two writes within one step leave the same marks, and one reading may fall
    /// between them. What is read once more at a later look, with the marks still the same, is what was written last.
    /// File systems of other machines may show marks late: all is read now and then.
    pub(super) fn is_due(&mut self, stamps: Vec<Stamp>) -> bool {
        if self.stamps != stamps {
            *self = Self {
                stamps,
                reads: 1,
                looks: 0,
            };
            return true;
        }
        self.looks += 1;
        if self.reads >= READS && self.looks < LOOKS {
            return false;
        }
        self.reads = self.reads.saturating_add(1);
        self.looks = 0;
        true
    }

    /// The next look reads, whatever the marks say.
    pub(super) fn forget(&mut self) {
        *self = Self::default();
    }
}

/// How often files with the same marks are read.
const READS: u32 = 3;

/// After how many looks they are read once more.
const LOOKS: u32 = 60;
