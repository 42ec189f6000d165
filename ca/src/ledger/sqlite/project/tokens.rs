//! Keeps the join tokens.

use ferrule_identity::Timestamp;
use rusqlite::{Connection, params};

use super::{Applied, ApplyError};
use crate::ledger::Conflict;
use crate::ledger::event::{TokenCreated, TokenRevoked, TokenUsed};
use crate::ledger::sqlite::statement::{exists, find, list, run};

pub(super) fn create(conn: &Connection, created: &TokenCreated, now: Timestamp) -> Applied {
    let secret = created.secret.to_string();
    if exists(
        conn,
        "SELECT 1 FROM tokens WHERE token = ?1 OR secret = ?2",
        params![created.token, secret],
    )? {
        return Err(Conflict::TokenExists {
            token: created.token.clone(),
        }
        .into());
    }
    let mut insert = conn.prepare_cached(
        "INSERT INTO tokens (token, secret, identities, created, expires, made_by, state) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, 'outstanding')",
    )?;
    insert.execute(params![
        created.token,
        secret,
        list(&created.identities)?,
        now.unix(),
        created.expires.unix(),
        created.by
    ])?;
    Ok(())
}

pub(super) fn use_up(conn: &Connection, used: &TokenUsed, now: Timestamp) -> Applied {
    let expired = outstanding(conn, &used.token)?;
    if now > expired {
        return Err(Conflict::TokenExpired {
            token: used.token.clone(),
            expired,
        }
        .into());
    }
    run(
        conn,
        "UPDATE tokens SET state = 'used', host = ?2 WHERE token = ?1",
        params![used.token, used.host],
    )?;
    Ok(())
}

pub(super) fn revoke(conn: &Connection, revoked: &TokenRevoked) -> Applied {
    outstanding(conn, &revoked.token)?;
    run(
        conn,
        "UPDATE tokens SET state = 'revoked' WHERE token = ?1",
        params![revoked.token],
    )?;
    Ok(())
}

/// The last second of a token that nobody has used yet.
fn outstanding(conn: &Connection, token: &str) -> Result<Timestamp, ApplyError> {
    let found = find::<(String, i64)>(
        conn,
        "SELECT state, expires FROM tokens WHERE token = ?1",
        token,
        |row| Ok((row.get(0)?, row.get(1)?)),
    )?;
    let token = token.to_owned();
    let conflict = match found {
        None => Conflict::TokenUnknown { token },
        Some((state, expires)) => match state.as_str() {
            "outstanding" => return Ok(Timestamp::from_unix(expires)),
            "used" => Conflict::TokenUsed { token },
            "void" => Conflict::TokenVoid { token },
            _ => Conflict::TokenRevoked { token },
        },
    };
    Err(conflict.into())
}
