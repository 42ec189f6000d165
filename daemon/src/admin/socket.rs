//! Opens a Unix socket that only those can reach who may, from its first moment on.

use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use tokio::net::UnixListener;

use super::AdminError;

/// A listening socket at its place in the file system.
#[derive(Debug)]
pub struct Socket {
    listener: UnixListener,
    path: SocketPath,
}

/// The place of a socket; dropping it takes the socket away.
#[derive(Debug)]
pub struct SocketPath(PathBuf);

impl Socket {
    /// Opens a socket of the permissions `mode` at `path`, in place of one that nobody serves any more.
    ///
    /// # Errors
    /// When something is there that is in use or no socket, or it cannot be made.
    pub fn open(path: &Path, mode: u32) -> Result<Self, AdminError> {
        let fail = AdminError::socket(path);
        refuse_what_is_in_use(path)?;
        // Between making a socket and narrowing its mode anyone could connect, so both happen in a folder that
        // nobody else can enter; the rename then shows the finished socket.
        let folder = private_folder(path).map_err(fail)?;
        let inside = folder.join("s");
        let opened = UnixListener::bind(&inside).and_then(|listener| {
            fs::set_permissions(&inside, Permissions::from_mode(mode))?;
            fs::rename(&inside, path)?;
            Ok(listener)
        });
        if opened.is_err() {
            // It may not exist; the error that matters is the first.
            let _ = fs::remove_file(&inside);
        }
        fs::remove_dir(&folder).map_err(fail)?;
        Ok(Self {
            listener: opened.map_err(fail)?,
            path: SocketPath(path.to_owned()),
        })
    }

    /// What connections come from, and the place, which has to be kept for as long.
    pub fn split(self) -> (UnixListener, SocketPath) {
        (self.listener, self.path)
    }
}

impl Drop for SocketPath {
    fn drop(&mut self) {
        // Somebody may have taken it away already.
        let _ = fs::remove_file(&self.0);
    }
}

fn refuse_what_is_in_use(path: &Path) -> Result<(), AdminError> {
    let taken = |what| AdminError::Taken {
        path: path.display().to_string(),
        what,
    };
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(source) => Err(AdminError::socket(path)(source)),
        Ok(found) if !found.file_type().is_socket() => Err(taken("something that is no socket is there")),
        Ok(_) => match UnixStream::connect(path) {
            Ok(_) => Err(taken("another program serves it")),
            Err(_) => Ok(()),
        },
    }
}

/// A new folder of mode 0700 beside `path`.
fn private_folder(path: &Path) -> io::Result<PathBuf> {
    let beside = path.parent().unwrap_or(Path::new("."));
    for _ in 0..8 {
        let folder = beside.join(format!(".{:08x}", rand::random::<u32>()));
        match DirBuilder::new().mode(0o700).create(&folder) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
            Ok(()) => return Ok(folder),
        }
    }
    Err(io::ErrorKind::AlreadyExists.into())
}
