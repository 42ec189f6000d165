//! Tries to keep keys: what opens them, what does not, what lies on disk.

use super::*;

fn scratch() -> (tempfile::TempDir, Folder) {
    let parent = tempfile::tempdir().unwrap();
    let folder = Folder::create(&parent.path().join("data")).unwrap();
    (parent, folder)
}

fn key() -> PrivateKey {
    PrivateKey::generate(KeyAlgorithm::EcdsaP256).unwrap()
}

fn with_passphrase(parent: &Path, folder: &Folder, passphrase: &str) -> Keystore {
    let file = parent.join(format!("pass-{passphrase}"));
    folder::write_private(&file, passphrase.as_bytes()).unwrap();
    Keystore::open(folder, Some(&file)).unwrap()
}

#[test]
fn what_is_stored_is_loaded_and_is_encrypted_on_disk() {
    let (_parent, folder) = scratch();
    let keys = Keystore::open(&folder, None).unwrap();
    let key = key();
    let name = keys.store(&key).unwrap();
    assert_eq!(keys.store(&key).unwrap(), name);
    let again = Keystore::open(&folder, None).unwrap().load(name).unwrap();
    assert_eq!(again.to_pkcs8_der(), key.to_pkcs8_der());
    let text = fs::read_to_string(folder.keys().join(format!("{name}.pem"))).unwrap();
    assert!(
        text.starts_with("-----BEGIN ENCRYPTED PRIVATE KEY-----"),
        "{text}"
    );
    keys.forget(name).unwrap();
    keys.forget(name).unwrap();
    assert!(!keys.has(name));
}

/// A14: nothing prints a key or a secret.
#[test]
fn nothing_prints_the_secret() {
    let (parent, folder) = scratch();
    let keys = with_passphrase(parent.path(), &folder, "hunter2");
    let printed = format!("{keys:?}");
    assert!(
        printed.contains("[redacted]") && !printed.contains("hunter2"),
        "{printed}"
    );
    assert!(!printed.contains(&format!("{:?}", b"hunter2")), "{printed}");
}

#[test]
fn another_passphrase_opens_nothing() {
    let (parent, folder) = scratch();
    let name = with_passphrase(parent.path(), &folder, "one")
        .store(&key())
        .unwrap();
    let error = with_passphrase(parent.path(), &folder, "two")
        .load(name)
        .unwrap_err();
    assert!(
        matches!(&error, KeystoreError::Seal { source, .. } if matches!(**source, KeyError::Passphrase)),
        "{error:?}"
    );
    assert!(error.to_string().contains("pass-two"), "{error}");
}

#[test]
fn keys_without_their_secret_are_not_given_a_new_one() {
    let (_parent, folder) = scratch();
    let keys = Keystore::open(&folder, None).unwrap();
    assert_eq!(keys.kind(), SecretKind::BesideData);
    keys.store(&key()).unwrap();
    fs::remove_file(folder.kek()).unwrap();
    assert!(matches!(
        Keystore::open(&folder, None),
        Err(KeystoreError::NoSecret { .. })
    ));
    folder::write_private(&folder.kek(), b"short").unwrap();
    assert!(matches!(
        Keystore::open(&folder, None),
        Err(KeystoreError::ShortSecret { .. })
    ));
}

#[test]
fn a_key_under_the_name_of_another_is_refused() {
    let (_parent, folder) = scratch();
    let keys = Keystore::open(&folder, None).unwrap();
    let (one, two) = (keys.store(&key()).unwrap(), keys.store(&key()).unwrap());
    let path = |name| folder.keys().join(format!("{name}.pem"));
    fs::copy(path(one), path(two)).unwrap();
    let error = keys.load(two).unwrap_err();
    assert!(
        matches!(error, KeystoreError::OtherKey { found, .. } if found == one),
        "{error}"
    );
}

#[test]
fn the_replicas_key_is_made_once_and_never_after_its_ledger() {
    let (_parent, folder) = scratch();
    let keys = Keystore::open(&folder, None).unwrap();
    let first = keys.replica_key().unwrap();
    assert_eq!(keys.replica_key().unwrap().public_key(), first.public_key());
    fs::write(folder.ledger(), b"").unwrap();
    fs::remove_file(folder.keys().join("replica.pem")).unwrap();
    assert!(keys.replica_key().is_err());
}

#[test]
fn damaged_and_foreign_blobs_are_refused() {
    let (_parent, folder) = scratch();
    let keys = Keystore::open(&folder, None).unwrap();
    let sealed = keys.seal(&key()).unwrap();
    assert!(keys.unseal("root", sealed.as_bytes()).is_ok());
    assert!(keys.unseal("root", &[0xff, 0xfe]).is_err());
    assert!(keys.unseal("root", b"").is_err());
    let bare = key().to_pem();
    assert!(
        keys.unseal("root", bare.as_bytes()).is_err(),
        "an unlocked key is not a locked one"
    );
}
