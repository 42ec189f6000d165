//! Writes credentials into a folder, one whole file at a time.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use ferrule_identity::{TrustBundle, WorkloadCertificate};

/// The certificate chain, leaf first, in PEM. The names are those of SPIRE's helper.
pub const CHAIN_FILE: &str = "svid.pem";
/// The leaf's private key, PKCS#8 in PEM, mode 0600.
pub const KEY_FILE: &str = "svid_key.pem";
/// The trust bundle of our own trust domain, in PEM.
pub const BUNDLE_FILE: &str = "bundle.pem";

/// Writes `certificate` and `bundle` into `folder`, which is made (mode 0700) when it is not there. Each file
/// appears whole or not at all; the bundle comes first and the chain last, so that a reader who waits for a change
/// of the chain finds all three of one kind.
///
/// # Errors
/// Names the file that cannot be written; those before it are new, those after it are old.
pub fn write(
    folder: &Path,
    certificate: &WorkloadCertificate,
    bundle: &TrustBundle,
) -> Result<(), StoreError> {
    make_folder(folder)?;
    replace(&folder.join(BUNDLE_FILE), bundle.to_pem().as_bytes(), PUBLIC)?;
    replace(
        &folder.join(KEY_FILE),
        certificate.key().to_pem().as_bytes(),
        PRIVATE,
    )?;
    replace(
        &folder.join(CHAIN_FILE),
        certificate.chain_pem().as_bytes(),
        PUBLIC,
    )
}

/// Makes `folder`, and those above it, for their owner alone, unless it is there.
///
/// # Errors
/// When it can be neither found nor made.
pub fn make_folder(folder: &Path) -> Result<(), StoreError> {
    if folder.is_dir() {
        return Ok(());
    }
    let failed = |source| StoreError {
        path: folder.to_owned(),
        source,
    };
    let made = DirBuilder::new().recursive(true).mode(0o700).create(folder);
    made.map_err(failed)
}

/// Puts `bytes` where `path` is, by way of a new file beside it with the permissions `mode` that is synced first.
///
/// # Errors
/// When it cannot be written; `path` is then as it was.
pub fn replace(path: &Path, bytes: &[u8], mode: u32) -> Result<(), StoreError> {
    let failed = |source| StoreError {
        path: path.to_owned(),
        source,
    };
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let beside = path.with_file_name(name);
    write_new(&beside, bytes, mode)
        .and_then(|()| fs::rename(&beside, path))
        .and_then(|()| sync_folder(path))
        .inspect_err(|_| {
            // What is left of a failed write is of no use; when even that fails, the first error says more.
            let _ = fs::remove_file(&beside);
        })
        .map_err(failed)
}

fn write_new(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    // A leftover of an earlier crash may have other permissions; a new file has ours from its first byte.
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

fn sync_folder(path: &Path) -> io::Result<()> {
    let folder = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()
}

/// Readable by everyone: certificates are public.
pub const PUBLIC: u32 = 0o644;
/// For the owner alone.
pub const PRIVATE: u32 = 0o600;

/// A file that cannot be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot write {path}", path = path.display())]
pub struct StoreError {
    /// Which.
    pub path: PathBuf,
    /// What the system says.
    pub source: io::Error,
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_folder_that_is_made_is_its_owners() {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().join("a/b");
        make_folder(&folder).unwrap();
        make_folder(&folder).unwrap();
        for made in [&folder, folder.parent().unwrap()] {
            assert_eq!(fs::metadata(made).unwrap().permissions().mode() & 0o777, 0o700);
        }
    }

    #[test]
    fn a_file_is_replaced_whole_with_its_permissions() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key.pem");
        fs::write(&path, "old").unwrap();
        fs::write(folder.path().join("key.pem.new"), "left by a crash").unwrap();
        replace(&path, b"new", PRIVATE).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(
            fs::read_dir(folder.path()).unwrap().count(),
            1,
            "nothing is left over"
        );
    }

    #[test]
    fn a_failure_names_the_file_and_leaves_the_old_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("missing").join("key.pem");
        let error = replace(&path, b"new", PRIVATE).unwrap_err();
        assert_eq!(error.path, path);
    }
}
