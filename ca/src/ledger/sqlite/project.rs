//! Changes the tables of what holds now as one event demands.
//!
//! Each function looks at everything that could speak against the event before it writes anything, so a conflict
//! leaves nothing behind.

use ferrule_identity::Timestamp;
use rusqlite::{CachedStatement, Connection, OptionalExtension, Params, ToSql, params};

use super::number::Count;
use super::state::State;
use crate::ledger::event::{
    Acknowledged, AuthorityPrepared, AuthoritySealed, AuthorityStepped, BundlePublished, HostEnrolled,
    Issued, Lifted, Restored, Revoked, Step, Subject, TokenCreated, TokenRevoked, TokenUsed,
};
use crate::ledger::{Conflict, Event, Serial};

/// Why an event was not applied.
#[derive(Debug)]
pub(in crate::ledger) enum ApplyError {
    /// It contradicts what holds; nothing of it was written.
    Conflict(Conflict),
    /// The store failed.
    Store(rusqlite::Error),
}

impl From<rusqlite::Error> for ApplyError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Store(error)
    }
}

impl From<Conflict> for ApplyError {
    fn from(conflict: Conflict) -> Self {
        Self::Conflict(conflict)
    }
}

type Applied = Result<(), ApplyError>;

/// Changes the tables, and the counters in `state`, as `event` demands at `now`. `sealed` is the key that goes with it.
pub(in crate::ledger) fn apply(
    conn: &Connection,
    state: &mut State,
    event: &Event,
    sealed: Option<&[u8]>,
    now: Timestamp,
) -> Applied {
    match event {
        Event::Opened(_) | Event::Refused(_) | Event::BackedUp(_) => Ok(()),
        Event::Issued(issued) => issue(conn, state, issued),
        Event::Revoked(revoked) => revoke(conn, state, revoked, now),
        Event::Lifted(lifted) => lift(conn, state, lifted),
        Event::TokenCreated(created) => create_token(conn, created, now),
        Event::TokenUsed(used) => use_token(conn, used, now),
        Event::TokenRevoked(revoked) => revoke_token(conn, revoked),
        Event::HostEnrolled(enrolled) => enroll(conn, state, enrolled, now),
        Event::AuthorityPrepared(prepared) => prepare_authority(conn, state, prepared, sealed, now),
        Event::AuthorityStepped(stepped) => step_authority(conn, state, stepped, now),
        Event::AuthoritySealed(reseal) => seal(conn, reseal, sealed),
        Event::BundlePublished(published) => publish(conn, state, published, now),
        Event::Acknowledged(acknowledged) => acknowledge(conn, acknowledged, now),
        Event::Restored(restored) => restore(conn, state, restored),
    }
}

/// Forgets at most `limit` certificates that ran out before `before`.
pub(super) fn prune(conn: &Connection, before: Timestamp, limit: usize) -> rusqlite::Result<()> {
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    run(conn, PRUNE, params![before.unix(), limit])
}

/// The part of a serial that the table of live certificates is searched by.
pub(super) fn tag(serial: &Serial) -> i64 {
    let octets = serial.as_be_bytes();
    let last = &octets[octets.len().saturating_sub(8)..];
    last.iter().fold(0, |tag, octet| tag << 8 | i64::from(*octet))
}

fn issue(conn: &Connection, state: &State, issued: &Issued) -> Applied {
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
    if state.generations.revocations > 0 && is_revoked(conn, "identity", &issued.id)? {
        return Err(Conflict::IdentityRevoked {
            id: issued.id.clone(),
        }
        .into());
    }
    if let Some(host) = &issued.host {
        check_host(conn, host)?;
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

fn revoke(conn: &Connection, state: &mut State, revoked: &Revoked, now: Timestamp) -> Applied {
    let (kind, subject) = written(&revoked.subject);
    if is_revoked(conn, kind, &subject)? {
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
            if !host_exists(conn, host)? {
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

fn lift(conn: &Connection, state: &mut State, lifted: &Lifted) -> Applied {
    let (kind, subject) = written(&lifted.subject);
    if !is_revoked(conn, kind, &subject)? {
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

fn create_token(conn: &Connection, created: &TokenCreated, now: Timestamp) -> Applied {
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

fn use_token(conn: &Connection, used: &TokenUsed, now: Timestamp) -> Applied {
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

fn revoke_token(conn: &Connection, revoked: &TokenRevoked) -> Applied {
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

fn enroll(conn: &Connection, state: &mut State, enrolled: &HostEnrolled, now: Timestamp) -> Applied {
    let host = &enrolled.host;
    if host_exists(conn, host)? {
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

fn prepare_authority(
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

fn step_authority(
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

fn seal(conn: &Connection, reseal: &AuthoritySealed, sealed: Option<&[u8]>) -> Applied {
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

fn publish(conn: &Connection, state: &mut State, published: &BundlePublished, now: Timestamp) -> Applied {
    let newest: Option<Count> = conn
        .prepare_cached("SELECT max(sequence) FROM bundles")?
        .query_row([], |row| row.get(0))?;
    let newest = newest.map_or(0, |count| count.0);
    if published.sequence <= newest {
        return Err(Conflict::BundleSequence {
            sequence: published.sequence,
            newest,
        }
        .into());
    }
    let anchors: Vec<String> = published.anchors.iter().map(ToString::to_string).collect();
    run(
        conn,
        "INSERT INTO bundles VALUES (?1, ?2, ?3)",
        params![Count(published.sequence), list(&anchors)?, now.unix()],
    )?;
    state.next_bundle = published.sequence.saturating_add(1);
    state.generations.bundles += 1;
    Ok(())
}

fn acknowledge(conn: &Connection, acknowledged: &Acknowledged, now: Timestamp) -> Applied {
    run(
        conn,
        "INSERT INTO acknowledgements VALUES (?1, ?2, ?3) ON CONFLICT (who) \
         DO UPDATE SET generation = max(generation, excluded.generation), time = excluded.time",
        params![acknowledged.who, Count(acknowledged.generation), now.unix()],
    )?;
    Ok(())
}

/// Begins an epoch: what was outstanding is void, and every counter that others keep a copy of leaps beyond all that
/// it may have reached after the backup.
fn restore(conn: &Connection, state: &mut State, restored: &Restored) -> Applied {
    run(
        conn,
        "UPDATE tokens SET state = 'void' WHERE state = 'outstanding'",
        [],
    )?;
    state.head.epoch += 1;
    state.key = restored.key.spki_der().to_vec();
    state.next_bundle = state.next_bundle.saturating_add(RESTORE_LEAP);
    let generations = &mut state.generations;
    for counter in [
        &mut generations.revocations,
        &mut generations.authorities,
        &mut generations.bundles,
        &mut generations.hosts,
    ] {
        *counter = counter.saturating_add(RESTORE_LEAP);
    }
    Ok(())
}

fn check_host(conn: &Connection, host: &str) -> Applied {
    if !host_exists(conn, host)? {
        return Err(Conflict::HostUnknown {
            host: host.to_owned(),
        }
        .into());
    }
    if is_revoked(conn, "host", host)? {
        return Err(Conflict::HostRevoked {
            host: host.to_owned(),
        }
        .into());
    }
    Ok(())
}

fn host_exists(conn: &Connection, host: &str) -> rusqlite::Result<bool> {
    exists(conn, "SELECT 1 FROM hosts WHERE host = ?1", params![host])
}

fn is_revoked(conn: &Connection, kind: &str, subject: &str) -> rusqlite::Result<bool> {
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

/// A list as the tables have it: JSON.
fn list(items: &[String]) -> rusqlite::Result<String> {
    serde_json::to_string(items).map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))
}

fn exists(conn: &Connection, sql: &str, parameters: impl Params) -> rusqlite::Result<bool> {
    conn.prepare_cached(sql)?.exists(parameters)
}

fn find<T>(
    conn: &Connection,
    sql: &str,
    parameter: impl ToSql,
    read: impl FnOnce(&rusqlite::Row<'_>) -> rusqlite::Result<T>,
) -> rusqlite::Result<Option<T>> {
    let mut statement: CachedStatement<'_> = conn.prepare_cached(sql)?;
    statement.query_row(params![parameter], read).optional()
}

fn run(conn: &Connection, sql: &str, parameters: impl Params) -> rusqlite::Result<()> {
    conn.prepare_cached(sql)?.execute(parameters).map(drop)
}

/// A word in a table that this release does not know.
pub(super) fn unreadable(error: impl std::error::Error + Send + Sync + 'static) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(0, rusqlite::types::Type::Text, Box::new(error))
}

/// How far counters leap at a restore: more changes than a mesh sees between two backups.
pub(super) const RESTORE_LEAP: u64 = 1_000_000;

const SAME_SERIAL: &str = "SELECT 1 FROM live WHERE tag = ?1 AND serial = ?2";

const ISSUER_OF: &str = "SELECT authorities.authority, live.not_after FROM live \
                         JOIN authorities ON authorities.number = live.issuer WHERE tag = ?1 AND serial = ?2";

const SEAL: &str =
    "INSERT INTO sealed VALUES (?1, ?2) ON CONFLICT (authority) DO UPDATE SET blob = excluded.blob";

const PRUNE: &str = "DELETE FROM live WHERE number IN \
                     (SELECT number FROM live WHERE not_after < ?1 ORDER BY not_after LIMIT ?2)";
