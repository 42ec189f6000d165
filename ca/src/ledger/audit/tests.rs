//! Claims about the proof of a whole ledger.

use std::time::Duration;

use ferrule_identity::{KeyAlgorithm, PrivateKey};
use rusqlite::params;

use super::*;
use crate::ledger::Ledger;
use crate::ledger::event::{Role, Step, Subject};
use crate::ledger::record::RowFilter;
use crate::ledger::scratch::{Scratch, append, enrolled, prepared, revoked, stepped, token, used};
use crate::ledger::sqlite::SqliteLedger;

/// A ledger with 60 certificates and something of everything else, checkpoints at rows 1, 20, 40 … and at its end.
async fn full(scratch: &Scratch) -> SqliteLedger {
    let mut options = scratch.options();
    options.checkpoint_rows = 20;
    let ledger = SqliteLedger::open(&scratch.folder(), options).unwrap();
    let expires = scratch.now()().plus(Duration::from_secs(60));
    append(&ledger, prepared(crate::ledger::scratch::ISSUER, Role::Signing))
        .await
        .unwrap();
    append(&ledger, stepped(crate::ledger::scratch::ISSUER, Step::Active))
        .await
        .unwrap();
    append(&ledger, token("t1", expires)).await.unwrap();
    append(&ledger, token("t2", expires)).await.unwrap();
    let entries = vec![used("t1", "h1").into(), enrolled("h1", "t1").into()];
    ledger.append(entries).await.unwrap();
    for number in 0..60 {
        append(&ledger, scratch.issued(number)).await.unwrap();
        scratch.advance(100);
    }
    append(&ledger, revoked(Subject::Host("h1".into())))
        .await
        .unwrap();
    ledger
}

async fn tampered(sql: &str) -> ChainFault {
    let scratch = Scratch::new();
    full(&scratch).await.close().await.unwrap();
    tamper(&scratch, sql);
    fault(&scratch, &Expected::default())
}

fn tamper(scratch: &Scratch, sql: &str) {
    let conn = Connection::open(scratch.file()).unwrap();
    for trigger in [
        "log_keeps_rows",
        "log_keeps_words",
        "checkpoints_keep_rows",
        "checkpoints_keep_words",
    ] {
        conn.execute_batch(&format!("DROP TRIGGER {trigger}")).unwrap();
    }
    conn.execute_batch(sql).unwrap();
}

fn fault(scratch: &Scratch, expected: &Expected) -> ChainFault {
    let report = verify(&scratch.folder(), expected).unwrap();
    report.fault.expect("a fault is found")
}

#[tokio::test]
async fn a_sound_ledger_is_found_sound_while_it_is_in_use() {
    let scratch = Scratch::new();
    let ledger = full(&scratch).await;
    let report = verify(&scratch.folder(), &Expected::default()).unwrap();
    assert_eq!(report.fault, None);
    assert_eq!((report.rows, report.head.0), (68, 68));
    assert_eq!(report.checkpoints, 4, "at rows 1, 21, 41 and 61");
    assert_eq!(report.unsigned_rows, 7);
    assert_eq!(report.trust_domain, "shop.local");
    assert_eq!(report.keys, [scratch.key().public_key().fingerprint()]);

    let expected = Expected {
        key: Some(report.keys[0]),
        row: Some(report.head),
    };
    append(&ledger, scratch.issued(1000)).await.unwrap();
    ledger.close().await.unwrap();
    let report = verify(&scratch.file(), &expected).unwrap();
    assert_eq!((report.fault, report.unsigned_rows, report.rows), (None, 0, 69));
}

#[tokio::test]
async fn a_change_of_any_column_is_found_at_its_row() {
    for change in [
        "body = replace(body, 'sa/w', 'sa/v')",
        "time = time - 1",
        "kind = 'refused'",
        "hash = zeroblob(32)",
    ] {
        let found = tampered(&format!("UPDATE log SET {change} WHERE sequence = 30")).await;
        assert_eq!(found, ChainFault::Hash { sequence: 30 }, "{change}");
    }
    let found = tampered("UPDATE log SET epoch = 2 WHERE sequence = 30").await;
    assert!(
        matches!(found, ChainFault::Epoch { sequence: 30, .. }),
        "{found:?}"
    );
}

#[tokio::test]
async fn rows_that_are_gone_are_missed() {
    assert_eq!(
        tampered("DELETE FROM log WHERE sequence = 30").await,
        ChainFault::Gap {
            expected: 30,
            found: 31
        }
    );
    assert_eq!(
        tampered("DELETE FROM log WHERE sequence = 1").await,
        ChainFault::Gap {
            expected: 1,
            found: 2
        }
    );
    assert_eq!(
        tampered("DELETE FROM log WHERE sequence > 65; UPDATE chain SET sequence = 65").await,
        ChainFault::CutOff {
            sequence: 68,
            last: 65
        }
    );
    assert_eq!(
        tampered("DELETE FROM log; DELETE FROM checkpoints; UPDATE chain SET sequence = 0").await,
        ChainFault::Empty
    );
}

#[tokio::test]
async fn rows_cut_off_with_their_checkpoints_are_missed_by_who_noted_an_earlier_head() {
    let scratch = Scratch::new();
    full(&scratch).await.close().await.unwrap();
    let noted = verify(&scratch.folder(), &Expected::default()).unwrap().head;
    tamper(
        &scratch,
        "DELETE FROM log WHERE sequence > 67; DELETE FROM checkpoints WHERE sequence > 67; DELETE FROM revocations;
         UPDATE chain SET sequence = 67, revocations = 0, hosts = 1",
    );
    let report = verify(&scratch.folder(), &Expected::default()).unwrap();
    assert_eq!(
        (report.fault, report.unsigned_rows),
        (None, 6),
        "it cannot be seen in the file alone"
    );
    let expected = Expected {
        row: Some(noted),
        ..Expected::default()
    };
    assert_eq!(
        fault(&scratch, &expected),
        ChainFault::Foreign {
            sequence: noted.0,
            hash: noted.1
        }
    );
}

#[tokio::test]
async fn a_chain_that_was_written_anew_does_not_pass_its_checkpoints() {
    let scratch = Scratch::new();
    full(&scratch).await.close().await.unwrap();
    rewrite(&scratch, 30);
    assert_eq!(
        fault(&scratch, &Expected::default()),
        ChainFault::Checkpoint { sequence: 41 }
    );
    // With the statements changed too, it is the signature that does not match.
    tamper_again(
        &scratch,
        "UPDATE checkpoints SET hash = (SELECT hash FROM log WHERE log.sequence = checkpoints.sequence)",
    );
    assert_eq!(
        fault(&scratch, &Expected::default()),
        ChainFault::Signature {
            sequence: 41,
            key: scratch.key().public_key().fingerprint()
        }
    );
}

/// Changes row `from` and gives every row from there on the hash that fits.
fn rewrite(scratch: &Scratch, from: u64) {
    tamper(
        scratch,
        &format!("UPDATE log SET time = time + 1 WHERE sequence = {from}"),
    );
    let conn = Connection::open(scratch.file()).unwrap();
    let replica: String = conn
        .query_row("SELECT replica FROM chain", [], |row| row.get(0))
        .unwrap();
    let mut rows = Vec::new();
    rows::walk(&conn, &replica, from - 1, |row, _| {
        rows.extend(row);
        Ok(true)
    })
    .unwrap();
    let mut previous = rows[0].hash;
    for row in &rows[1..] {
        previous = row.content().hash(&previous);
        let sequence = i64::try_from(row.sequence).unwrap();
        conn.execute(
            "UPDATE log SET hash = ?1 WHERE sequence = ?2",
            params![previous, sequence],
        )
        .unwrap();
    }
}

fn tamper_again(scratch: &Scratch, sql: &str) {
    Connection::open(scratch.file())
        .unwrap()
        .execute_batch(sql)
        .unwrap();
}

#[tokio::test]
async fn a_ledger_that_somebody_made_up_is_not_the_one_with_the_known_key() {
    let scratch = Scratch::new();
    full(&scratch).await.close().await.unwrap();
    let known = PrivateKey::generate(KeyAlgorithm::EcdsaP256).unwrap();
    let expected = Expected {
        key: Some(known.public_key().fingerprint()),
        ..Expected::default()
    };
    let found = fault(&scratch, &expected);
    assert!(matches!(found, ChainFault::OtherKey { .. }), "{found:?}");
}

#[tokio::test]
async fn tables_that_say_something_else_than_the_log_are_found() {
    for (change, table) in [
        ("DELETE FROM revocations", "revocations"),
        (
            "UPDATE tokens SET state = 'outstanding', host = NULL WHERE token = 't1'",
            "tokens",
        ),
        (
            "UPDATE hosts SET identities = '[\"spiffe://shop.local/*\"]'",
            "hosts",
        ),
        ("UPDATE authorities SET step = 'prepared'", "authorities"),
        ("INSERT INTO bundles VALUES (9, '[]', 0)", "bundles"),
        (
            "INSERT INTO acknowledgements VALUES ('p', 9, 0)",
            "acknowledgements",
        ),
        ("UPDATE chain SET revocations = 9", "chain"),
        (
            "DELETE FROM live WHERE number = (SELECT max(number) FROM live)",
            "live",
        ),
        (
            "UPDATE live SET id = 'spiffe://shop.local/ns/shop/sa/other' WHERE number = (SELECT max(number) FROM live)",
            "live",
        ),
    ] {
        assert_eq!(
            tampered(change).await,
            ChainFault::State { table, sequence: 68 },
            "{change}"
        );
    }
}

#[tokio::test]
async fn a_row_that_its_kind_does_not_explain_is_found() {
    let scratch = Scratch::new();
    full(&scratch).await.close().await.unwrap();
    tamper(
        &scratch,
        "UPDATE log SET kind = 'revoked' WHERE sequence = 68; DELETE FROM checkpoints WHERE sequence = 68",
    );
    tamper_again(&scratch, "UPDATE log SET body = '{}' WHERE sequence = 68");
    rewrite_last(&scratch);
    let found = fault(&scratch, &Expected::default());
    assert!(
        matches!(found, ChainFault::Body { sequence: 68, .. }),
        "{found:?}"
    );
}

fn rewrite_last(scratch: &Scratch) {
    let conn = Connection::open(scratch.file()).unwrap();
    let replica: String = conn
        .query_row("SELECT replica FROM chain", [], |row| row.get(0))
        .unwrap();
    let mut last = Vec::new();
    rows::walk(&conn, &replica, 67, |row, _| {
        last.extend(row);
        Ok(true)
    })
    .unwrap();
    let hash = last[1].content().hash(&last[0].hash);
    conn.execute("UPDATE log SET hash = ?1 WHERE sequence = 68", params![hash])
        .unwrap();
}

#[tokio::test]
async fn nothing_at_all_is_an_error_and_no_report() {
    let scratch = Scratch::new();
    let missing = verify(&scratch.folder(), &Expected::default());
    assert!(matches!(missing, Err(OpenError::Missing { .. })), "{missing:?}");
    std::fs::write(scratch.root().join("other"), b"not a ledger").unwrap();
    let other = verify(&scratch.root().join("other"), &Expected::default());
    assert!(
        matches!(other, Err(OpenError::Store { .. } | OpenError::Format { .. })),
        "{other:?}"
    );
}

#[tokio::test]
async fn an_exported_line_is_the_row_with_its_hashes() {
    let scratch = Scratch::new();
    let ledger = full(&scratch).await;
    let mut out = Vec::new();
    assert_eq!(
        export(&ledger, &RowFilter::default(), &mut out).await.unwrap(),
        68
    );
    let text = String::from_utf8(out).unwrap();
    let rows = ledger.rows(RowFilter::default(), 0, 100).await.unwrap();
    let mut previous = RowHash::NONE;
    for (line, row) in text.lines().zip(&rows) {
        let object: serde_json::Value = serde_json::from_str(line).unwrap();
        assert_eq!(object["sequence"], row.sequence);
        assert_eq!(object["kind"], row.kind.as_str());
        assert_eq!(object["body"].to_string(), row.body, "octet for octet");
        assert_eq!(object["previous"], previous.to_string());
        previous = object["hash"].as_str().unwrap().parse().unwrap();
        assert_eq!(row.content().hash(&row.previous), previous);
    }
    assert_eq!(text.lines().count(), rows.len());

    let only = RowFilter {
        kinds: vec!["revoked".into()],
        ..RowFilter::default()
    };
    let mut out = Vec::new();
    assert_eq!(export(&ledger, &only, &mut out).await.unwrap(), 1);
    assert_eq!(out.iter().filter(|octet| **octet == b'\n').count(), 1);
}

#[tokio::test]
async fn an_export_goes_on_over_many_pages() {
    let scratch = Scratch::new();
    let ledger = scratch.open_issuing().await;
    for share in 0..6 {
        let entries = (share * 200..(share + 1) * 200).map(|number| scratch.issued(number).into());
        ledger.append(entries.collect()).await.unwrap();
    }
    let mut out = Vec::new();
    assert_eq!(
        export(&ledger, &RowFilter::default(), &mut out).await.unwrap(),
        1203
    );
}
