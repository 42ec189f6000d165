//! Claims about refusals on their way into the ledger.

use super::*;
use crate::ledger::scratch::Scratch;
use crate::ledger::{Event, RowFilter};

async fn refused(ledger: &dyn Ledger) -> Vec<Refused> {
    let filter = RowFilter {
        kinds: vec!["refused".into()],
        ..RowFilter::default()
    };
    let rows = ledger.rows(filter, 0, 1000).await.unwrap();
    rows.iter()
        .map(|row| match row.event().unwrap() {
            Event::Refused(refused) => refused,
            other => panic!("{other:?}"),
        })
        .collect()
}

fn refusal(caller: Option<&str>) -> Refusal {
    Refusal {
        caller: caller.map(str::to_owned),
        asked: "spiffe://shop.local/ns/shop/sa/web".into(),
        reason: "not_entitled",
        detail: "é".repeat(200),
    }
}

#[tokio::test]
async fn strangers_cannot_fill_the_disk() {
    let scratch = Scratch::new();
    let ledger = Arc::new(scratch.open());
    let refusals = Refusals::new(ledger.clone(), scratch.now(), SampleLimits::default());
    for _ in 0..500 {
        refusals.record(refusal(None)).await.unwrap();
    }
    let rows = refused(ledger.as_ref()).await;
    assert_eq!(rows.len(), 1);
    assert_eq!(rows[0].left_out, 0);
    assert_eq!(rows[0].detail.len(), 256, "cut between two characters");

    assert_eq!(refusals.settle(true).await.unwrap(), 1);
    assert_eq!(refused(ledger.as_ref()).await[1].left_out, 499);
    assert_eq!(refusals.settle(true).await.unwrap(), 0);
}

#[tokio::test]
async fn a_known_callers_refusals_name_it() {
    let scratch = Scratch::new();
    let ledger = Arc::new(scratch.open());
    let refusals = Refusals::new(ledger.clone(), scratch.now(), SampleLimits::default());
    for _ in 0..12 {
        refusals.record(refusal(Some("host:a"))).await.unwrap();
    }
    scratch.advance(60);
    assert!(refusals.record(refusal(Some("host:a"))).await.unwrap());
    let rows = refused(ledger.as_ref()).await;
    assert_eq!(rows.len(), 11);
    assert!(rows.iter().all(|row| row.caller.as_deref() == Some("host:a")));
    assert_eq!(rows[10].left_out, 2);
}

#[tokio::test]
async fn a_refusal_that_the_ledger_does_not_take_is_told_of_later() {
    let scratch = Scratch::new();
    let ledger = Arc::new(scratch.open());
    let refusals = Refusals::new(ledger.clone(), scratch.now(), SampleLimits::default());
    ledger.close().await.unwrap();
    assert!(matches!(
        refusals.record(refusal(None)).await,
        Err(LedgerError::Closed)
    ));
    assert!(matches!(refusals.settle(true).await, Err(LedgerError::Closed)));
    let left = refusals.sampler().settle(scratch.now()(), true);
    assert_eq!(left[0].count, 1);
}
