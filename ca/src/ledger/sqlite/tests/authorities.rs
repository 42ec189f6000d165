//! Claims about roots, signing certificates and bundles.

use ferrule_identity::Fingerprint;

use super::conflict;
use crate::ledger::event::{Acknowledged, AuthoritySealed, BundlePublished, Role, Step};
use crate::ledger::scratch::{Scratch, append, prepared, stepped};
use crate::ledger::{Conflict, Entry, Ledger, LedgerError};

fn published(sequence: u64) -> BundlePublished {
    BundlePublished {
        sequence,
        anchors: vec![Fingerprint::of(b"root")],
    }
}

#[tokio::test]
async fn authorities_go_through_their_steps() {
    let scratch = Scratch::new();
    let ledger = scratch.open();
    append(&ledger, prepared("a", Role::Root)).await.unwrap();
    scratch.advance(10);
    append(&ledger, stepped("a", Step::Active)).await.unwrap();
    let found = &ledger.authorities().await.unwrap()[0];
    assert_eq!((found.role, found.step), (Role::Root, Step::Active));
    assert_eq!(found.since, scratch.now()());
    assert!(found.prepared < found.since);
    assert_eq!(found.certificate, prepared("a", Role::Root).certificate);

    assert_eq!(
        conflict(append(&ledger, stepped("a", Step::Removed)).await),
        Conflict::AuthorityStep {
            authority: "a".into(),
            from: Step::Active,
            to: Step::Removed
        }
    );
    let exists = conflict(append(&ledger, prepared("a", Role::Root)).await);
    assert!(matches!(exists, Conflict::AuthorityExists { .. }), "{exists:?}");
    let unknown = conflict(append(&ledger, stepped("b", Step::Active)).await);
    assert!(
        matches!(unknown, Conflict::AuthorityUnknown { .. }),
        "{unknown:?}"
    );
}

#[tokio::test]
async fn one_authority_of_each_role_is_active() {
    let scratch = Scratch::new();
    let ledger = scratch.open();
    for name in ["a", "b"] {
        append(&ledger, prepared(name, Role::Signing)).await.unwrap();
    }
    append(&ledger, prepared("r", Role::Root)).await.unwrap();
    append(&ledger, stepped("r", Step::Active)).await.unwrap();
    append(&ledger, stepped("a", Step::Active)).await.unwrap();
    assert_eq!(
        conflict(append(&ledger, stepped("b", Step::Active)).await),
        Conflict::AnotherActive { active: "a".into() }
    );
    let turn = vec![
        stepped("a", Step::Retired).into(),
        stepped("b", Step::Active).into(),
    ];
    ledger.append(turn).await.unwrap();
    let steps: Vec<_> = ledger
        .authorities()
        .await
        .unwrap()
        .iter()
        .map(|found| found.step)
        .collect();
    assert_eq!(steps, [Step::Retired, Step::Active, Step::Active]);
}

#[tokio::test]
async fn a_sealed_key_lies_beside_the_log_until_its_authority_is_removed() {
    let scratch = Scratch::new();
    let ledger = scratch.open();
    let blob = b"sealed-with-the-first-key".to_vec();
    let entry = Entry::with_sealed(prepared("a", Role::Root), blob.clone());
    assert!(!format!("{entry:?}").contains(&format!("{blob:?}")));
    ledger.append(vec![entry]).await.unwrap();
    assert_eq!(ledger.sealed("a".into()).await.unwrap(), Some(blob));
    assert!(ledger.authorities().await.unwrap()[0].sealed);

    let resealed = || AuthoritySealed {
        authority: "a".into(),
        by: "test".into(),
    };
    let entry = Entry::with_sealed(resealed(), b"sealed-with-the-second".to_vec());
    ledger.append(vec![entry]).await.unwrap();
    assert_eq!(
        ledger.sealed("a".into()).await.unwrap(),
        Some(b"sealed-with-the-second".to_vec())
    );
    let misuse = [
        Entry::from(resealed()),
        Entry::with_sealed(stepped("a", Step::Active), b"x".to_vec()),
    ];
    for entry in misuse {
        let refused = ledger.append(vec![entry]).await;
        assert!(matches!(refused, Err(LedgerError::Sealed { .. })), "{refused:?}");
    }
    append(&ledger, stepped("a", Step::Removed)).await.unwrap();
    assert_eq!(ledger.sealed("a".into()).await.unwrap(), None);
    assert_eq!(ledger.authorities().await.unwrap(), []);
}

#[tokio::test]
async fn the_sequence_of_bundles_only_grows() {
    let scratch = Scratch::new();
    let ledger = scratch.open();
    assert_eq!(ledger.bundle().await.unwrap().next, 1);
    let appended = append(&ledger, published(1)).await.unwrap();
    assert_eq!(appended.generations.bundles, 1);
    append(&ledger, published(5)).await.unwrap();
    for sequence in [0, 4, 5] {
        assert_eq!(
            conflict(append(&ledger, published(sequence)).await),
            Conflict::BundleSequence { sequence, newest: 5 }
        );
    }
    let bundle = ledger.bundle().await.unwrap();
    assert_eq!((bundle.sequence, bundle.next), (5, 6));
    assert_eq!(bundle.anchors, published(5).anchors);
}

#[tokio::test]
async fn acknowledgements_never_go_back() {
    let scratch = Scratch::new();
    let ledger = scratch.open();
    let acknowledged = |generation| Acknowledged {
        generation,
        who: "proxy".into(),
    };
    for generation in [3, 5, 4] {
        append(&ledger, acknowledged(generation)).await.unwrap();
    }
    let all = ledger.acknowledgements().await.unwrap();
    assert_eq!((all.len(), all[0].generation), (1, 5));
}
