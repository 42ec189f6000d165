//! Answers questions about what holds now.

use ferrule_identity::{Fingerprint, PublicKey, Timestamp};
use rusqlite::types::{FromSqlError, Type};
use rusqlite::{Connection, OptionalExtension, Row as StoreRow, params};

use super::number::Count;
use super::project::tag;
use super::state::State;
use super::statement::unreadable;
use crate::ledger::Serial;
use crate::ledger::event::Subject;
use crate::ledger::record::{
    Acknowledgement, Authority, ChainInfo, Host, IssuerUse, LiveCertificate, LiveCount, PublishedBundle,
    Revocation, RevocationList, Token, TokenState,
};

/// Everything that is revoked at `now`.
pub(super) fn revocations(conn: &Connection, now: Timestamp) -> rusqlite::Result<RevocationList> {
    // One transaction, so that the list is the one that its number names.
    let view = conn.unchecked_transaction()?;
    let generation = State::read(&view)?.generations.revocations;
    let entries = all(&view, REVOCATIONS, params![now.unix()], |row| {
        Ok(Revocation {
            subject: subject(&row.get::<_, String>(0)?, row.get(1)?)?,
            issuer: row.get(2)?,
            not_after: row.get::<_, Option<i64>>(3)?.map(Timestamp::from_unix),
            reason: row.get(4)?,
            by: row.get(5)?,
            time: time(row, 6)?,
        })
    })?;
    let host_certificates = all(
        &view,
        REVOKED_HOSTS_CERTIFICATES,
        params![now.unix()],
        live_certificate,
    )?;
    let identity_certificates = all(
        &view,
        REVOKED_IDENTITIES_CERTIFICATES,
        params![now.unix()],
        live_certificate,
    )?;
    Ok(RevocationList {
        generation,
        entries,
        host_certificates,
        identity_certificates,
    })
}

/// The certificate with this serial number.
pub(super) fn certificate(conn: &Connection, serial: Serial) -> rusqlite::Result<Option<LiveCertificate>> {
    conn.prepare_cached(CERTIFICATE)?
        .query_row(params![tag(&serial), serial.as_be_bytes()], live_certificate)
        .optional()
}

/// What still hangs on each authority at `now`.
pub(super) fn issuers(conn: &Connection, now: Timestamp) -> rusqlite::Result<Vec<IssuerUse>> {
    all(conn, ISSUERS, params![now.unix()], |row| {
        Ok(IssuerUse {
            authority: row.get(0)?,
            live: count(row, 1)?,
            latest_not_after: time(row, 2)?,
        })
    })
}

/// How much is live at `now`.
pub(super) fn live(conn: &Connection, now: Timestamp) -> rusqlite::Result<LiveCount> {
    conn.prepare_cached("SELECT count(*), count(DISTINCT id) FROM live WHERE not_after >= ?1")?
        .query_row(params![now.unix()], |row| {
            Ok(LiveCount {
                certificates: count(row, 0)?,
                identities: count(row, 1)?,
            })
        })
}

/// Every name that has a live certificate at `now`.
pub(super) fn live_identities(conn: &Connection, now: Timestamp) -> rusqlite::Result<Vec<String>> {
    let sql = "SELECT DISTINCT id FROM live WHERE not_after >= ?1 ORDER BY id";
    all(conn, sql, params![now.unix()], |row| row.get(0))
}

/// Every join token, the newest first.
pub(super) fn tokens(conn: &Connection) -> rusqlite::Result<Vec<Token>> {
    let sql = format!("{TOKENS} ORDER BY number DESC");
    all(conn, &sql, [], token)
}

/// The join token whose secret has this hash.
pub(super) fn token_by_secret(conn: &Connection, secret: Fingerprint) -> rusqlite::Result<Option<Token>> {
    let sql = format!("{TOKENS} WHERE secret = ?1");
    conn.prepare_cached(&sql)?
        .query_row(params![secret.to_string()], token)
        .optional()
}

/// The enrolled host of this name.
pub(super) fn host(conn: &Connection, name: &str) -> rusqlite::Result<Option<Host>> {
    let sql = format!("{HOSTS} WHERE hosts.host = ?1");
    conn.prepare_cached(&sql)?
        .query_row(params![name], enrolled)
        .optional()
}

/// Every enrolled host.
pub(super) fn hosts(conn: &Connection) -> rusqlite::Result<Vec<Host>> {
    let sql = format!("{HOSTS} ORDER BY hosts.host");
    all(conn, &sql, [], enrolled)
}

/// Every authority that is not removed.
pub(super) fn authorities(conn: &Connection) -> rusqlite::Result<Vec<Authority>> {
    all(conn, AUTHORITIES, [], |row| {
        Ok(Authority {
            authority: row.get(0)?,
            role: word(row, 1)?,
            step: word(row, 2)?,
            since: time(row, 3)?,
            prepared: time(row, 4)?,
            fingerprint: word(row, 5)?,
            certificate: row.get(6)?,
            not_before: time(row, 7)?,
            not_after: time(row, 8)?,
            sealed: row.get(9)?,
        })
    })
}

/// The sealed key of an authority.
pub(super) fn sealed(conn: &Connection, authority: &str) -> rusqlite::Result<Option<Vec<u8>>> {
    conn.prepare_cached("SELECT blob FROM sealed WHERE authority = ?1")?
        .query_row(params![authority], |row| row.get(0))
        .optional()
}

/// The newest trust bundle.
pub(super) fn bundle(conn: &Connection) -> rusqlite::Result<PublishedBundle> {
    let view = conn.unchecked_transaction()?;
    let next = State::read(&view)?.next_bundle;
    let newest = view
        .prepare_cached("SELECT sequence, anchors, published FROM bundles ORDER BY sequence DESC LIMIT 1")?
        .query_row([], |row| {
            let anchors = list(row, 1)?
                .iter()
                .map(|anchor| anchor.parse().map_err(unreadable))
                .collect::<rusqlite::Result<_>>()?;
            Ok(PublishedBundle {
                sequence: count(row, 0)?,
                anchors,
                published: Some(time(row, 2)?),
                next,
            })
        })
        .optional()?;
    Ok(newest.unwrap_or(PublishedBundle {
        sequence: 0,
        anchors: Vec::new(),
        published: None,
        next,
    }))
}

/// The newest bundle that each of those who reported has.
pub(super) fn acknowledgements(conn: &Connection) -> rusqlite::Result<Vec<Acknowledgement>> {
    let sql = "SELECT who, generation, time FROM acknowledgements ORDER BY who";
    all(conn, sql, [], |row| {
        Ok(Acknowledgement {
            who: row.get(0)?,
            generation: count(row, 1)?,
            time: time(row, 2)?,
        })
    })
}

/// Whose chain this is.
pub(super) fn chain(conn: &Connection) -> rusqlite::Result<ChainInfo> {
    let view = conn.unchecked_transaction()?;
    let state = State::read(&view)?;
    Ok(ChainInfo {
        trust_domain: state.trust_domain,
        replica: state.replica,
        epoch: state.head.epoch,
        sequence: state.head.sequence,
        hash: state.head.hash,
        key: Fingerprint::of(&state.key),
    })
}

fn live_certificate(row: &StoreRow<'_>) -> rusqlite::Result<LiveCertificate> {
    let serial = row.get_ref(0)?.as_blob()?;
    Ok(LiveCertificate {
        serial: Serial::from_be_bytes(serial).map_err(unreadable)?,
        id: row.get(1)?,
        issuer: row.get(2)?,
        not_after: time(row, 3)?,
        host: row.get(4)?,
    })
}

fn token(row: &StoreRow<'_>) -> rusqlite::Result<Token> {
    let state: String = row.get(5)?;
    Ok(Token {
        token: row.get(0)?,
        identities: list(row, 1)?,
        created: time(row, 2)?,
        expires: time(row, 3)?,
        by: row.get(4)?,
        state: match state.as_str() {
            "outstanding" => TokenState::Outstanding,
            "used" => TokenState::Used { host: row.get(6)? },
            "revoked" => TokenState::Revoked,
            "void" => TokenState::Void,
            _ => return Err(FromSqlError::InvalidType.into()),
        },
    })
}

fn enrolled(row: &StoreRow<'_>) -> rusqlite::Result<Host> {
    Ok(Host {
        host: row.get(0)?,
        key: PublicKey::from_spki_der(row.get_ref(1)?.as_blob()?).map_err(unreadable)?,
        identities: list(row, 2)?,
        token: row.get(3)?,
        enrolled: time(row, 4)?,
        revoked: row.get(5)?,
    })
}

fn subject(kind: &str, subject: String) -> rusqlite::Result<Subject> {
    match kind {
        "identity" => Ok(Subject::Identity(subject)),
        "host" => Ok(Subject::Host(subject)),
        "serial" => subject.parse().map(Subject::Serial).map_err(unreadable),
        _ => Err(FromSqlError::InvalidType.into()),
    }
}

fn all<T>(
    conn: &Connection,
    sql: &str,
    parameters: impl rusqlite::Params,
    read: impl FnMut(&StoreRow<'_>) -> rusqlite::Result<T>,
) -> rusqlite::Result<Vec<T>> {
    conn.prepare_cached(sql)?.query_map(parameters, read)?.collect()
}

fn time(row: &StoreRow<'_>, column: usize) -> rusqlite::Result<Timestamp> {
    row.get(column).map(Timestamp::from_unix)
}

fn count(row: &StoreRow<'_>, column: usize) -> rusqlite::Result<u64> {
    row.get::<_, Count>(column).map(|count| count.0)
}

fn word<T>(row: &StoreRow<'_>, column: usize) -> rusqlite::Result<T>
where
    T: std::str::FromStr<Err: std::error::Error + Send + Sync + 'static>,
{
    row.get_ref(column)?.as_str()?.parse().map_err(unreadable)
}

fn list(row: &StoreRow<'_>, column: usize) -> rusqlite::Result<Vec<String>> {
    serde_json::from_str(row.get_ref(column)?.as_str()?)
        .map_err(|error| rusqlite::Error::FromSqlConversionFailure(column, Type::Text, Box::new(error)))
}

const REVOCATIONS: &str = "SELECT kind, subject, issuer, not_after, reason, revoked_by, time FROM revocations \
                           WHERE not_after IS NULL OR not_after >= ?1 ORDER BY kind, subject";

const REVOKED_HOSTS_CERTIFICATES: &str = "SELECT serial, id, authority, live.not_after, host FROM live \
    JOIN authorities ON authorities.number = live.issuer \
    WHERE live.not_after >= ?1 AND host IN (SELECT subject FROM revocations WHERE kind = 'host') ORDER BY live.number";

const REVOKED_IDENTITIES_CERTIFICATES: &str = "SELECT serial, id, authority, live.not_after, host FROM live \
    JOIN authorities ON authorities.number = live.issuer \
    WHERE live.not_after >= ?1 AND id IN (SELECT subject FROM revocations WHERE kind = 'identity') ORDER BY live.number";

const CERTIFICATE: &str = "SELECT serial, id, authority, live.not_after, host FROM live \
                           JOIN authorities ON authorities.number = live.issuer WHERE tag = ?1 AND serial = ?2";

const ISSUERS: &str = "SELECT authority, count(*), max(live.not_after) FROM live \
    JOIN authorities ON authorities.number = live.issuer WHERE live.not_after >= ?1 GROUP BY authority ORDER BY authority";

const TOKENS: &str = "SELECT token, identities, created, expires, made_by, state, host FROM tokens";

const HOSTS: &str = "SELECT host, key, identities, token, enrolled, \
    EXISTS (SELECT 1 FROM revocations WHERE kind = 'host' AND subject = hosts.host) FROM hosts";

const AUTHORITIES: &str = "SELECT authority, role, step, since, prepared, fingerprint, certificate, not_before, \
    not_after, EXISTS (SELECT 1 FROM sealed WHERE sealed.authority = authorities.authority) FROM authorities \
    WHERE step <> 'removed' ORDER BY number";
