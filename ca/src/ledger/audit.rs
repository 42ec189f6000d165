//! Proves that a ledger holds together, without the CA and without its keys.

mod export;
mod replay;

use std::path::{Path, PathBuf};
use std::time::Duration;

use ferrule_identity::{Fingerprint, PublicKey, Timestamp};
use rusqlite::{Connection, OptionalExtension};

pub use self::export::{ExportError, export};
use self::replay::Replay;
use super::OpenError;
use super::chain::{ChainFault, Head, RowHash};
use super::checkpoint::{Checkpoint, Statement};
use super::event::Event;
use super::record::Row;
use super::sqlite::connect::{Purpose, connect, connect_immutable};
use super::sqlite::open::{check_format, store_error};
use super::sqlite::state::State;
use super::sqlite::{files, rows};

/// What is known of a ledger from elsewhere: what nobody who holds the file could have changed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Expected {
    /// The fingerprint of the key that signs the checkpoints now.
    pub key: Option<Fingerprint>,
    /// A row's number and hash, such as the head in an earlier report.
    pub row: Option<(u64, RowHash)>,
}

/// What an examination found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The ledger's file.
    pub path: PathBuf,
    /// The trust domain on record.
    pub trust_domain: String,
    /// The replica on record.
    pub replica: String,
    /// The fingerprints of the keys that signed the checkpoints, one for each epoch, the first epoch's first.
    pub keys: Vec<Fingerprint>,
    /// How many rows were checked.
    pub rows: u64,
    /// How many checkpoints were checked.
    pub checkpoints: u64,
    /// How many rows come after the last checkpoint: all that could be cut off without leaving a trace here.
    pub unsigned_rows: u64,
    /// The last row that was checked, and its hash: note them elsewhere for [`Expected::row`].
    pub head: (u64, RowHash),
    /// When the first and the last row were recorded.
    pub times: Option<(Timestamp, Timestamp)>,
    /// The first thing that does not hold together.
    pub fault: Option<ChainFault>,
}

impl Report {
    /// Whether the ledger holds together.
    pub fn is_sound(&self) -> bool {
        self.fault.is_none()
    }
}

/// Checks every row and every checkpoint of the ledger at `path`, a folder or a file, and that the tables of what
/// holds now say what the log says. Memory does not grow with the log. Others may append meanwhile.
///
/// # Errors
/// When there is nothing there that can be examined. What is wrong inside is in the report.
pub fn verify(path: &Path, expected: &Expected) -> Result<Report, OpenError> {
    let path = if path.is_dir() {
        files::ledger_path(path)
    } else {
        path.to_owned()
    };
    if !path.exists() {
        return Err(OpenError::Missing { path });
    }
    let conn = connect(&path, Purpose::Read, PATIENCE)
        .and_then(|conn| {
            // Only the first access shows whether the store can work where the file lies.
            conn.query_row("PRAGMA user_version", [], |_| Ok(()))?;
            Ok(conn)
        })
        .or_else(|error| connect_immutable(&path).map_err(|_| error))
        .map_err(store_error("open", &path))?;
    check_format(&conn, &path)?;
    examine(&conn, &path, expected)
}

/// [`verify`] on an open connection.
pub(super) fn examine(conn: &Connection, path: &Path, expected: &Expected) -> Result<Report, OpenError> {
    let store = |doing| store_error(doing, path);
    // One view of everything, whatever is appended meanwhile.
    let view = conn.unchecked_transaction().map_err(store("read"))?;
    let replica: String = view
        .query_row("SELECT replica FROM chain", [], |row| row.get(0))
        .map_err(store("read"))?;
    let last: Option<i64> = view
        .query_row("SELECT time FROM log ORDER BY sequence DESC LIMIT 1", [], |row| {
            row.get(0)
        })
        .optional()
        .map_err(store("read"))?;
    let replay = Replay::new(Timestamp::from_unix(last.unwrap_or(0))).map_err(store("examine"))?;
    let mut examiner = Examiner::new(path, replica.clone(), expected, replay);
    let walked = rows::walk(&view, &replica, 1, |row, checkpoint| {
        Ok(examiner.take(row, checkpoint.as_ref()).is_ok())
    });
    if let Err(error) = walked {
        examiner.unreadable(&error);
    }
    Ok(examiner.conclude(&view))
}

/// Follows a log from its first row.
struct Examiner<'a> {
    report: Report,
    expected: &'a Expected,
    head: Head,
    key: Option<PublicKey>,
    replay: Replay,
    expected_row_seen: bool,
}

impl<'a> Examiner<'a> {
    fn new(path: &Path, replica: String, expected: &'a Expected, replay: Replay) -> Self {
        Self {
            report: Report {
                path: path.to_owned(),
                trust_domain: String::new(),
                replica,
                keys: Vec::new(),
                rows: 0,
                checkpoints: 0,
                unsigned_rows: 0,
                head: (0, RowHash::NONE),
                times: None,
                fault: None,
            },
            expected,
            head: Head::EMPTY,
            key: None,
            replay,
            expected_row_seen: false,
        }
    }

    /// Checks what comes next in the log; after a fault nothing more is taken.
    fn take(&mut self, row: Option<Row>, checkpoint: Option<&Checkpoint>) -> Result<(), ()> {
        let checked = match &row {
            Some(row) => self.row(row, checkpoint),
            None => Err(ChainFault::CutOff {
                sequence: checkpoint.map_or(0, |checkpoint| checkpoint.sequence),
                last: self.head.sequence,
            }),
        };
        checked.map_err(|fault| self.report.fault = Some(fault))
    }

    fn row(&mut self, row: &Row, checkpoint: Option<&Checkpoint>) -> Result<(), ChainFault> {
        let sequence = row.sequence;
        let event = row.event();
        let opens_epoch = matches!(event, Ok(Event::Restored(_)));
        self.head.follow(&row.content(), &row.hash, opens_epoch)?;
        let event = event.map_err(|_| ChainFault::Body {
            sequence,
            kind: row.kind.clone(),
        })?;
        match &event {
            Event::Opened(opened) if sequence == 1 && opened.replica == self.report.replica => {
                self.report.trust_domain = opened.trust_domain.to_string();
                self.sign_with(opened.key.clone());
            }
            Event::Restored(restored) if sequence > 1 => self.sign_with(restored.key.clone()),
            Event::Opened(_) | Event::Restored(_) => return Err(ChainFault::Opening { sequence }),
            _ if sequence == 1 => return Err(ChainFault::Opening { sequence }),
            _ => {}
        }
        self.replay.take(&event, row, &self.head)?;
        if let Some(checkpoint) = checkpoint {
            self.checkpoint(row, checkpoint)?;
        } else {
            self.report.unsigned_rows += 1;
        }
        if self.expected.row == Some((sequence, row.hash)) {
            self.expected_row_seen = true;
        }
        let first = self.report.times.map_or(row.time, |(first, _)| first);
        self.report.times = Some((first, row.time));
        self.report.rows += 1;
        self.report.head = (sequence, row.hash);
        Ok(())
    }

    fn sign_with(&mut self, key: PublicKey) {
        self.report.keys.push(key.fingerprint());
        self.key = Some(key);
    }

    fn checkpoint(&mut self, row: &Row, checkpoint: &Checkpoint) -> Result<(), ChainFault> {
        let sequence = row.sequence;
        let Some(key) = &self.key else {
            return Err(ChainFault::Opening { sequence });
        };
        if checkpoint.hash != row.hash {
            return Err(ChainFault::Checkpoint { sequence });
        }
        let statement = Statement {
            trust_domain: self.report.trust_domain.clone(),
            replica: self.report.replica.clone(),
            head: self.head.clone(),
            time: checkpoint.time,
        };
        statement
            .verify(key, &checkpoint.signature)
            .map_err(|_| ChainFault::Signature {
                sequence,
                key: key.fingerprint(),
            })?;
        self.report.checkpoints += 1;
        self.report.unsigned_rows = 0;
        Ok(())
    }

    fn unreadable(&mut self, error: &rusqlite::Error) {
        self.report.fault.get_or_insert(ChainFault::Unreadable {
            after: self.head.sequence,
            reason: error.to_string(),
        });
    }

    /// Checks what only the whole log can show.
    fn conclude(mut self, view: &Connection) -> Report {
        if self.report.fault.is_none() {
            self.report.fault = self.last_fault(view);
        }
        self.report
    }

    fn last_fault(&self, view: &Connection) -> Option<ChainFault> {
        let Some(key) = self.report.keys.last() else {
            return Some(ChainFault::Empty);
        };
        if let Some(expected) = self.expected.key
            && expected != *key
        {
            return Some(ChainFault::OtherKey {
                found: *key,
                expected,
            });
        }
        if let Some((sequence, hash)) = self.expected.row
            && !self.expected_row_seen
        {
            return Some(ChainFault::Foreign { sequence, hash });
        }
        let compared = State::read(view).and_then(|state| self.replay.compare(view, &state));
        match compared {
            Ok(None) => None,
            Ok(Some(table)) => Some(ChainFault::State {
                table,
                sequence: self.head.sequence,
            }),
            Err(error) => Some(ChainFault::Unreadable {
                after: self.head.sequence,
                reason: error.to_string(),
            }),
        }
    }
}

/// How long an examination waits for other processes.
const PATIENCE: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests;
