//! Proves what the ledger promises when processes die, disks fail and files are damaged.

mod child;
mod crash;
mod damage;
mod disk;
mod speed;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use ferrule_identity::{KeyAlgorithm, PrivateKey, Timestamp, TrustDomain};

use super::audit::{Expected, Report, verify};
use super::event::{Event, Role, Step};
use super::scratch::{ISSUER, append, prepared, stepped};
use super::sqlite::{Options, SqliteLedger};
use super::{Ledger, OpenError, RowFilter};

/// Opens the ledger in `folder/ledger` with the key that lies in `folder`; the first to come makes both.
fn open(folder: &Path) -> Result<SqliteLedger, OpenError> {
    let key_file = folder.join("key.pem");
    let key = match std::fs::read_to_string(&key_file) {
        Ok(pem) => PrivateKey::from_pem(&pem).unwrap(),
        Err(_) => {
            let key = PrivateKey::generate(KeyAlgorithm::EcdsaP256).unwrap();
            std::fs::write(&key_file, key.to_pem().as_bytes()).unwrap();
            key
        }
    };
    let options = Options {
        create: true,
        checkpoint_rows: 20,
        ..Options::new(
            TrustDomain::parse("shop.local").unwrap(),
            Some(Arc::new(key)),
            Arc::new(|| Timestamp::from_unix(1_800_000_000)),
        )
    };
    SqliteLedger::open(&folder.join("ledger"), options)
}

/// Makes the ledger in `folder/ledger`, with an authority that issues.
async fn make(folder: &Path) {
    let ledger = open(folder).unwrap();
    append(&ledger, prepared(ISSUER, Role::Signing)).await.unwrap();
    append(&ledger, stepped(ISSUER, Step::Active)).await.unwrap();
    ledger.close().await.unwrap();
}

/// The report on the ledger in `folder`.
fn examined(folder: &Path) -> Report {
    verify(&folder.join("ledger"), &Expected::default()).unwrap()
}

/// The serials in the log of the ledger in `folder`, as [`serials`] gives them.
async fn issued(folder: &Path) -> BTreeMap<String, u64> {
    let ledger = open(folder).unwrap();
    let serials = serials(&ledger).await;
    ledger.close().await.unwrap();
    serials
}

/// The serials in the log of `ledger`, each with the row that issued it.
///
/// Panics when a serial was issued twice.
async fn serials(ledger: &SqliteLedger) -> BTreeMap<String, u64> {
    let filter = RowFilter {
        kinds: vec!["issued".into()],
        ..RowFilter::default()
    };
    let mut serials = BTreeMap::new();
    let mut after = 0;
    loop {
        let rows = ledger.rows(filter.clone(), after, 1000).await.unwrap();
        let Some(last) = rows.last() else { break };
        after = last.sequence;
        for row in rows {
            let Event::Issued(issued) = row.event().unwrap() else {
                panic!("{row:?}")
            };
            let twice = serials.insert(issued.serial.to_string(), row.sequence);
            assert_eq!(twice, None, "{} was issued twice", issued.serial);
        }
    }
    serials
}

/// What a test issues as the certificate `number`.
fn certificate(number: u64) -> super::event::Issued {
    super::scratch::issued(number, Timestamp::from_unix(1_800_000_000))
}
