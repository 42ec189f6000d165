//! Claims about the deny list.

use std::time::Duration;

use super::conflict;
use crate::ledger::event::{Lifted, Subject};
use crate::ledger::scratch::{ISSUER, Scratch, append, enrolled, revoked, serial, token};
use crate::ledger::{Conflict, Ledger};

fn lifted(subject: Subject) -> Lifted {
    Lifted {
        subject,
        reason: "found again".into(),
        by: "test".into(),
    }
}

#[tokio::test]
async fn the_list_names_what_is_revoked_and_counts_its_changes() {
    let scratch = Scratch::new();
    let ledger = scratch.open_issuing().await;
    let web = Subject::Identity("spiffe://shop.local/ns/shop/sa/web".into());
    append(&ledger, scratch.issued(1)).await.unwrap();
    let appended = append(&ledger, revoked(web.clone())).await.unwrap();
    assert_eq!(appended.generations.revocations, 1);
    append(&ledger, revoked(Subject::Serial(serial(1))))
        .await
        .unwrap();

    let list = ledger.revocations().await.unwrap();
    assert_eq!(list.generation, 2);
    let subjects: Vec<_> = list.entries.iter().map(|entry| entry.subject.clone()).collect();
    assert_eq!(subjects, [web.clone(), Subject::Serial(serial(1))]);
    assert_eq!(list.entries[1].issuer.as_deref(), Some(ISSUER));
    assert_eq!(list.entries[1].not_after, Some(scratch.issued(1).not_after));

    let again = conflict(append(&ledger, revoked(web.clone())).await);
    assert!(matches!(again, Conflict::AlreadyRevoked { .. }), "{again:?}");
    append(&ledger, lifted(web.clone())).await.unwrap();
    let list = ledger.revocations().await.unwrap();
    assert_eq!((list.generation, list.entries.len()), (3, 1));
    let again = conflict(append(&ledger, lifted(web)).await);
    assert!(matches!(again, Conflict::NotRevoked { .. }), "{again:?}");
}

#[tokio::test]
async fn a_revoked_certificate_leaves_the_list_when_it_has_run_out() {
    let scratch = Scratch::new();
    let ledger = scratch.open_issuing().await;
    append(&ledger, scratch.issued(1)).await.unwrap();
    append(&ledger, revoked(Subject::Serial(serial(1))))
        .await
        .unwrap();
    scratch.advance(3601);
    assert_eq!(ledger.revocations().await.unwrap().entries, []);
}

#[tokio::test]
async fn a_serial_that_is_not_on_record_can_be_revoked() {
    let scratch = Scratch::new();
    let ledger = scratch.open();
    append(&ledger, revoked(Subject::Serial(serial(7))))
        .await
        .unwrap();
    let list = ledger.revocations().await.unwrap();
    assert_eq!(list.entries[0].issuer, None);
    assert_eq!(list.entries[0].not_after, None, "so it stays on the list");
}

#[tokio::test]
async fn a_revoked_host_takes_its_certificates_with_it() {
    let scratch = Scratch::new();
    let ledger = scratch.open_issuing().await;
    let expires = scratch.now()().plus(Duration::from_secs(60));
    append(&ledger, token("t1", expires)).await.unwrap();
    append(&ledger, enrolled("h1", "t1")).await.unwrap();
    append(&ledger, enrolled("h2", "t1")).await.unwrap();
    for (number, host) in [(1, "h1"), (2, "h2"), (3, "h1")] {
        let mut issued = scratch.issued(number);
        issued.host = Some(host.into());
        append(&ledger, issued).await.unwrap();
    }
    append(&ledger, scratch.issued(4)).await.unwrap();

    append(&ledger, revoked(Subject::Host("h1".into())))
        .await
        .unwrap();
    let list = ledger.revocations().await.unwrap();
    let serials: Vec<_> = list.host_certificates.iter().map(|live| live.serial).collect();
    assert_eq!(serials, [serial(1), serial(3)]);
    assert!(ledger.host("h1".into()).await.unwrap().unwrap().revoked);

    append(&ledger, lifted(Subject::Host("h1".into()))).await.unwrap();
    assert_eq!(ledger.revocations().await.unwrap().host_certificates, []);
    assert!(!ledger.host("h1".into()).await.unwrap().unwrap().revoked);
}

#[tokio::test]
async fn watchers_hear_of_changes_by_this_process_and_by_others() {
    let scratch = Scratch::new();
    let here = scratch.open();
    let there = scratch.open();
    let mut watch = here.watch();
    let web = Subject::Identity("spiffe://shop.local/ns/shop/sa/web".into());
    append(&here, revoked(web.clone())).await.unwrap();
    let heard = tokio::time::timeout(
        Duration::from_secs(1),
        watch.wait_for(|seen| seen.revocations == 1),
    );
    heard.await.unwrap().unwrap();

    append(&there, lifted(web)).await.unwrap();
    let heard = tokio::time::timeout(
        Duration::from_secs(1),
        watch.wait_for(|seen| seen.revocations == 2),
    );
    heard.await.expect("within a second").unwrap();
    assert_eq!(here.revocations().await.unwrap().entries, []);
}
