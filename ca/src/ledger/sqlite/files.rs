//! Makes the ledger's folder and file private, or refuses those that are not.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::ledger::OpenError;

/// The ledger's file inside its folder.
pub(in crate::ledger) const FILE_NAME: &str = "ledger.db";

/// What the store may keep beside its file.
const COMPANIONS: [&str; 3] = ["-wal", "-shm", "-journal"];

const FOLDER_MODE: u32 = 0o700;
const FILE_MODE: u32 = 0o600;

/// Where the ledger of the folder `folder` lies.
pub(in crate::ledger) fn ledger_path(folder: &Path) -> PathBuf {
    folder.join(FILE_NAME)
}

/// Makes `folder` with mode 0700, its parents too, or checks the one that is there.
///
/// # Errors
/// When it cannot be made, is no folder, belongs to another user, or is open to others.
pub(in crate::ledger) fn prepare_folder(folder: &Path) -> Result<(), OpenError> {
    DirBuilder::new()
        .recursive(true)
        .mode(FOLDER_MODE)
        .create(folder)
        .map_err(file_error("make", folder))?;
    check_folder(folder)
}

/// Checks that `folder` is a folder of ours alone.
///
/// # Errors
/// When it is missing, is no folder, belongs to another user, or is open to others.
pub(in crate::ledger) fn check_folder(folder: &Path) -> Result<(), OpenError> {
    // The folder may be reached through a link, the usual way to move data; the ledger's own files may not.
    let metadata = fs::metadata(folder).map_err(file_error("look at", folder))?;
    if !metadata.is_dir() {
        return Err(OpenError::Kind {
            path: folder.to_owned(),
            wanted: "folder",
        });
    }
    check_access(folder, &metadata, FOLDER_MODE)
}

/// Makes the file `path` with mode 0600 and nothing in it; makes its name durable.
///
/// # Errors
/// [`OpenError::Exists`] when something of that name is there already.
pub(in crate::ledger) fn create_file(path: &Path) -> Result<(), OpenError> {
    let made = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(FILE_MODE)
        .open(path);
    match made {
        Ok(_) => sync_folder_of(path),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(OpenError::Exists {
            path: path.to_owned(),
        }),
        Err(error) => Err(file_error("make", path)(error)),
    }
}

/// Checks that the ledger's file, and whatever the store keeps beside it, are regular files of ours alone.
///
/// # Errors
/// [`OpenError::Missing`] when there is no such file; otherwise what is wrong with the first that is wrong.
pub(in crate::ledger) fn check_files(path: &Path) -> Result<(), OpenError> {
    check_file(path)?;
    for companion in companions(path) {
        match check_file(&companion) {
            Ok(()) | Err(OpenError::Missing { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// The files that the store may keep beside `path`.
pub(in crate::ledger) fn companions(path: &Path) -> impl Iterator<Item = PathBuf> {
    COMPANIONS.iter().map(|suffix| {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        PathBuf::from(name)
    })
}

/// Makes the entries of the folder that holds `path` durable.
///
/// # Errors
/// When the folder cannot be opened or synced.
pub(in crate::ledger) fn sync_folder_of(path: &Path) -> Result<(), OpenError> {
    let folder = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(file_error("sync", folder))
}

fn check_file(path: &Path) -> Result<(), OpenError> {
    let metadata = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(OpenError::Missing {
                path: path.to_owned(),
            });
        }
        Err(error) => return Err(file_error("look at", path)(error)),
    };
    if !metadata.is_file() {
        return Err(OpenError::Kind {
            path: path.to_owned(),
            wanted: "regular file",
        });
    }
    check_access(path, &metadata, FILE_MODE)
}

fn check_access(path: &Path, metadata: &fs::Metadata, wanted: u32) -> Result<(), OpenError> {
    let mode = metadata.mode() & 0o777;
    if mode & !wanted != 0 {
        return Err(OpenError::TooOpen {
            path: path.to_owned(),
            mode,
            wanted: mode & wanted,
        });
    }
    // The kernel shows a process's own entry as owned by its effective user.
    let user = fs::metadata("/proc/self").map_err(file_error("look at", Path::new("/proc/self")))?;
    if metadata.uid() != user.uid() {
        return Err(OpenError::Owner {
            path: path.to_owned(),
            owner: metadata.uid(),
            user: user.uid(),
        });
    }
    Ok(())
}

/// An error of the file system about `path`.
pub(in crate::ledger) fn file_error(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> OpenError {
    let path = path.to_owned();
    move |source| OpenError::File { doing, path, source }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn chmod(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn what_is_made_is_private() {
        let scratch = tempfile::tempdir().unwrap();
        let folder = scratch.path().join("a/b");
        prepare_folder(&folder).unwrap();
        let file = ledger_path(&folder);
        create_file(&file).unwrap();
        assert_eq!(fs::metadata(&folder).unwrap().mode() & 0o777, 0o700);
        assert_eq!(fs::metadata(&file).unwrap().mode() & 0o777, 0o600);
        check_files(&file).unwrap();
    }

    #[test]
    fn a_folder_or_file_that_others_may_read_is_refused_with_the_command_to_type() {
        let scratch = tempfile::tempdir().unwrap();
        let folder = scratch.path().join("ledger");
        prepare_folder(&folder).unwrap();
        let file = ledger_path(&folder);
        create_file(&file).unwrap();

        chmod(&folder, 0o750);
        let said = prepare_folder(&folder).unwrap_err().to_string();
        assert!(
            said.contains(&format!("chmod 700 '{}'", folder.display())),
            "{said}"
        );

        chmod(&file, 0o640);
        let said = check_files(&file).unwrap_err().to_string();
        assert!(
            said.contains(&format!("chmod 600 '{}'", file.display())),
            "{said}"
        );

        chmod(&file, 0o600);
        let wal = scratch.path().join("ledger/ledger.db-wal");
        fs::write(&wal, b"").unwrap();
        chmod(&wal, 0o644);
        let said = check_files(&file).unwrap_err().to_string();
        assert!(said.contains(&format!("chmod 600 '{}'", wal.display())), "{said}");
    }

    #[test]
    fn a_link_in_the_place_of_the_ledger_is_refused() {
        let scratch = tempfile::tempdir().unwrap();
        let elsewhere = scratch.path().join("elsewhere");
        fs::write(&elsewhere, b"").unwrap();
        let file = ledger_path(scratch.path());
        symlink(&elsewhere, &file).unwrap();
        assert!(matches!(check_files(&file), Err(OpenError::Kind { .. })));
        assert!(matches!(create_file(&file), Err(OpenError::Exists { .. })));
    }
}
