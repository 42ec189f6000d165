//! Files are read when they may have changed, and no change is missed.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use ferrule_identity::{Revocations, SerialNumber};
use ferrule_tests::pki::{self, Authority};

use super::*;

const WEB: &str = "spiffe://shop.local/ns/shop/sa/web";
const HOUR: Duration = Duration::from_secs(3600);

fn domain() -> TrustDomain {
    TrustDomain::parse("shop.local").unwrap()
}

fn open(at: &pki::Files) -> (FileKeeper, Newest) {
    let files = Files {
        trust_domain: domain(),
        chain: at.chain.clone(),
        key: at.key.clone(),
        bundle: at.bundle.clone(),
        crls: Some(at.crls.clone()),
    };
    let nobody = TrustSnapshot {
        bundles: Bundles::from_iter([]),
        revocations: Revocations::empty(),
    };
    let trust = Arc::new(TrustCell::new(nobody));
    FileKeeper::open(files, trust, Clock::system()).unwrap()
}

fn serial(newest: &Newest) -> SerialNumber {
    newest.borrow().as_ref().unwrap().certificate.serial().clone()
}

/// Looks until nothing is read any more.
fn settle(keeper: &mut FileKeeper) {
    let looks = (0..10).map(|_| keeper.look().unwrap());
    assert!(looks.into_iter().any(|looked| looked == Looked::Unread));
}

#[test]
fn files_that_stay_as_they_are_are_not_read_again() {
    let folder = tempfile::tempdir().unwrap();
    let at = Authority::new().files(folder.path(), "web", WEB, HOUR);
    let (mut keeper, _) = open(&at);
    settle(&mut keeper);
    let looked: Vec<Looked> = (0..40).map(|_| keeper.look().unwrap()).collect();
    assert!(
        looked.iter().all(|looked| *looked == Looked::Unread),
        "{looked:?}"
    );
}

#[test]
fn all_is_read_now_and_then_whatever_the_marks_say() {
    let folder = tempfile::tempdir().unwrap();
    let at = Authority::new().files(folder.path(), "web", WEB, HOUR);
    let (mut keeper, _) = open(&at);
    settle(&mut keeper);
    let read = (0..200)
        .filter(|_| keeper.look().unwrap() == Looked::Same)
        .count();
    assert!((2..6).contains(&read), "{read}");
}

#[test]
fn a_file_written_in_place_is_taken() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let at = authority.files(folder.path(), "web", WEB, HOUR);
    let (mut keeper, newest) = open(&at);
    settle(&mut keeper);
    let before = serial(&newest);
    authority.renew(&at, WEB, HOUR);
    assert_eq!(keeper.look().unwrap(), Looked::Taken);
    assert_ne!(serial(&newest), before);
}

// The same length, and the time of the last change set back: the change time still tells.
#[test]
fn a_file_of_the_same_size_and_time_is_taken() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let at = authority.files(folder.path(), "web", WEB, HOUR);
    let (mut keeper, newest) = open(&at);
    settle(&mut keeper);
    let text = fs::read_to_string(&at.bundle).unwrap();
    fs::write(&at.bundle, format!("{text}\n")).unwrap();
    assert_eq!(keeper.look().unwrap(), Looked::Taken);
    settle(&mut keeper);
    let was = fs::metadata(&at.bundle).unwrap().modified().unwrap();
    fs::write(&at.bundle, format!("{}\r\n", text.trim_end())).unwrap();
    fs::File::options()
        .write(true)
        .open(&at.bundle)
        .unwrap()
        .set_modified(was)
        .unwrap();
    let now = fs::metadata(&at.bundle).unwrap();
    assert_eq!((now.len(), now.modified().unwrap()), (text.len() as u64 + 1, was));
    assert_eq!(keeper.look().unwrap(), Looked::Taken);
    assert!(newest.borrow().is_some());
}

// How Kubernetes changes a mounted secret: every file is a link through `..data`, which is swapped as a whole.
#[test]
fn a_swapped_link_is_taken() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let generation = |name: &str| {
        let path = folder.path().join(name);
        fs::create_dir(&path).unwrap();
        authority.files(&path, "web", WEB, HOUR)
    };
    generation("..one");
    symlink("..one", folder.path().join("..data")).unwrap();
    let at = pki::Files::at(folder.path(), "web");
    for path in [&at.chain, &at.key, &at.bundle, &at.crls] {
        let name = path.file_name().unwrap();
        symlink(Path::new("..data").join(name), path).unwrap();
    }
    let (mut keeper, newest) = open(&at);
    settle(&mut keeper);
    let before = serial(&newest);
    generation("..two");
    symlink("..two", folder.path().join("..data_tmp")).unwrap();
    fs::rename(folder.path().join("..data_tmp"), folder.path().join("..data")).unwrap();
    assert_eq!(keeper.look().unwrap(), Looked::Taken);
    assert_ne!(serial(&newest), before);
}

// Two writes within one step of the kernel's clock leave the same marks, and a reading may fall between them.
#[test]
fn marks_that_have_just_changed_are_not_believed_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    fs::write(&path, "one").unwrap();
    let stamp = || vec![Stamp::of(&path).unwrap()];
    let mut watched = Watched::default();
    assert!(watched.is_due(stamp()), "never read");
    assert!(watched.is_due(stamp()), "read when the marks were new");
    assert!(watched.is_due(stamp()));
    assert!(!watched.is_due(stamp()));
    watched.forget();
    assert!(watched.is_due(stamp()));
}

#[test]
fn a_file_that_is_gone_leaves_the_last_good_ones_in_force() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let at = authority.files(folder.path(), "web", WEB, HOUR);
    let (mut keeper, newest) = open(&at);
    settle(&mut keeper);
    let before = serial(&newest);
    let key = fs::read(&at.key).unwrap();
    fs::remove_file(&at.key).unwrap();
    assert!(matches!(keeper.look(), Err(FilesError::Read { .. })));
    assert_eq!(serial(&newest), before);
    fs::write(&at.key, key).unwrap();
    assert_eq!(keeper.look().unwrap(), Looked::Same, "the same as before");
}
