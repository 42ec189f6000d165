//! Opens the ledger's file, makes it where there is none, checks that its end holds together.

use std::path::Path;
use std::sync::Arc;

use ferrule_identity::{Fingerprint, PrivateKey, PublicKey};
use rusqlite::Connection;

use super::Options;
use super::connect::{Purpose, connect};
use super::files;
use super::rows;
use super::schema::{APPLICATION_ID, FORMAT, TABLES};
use super::state::State;
use super::transaction::{self, Signing, Written};
use crate::ledger::chain::{ChainFault, Head};
use crate::ledger::checkpoint::{Checkpoint, Statement};
use crate::ledger::event::Opened;
use crate::ledger::{Entry, OpenError, Row};

/// Opens the ledger in `folder` for appending.
///
/// # Errors
/// See [`SqliteLedger::open`](super::SqliteLedger::open).
pub(super) fn open(folder: &Path, options: &Options) -> Result<(Connection, State), OpenError> {
    let path = files::ledger_path(folder);
    let store = |doing| store_error(doing, &path);
    if options.create {
        files::prepare_folder(folder)?;
        match files::create_file(&path) {
            Ok(()) | Err(OpenError::Exists { .. }) => {}
            Err(error) => return Err(error),
        }
    } else {
        files::check_folder(folder)?;
    }
    files::check_files(&path)?;
    let conn = connect(&path, Purpose::Write, options.patience).map_err(store("open"))?;
    if format(&conn).map_err(store("read"))? == (0, 0) {
        if !options.create {
            return Err(OpenError::Missing { path });
        }
        begin(&conn, &path, options)?;
    }
    check_format(&conn, &path)?;
    let state = State::read(&conn).map_err(store("read"))?;
    check_owner(&state, &path, options)?;
    check_end(&conn, &state)
        .map_err(store("read"))?
        .map_or(Ok(()), |fault| {
            Err(OpenError::Broken {
                path: path.clone(),
                fault,
            })
        })?;
    Ok((conn, state))
}

/// Refuses a file that is not ours, or of a newer release.
///
/// # Errors
/// [`OpenError::Format`].
pub(in crate::ledger) fn check_format(conn: &Connection, path: &Path) -> Result<(), OpenError> {
    let (application, format) = format(conn).map_err(store_error("read", path))?;
    if (application, format) != (APPLICATION_ID, FORMAT) {
        return Err(OpenError::Format {
            path: path.to_owned(),
            found: format,
            known: FORMAT,
        });
    }
    Ok(())
}

/// An error of the store about the file `path`.
pub(in crate::ledger) fn store_error(
    doing: &'static str,
    path: &Path,
) -> impl FnOnce(rusqlite::Error) -> OpenError + use<> {
    let path = path.to_owned();
    move |error| OpenError::Store {
        doing,
        path,
        source: Arc::new(error),
    }
}

/// Makes an empty file a ledger whose first row says whose it is. Another process may do the same at this moment; the
/// one that comes second finds it done.
fn begin(conn: &Connection, path: &Path, options: &Options) -> Result<(), OpenError> {
    let Some(key) = &options.key else {
        return Err(OpenError::NoKey {
            path: path.to_owned(),
        });
    };
    let store = |doing| store_error(doing, path);
    conn.execute_batch("BEGIN IMMEDIATE").map_err(store("make"))?;
    let made = make(conn, path, options, key.as_ref());
    let ended = match &made {
        Ok(()) => conn.execute_batch("COMMIT"),
        Err(_) => conn.execute_batch("ROLLBACK"),
    };
    made.and(ended.map_err(store("make")))
}

fn make(conn: &Connection, path: &Path, options: &Options, key: &PrivateKey) -> Result<(), OpenError> {
    let store = |doing| store_error(doing, path);
    if format(conn).map_err(store("read"))? != (0, 0) {
        return Ok(());
    }
    let replica: String = rand::random::<[u8; 8]>()
        .iter()
        .map(|octet| format!("{octet:02x}"))
        .collect();
    let opened = Opened {
        trust_domain: options.trust_domain.clone(),
        replica: replica.clone(),
        key: key.public_key().clone(),
        release: env!("CARGO_PKG_VERSION").to_owned(),
    };
    let first = Written::from_ledger(Entry::from(opened)).map_err(|error| OpenError::Store {
        doing: "make",
        path: path.to_owned(),
        source: Arc::new(error),
    })?;
    let state = State::new(options.trust_domain.to_string(), replica, key.public_key());
    let signing = Signing {
        key: Some(key),
        every_rows: 1,
    };
    conn.execute_batch(TABLES).map_err(store("make"))?;
    conn.pragma_update(None, "application_id", APPLICATION_ID)
        .and_then(|()| conn.pragma_update(None, "user_version", FORMAT))
        .and_then(|()| state.insert(conn))
        .and_then(|()| transaction::write(conn, &[&[first]], (options.now)(), signing).map(drop))
        .map_err(store("make"))
}

/// The file's application number and format; both zero in an empty file.
fn format(conn: &Connection) -> rusqlite::Result<(i64, i64)> {
    let application = conn.query_row("PRAGMA application_id", [], |row| row.get(0))?;
    let format = conn.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    Ok((application, format))
}

/// Refuses a ledger of another trust domain, or a key that is not the ledger's.
fn check_owner(state: &State, path: &Path, options: &Options) -> Result<(), OpenError> {
    if state.trust_domain != options.trust_domain.as_str() {
        return Err(OpenError::TrustDomain {
            path: path.to_owned(),
            found: state.trust_domain.clone(),
            wanted: options.trust_domain.to_string(),
        });
    }
    match &options.key {
        Some(key) if key.public_key().spki_der() != state.key => Err(OpenError::OtherKey {
            path: path.to_owned(),
            given: key.public_key().fingerprint(),
            recorded: Fingerprint::of(&state.key),
        }),
        _ => Ok(()),
    }
}

/// Checks the last rows of the log and the last checkpoint: what a crash could have touched. The whole log is
/// [`audit`](crate::ledger::audit)'s to check.
fn check_end(conn: &Connection, state: &State) -> rusqlite::Result<Option<ChainFault>> {
    if state.head.sequence == 0 {
        return Ok(Some(ChainFault::Empty));
    }
    let from = state.head.sequence.saturating_sub(END_ROWS).max(1);
    let mut head: Option<Head> = None;
    let mut newest: Option<(Row, Checkpoint)> = None;
    let mut fault = None;
    rows::walk(conn, &state.replica, from, |row, checkpoint| {
        let Some(row) = row else {
            let sequence = checkpoint.map_or(0, |checkpoint| checkpoint.sequence);
            fault = Some(ChainFault::CutOff {
                sequence,
                last: state.head.sequence,
            });
            return Ok(false);
        };
        let opens_epoch = row.kind == RESTORED;
        let followed = match &mut head {
            Some(head) => head.follow(&row.content(), &row.hash, opens_epoch),
            // What the first row of the walk builds on is not read; its own hash is taken as it is.
            None if row.sequence == 1 => {
                let mut empty = Head::EMPTY;
                empty.follow(&row.content(), &row.hash, false)
            }
            None => Ok(()),
        };
        if let Err(broken) = followed {
            fault = Some(broken);
            return Ok(false);
        }
        head = Some(Head {
            epoch: row.epoch,
            sequence: row.sequence,
            hash: row.hash,
        });
        if let Some(checkpoint) = checkpoint {
            newest = Some((row, checkpoint));
        }
        Ok(true)
    })?;
    Ok(fault.or_else(|| newest.and_then(|(row, checkpoint)| check_signature(state, &row, &checkpoint))))
}

/// Checks the newest checkpoint, unless it was signed before a restore with the key of then.
fn check_signature(state: &State, row: &Row, checkpoint: &Checkpoint) -> Option<ChainFault> {
    if row.epoch != state.head.epoch {
        return None;
    }
    let sequence = row.sequence;
    let Ok(key) = PublicKey::from_spki_der(&state.key) else {
        return Some(ChainFault::Opening { sequence });
    };
    if checkpoint.hash != row.hash {
        return Some(ChainFault::Checkpoint { sequence });
    }
    let statement = Statement {
        trust_domain: state.trust_domain.clone(),
        replica: state.replica.clone(),
        head: Head {
            epoch: row.epoch,
            sequence,
            hash: row.hash,
        },
        time: checkpoint.time,
    };
    let signed = statement.verify(&key, &checkpoint.signature);
    signed.is_err().then(|| ChainFault::Signature {
        sequence,
        key: key.fingerprint(),
    })
}

/// The kind of the row that begins an epoch.
pub(in crate::ledger) const RESTORED: &str = "restored";

/// How many rows from the end are checked at each opening; it takes a few milliseconds.
const END_ROWS: u64 = 1_000;
