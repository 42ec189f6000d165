//! Keeps the deny list.

use ferrule_identity::Timestamp;
use rusqlite::{Connection, OptionalExtension, params};

use super::certificates::tag;
use super::{Applied, hosts};
use crate::ledger::Conflict;
use crate::ledger::event::{Lifted, Revoked, Subject};
use crate::ledger::sqlite::state::State;
use crate::ledger::sqlite::statement::{exists, run};

pub(super) fn revoke(conn: &Connection, state: &mut State, revoked: &Revoked, now: Timestamp) -> Applied {
    let (kind, subject) = written(&revoked.subject);
    if holds(conn, kind, &subject)? {
        return Err(Conflict::AlreadyRevoked {
            subject: revoked.subject.to_string(),
        }
        .into());
    }
    let mut issuer: Option<(String, i64)> = None;
    match &revoked.subject {
        Subject::Identity(_) => {}
        // A certificate that is not on record may still exist: one issued after the backup that we come from.
        Subject::Serial(serial) => {
            let mut select = conn.prepare_cached(ISSUER_OF)?;
            issuer = select
                .query_row(params![tag(serial), serial.as_be_bytes()], |row| {
                    Ok((row.get(0)?, row.get(1)?))
                })
                .optional()?;
        }
        Subject::Host(host) => {
            if !hosts::is_enrolled(conn, host)? {
                return Err(Conflict::HostUnknown { host: host.clone() }.into());
            }
            state.generations.hosts += 1;
        }
    }
    let (issuer, not_after) = issuer.unzip();
    let mut insert = conn.prepare_cached("INSERT INTO revocations VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)")?;
    insert.execute(params![
        kind,
        subject,
        issuer,
        not_after,
        revoked.reason,
        revoked.by,
        now.unix()
    ])?;
    state.generations.revocations += 1;
    Ok(())
}

pub(super) fn lift(conn: &Connection, state: &mut State, lifted: &Lifted) -> Applied {
    let (kind, subject) = written(&lifted.subject);
    if !holds(conn, kind, &subject)? {
        return Err(Conflict::NotRevoked {
            subject: lifted.subject.to_string(),
        }
        .into());
    }
    run(
        conn,
        "DELETE FROM revocations WHERE kind = ?1 AND subject = ?2",
        params![kind, subject],
    )?;
    state.generations.revocations += 1;
    state.generations.hosts += u64::from(matches!(lifted.subject, Subject::Host(_)));
    Ok(())
}

/// Whether the subject is revoked.
pub(super) fn holds(conn: &Connection, kind: &str, subject: &str) -> rusqlite::Result<bool> {
    exists(
        conn,
        "SELECT 1 FROM revocations WHERE kind = ?1 AND subject = ?2",
        params![kind, subject],
    )
}

/// A revocation's subject as the table has it.
fn written(subject: &Subject) -> (&'static str, String) {
    match subject {
        Subject::Identity(id) => ("identity", id.clone()),
        Subject::Serial(serial) => ("serial", serial.to_string()),
        Subject::Host(host) => ("host", host.clone()),
    }
}

const ISSUER_OF: &str = "SELECT authorities.authority, live.not_after FROM live \
                         JOIN authorities ON authorities.number = live.issuer WHERE tag = ?1 AND serial = ?2";
