//! Keeps the table of live certificates.

use ferrule_identity::Timestamp;
use rusqlite::{Connection, params};

use super::{Applied, hosts, revocations};
use crate::ledger::event::{Issued, Step};
use crate::ledger::sqlite::state::State;
use crate::ledger::sqlite::statement::{exists, find, run};
use crate::ledger::{Conflict, Serial};

pub(super) fn issue(conn: &Connection, state: &State, issued: &Issued) -> Applied {
    let issuer = find::<(i64, String)>(
        conn,
        "SELECT number, step FROM authorities WHERE authority = ?1",
        &issued.issuer,
        |row| Ok((row.get(0)?, row.get(1)?)),
    )?;
    // One that has just retired may still have issues in flight; they were signed while it was active.
    let usable = |step: &str| step == Step::Active.as_str() || step == Step::Retired.as_str();
    let Some((issuer, _)) = issuer.filter(|(_, step)| usable(step)) else {
        return Err(Conflict::IssuerNotActive {
            authority: issued.issuer.clone(),
        }
        .into());
    };
    if state.generations.revocations > 0 && revocations::holds(conn, "identity", &issued.id)? {
        return Err(Conflict::IdentityRevoked {
            id: issued.id.clone(),
        }
        .into());
    }
    if let Some(host) = &issued.host {
        hosts::check(conn, host)?;
    }
    let tag = tag(&issued.serial);
    let serial = issued.serial.as_be_bytes();
    if exists(conn, SAME_SERIAL, params![tag, serial])? {
        return Err(Conflict::SerialExists {
            serial: issued.serial,
        }
        .into());
    }
    let mut insert = conn.prepare_cached(
        "INSERT INTO live (tag, serial, issuer, not_after, id, host) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
    )?;
    let not_after = issued.not_after.unix();
    insert.execute(params![tag, serial, issuer, not_after, issued.id, issued.host])?;
    Ok(())
}

/// Forgets at most `limit` certificates that ran out before `before`.
pub(in crate::ledger::sqlite) fn prune(
    conn: &Connection,
    before: Timestamp,
    limit: usize,
) -> rusqlite::Result<()> {
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    run(conn, PRUNE, params![before.unix(), limit])
}

/// The part of a serial that the table of live certificates is searched by.
pub(in crate::ledger::sqlite) fn tag(serial: &Serial) -> i64 {
    let octets = serial.as_be_bytes();
    let last = &octets[octets.len().saturating_sub(8)..];
    last.iter().fold(0, |tag, octet| tag << 8 | i64::from(*octet))
}

const SAME_SERIAL: &str = "SELECT 1 FROM live WHERE tag = ?1 AND serial = ?2";

const PRUNE: &str = "DELETE FROM live WHERE number IN \
                     (SELECT number FROM live WHERE not_after < ?1 ORDER BY not_after LIMIT ?2)";
