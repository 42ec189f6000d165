//! Runs the small statements of which the ledger's changes consist.

use rusqlite::{CachedStatement, Connection, OptionalExtension, Params, ToSql, params};

/// A list as the tables have it: JSON.
pub(super) fn list(items: &[String]) -> rusqlite::Result<String> {
    serde_json::to_string(items).map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))
}

/// Whether the question has an answer.
pub(super) fn exists(conn: &Connection, sql: &str, parameters: impl Params) -> rusqlite::Result<bool> {
    conn.prepare_cached(sql)?.exists(parameters)
}

/// The first answer to a question about one thing.
pub(super) fn find<T>(
    conn: &Connection,
    sql: &str,
    parameter: impl ToSql,
    read: impl FnOnce(&rusqlite::Row<'_>) -> rusqlite::Result<T>,
) -> rusqlite::Result<Option<T>> {
    let mut statement: CachedStatement<'_> = conn.prepare_cached(sql)?;
    statement.query_row(params![parameter], read).optional()
}

/// Changes what the statement says.
pub(super) fn run(conn: &Connection, sql: &str, parameters: impl Params) -> rusqlite::Result<()> {
    conn.prepare_cached(sql)?.execute(parameters).map(drop)
}

/// A word in a table that this release does not know.
pub(super) fn unreadable(error: impl std::error::Error + Send + Sync + 'static) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(0, rusqlite::types::Type::Text, Box::new(error))
}
