//! Claims about the rows of the log.

use std::sync::Arc;
use std::time::Duration;

use rusqlite::Connection;

use crate::ledger::chain::Head;
use crate::ledger::event::{BackedUp, Event, Refused, Subject};
use crate::ledger::scratch::{Scratch, append, revoked, serial};
use crate::ledger::sqlite::SqliteLedger;
use crate::ledger::{Entry, Ledger, LedgerError, RowFilter};

#[tokio::test]
async fn rows_follow_each_other_and_outlive_the_process() {
    let scratch = Scratch::new();
    let ledger = scratch.open_issuing().await;
    for number in 0..20 {
        append(&ledger, scratch.issued(number)).await.unwrap();
    }
    let before = ledger.rows(RowFilter::default(), 0, 100).await.unwrap();
    ledger.close().await.unwrap();
    drop(ledger);

    let ledger = scratch.open();
    let after = ledger.rows(RowFilter::default(), 0, 100).await.unwrap();
    assert_eq!(after, before);
    assert_eq!(after.len(), 23);
    assert!(matches!(after[0].event().unwrap(), Event::Opened(_)));
    let mut head = Head::EMPTY;
    for row in &after {
        assert_eq!(row.previous, head.hash);
        head.follow(&row.content(), &row.hash, false).unwrap();
    }
    assert_eq!(ledger.chain().await.unwrap().hash, head.hash);
}

#[tokio::test]
async fn rows_are_found_by_kind_by_what_they_mention_and_by_time() {
    let scratch = Scratch::new();
    let ledger = scratch.open_issuing().await;
    let started = scratch.now()();
    for number in 0..12 {
        append(&ledger, scratch.issued(number)).await.unwrap();
        scratch.advance(10);
    }
    let web = "spiffe://shop.local/ns/shop/sa/w1";
    append(&ledger, revoked(Subject::Identity(web.into())))
        .await
        .unwrap();
    let numbers = async |filter: RowFilter| {
        let rows = ledger.rows(filter, 0, 100).await.unwrap();
        rows.iter().map(|row| row.sequence).collect::<Vec<_>>()
    };
    let by_text = |text: &str| RowFilter {
        mentions: Some(text.into()),
        ..RowFilter::default()
    };
    assert_eq!(numbers(by_text(web)).await, [5, 16], "and not w10 or w11");
    assert_eq!(numbers(by_text(&serial(3).to_string())).await, [7]);
    let kinds = RowFilter {
        kinds: vec!["opened".into(), "revoked".into()],
        ..RowFilter::default()
    };
    assert_eq!(numbers(kinds).await, [1, 16]);
    let times = RowFilter {
        since: Some(started.plus(Duration::from_secs(20))),
        until: Some(started.plus(Duration::from_secs(40))),
        ..RowFilter::default()
    };
    assert_eq!(numbers(times).await, [6, 7, 8]);
    let page = ledger.rows(RowFilter::default(), 14, 1).await.unwrap();
    assert_eq!(page[0].sequence, 15);
    assert_ne!(page[0].previous, crate::ledger::RowHash::NONE);
}

#[tokio::test]
async fn rows_cannot_be_changed_or_deleted_by_mistake() {
    let scratch = Scratch::new();
    scratch.open().close().await.unwrap();
    let conn = Connection::open(scratch.file()).unwrap();
    for sql in [
        "DELETE FROM log",
        "UPDATE log SET body = '{}'",
        "DELETE FROM checkpoints",
        "UPDATE checkpoints SET hash = x'00'",
    ] {
        let said = conn.execute(sql, []).unwrap_err().to_string();
        assert!(said.contains("are never"), "{sql}: {said}");
    }
}

#[tokio::test]
async fn what_only_the_ledger_records_is_refused_from_others() {
    let scratch = Scratch::new();
    let ledger = scratch.open();
    let rows = ledger.rows(RowFilter::default(), 0, 1).await.unwrap();
    let opened = Entry::from(rows[0].event().unwrap());
    let refused = ledger.append(vec![opened]).await;
    assert!(
        matches!(refused, Err(LedgerError::Reserved { kind: "opened" })),
        "{refused:?}"
    );
}

#[tokio::test]
async fn an_event_without_bounds_is_refused() {
    let scratch = Scratch::new();
    let ledger = scratch.open();
    let refused = append(
        &ledger,
        BackedUp {
            by: "x".repeat(100_000),
        },
    )
    .await;
    assert!(matches!(refused, Err(LedgerError::TooLong { .. })), "{refused:?}");
}

#[tokio::test]
async fn appending_nothing_is_nothing() {
    let scratch = Scratch::new();
    let ledger = scratch.open();
    let appended = ledger.append(Vec::new()).await.unwrap();
    assert_eq!((appended.first, appended.last), (1, 1));
    assert_eq!(ledger.chain().await.unwrap().sequence, 1);
}

#[tokio::test]
async fn a_closed_ledger_takes_nothing_and_has_recorded_what_was_queued() {
    let scratch = Scratch::new();
    let ledger: Arc<SqliteLedger> = Arc::new(scratch.open_issuing().await);
    let mut appends = tokio::task::JoinSet::new();
    for number in 0..100 {
        let (ledger, issued) = (Arc::clone(&ledger), scratch.issued(number));
        appends.spawn(async move { append(ledger.as_ref(), issued).await });
    }
    tokio::task::yield_now().await;
    ledger.close().await.unwrap();
    let recorded = appends
        .join_all()
        .await
        .iter()
        .filter(|answer| answer.is_ok())
        .count();
    let refused = append(ledger.as_ref(), scratch.issued(1000)).await;
    assert!(matches!(refused, Err(LedgerError::Closed)), "{refused:?}");
    assert!(matches!(ledger.live().await, Err(LedgerError::Closed)));
    ledger.close().await.expect("closing twice is no fault");

    let ledger = scratch.open();
    assert_eq!(ledger.live().await.unwrap().certificates, recorded as u64);
}

#[tokio::test]
async fn a_text_that_looks_like_sql_or_json_is_only_text() {
    let scratch = Scratch::new();
    let ledger = scratch.open();
    let nasty = "'; DROP TABLE log; --\"}\u{0}\u{202e}\n";
    let refused = Refused {
        caller: Some(nasty.into()),
        asked: nasty.into(),
        reason: "not_entitled".into(),
        detail: nasty.into(),
        left_out: 0,
    };
    append(&ledger, refused.clone()).await.unwrap();
    let filter = RowFilter {
        mentions: Some(nasty.into()),
        ..RowFilter::default()
    };
    let rows = ledger.rows(filter, 0, 10).await.unwrap();
    assert_eq!(rows.len(), 1);
    assert_eq!(rows[0].event().unwrap(), Event::Refused(refused));
}
