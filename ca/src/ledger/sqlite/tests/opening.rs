//! Claims about which files are opened as a ledger.

use std::sync::Arc;

use ferrule_identity::{KeyAlgorithm, PrivateKey, TrustDomain};
use rusqlite::Connection;

use crate::ledger::chain::ChainFault;
use crate::ledger::scratch::{Scratch, append};
use crate::ledger::sqlite::{Options, SqliteLedger};
use crate::ledger::{Ledger, OpenError};

fn refused(scratch: &Scratch, options: Options) -> OpenError {
    SqliteLedger::open(&scratch.folder(), options).unwrap_err()
}

#[tokio::test]
async fn a_ledger_is_made_only_on_demand_and_only_with_a_key() {
    let scratch = Scratch::new();
    let mut options = scratch.options();
    options.create = false;
    std::fs::create_dir(scratch.folder()).unwrap();
    std::fs::set_permissions(
        scratch.folder(),
        std::os::unix::fs::PermissionsExt::from_mode(0o700),
    )
    .unwrap();
    let error = refused(&scratch, options.clone());
    assert!(matches!(error, OpenError::Missing { .. }), "{error:?}");
    options.create = true;
    options.key = None;
    let error = refused(&scratch, options.clone());
    assert!(matches!(error, OpenError::NoKey { .. }), "{error:?}");
    scratch.open().close().await.unwrap();
    SqliteLedger::open(&scratch.folder(), options).expect("an existing one opens without a key");
}

#[tokio::test]
async fn a_ledger_of_another_trust_domain_or_key_is_refused() {
    let scratch = Scratch::new();
    scratch.open().close().await.unwrap();
    let mut options = scratch.options();
    options.trust_domain = TrustDomain::parse("other.local").unwrap();
    let error = refused(&scratch, options);
    assert!(matches!(error, OpenError::TrustDomain { .. }), "{error:?}");

    let mut options = scratch.options();
    options.key = Some(Arc::new(PrivateKey::generate(KeyAlgorithm::EcdsaP256).unwrap()));
    let error = refused(&scratch, options);
    assert!(matches!(error, OpenError::OtherKey { .. }), "{error:?}");
}

#[tokio::test]
async fn a_file_that_is_no_ledger_is_refused_and_left_alone() {
    let scratch = Scratch::new();
    scratch.open().close().await.unwrap();
    for content in [b"SQLite format 3\0 and then nonsense".to_vec(), vec![7; 5000]] {
        std::fs::write(scratch.file(), &content).unwrap();
        let error = refused(&scratch, scratch.options());
        assert!(matches!(error, OpenError::Store { .. }), "{error:?}");
        assert_eq!(std::fs::read(scratch.file()).unwrap(), content);
    }
    std::fs::write(scratch.file(), b"").unwrap();
    let conn = Connection::open(scratch.file()).unwrap();
    conn.execute_batch("CREATE TABLE theirs (x); PRAGMA user_version = 9;")
        .unwrap();
    drop(conn);
    let error = refused(&scratch, scratch.options());
    assert!(matches!(error, OpenError::Format { found: 9, .. }), "{error:?}");
}

#[tokio::test]
async fn a_changed_row_near_the_end_is_found_at_opening() {
    let scratch = Scratch::new();
    let ledger = scratch.open_issuing().await;
    for number in 0..10 {
        append(&ledger, scratch.issued(number)).await.unwrap();
    }
    ledger.close().await.unwrap();
    let conn = Connection::open(scratch.file()).unwrap();
    conn.execute_batch("DROP TRIGGER log_keeps_words; UPDATE log SET time = time + 1 WHERE sequence = 9;")
        .unwrap();
    drop(conn);
    let error = refused(&scratch, scratch.options());
    let OpenError::Broken { fault, .. } = error else {
        panic!("{error:?}");
    };
    assert_eq!(fault, ChainFault::Hash { sequence: 9 });
}

#[tokio::test]
async fn tables_that_follow_from_another_row_are_found_at_opening() {
    let scratch = Scratch::new();
    scratch.open_issuing().await.close().await.unwrap();
    let conn = Connection::open(scratch.file()).unwrap();
    conn.execute_batch("DROP TRIGGER log_keeps_rows; DELETE FROM log WHERE sequence = 3;")
        .unwrap();
    drop(conn);
    let error = refused(&scratch, scratch.options());
    assert!(matches!(error, OpenError::Store { .. }), "{error:?}");
}
