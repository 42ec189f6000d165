//! A host's folder has the newest bundle, whoever of its programs comes with it.

use ferrule_tests::pki::Authority;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use tempfile::TempDir;

use super::*;

fn now() -> Timestamp {
    Timestamp::from_unix(Clock::system().unix())
}

fn bundle(sequence: u64) -> TrustBundle {
    let root = CertificateDer::from_pem_slice(Authority::new().pem().as_bytes()).unwrap();
    let trust_domain = TrustDomain::parse("shop.local").unwrap();
    TrustBundle::new(trust_domain, sequence, None, &[root], now()).unwrap()
}

/// The folder of a host that joined when that was the newest bundle.
fn host(joined: &TrustBundle) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join(HOST_FILE), "{}").unwrap();
    fs::write(folder.path().join(HOST_BUNDLE_FILE), joined.to_jwks()).unwrap();
    folder
}

fn held(folder: &TempDir) -> String {
    fs::read_to_string(folder.path().join(HOST_BUNDLE_FILE)).unwrap()
}

#[test]
fn a_newer_bundle_takes_the_place_of_an_older_one_and_never_the_other_way_round() {
    let (older, newer) = (bundle(3), bundle(4));
    let folder = host(&older);
    assert_eq!(remember(folder.path(), &newer, now()).unwrap(), Remembered::Yes);
    assert_eq!(held(&folder), newer.to_jwks());
    assert_eq!(remember(folder.path(), &older, now()).unwrap(), Remembered::Yes);
    assert_eq!(held(&folder), newer.to_jwks());
}

#[test]
fn a_bundle_that_cannot_be_read_is_replaced() {
    let newer = bundle(1);
    let folder = host(&newer);
    fs::write(folder.path().join(HOST_BUNDLE_FILE), "half of a").unwrap();
    remember(folder.path(), &newer, now()).unwrap();
    assert_eq!(held(&folder), newer.to_jwks());
}

#[test]
fn programs_of_one_host_take_turns() {
    let (older, newer) = (bundle(3), bundle(4));
    let folder = host(&older);
    let other = File::open(folder.path().join(HOST_FILE)).unwrap();
    other.lock().unwrap();
    assert_eq!(remember(folder.path(), &newer, now()).unwrap(), Remembered::Busy);
    assert_eq!(held(&folder), older.to_jwks());
    drop(other);
    assert_eq!(remember(folder.path(), &newer, now()).unwrap(), Remembered::Yes);
}

#[test]
fn a_folder_that_is_not_there_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("missing");
    let error = remember(&missing, &bundle(1), now()).unwrap_err();
    assert!(error.to_string().contains("missing"), "{error}");
}
