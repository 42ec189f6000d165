//! Writes the log as lines of JSON for whoever archives or examines it.

use std::io::{self, Write};

use serde_json::json;

use crate::ledger::record::{Row, RowFilter};
use crate::ledger::{Ledger, LedgerError};

/// Writes every row that matches `filter` to `out`, one JSON object to a line, in the order of the log. Gives their number.
///
/// A line has `replica`, `epoch`, `sequence`, `time` (Unix seconds), `kind`, `body`, `previous` and `hash`. `body` is
/// the octets that the hash covers, unchanged.
///
/// # Errors
/// When the ledger cannot be read or `out` cannot be written.
pub async fn export(
    ledger: &dyn Ledger,
    filter: &RowFilter,
    out: &mut (dyn Write + Send),
) -> Result<u64, ExportError> {
    let mut after = 0;
    let mut written = 0;
    loop {
        let rows = ledger.rows(filter.clone(), after, PAGE_ROWS).await?;
        for row in &rows {
            writeln!(out, "{}", line(row)).map_err(|source| ExportError::Write { source })?;
        }
        written += rows.len() as u64;
        match rows.last() {
            Some(last) if rows.len() == PAGE_ROWS => after = last.sequence,
            _ => break,
        }
    }
    out.flush().map_err(|source| ExportError::Write { source })?;
    Ok(written)
}

/// A row as one line of JSON.
fn line(row: &Row) -> String {
    let (replica, kind) = (json!(row.replica), json!(row.kind));
    format!(
        "{{\"replica\":{replica},\"epoch\":{},\"sequence\":{},\"time\":{},\"kind\":{kind},\"body\":{},\
         \"previous\":\"{}\",\"hash\":\"{}\"}}",
        row.epoch,
        row.sequence,
        row.time.unix(),
        row.body,
        row.previous,
        row.hash
    )
}

/// Why an export ended early.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The ledger could not be read.
    #[error("cannot export the log")]
    Ledger {
        /// The cause.
        #[from]
        source: LedgerError,
    },
    /// The lines could not be written.
    #[error("cannot write the exported log")]
    Write {
        /// The cause.
        source: io::Error,
    },
}

const PAGE_ROWS: usize = 500;
