//! Claims about copies and restores.

use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use ferrule_identity::KeyAlgorithm;

use super::*;
use crate::ledger::event::{BundlePublished, Event, Subject};
use crate::ledger::scratch::{Scratch, append, revoked, serial, token, used};
use crate::ledger::{Conflict, RowFilter, TokenState};

fn asked(scratch: &Scratch, accept_loss: bool) -> Restore {
    Restore {
        trust_domain: TrustDomain::parse("shop.local").unwrap(),
        key: scratch.key(),
        accept_loss,
        by: "test".into(),
    }
}

#[tokio::test]
async fn a_copy_is_whole_private_and_made_while_appends_go_on() {
    let scratch = Scratch::new();
    let ledger = Arc::new(scratch.open_issuing().await);
    for number in 0..200 {
        append(ledger.as_ref(), scratch.issued(number)).await.unwrap();
    }
    let going_on = {
        let (ledger, issued) = (
            Arc::clone(&ledger),
            (200..400)
                .map(|number| scratch.issued(number))
                .collect::<Vec<_>>(),
        );
        async move {
            for issued in issued {
                append(ledger.as_ref(), issued).await.unwrap();
            }
        }
    };
    let target = scratch.root().join("copy.db");
    let (report, ()) = tokio::join!(backup(&ledger, &target, "test"), going_on);
    let report = report.unwrap();
    assert!(report.rows > 203 && report.is_sound(), "{report:?}");
    assert_eq!(report.path, target);
    assert_eq!(std::fs::metadata(&target).unwrap().mode() & 0o777, 0o600);
    let names: Vec<_> = std::fs::read_dir(scratch.root())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.starts_with("copy"))
        .collect();
    assert_eq!(names, ["copy.db"], "nothing unfinished stays beside it");
    assert_eq!(audit::verify(&target, &Expected::default()).unwrap().fault, None);
    assert_eq!(ledger.live().await.unwrap().certificates, 400);
}

#[tokio::test]
async fn a_copy_never_takes_the_place_of_another_file() {
    let scratch = Scratch::new();
    let ledger = scratch.open();
    let target = scratch.root().join("copy.db");
    std::fs::write(&target, b"precious").unwrap();
    let refused = backup(&ledger, &target, "test").await;
    assert!(
        matches!(refused, Err(BackupError::Copy(OpenError::Exists { .. }))),
        "{refused:?}"
    );
    assert_eq!(std::fs::read(&target).unwrap(), b"precious");
    let nowhere = backup(&ledger, &scratch.root().join("none/copy.db"), "test").await;
    assert!(
        matches!(nowhere, Err(BackupError::Copy(OpenError::File { .. }))),
        "{nowhere:?}"
    );
}

#[tokio::test]
async fn a_restore_begins_an_epoch_on_the_same_chain() {
    let scratch = Scratch::new();
    let ledger = scratch.open_issuing().await;
    let expires = scratch.now()().plus(Duration::from_secs(6000));
    append(&ledger, scratch.issued(1)).await.unwrap();
    append(&ledger, token("t1", expires)).await.unwrap();
    append(&ledger, revoked(Subject::Serial(serial(9))))
        .await
        .unwrap();
    let bundle = BundlePublished {
        sequence: 4,
        anchors: vec![],
    };
    append(&ledger, bundle).await.unwrap();
    let copy = scratch.root().join("copy.db");
    let saved = backup(&ledger, &copy, "test").await.unwrap();
    append(&ledger, scratch.issued(2))
        .await
        .expect("lost with the folder");
    ledger.close().await.unwrap();
    std::fs::remove_dir_all(scratch.folder()).unwrap();
    scratch.advance(60);

    let refused = restore(&copy, &scratch.folder(), &asked(&scratch, false), &scratch.now());
    match refused {
        Err(OpenError::LossNotAccepted { sequence, .. }) => assert_eq!(sequence, saved.head.0),
        other => panic!("{other:?}"),
    }
    assert!(
        !scratch.folder().exists(),
        "nothing is made before the loss is accepted"
    );

    restore(&copy, &scratch.folder(), &asked(&scratch, true), &scratch.now()).unwrap();
    let ledger = scratch.open();
    let chain = ledger.chain().await.unwrap();
    assert_eq!((chain.epoch, chain.sequence), (2, saved.head.0 + 1));
    assert_eq!(chain.replica, saved.replica);
    let rows = ledger.rows(RowFilter::default(), saved.head.0, 10).await.unwrap();
    let Event::Restored(restored) = rows[0].event().unwrap() else {
        panic!("{rows:?}");
    };
    assert_eq!((restored.from_epoch, restored.last_hash), (1, saved.head.1));

    assert_eq!(ledger.tokens().await.unwrap()[0].state, TokenState::Void);
    let void = append(&ledger, used("t1", "h1")).await;
    assert!(
        matches!(&void, Err(LedgerError::Conflict(Conflict::TokenVoid { token })) if token == "t1"),
        "{void:?}"
    );
    assert_eq!(ledger.revocations().await.unwrap().entries.len(), 1);
    assert!(ledger.revocations().await.unwrap().generation > 1_000_000);
    assert!(
        ledger.bundle().await.unwrap().next > 1_000_000,
        "beyond what was published since"
    );
    append(&ledger, scratch.issued(3)).await.unwrap();
    ledger.close().await.unwrap();
    let report = audit::verify(&scratch.folder(), &Expected::default()).unwrap();
    assert_eq!(report.fault, None);
    assert_eq!(report.keys.len(), 2);
}

#[tokio::test]
async fn a_restore_may_bring_a_new_key() {
    let scratch = Scratch::new();
    let ledger = scratch.open();
    let copy = scratch.root().join("copy.db");
    backup(&ledger, &copy, "test").await.unwrap();
    let folder = scratch.root().join("new");
    let mut asked = asked(&scratch, true);
    asked.key = Arc::new(PrivateKey::generate(KeyAlgorithm::EcdsaP384).unwrap());
    restore(&copy, &folder, &asked, &scratch.now()).unwrap();
    let mut options = scratch.options();
    options.key = Some(Arc::clone(&asked.key));
    SqliteLedger::open(&folder, options)
        .unwrap()
        .close()
        .await
        .unwrap();
    let report = audit::verify(&folder, &Expected::default()).unwrap();
    assert_eq!(report.fault, None);
    let keys = [scratch.key(), asked.key].map(|key| key.public_key().fingerprint());
    assert_eq!(report.keys, keys);
    let old = SqliteLedger::open(&folder, scratch.options());
    assert!(matches!(old, Err(OpenError::OtherKey { .. })), "{old:?}");
}

#[tokio::test]
async fn a_restore_refuses_what_it_should_not_touch_or_trust() {
    let scratch = Scratch::new();
    let ledger = scratch.open_issuing().await;
    let copy = scratch.root().join("copy.db");
    backup(&ledger, &copy, "test").await.unwrap();
    let over = restore(&copy, &scratch.folder(), &asked(&scratch, true), &scratch.now());
    assert!(matches!(over, Err(OpenError::Exists { .. })), "{over:?}");

    let folder = scratch.root().join("new");
    let mut other = asked(&scratch, true);
    other.trust_domain = TrustDomain::parse("other.local").unwrap();
    let foreign = restore(&copy, &folder, &other, &scratch.now());
    assert!(
        matches!(foreign, Err(OpenError::TrustDomain { .. })),
        "{foreign:?}"
    );

    let conn = Connection::open(&copy).unwrap();
    conn.execute_batch("DROP TRIGGER log_keeps_words; UPDATE log SET time = 0 WHERE sequence = 2;")
        .unwrap();
    drop(conn);
    let broken = restore(&copy, &folder, &asked(&scratch, true), &scratch.now());
    assert!(matches!(broken, Err(OpenError::Broken { .. })), "{broken:?}");
    assert!(!folder.exists());
}
