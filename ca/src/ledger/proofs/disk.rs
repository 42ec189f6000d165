//! Lets the disk be full, fail and be read-only.

use std::path::Path;
use std::process::Command;

use super::{Ledger, append, certificate, child, examined, issued, make, open};
use crate::ledger::{LedgerError, OpenError};

/// What a run against a failing disk saw.
#[derive(Debug, Default)]
struct Seen {
    acknowledged: Vec<String>,
    refused: usize,
}

/// Issues from `from` on until `stop` says so, and sees which are acknowledged and which refused.
async fn issue(ledger: &dyn Ledger, from: u64, mut stop: impl FnMut(&Seen) -> bool) -> Seen {
    let mut seen = Seen::default();
    for number in from.. {
        if stop(&seen) {
            break;
        }
        let certificate = certificate(number);
        let serial = certificate.serial.to_string();
        match append(ledger, certificate).await {
            Ok(_) => seen.acknowledged.push(serial),
            Err(LedgerError::NotDurable { .. }) => seen.refused += 1,
            Err(other) => panic!("{other:?}"),
        }
    }
    seen
}

async fn assert_recorded(folder: &Path, acknowledged: &[String]) {
    let recorded = issued(folder).await;
    for serial in acknowledged {
        assert!(
            recorded.contains_key(serial),
            "{serial} was acknowledged and is missing"
        );
    }
    assert_eq!(examined(folder).fault, None);
}

/// Runs `script` in a mount namespace of its own, where `folder` is a small disk.
fn on_a_small_disk(folder: &Path, script: &str) {
    let script = format!(
        "set -e; mount -t tmpfs -o size=2m none '{}'; {script}",
        folder.display()
    );
    let output = Command::new("unshare")
        .args(["--user", "--map-root-user", "--mount", "sh", "-c", &script])
        .output()
        .expect("unshare is installed");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "{said}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// Row A11: ENOSPC.
#[tokio::test]
#[ignore = "needs user namespaces: tests/run"]
async fn a_full_disk_refuses_clearly_and_heals_when_there_is_room() {
    let Some((_, folder)) = child::part() else {
        let folder = tempfile::tempdir().unwrap();
        on_a_small_disk(folder.path(), &child::shell_line("full", folder.path()));
        return;
    };
    make(&folder).await;
    let ledger = open(&folder).unwrap();
    let ballast = folder.join("ballast");
    std::fs::write(&ballast, vec![0; 1_200_000]).unwrap();

    let full = issue(&ledger, 0, |seen| seen.refused == 20).await;
    assert!(!full.acknowledged.is_empty());
    let live = ledger
        .live()
        .await
        .expect("questions are answered on a full disk")
        .certificates;
    assert_eq!(
        live,
        full.acknowledged.len() as u64,
        "nothing that was refused is visible"
    );

    std::fs::remove_file(&ballast).unwrap();
    let healed = issue(&ledger, 1_000_000, |seen| {
        seen.acknowledged.len() + seen.refused == 20
    })
    .await;
    assert_eq!(healed.refused, 0, "the first append after there is room succeeds");
    ledger.close().await.unwrap();
    let acknowledged = [full.acknowledged, healed.acknowledged].concat();
    assert_recorded(&folder, &acknowledged).await;
    assert_eq!(issued(&folder).await.len(), acknowledged.len());
}

/// Row A11: a read-only file system.
#[tokio::test]
#[ignore = "needs user namespaces: tests/run"]
async fn a_read_only_folder_refuses_clearly_and_can_still_be_examined() {
    let Some((part, folder)) = child::part() else {
        let folder = tempfile::tempdir().unwrap();
        let [make, read, write] =
            ["make", "read", "write"].map(|part| child::shell_line(part, folder.path()));
        let script = format!(
            "{make}; mount -o remount,ro '{0}'; {read}; mount -o remount,rw '{0}'; {write}",
            folder.path().display()
        );
        on_a_small_disk(folder.path(), &script);
        return;
    };
    match part.as_str() {
        "make" => make(&folder).await,
        "read" => {
            let refused = open(&folder);
            assert!(
                matches!(refused, Err(OpenError::Store { .. } | OpenError::File { .. })),
                "{refused:?}"
            );
            assert_eq!(examined(&folder).rows, 3);
            assert_eq!(examined(&folder).fault, None);
        }
        _ => {
            let ledger = open(&folder).unwrap();
            let seen = issue(&ledger, 0, |seen| seen.acknowledged.len() == 5).await;
            assert_eq!(seen.refused, 0);
            ledger.close().await.unwrap();
            assert_recorded(&folder, &seen.acknowledged).await;
        }
    }
}

/// Row A11: every system call that makes rows durable fails once, or for a while, and the ledger goes on by itself.
#[tokio::test]
#[ignore = "needs strace: tests/run"]
async fn a_failing_call_acknowledges_nothing_that_is_not_durable() {
    if let Some((_, folder)) = child::part() {
        // Opening writes too; it may be refused as often as calls fail.
        let opened = (0..100).find_map(|_| open(&folder).ok());
        let ledger = opened.expect("opening heals by itself");
        let seen = issue(&ledger, 0, |seen| {
            seen.acknowledged.len() >= 60 || seen.refused >= 200
        })
        .await;
        assert!(seen.acknowledged.len() >= 60, "it heals by itself: {seen:?}");
        println!("refused {}", seen.refused);
        seen.acknowledged
            .iter()
            .for_each(|serial| println!("ack {serial}"));
        // Signing the last checkpoint may fail, and that takes nothing back.
        ledger.close().await.unwrap();
        return;
    }
    let mut refused = 0;
    for (calls, error) in [
        ("fsync,fdatasync", "EIO"),
        ("fsync,fdatasync", "ENOSPC"),
        ("pwrite64", "EIO"),
        ("pwrite64", "ENOSPC"),
        ("pwrite64", "EROFS"),
    ] {
        for when in [
            "8", "9", "10", "11", "12", "13", "14", "20..24", "30..60", "41..80+3",
        ] {
            let folder = tempfile::tempdir().unwrap();
            make(folder.path()).await;
            let words = child::words("fail", folder.path());
            let output = Command::new("strace")
                .args(["-f", "-qq", "-o", "/dev/null", "-e", &format!("trace={calls}")])
                .arg("-e")
                .arg(format!("inject={calls}:error={error}:when={when}"))
                .args(words)
                .output()
                .expect("strace is installed");
            let said = String::from_utf8_lossy(&output.stdout);
            assert!(
                output.status.success(),
                "{calls} {error} {when}: {said}\n{}",
                String::from_utf8_lossy(&output.stderr)
            );
            let told = |word: &str| -> Vec<String> {
                said.lines()
                    .filter_map(|line| line.strip_prefix(word))
                    .map(str::to_owned)
                    .collect()
            };
            refused += told("refused ")[0].parse::<usize>().unwrap();
            assert_eq!(told("ack ").len(), 60, "{calls} {error} {when}");
            assert_recorded(folder.path(), &told("ack ")).await;
        }
    }
    assert!(refused > 0, "the failures have reached the ledger");
}
