//! Looks after the CA's data folder: where things lie, that nobody else can read them, and who uses it now.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

/// The data folder of one replica, with mode 0700, that belongs to whoever runs this process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Folder {
    path: PathBuf,
}

impl Folder {
    /// Takes the folder at `path`, and makes it when there is none. What is in it stays.
    ///
    /// # Errors
    /// When it cannot be made, is no folder, belongs to another user, or is open to others.
    pub fn create(path: &Path) -> Result<Self, FolderError> {
        make_folder(path)?;
        let folder = Self::open(path)?;
        make_folder(&folder.keys())?;
        check(&folder.keys(), Kind::Folder)?;
        Ok(folder)
    }

    /// Takes the folder at `path`.
    ///
    /// # Errors
    /// When there is none, it is no folder, belongs to another user, or is open to others.
    pub fn open(path: &Path) -> Result<Self, FolderError> {
        check(path, Kind::Folder)?;
        let folder = Self {
            path: path.to_owned(),
        };
        if folder.keys().exists() {
            check(&folder.keys(), Kind::Folder)?;
        }
        Ok(folder)
    }

    /// The folder itself.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The ledger's file.
    pub fn ledger(&self) -> PathBuf {
        self.path.join("ledger.db")
    }

    /// The folder of the encrypted private keys.
    pub fn keys(&self) -> PathBuf {
        self.path.join("keys")
    }

    /// The key-encryption key, where the operator gave no passphrase.
    pub fn kek(&self) -> PathBuf {
        self.path.join("kek")
    }

    /// Whether a CA lives here: whether there is a ledger.
    pub fn is_initialised(&self) -> bool {
        self.ledger().exists()
    }

    /// Reserves the folder until the value is dropped. Several processes may share it; one that is alone lets
    /// nobody else in.
    ///
    /// # Errors
    /// [`FolderError::InUse`] when somebody else has it in a way that excludes this.
    pub fn reserve(&self, reservation: Reservation) -> Result<Reserved, FolderError> {
        let path = self.path.join("lock");
        let failed = |source| FolderError::Access {
            doing: "reserve",
            path: self.path.clone(),
            source,
        };
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(FILE_MODE)
            .open(&path)
            .map_err(failed)?;
        let taken = match reservation {
            Reservation::Shared => file.try_lock_shared(),
            Reservation::Alone => file.try_lock(),
        };
        match taken {
            Ok(()) => Ok(Reserved {
                lock: file,
                path: self.path.clone(),
            }),
            Err(TryLockError::WouldBlock) => Err(FolderError::InUse {
                path: self.path.clone(),
            }),
            Err(TryLockError::Error(source)) => Err(failed(source)),
        }
    }
}

/// How a process needs the folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reservation {
    /// Beside others: serve, issue, revoke, status.
    Shared,
    /// Without anybody else: init, restore.
    Alone,
}

/// A folder that is reserved until this is dropped, or the process ends.
#[derive(Debug)]
pub struct Reserved {
    lock: File,
    path: PathBuf,
}

impl Reserved {
    /// Lets others in, without giving the folder up in between: a program that this process is just starting may hold
    /// the descriptor for a moment, and what was given up could not be taken again (flock(2)).
    ///
    /// # Errors
    /// [`FolderError::InUse`] when somebody who excludes this came first all the same.
    pub fn shared(self) -> Result<Self, FolderError> {
        let path = self.path.clone();
        match self.lock.try_lock_shared() {
            Ok(()) => Ok(self),
            Err(TryLockError::WouldBlock) => Err(FolderError::InUse { path }),
            Err(TryLockError::Error(source)) => Err(FolderError::Access {
                doing: "reserve",
                path,
                source,
            }),
        }
    }
}

/// Writes a new file that only its owner can read: whole and durable, or not at all.
///
/// # Errors
/// When there is such a file already, or the disk does not take it.
pub fn write_private(path: &Path, content: &[u8]) -> Result<(), FolderError> {
    let failed = |doing| {
        move |source| FolderError::Access {
            doing,
            path: path.to_owned(),
            source,
        }
    };
    let parent = path.parent().unwrap_or(Path::new("."));
    let mut draft = path.as_os_str().to_owned();
    draft.push(format!(".{}.new", std::process::id()));
    let draft = PathBuf::from(draft);
    let write = || -> io::Result<()> {
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(FILE_MODE)
            .open(&draft)?;
        file.write_all(content)?;
        file.sync_all()?;
        // A link, unlike a rename, does not replace what is there.
        fs::hard_link(&draft, path)?;
        File::open(parent)?.sync_all()
    };
    let written = write();
    // The draft has done its work, or is of no use: what is left of it is not worth another error.
    let _ = fs::remove_file(&draft);
    written.map_err(failed("write"))
}

/// Reads a file that only its owner can read, of at most `limit` bytes.
///
/// # Errors
/// When there is none, it is no regular file, belongs to another user, is open to others, or is longer.
pub fn read_private(path: &Path, limit: u64) -> Result<Zeroizing<Vec<u8>>, FolderError> {
    let failed = |source| FolderError::Access {
        doing: "read",
        path: path.to_owned(),
        source,
    };
    // Before it is opened, because a pipe would make that wait; after it, because the name may point elsewhere.
    check(path, Kind::File)?;
    let file = File::open(path).map_err(failed)?;
    judge(path, &file.metadata().map_err(failed)?, Kind::File)?;
    let mut content = Zeroizing::new(Vec::new());
    let read = file
        .take(limit.saturating_add(1))
        .read_to_end(&mut content)
        .map_err(failed)?;
    if u64::try_from(read).is_ok_and(|read| read <= limit) {
        Ok(content)
    } else {
        Err(FolderError::TooLong {
            path: path.to_owned(),
            limit,
        })
    }
}

/// Reads a secret that the operator keeps, such as a passphrase. Mounted secrets are links to files that others
/// may read by group; so links are followed, and only a file that everybody may read is refused.
///
/// # Errors
/// When there is none, everybody may read it, it is empty, or longer than 4 KiB.
pub fn read_secret(path: &Path) -> Result<Zeroizing<Vec<u8>>, FolderError> {
    let failed = |source| FolderError::Access {
        doing: "read",
        path: path.to_owned(),
        source,
    };
    let file = File::open(path).map_err(failed)?;
    let mode = file.metadata().map_err(failed)?.mode();
    if mode & 0o007 != 0 {
        return Err(FolderError::TooOpen {
            path: path.to_owned(),
            mode: mode & 0o777,
            wanted: 0o600,
        });
    }
    let mut content = Zeroizing::new(Vec::new());
    file.take(MAX_SECRET_BYTES + 1)
        .read_to_end(&mut content)
        .map_err(failed)?;
    // An editor's line end is not part of the secret.
    while content.last().is_some_and(|last| matches!(last, b'\n' | b'\r')) {
        content.pop();
    }
    if content.is_empty() {
        return Err(FolderError::Empty {
            path: path.to_owned(),
        });
    }
    if u64::try_from(content.len()).is_ok_and(|length| length <= MAX_SECRET_BYTES) {
        Ok(content)
    } else {
        Err(FolderError::TooLong {
            path: path.to_owned(),
            limit: MAX_SECRET_BYTES,
        })
    }
}

fn make_folder(path: &Path) -> Result<(), FolderError> {
    match DirBuilder::new().mode(FOLDER_MODE).create(path) {
        Ok(()) => Ok(()),
        Err(source) if source.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(source) => Err(FolderError::Access {
            doing: "make",
            path: path.to_owned(),
            source,
        }),
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    File,
    Folder,
}

fn check(path: &Path, kind: Kind) -> Result<(), FolderError> {
    let found = fs::symlink_metadata(path).map_err(|source| FolderError::Access {
        doing: "open",
        path: path.to_owned(),
        source,
    })?;
    judge(path, &found, kind)
}

fn judge(path: &Path, found: &fs::Metadata, kind: Kind) -> Result<(), FolderError> {
    let (fits, wanted, name) = match kind {
        Kind::File => (found.is_file(), FILE_MODE, "regular file"),
        Kind::Folder => (found.is_dir(), FOLDER_MODE, "folder"),
    };
    let path = path.to_owned();
    if !fits {
        return Err(FolderError::Kind { path, wanted: name });
    }
    if let Some(user) = effective_user().filter(|user| *user != found.uid()) {
        return Err(FolderError::Owner {
            path,
            owner: found.uid(),
            user,
        });
    }
    let mode = found.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(FolderError::TooOpen { path, mode, wanted });
    }
    Ok(())
}

/// The user that files made by this process belong to. `None` where /proc is not mounted: then only the mode is
/// checked, and the kernel decides what this process can open.
fn effective_user() -> Option<u32> {
    fs::metadata("/proc/self").ok().map(|own| own.uid())
}

/// Why the data folder, or something in it, cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// Others than its owner can get in.
    #[error(
        "{} may be read or written by others (mode {mode:03o}); type: chmod {wanted:03o} '{}'",
        path.display(), path.display()
    )]
    TooOpen {
        /// The file or folder.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
        /// What they should be.
        wanted: u32,
    },
    /// It belongs to somebody else.
    #[error("{} belongs to user {owner}, and this process runs as user {user}", path.display())]
    Owner {
        /// The file or folder.
        path: PathBuf,
        /// Its owner.
        owner: u32,
        /// Who asks.
        user: u32,
    },
    /// Something else lies there, such as a symbolic link.
    #[error("{} is not a {wanted}", path.display())]
    Kind {
        /// What was found.
        path: PathBuf,
        /// What should be there.
        wanted: &'static str,
    },
    /// The system refuses.
    #[error("cannot {doing} {}", path.display())]
    Access {
        /// The operation.
        doing: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// Another process has reserved it.
    #[error("{} is in use by another ferrule-ca; stop it and try again", path.display())]
    InUse {
        /// The folder.
        path: PathBuf,
    },
    /// Longer than anything that belongs there.
    #[error("{} is longer than {limit} bytes", path.display())]
    TooLong {
        /// The file.
        path: PathBuf,
        /// The most that is read.
        limit: u64,
    },
    /// Nothing in it.
    #[error("{} is empty", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
}

const FOLDER_MODE: u32 = 0o700;
const FILE_MODE: u32 = 0o600;

/// The longest passphrase that is read.
const MAX_SECRET_BYTES: u64 = 4096;

#[cfg(test)]
mod tests;
