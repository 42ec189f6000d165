//! Reads the rows of the log, in their order.

use ferrule_identity::Timestamp;
use rusqlite::{Connection, OptionalExtension, Row as StoreRow, params, params_from_iter};

use super::number::Count;
use crate::ledger::checkpoint::Checkpoint;
use crate::ledger::{Row, RowFilter, RowHash};

/// At most `limit` rows that match `filter`, beginning after row `after`.
pub(super) fn matching(
    conn: &Connection,
    filter: &RowFilter,
    after: u64,
    limit: usize,
) -> rusqlite::Result<Vec<Row>> {
    use rusqlite::types::Value;
    // A transaction, so that the hash before each row is of the same view as the row.
    let view = conn.unchecked_transaction()?;
    let replica: String = view.query_row("SELECT replica FROM chain", [], |row| row.get(0))?;
    let mut sql = format!("{ROWS} WHERE sequence > ?");
    let mut values = vec![Value::Integer(i64::try_from(after).unwrap_or(i64::MAX))];
    if !filter.kinds.is_empty() {
        let marks = vec!["?"; filter.kinds.len()].join(", ");
        sql.push_str(&format!(" AND kind IN ({marks})"));
        values.extend(filter.kinds.iter().cloned().map(Value::Text));
    }
    if let Some(since) = filter.since {
        sql.push_str(" AND time >= ?");
        values.push(Value::Integer(since.unix()));
    }
    if let Some(until) = filter.until {
        sql.push_str(" AND time <= ?");
        values.push(Value::Integer(until.unix()));
    }
    if let Some(text) = &filter.mentions {
        // As JSON writes it, quotes included: a longer text that merely contains it does not match.
        sql.push_str(" AND instr(body, ?) > 0");
        values.push(Value::Text(serde_json::Value::String(text.clone()).to_string()));
    }
    sql.push_str(" ORDER BY sequence LIMIT ?");
    values.push(Value::Integer(i64::try_from(limit).unwrap_or(i64::MAX)));

    let mut before = view.prepare_cached("SELECT hash FROM log WHERE sequence = ?1 - 1")?;
    let mut statement = view.prepare(&sql)?;
    let mut found = statement.query(params_from_iter(values))?;
    let mut rows: Vec<Row> = Vec::new();
    while let Some(row) = found.next()? {
        let mut row = read_row(row, &replica)?;
        row.previous = match rows.last() {
            Some(last) if last.sequence + 1 == row.sequence => last.hash,
            _ => before
                .query_row(params![Count(row.sequence)], |row| row.get(0))
                .optional()?
                .unwrap_or(RowHash::NONE),
        };
        rows.push(row);
    }
    Ok(rows)
}

/// Gives every row from `from` on to `take`, one at a time, with the checkpoint that stands at it; then every
/// checkpoint whose row is not there. Stops when `take` says so. The rows' `previous` is left at [`RowHash::NONE`].
pub(in crate::ledger) fn walk(
    conn: &Connection,
    replica: &str,
    from: u64,
    mut take: impl FnMut(Option<Row>, Option<Checkpoint>) -> rusqlite::Result<bool>,
) -> rusqlite::Result<()> {
    let mut statement = conn.prepare(WALK)?;
    let mut found = statement.query(params![Count(from)])?;
    while let Some(row) = found.next()? {
        let checkpoint = match row.get::<_, Option<i64>>(6)? {
            None => None,
            Some(_) => Some(read_checkpoint(row, 6)?),
        };
        if !take(Some(read_row(row, replica)?), checkpoint)? {
            return Ok(());
        }
    }
    let mut statement = conn.prepare(ORPHANS)?;
    let mut found = statement.query(params![Count(from)])?;
    while let Some(row) = found.next()? {
        if !take(None, Some(read_checkpoint(row, 0)?))? {
            return Ok(());
        }
    }
    Ok(())
}

fn read_row(row: &StoreRow<'_>, replica: &str) -> rusqlite::Result<Row> {
    Ok(Row {
        replica: replica.to_owned(),
        sequence: row.get::<_, Count>(0)?.0,
        epoch: row.get::<_, Count>(1)?.0,
        time: Timestamp::from_unix(row.get(2)?),
        kind: row.get(3)?,
        body: row.get(4)?,
        previous: RowHash::NONE,
        hash: row.get(5)?,
    })
}

fn read_checkpoint(row: &StoreRow<'_>, from: usize) -> rusqlite::Result<Checkpoint> {
    Ok(Checkpoint {
        sequence: row.get::<_, Count>(from)?.0,
        time: Timestamp::from_unix(row.get(from + 1)?),
        hash: row.get(from + 2)?,
        signature: row.get(from + 3)?,
    })
}

const ROWS: &str = "SELECT sequence, epoch, time, kind, body, hash FROM log";

const WALK: &str = "SELECT log.sequence, log.epoch, log.time, log.kind, log.body, log.hash, \
    checkpoints.sequence, checkpoints.time, checkpoints.hash, checkpoints.signature \
    FROM log LEFT JOIN checkpoints ON checkpoints.sequence = log.sequence WHERE log.sequence >= ?1 ORDER BY log.sequence";

const ORPHANS: &str = "SELECT sequence, time, hash, signature FROM checkpoints \
    WHERE sequence >= ?1 AND NOT EXISTS (SELECT 1 FROM log WHERE log.sequence = checkpoints.sequence) ORDER BY sequence";
