//! Claims about the record of issued certificates.

use std::sync::Arc;
use std::time::Duration;

use super::conflict;
use crate::ledger::event::{Event, Role, Step, Subject};
use crate::ledger::scratch::{ISSUER, Scratch, append, enrolled, prepared, revoked, serial, stepped, token};
use crate::ledger::{Conflict, IssuerUse, Ledger, LiveCount, RowFilter};

#[tokio::test]
async fn an_issue_is_on_record_and_live_until_it_runs_out() {
    let scratch = Scratch::new();
    let ledger = scratch.open_issuing().await;
    let first = scratch.issued(1);
    let appended = append(&ledger, first.clone()).await.unwrap();
    scratch.advance(600);
    let mut second = scratch.issued(2);
    second.id = first.id.clone();
    append(&ledger, second.clone()).await.unwrap();

    let rows = ledger
        .rows(RowFilter::default(), appended.first - 1, 1)
        .await
        .unwrap();
    assert_eq!(rows[0].event().unwrap(), Event::Issued(first.clone()));
    let live = ledger.certificate(serial(1)).await.unwrap().unwrap();
    assert_eq!(
        (live.id, live.issuer, live.not_after),
        (first.id.clone(), ISSUER.into(), first.not_after)
    );
    let count = |certificates, identities| LiveCount {
        certificates,
        identities,
    };
    assert_eq!(ledger.live().await.unwrap(), count(2, 1));
    assert_eq!(ledger.live_identities().await.unwrap(), [first.id]);
    assert_eq!(
        ledger.issuers().await.unwrap(),
        [IssuerUse {
            authority: ISSUER.into(),
            live: 2,
            latest_not_after: second.not_after,
        }]
    );

    scratch.advance(3001);
    assert_eq!(ledger.live().await.unwrap(), count(1, 1), "the first has run out");
    scratch.advance(600);
    assert_eq!(ledger.live().await.unwrap(), count(0, 0));
    assert_eq!(ledger.issuers().await.unwrap(), []);
}

#[tokio::test]
async fn a_serial_is_issued_once() {
    let scratch = Scratch::new();
    let ledger = scratch.open_issuing().await;
    append(&ledger, scratch.issued(1)).await.unwrap();
    assert_eq!(
        conflict(append(&ledger, scratch.issued(1)).await),
        Conflict::SerialExists { serial: serial(1) }
    );
    // Another serial that ends in the same eight octets is another serial.
    let mut alike = scratch.issued(2);
    let mut octets = serial(1).as_be_bytes().to_vec();
    octets[0] ^= 1;
    alike.serial = crate::ledger::Serial::from_be_bytes(&octets).unwrap();
    append(&ledger, alike.clone()).await.unwrap();
    assert_eq!(
        ledger.certificate(alike.serial).await.unwrap().unwrap().id,
        alike.id
    );
    assert_eq!(
        ledger.certificate(serial(1)).await.unwrap().unwrap().id,
        scratch.issued(1).id
    );
}

#[tokio::test]
async fn only_an_authority_that_has_been_active_issues() {
    let scratch = Scratch::new();
    let ledger = scratch.open();
    let refused = Conflict::IssuerNotActive {
        authority: ISSUER.into(),
    };
    assert_eq!(conflict(append(&ledger, scratch.issued(1)).await), refused);
    append(&ledger, prepared(ISSUER, Role::Signing)).await.unwrap();
    assert_eq!(conflict(append(&ledger, scratch.issued(1)).await), refused);
    append(&ledger, stepped(ISSUER, Step::Active)).await.unwrap();
    append(&ledger, scratch.issued(1)).await.unwrap();
    append(&ledger, stepped(ISSUER, Step::Retired)).await.unwrap();
    append(&ledger, scratch.issued(2))
        .await
        .expect("what was signed just before still counts");
    append(&ledger, stepped(ISSUER, Step::Removed)).await.unwrap();
    assert_eq!(conflict(append(&ledger, scratch.issued(3)).await), refused);
}

#[tokio::test]
async fn nothing_is_issued_to_whom_is_revoked() {
    let scratch = Scratch::new();
    let ledger = scratch.open_issuing().await;
    let expires = scratch.now()().plus(Duration::from_secs(60));
    append(&ledger, token("t1", expires)).await.unwrap();
    append(&ledger, enrolled("h1", "t1")).await.unwrap();
    let issued = scratch.issued(1);
    append(&ledger, revoked(Subject::Identity(issued.id.clone())))
        .await
        .unwrap();
    assert_eq!(
        conflict(append(&ledger, issued.clone()).await),
        Conflict::IdentityRevoked { id: issued.id }
    );

    let mut by_host = scratch.issued(2);
    by_host.host = Some("h1".into());
    append(&ledger, by_host.clone()).await.unwrap();
    append(&ledger, revoked(Subject::Host("h1".into())))
        .await
        .unwrap();
    by_host.serial = serial(3);
    assert_eq!(
        conflict(append(&ledger, by_host.clone()).await),
        Conflict::HostRevoked { host: "h1".into() }
    );
    by_host.host = Some("h2".into());
    assert_eq!(
        conflict(append(&ledger, by_host).await),
        Conflict::HostUnknown { host: "h2".into() }
    );
}

#[tokio::test]
async fn certificates_that_ran_out_leave_the_table_and_stay_in_the_log() {
    let scratch = Scratch::new();
    let ledger = scratch.open_issuing().await;
    for number in 0..50 {
        append(&ledger, scratch.issued(number)).await.unwrap();
    }
    scratch.advance(3600 + 301);
    for number in 50..80 {
        append(&ledger, scratch.issued(number)).await.unwrap();
    }
    assert_eq!(ledger.certificate(serial(0)).await.unwrap(), None);
    assert_eq!(ledger.certificate(serial(49)).await.unwrap(), None);
    assert!(ledger.certificate(serial(79)).await.unwrap().is_some());
    let issued = RowFilter {
        kinds: vec!["issued".into()],
        ..RowFilter::default()
    };
    assert_eq!(ledger.rows(issued, 0, 1000).await.unwrap().len(), 80);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn conflicts_fail_alone_among_appends_that_share_a_transaction() {
    let scratch = Scratch::new();
    let ledger: Arc<dyn Ledger> = Arc::new(scratch.open_issuing().await);
    let mut appends = tokio::task::JoinSet::new();
    // Each serial is tried twice; one of the two must win, and never both.
    for number in (0..300).chain(0..300) {
        let (ledger, issued) = (Arc::clone(&ledger), scratch.issued(number));
        appends.spawn(async move { (number, append(ledger.as_ref(), issued).await) });
    }
    let mut won = vec![0; 300];
    for (number, answer) in appends.join_all().await {
        match answer {
            Ok(_) => won[usize::try_from(number).unwrap()] += 1,
            Err(_) => assert_eq!(
                conflict(answer),
                Conflict::SerialExists {
                    serial: serial(number)
                }
            ),
        }
    }
    assert_eq!(won, [1; 300]);
    assert_eq!(ledger.live().await.unwrap().certificates, 300);
}
