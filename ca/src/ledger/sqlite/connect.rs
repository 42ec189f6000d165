//! Opens connections to the ledger's file with the settings that durability rests on.

use std::path::Path;
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

use super::files;

/// What a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::ledger) enum Purpose {
    /// Appending.
    Write,
    /// Answering questions.
    Read,
}

/// Opens a connection to the file `path`, which must exist. `patience` is how long it waits for other processes.
///
/// # Errors
/// When the file cannot be opened, is no store, or lies where no shared memory can be kept beside it.
pub(in crate::ledger) fn connect(
    path: &Path,
    purpose: Purpose,
    patience: Duration,
) -> rusqlite::Result<Connection> {
    // Each connection belongs to one thread at a time, so the library's own lock would only cost.
    let flags =
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_NOFOLLOW;
    let conn = Connection::open_with_flags(path, flags)?;
    conn.busy_timeout(patience)?;
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false)?;
    // Compiled in as the library is, it would otherwise plan a statement anew, from its text, for every new value.
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    conn.pragma_update(None, "foreign_keys", true)?;
    // FULL syncs the write-ahead log at every commit: with NORMAL an acknowledged row could be lost.
    conn.pragma_update(None, "synchronous", "FULL")?;
    conn.pragma_update(None, "cell_size_check", true)?;
    conn.set_prepared_statement_cache_capacity(STATEMENTS);
    match purpose {
        Purpose::Write => {
            let mode: String = conn.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get(0))?;
            if !mode.eq_ignore_ascii_case("wal") {
                return Err(super::state::damaged(format!(
                    "the file does not take a write-ahead log, its journal mode stays {mode}"
                )));
            }
            // A sealed key that was sealed anew or removed leaves no copy in the file's free space.
            conn.pragma_update_and_check(None, "secure_delete", "FAST", |_| Ok(()))?;
            conn.pragma_update(None, "cache_size", -WRITER_CACHE_KIB)?;
            // The writer copies the write-ahead log back by itself, between two batches; this is the backstop.
            conn.pragma_update(None, "wal_autocheckpoint", BACKSTOP_PAGES)?;
        }
        Purpose::Read => {
            conn.pragma_update(None, "query_only", true)?;
            conn.pragma_update(None, "cache_size", -READER_CACHE_KIB)?;
        }
    }
    Ok(conn)
}

/// Opens a file that nobody changes, without taking locks or keeping anything beside it: a ledger on a medium that
/// cannot be written. A write-ahead log beside it would be ignored, so there must be none.
///
/// # Errors
/// When there is one, or the file cannot be opened.
pub(in crate::ledger) fn connect_immutable(path: &Path) -> rusqlite::Result<Connection> {
    if files::companions(path).any(|companion| companion.exists()) {
        return Err(super::state::damaged(
            "the file has a write-ahead log beside it that cannot be read where it lies".to_owned(),
        ));
    }
    let mut uri = "file:".to_owned();
    for octet in path.as_os_str().as_encoded_bytes() {
        match octet {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'-' | b'_' | b'.' => {
                uri.push(char::from(*octet))
            }
            other => uri.push_str(&format!("%{other:02X}")),
        }
    }
    uri.push_str("?immutable=1");
    let flags =
        OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_URI;
    let conn = Connection::open_with_flags(uri, flags)?;
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false)?;
    conn.pragma_update(None, "cell_size_check", true)?;
    conn.pragma_update(None, "cache_size", -READER_CACHE_KIB)?;
    Ok(conn)
}

/// More than all statements of this room.
const STATEMENTS: usize = 96;

const WRITER_CACHE_KIB: i64 = 8 * 1024;

const READER_CACHE_KIB: i64 = 2 * 1024;

/// Pages in the write-ahead log at which a commit copies them back itself: 64 MiB.
const BACKSTOP_PAGES: i64 = 16 * 1024;
