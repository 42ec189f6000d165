//! Cuts and corrupts the files of a ledger.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use super::{Ledger, append, certificate, make, open};
use crate::ledger::audit::{Expected, verify};
use crate::ledger::{RowFilter, RowHash};

/// A ledger as a crash leaves it: rows in the file, and more rows in the write-ahead log beside it. Gives its rows'
/// hashes.
async fn crashed(folder: &Path) -> BTreeMap<u64, RowHash> {
    let live = tempfile::tempdir().unwrap();
    make(live.path()).await;
    let ledger = open(live.path()).unwrap();
    for number in 0..150 {
        append(&ledger, certificate(number)).await.unwrap();
    }
    ledger.close().await.unwrap();
    let ledger = open(live.path()).unwrap();
    for number in 150..220 {
        append(&ledger, certificate(number)).await.unwrap();
    }
    let rows = ledger.rows(RowFilter::default(), 0, 1000).await.unwrap();
    // Nothing is under way, so what lies there now is what a crash would leave.
    fs::create_dir(folder.join("ledger")).unwrap();
    restrict(&folder.join("ledger"), 0o700);
    fs::copy(live.path().join("key.pem"), folder.join("key.pem")).unwrap();
    for name in [FILE, LOG] {
        let from = live.path().join("ledger").join(name);
        assert!(
            fs::metadata(&from).unwrap().len() > 50_000,
            "{name} holds something"
        );
        fs::copy(from, folder.join("ledger").join(name)).unwrap();
    }
    ledger.close().await.unwrap();
    rows.into_iter().map(|row| (row.sequence, row.hash)).collect()
}

fn restrict(path: &Path, mode: u32) {
    fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
}

/// Copies the crashed ledger and damages the copy of one file. Every ending is fine but one: rows that were never
/// recorded, or others than were recorded, taken for sound. Says whether the copy was taken for sound.
async fn outcome(
    crashed: &Path,
    rows: &BTreeMap<u64, RowHash>,
    name: &str,
    damage: impl Fn(&mut Vec<u8>),
) -> bool {
    let copy = tempfile::tempdir().unwrap();
    fs::create_dir(copy.path().join("ledger")).unwrap();
    restrict(&copy.path().join("ledger"), 0o700);
    fs::copy(crashed.join("key.pem"), copy.path().join("key.pem")).unwrap();
    for file in [FILE, LOG] {
        let mut octets = fs::read(crashed.join("ledger").join(file)).unwrap();
        let to = copy.path().join("ledger").join(file);
        if file == name {
            let before = octets.clone();
            damage(&mut octets);
            assert_ne!(octets, before, "something is damaged");
        }
        fs::write(&to, octets).unwrap();
        restrict(&to, 0o600);
    }
    let Ok(ledger) = open(copy.path()) else {
        return false;
    };
    // A damaged page may be met only now; then the append is refused.
    let appended = append(&ledger, certificate(5000)).await;
    let closed = ledger.close().await;
    let Ok(report) = verify(&copy.path().join("ledger"), &Expected::default()) else {
        return false;
    };
    if report.fault.is_some() || appended.is_err() || closed.is_err() {
        return false;
    }
    let ledger = open(copy.path()).unwrap();
    let found = ledger.rows(RowFilter::default(), 0, 1000).await.unwrap();
    let last = found.len() - 1;
    for row in &found[..last] {
        assert_eq!(
            rows.get(&row.sequence),
            Some(&row.hash),
            "{name}: row {}",
            row.sequence
        );
    }
    assert_eq!(found[last].sequence, last as u64 + 1);
    true
}

/// Row A11: a torn file.
#[tokio::test]
async fn a_file_cut_anywhere_is_refused_or_holds_only_what_was_recorded() {
    let folder = tempfile::tempdir().unwrap();
    let rows = crashed(folder.path()).await;
    let mut sound = 0;
    for name in [FILE, LOG] {
        let length = usize::try_from(
            fs::metadata(folder.path().join("ledger").join(name))
                .unwrap()
                .len(),
        )
        .unwrap();
        for step in 0..40 {
            // Page borders, and offsets that are none.
            let at = (length * step / 40) / 4096 * 4096 + (step % 3) * 1011;
            let cut = |octets: &mut Vec<u8>| octets.truncate(at.min(length - 1));
            sound += usize::from(outcome(folder.path(), &rows, name, cut).await);
        }
    }
    assert!(
        sound >= 20,
        "a torn end of the write-ahead log is no reason to refuse: {sound}"
    );
}

#[tokio::test]
async fn a_changed_octet_is_never_taken_for_a_record() {
    let folder = tempfile::tempdir().unwrap();
    let rows = crashed(folder.path()).await;
    for name in [FILE, LOG] {
        let length = usize::try_from(
            fs::metadata(folder.path().join("ledger").join(name))
                .unwrap()
                .len(),
        )
        .unwrap();
        for step in 0..60 {
            let at = (length * step / 60 + step * 97) % length;
            let flip = |octets: &mut Vec<u8>| octets[at] ^= 0x40;
            outcome(folder.path(), &rows, name, flip).await;
        }
    }
}

const FILE: &str = "ledger.db";
const LOG: &str = "ledger.db-wal";
