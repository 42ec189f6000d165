//! Keeps the enrolled hosts.

use ferrule_identity::Timestamp;
use rusqlite::{Connection, params};

use super::{Applied, revocations};
use crate::ledger::Conflict;
use crate::ledger::event::HostEnrolled;
use crate::ledger::sqlite::state::State;
use crate::ledger::sqlite::statement::{exists, list};

pub(super) fn enroll(
    conn: &Connection,
    state: &mut State,
    enrolled: &HostEnrolled,
    now: Timestamp,
) -> Applied {
    let host = &enrolled.host;
    if is_enrolled(conn, host)? {
        return Err(Conflict::HostExists { host: host.clone() }.into());
    }
    let key = enrolled.key.spki_der();
    if exists(conn, "SELECT 1 FROM hosts WHERE key = ?1", params![key])? {
        return Err(Conflict::HostKeyExists {
            key: enrolled.key.fingerprint(),
        }
        .into());
    }
    if !exists(
        conn,
        "SELECT 1 FROM tokens WHERE token = ?1",
        params![enrolled.token],
    )? {
        return Err(Conflict::TokenUnknown {
            token: enrolled.token.clone(),
        }
        .into());
    }
    let mut insert = conn.prepare_cached("INSERT INTO hosts VALUES (?1, ?2, ?3, ?4, ?5)")?;
    let identities = list(&enrolled.identities)?;
    insert.execute(params![host, key, identities, enrolled.token, now.unix()])?;
    state.generations.hosts += 1;
    Ok(())
}

/// Whether a host of this name is enrolled.
pub(super) fn is_enrolled(conn: &Connection, host: &str) -> rusqlite::Result<bool> {
    exists(conn, "SELECT 1 FROM hosts WHERE host = ?1", params![host])
}

/// Refuses a host that is unknown or revoked.
pub(super) fn check(conn: &Connection, host: &str) -> Applied {
    if !is_enrolled(conn, host)? {
        return Err(Conflict::HostUnknown {
            host: host.to_owned(),
        }
        .into());
    }
    if revocations::holds(conn, "host", host)? {
        return Err(Conflict::HostRevoked {
            host: host.to_owned(),
        }
        .into());
    }
    Ok(())
}
