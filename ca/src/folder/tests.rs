//! Tries the data folder: modes, owners, links, reservations.

use super::*;

fn scratch() -> (tempfile::TempDir, Folder) {
    let parent = tempfile::tempdir().unwrap();
    let folder = Folder::create(&parent.path().join("data")).unwrap();
    (parent, folder)
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn a_new_folder_is_its_owners_alone() {
    let (_parent, folder) = scratch();
    assert_eq!(mode(folder.path()), 0o700);
    assert_eq!(mode(&folder.keys()), 0o700);
    assert!(!folder.is_initialised());
    assert_eq!(Folder::create(folder.path()).unwrap(), folder);
}

#[test]
fn a_folder_that_others_can_enter_is_refused_with_the_command_to_type() {
    let (_parent, folder) = scratch();
    for path in [folder.keys(), folder.path().to_owned()] {
        chmod(&path, 0o750);
        let error = Folder::open(folder.path()).unwrap_err().to_string();
        assert!(
            error.contains("mode 750") && error.contains("chmod 700"),
            "{error}"
        );
        assert!(error.contains(path.to_str().unwrap()), "{error}");
    }
}

#[test]
fn a_link_in_the_place_of_the_folder_is_refused() {
    let (parent, folder) = scratch();
    let link = parent.path().join("link");
    std::os::unix::fs::symlink(folder.path(), &link).unwrap();
    assert!(matches!(Folder::open(&link), Err(FolderError::Kind { .. })));
    assert!(matches!(
        Folder::open(&parent.path().join("none")),
        Err(FolderError::Access { .. })
    ));
}

#[test]
fn a_private_file_is_written_once_and_whole() {
    let (_parent, folder) = scratch();
    let path = folder.path().join("secret");
    write_private(&path, b"one").unwrap();
    assert_eq!(mode(&path), 0o600);
    assert_eq!(read_private(&path, 3).unwrap().as_slice(), b"one");
    // The second writer does not win, and leaves no draft behind.
    assert!(write_private(&path, b"two").is_err());
    assert_eq!(read_private(&path, 3).unwrap().as_slice(), b"one");
    let left: Vec<_> = fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(left.len(), 2, "{left:?}");
}

#[test]
fn a_private_file_that_others_can_read_is_refused() {
    let (_parent, folder) = scratch();
    let path = folder.path().join("secret");
    write_private(&path, b"one").unwrap();
    assert!(matches!(
        read_private(&path, 2),
        Err(FolderError::TooLong { limit: 2, .. })
    ));
    chmod(&path, 0o640);
    let error = read_private(&path, 3).unwrap_err().to_string();
    assert!(error.contains("chmod 600"), "{error}");
    chmod(&path, 0o600);
    let link = folder.path().join("link");
    std::os::unix::fs::symlink(&path, &link).unwrap();
    assert!(matches!(read_private(&link, 3), Err(FolderError::Kind { .. })));
}

#[test]
fn an_operators_secret_may_be_a_link_and_not_everybodys() {
    let (_parent, folder) = scratch();
    let path = folder.path().join("passphrase");
    write_private(&path, b"correct horse\r\n").unwrap();
    let link = folder.path().join("mounted");
    std::os::unix::fs::symlink(&path, &link).unwrap();
    assert_eq!(read_secret(&link).unwrap().as_slice(), b"correct horse");
    chmod(&path, 0o644);
    assert!(matches!(
        read_secret(&link),
        Err(FolderError::TooOpen { mode: 0o644, .. })
    ));
    let empty = folder.path().join("empty");
    write_private(&empty, b"\n").unwrap();
    assert!(matches!(read_secret(&empty), Err(FolderError::Empty { .. })));
    let long = folder.path().join("long");
    write_private(&long, &[b'x'; 4097]).unwrap();
    assert!(matches!(read_secret(&long), Err(FolderError::TooLong { .. })));
}

#[test]
fn a_restore_waits_for_nobody_and_lets_nobody_in() {
    let (_parent, folder) = scratch();
    let serve = folder.reserve(Reservation::Shared).unwrap();
    let _issue = folder.reserve(Reservation::Shared).unwrap();
    assert!(matches!(
        folder.reserve(Reservation::Alone),
        Err(FolderError::InUse { .. })
    ));
    drop((serve, _issue));
    let restore = folder.reserve(Reservation::Alone).unwrap();
    assert!(matches!(
        folder.reserve(Reservation::Shared),
        Err(FolderError::InUse { .. })
    ));
    // Whoever was alone may let others in, and is still there.
    let _still = restore.shared().unwrap();
    let _other = folder.reserve(Reservation::Shared).unwrap();
    assert!(matches!(
        folder.reserve(Reservation::Alone),
        Err(FolderError::InUse { .. })
    ));
}
