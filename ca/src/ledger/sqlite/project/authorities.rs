//! Keeps the roots and signing certificates.

use ferrule_identity::Timestamp;
use rusqlite::{Connection, params};

use super::Applied;
use crate::ledger::Conflict;
use crate::ledger::event::{AuthorityPrepared, AuthoritySealed, AuthorityStepped, Step};
use crate::ledger::sqlite::state::State;
use crate::ledger::sqlite::statement::{exists, find, run, unreadable};

pub(super) fn prepare(
    conn: &Connection,
    state: &mut State,
    prepared: &AuthorityPrepared,
    sealed: Option<&[u8]>,
    now: Timestamp,
) -> Applied {
    let authority = &prepared.authority;
    if exists(
        conn,
        "SELECT 1 FROM authorities WHERE authority = ?1",
        params![authority],
    )? {
        return Err(Conflict::AuthorityExists {
            authority: authority.clone(),
        }
        .into());
    }
    let mut insert = conn.prepare_cached(
        "INSERT INTO authorities \
         (authority, role, step, since, prepared, fingerprint, certificate, not_before, not_after) \
         VALUES (?1, ?2, 'prepared', ?3, ?3, ?4, ?5, ?6, ?7)",
    )?;
    insert.execute(params![
        authority,
        prepared.role.as_str(),
        now.unix(),
        prepared.fingerprint.to_string(),
        prepared.certificate,
        prepared.not_before.unix(),
        prepared.not_after.unix()
    ])?;
    if let Some(blob) = sealed {
        run(conn, SEAL, params![authority, blob])?;
    }
    state.generations.authorities += 1;
    Ok(())
}

pub(super) fn step(
    conn: &Connection,
    state: &mut State,
    stepped: &AuthorityStepped,
    now: Timestamp,
) -> Applied {
    let authority = &stepped.authority;
    let found = find::<(String, String)>(
        conn,
        "SELECT role, step FROM authorities WHERE authority = ?1",
        authority,
        |row| Ok((row.get(0)?, row.get(1)?)),
    )?;
    let Some((role, from)) = found else {
        return Err(Conflict::AuthorityUnknown {
            authority: authority.clone(),
        }
        .into());
    };
    let from: Step = from.parse().map_err(unreadable)?;
    if !from.may_become(stepped.step) {
        return Err(Conflict::AuthorityStep {
            authority: authority.clone(),
            from,
            to: stepped.step,
        }
        .into());
    }
    if stepped.step == Step::Active {
        let active = find::<String>(
            conn,
            "SELECT authority FROM authorities WHERE role = ?1 AND step = 'active'",
            &role,
            |row| row.get(0),
        )?;
        if let Some(active) = active {
            return Err(Conflict::AnotherActive { active }.into());
        }
    }
    run(
        conn,
        "UPDATE authorities SET step = ?2, since = ?3 WHERE authority = ?1",
        params![authority, stepped.step.as_str(), now.unix()],
    )?;
    if stepped.step == Step::Removed {
        run(
            conn,
            "DELETE FROM sealed WHERE authority = ?1",
            params![authority],
        )?;
    }
    state.generations.authorities += 1;
    Ok(())
}

pub(super) fn seal(conn: &Connection, reseal: &AuthoritySealed, sealed: Option<&[u8]>) -> Applied {
    let authority = &reseal.authority;
    if !exists(
        conn,
        "SELECT 1 FROM authorities WHERE authority = ?1 AND step <> 'removed'",
        params![authority],
    )? {
        return Err(Conflict::AuthorityUnknown {
            authority: authority.clone(),
        }
        .into());
    }
    if let Some(blob) = sealed {
        run(conn, SEAL, params![authority, blob])?;
    }
    Ok(())
}

const SEAL: &str =
    "INSERT INTO sealed VALUES (?1, ?2) ON CONFLICT (authority) DO UPDATE SET blob = excluded.blob";
