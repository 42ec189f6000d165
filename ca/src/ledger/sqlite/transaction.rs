//! Writes one batch of appends in one transaction.

use ferrule_identity::{PrivateKey, Timestamp};
use rusqlite::{Connection, params};

use super::number::Count;
use super::project::{self, ApplyError};
use super::state::State;
use crate::ledger::chain::RowContent;
use crate::ledger::checkpoint::Statement;
use crate::ledger::{Appended, Conflict, Entry, Event, LedgerError};

/// The longest body of an event, in octets.
pub(in crate::ledger) const MAX_BODY_BYTES: usize = 64 * 1024;

/// How long after its end a certificate stays on record as live, so that clocks may differ.
pub(in crate::ledger) const PRUNE_GRACE: std::time::Duration = std::time::Duration::from_secs(300);

/// An entry with its JSON, which whoever appends has written before it queues.
#[derive(Debug)]
pub(in crate::ledger) struct Written {
    entry: Entry,
    body: String,
}

impl Written {
    /// Writes an entry that a caller wants to append.
    ///
    /// # Errors
    /// When the event is one of the ledger's own, is too long, or comes with a sealed key that it has no place for.
    pub(in crate::ledger) fn from_caller(entry: Entry) -> Result<Self, LedgerError> {
        let kind = entry.event.kind();
        match (&entry.event, &entry.sealed) {
            (Event::Opened(_) | Event::Restored(_), _) => return Err(LedgerError::Reserved { kind }),
            (Event::AuthorityPrepared(_), _) | (Event::AuthoritySealed(_), Some(_)) => {}
            (Event::AuthoritySealed(_), None) | (_, Some(_)) => return Err(LedgerError::Sealed { kind }),
            (_, None) => {}
        }
        Self::from_ledger(entry)
    }

    /// Writes an entry of the ledger's own.
    ///
    /// # Errors
    /// When the event is too long.
    pub(in crate::ledger) fn from_ledger(entry: Entry) -> Result<Self, LedgerError> {
        let kind = entry.event.kind();
        let body = entry.event.body().map_err(|error| LedgerError::Body {
            kind,
            source: std::sync::Arc::new(error),
        })?;
        if body.len() > MAX_BODY_BYTES {
            return Err(LedgerError::TooLong {
                kind,
                bytes: body.len(),
                limit: MAX_BODY_BYTES,
            });
        }
        Ok(Self { entry, body })
    }
}

/// What became of a batch.
#[derive(Debug)]
pub(in crate::ledger) struct Committed {
    /// One answer for each append of the batch, in its order.
    pub(in crate::ledger) answers: Vec<Result<Appended, Conflict>>,
    /// The state that is in force now.
    pub(in crate::ledger) state: State,
    /// Whether the batch ends with a checkpoint.
    pub(in crate::ledger) checkpoint: bool,
}

/// When to sign a checkpoint, and with what.
#[derive(Clone, Copy)]
pub(in crate::ledger) struct Signing<'a> {
    /// The replica's key.
    pub(in crate::ledger) key: Option<&'a PrivateKey>,
    /// Signs once this many rows came after the last checkpoint; 1 signs whenever there is a new row.
    pub(in crate::ledger) every_rows: u64,
}

/// Records `appends` in one transaction. Each one is recorded as a whole or, on a conflict, not at all; a failure of the
/// store fails all of them and leaves nothing.
///
/// # Errors
/// When the store fails.
pub(in crate::ledger) fn commit(
    conn: &Connection,
    appends: &[&[Written]],
    now: Timestamp,
    signing: Signing<'_>,
) -> rusqlite::Result<Committed> {
    conn.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
    let done = write(conn, appends, now, signing).and_then(|committed| {
        conn.prepare_cached("COMMIT")?.execute([])?;
        Ok(committed)
    });
    if done.is_err() && !conn.is_autocommit() {
        // When even this fails, the caller finds the transaction still open and lets the connection go.
        let _unused = conn.execute_batch("ROLLBACK");
    }
    done
}

/// The part of a batch between begin and commit.
///
/// # Errors
/// When the store fails.
pub(super) fn write(
    conn: &Connection,
    appends: &[&[Written]],
    now: Timestamp,
    signing: Signing<'_>,
) -> rusqlite::Result<Committed> {
    let before = State::read(conn)?;
    let mut state = before.clone();
    let mut answers = Vec::with_capacity(appends.len());
    for append in appends {
        answers.push(write_append(conn, &mut state, append, now)?);
    }
    let issued = appends
        .iter()
        .flat_map(|append| append.iter())
        .filter(|written| matches!(written.entry.event, Event::Issued(_)))
        .count();
    if issued > 0 {
        // Twice as many as came in: the table shrinks back after a burst, and no single batch waits long.
        project::prune(conn, now.minus(PRUNE_GRACE), 2 * issued + 1)?;
    }
    let checkpoint = checkpoint(conn, &state, now, signing)?;
    if state != before {
        state.update(conn, &before)?;
    }
    for answer in answers.iter_mut().flatten() {
        answer.generations = state.generations;
    }
    Ok(Committed {
        answers,
        state,
        checkpoint,
    })
}

/// Writes one append, or nothing of it.
fn write_append(
    conn: &Connection,
    state: &mut State,
    append: &[Written],
    now: Timestamp,
) -> rusqlite::Result<Result<Appended, Conflict>> {
    let before = state.clone();
    // A single entry looks before it writes; only of several may one conflict after another has written.
    let several = append.len() > 1;
    if several {
        conn.prepare_cached("SAVEPOINT append")?.execute([])?;
    }
    for written in append {
        match write_entry(conn, state, written, now) {
            Ok(()) => {}
            Err(ApplyError::Store(error)) => return Err(error),
            Err(ApplyError::Conflict(conflict)) => {
                if several {
                    conn.prepare_cached("ROLLBACK TO append")?.execute([])?;
                    conn.prepare_cached("RELEASE append")?.execute([])?;
                }
                *state = before;
                return Ok(Err(conflict));
            }
        }
    }
    if several {
        conn.prepare_cached("RELEASE append")?.execute([])?;
    }
    Ok(Ok(Appended {
        epoch: state.head.epoch,
        first: before.head.sequence + u64::from(!append.is_empty()),
        last: state.head.sequence,
        time: now,
        generations: state.generations,
    }))
}

fn write_entry(
    conn: &Connection,
    state: &mut State,
    written: &Written,
    now: Timestamp,
) -> Result<(), ApplyError> {
    let Written { entry, body } = written;
    project::apply(conn, state, &entry.event, entry.sealed.as_deref(), now)?;
    let content = RowContent {
        replica: &state.replica,
        epoch: state.head.epoch,
        sequence: state.head.sequence + 1,
        time: now,
        kind: entry.event.kind(),
        body,
    };
    let hash = content.hash(&state.head.hash);
    conn.prepare_cached("INSERT INTO log VALUES (?1, ?2, ?3, ?4, ?5, ?6)")?
        .execute(params![
            Count(content.sequence),
            Count(content.epoch),
            now.unix(),
            content.kind,
            content.body,
            hash
        ])?;
    state.head.sequence += 1;
    state.head.hash = hash;
    Ok(())
}

/// Signs the head when enough rows came after the last checkpoint.
fn checkpoint(
    conn: &Connection,
    state: &State,
    now: Timestamp,
    signing: Signing<'_>,
) -> rusqlite::Result<bool> {
    let Some(key) = signing.key else {
        return Ok(false);
    };
    let last: Option<Count> = conn
        .prepare_cached("SELECT max(sequence) FROM checkpoints")?
        .query_row([], |row| row.get(0))?;
    let last = last.map_or(0, |count| count.0);
    if state.head.sequence < last.saturating_add(signing.every_rows) {
        return Ok(false);
    }
    let statement = Statement {
        trust_domain: state.trust_domain.clone(),
        replica: state.replica.clone(),
        head: state.head.clone(),
        time: now,
    };
    let signature = statement
        .sign(key)
        .map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))?;
    conn.prepare_cached("INSERT INTO checkpoints VALUES (?1, ?2, ?3, ?4)")?
        .execute(params![
            Count(state.head.sequence),
            now.unix(),
            state.head.hash,
            signature
        ])?;
    Ok(true)
}
