//! Changes the tables of what holds now as one event demands.
//!
//! Each function looks at everything that could speak against the event before it writes anything, so a conflict
//! leaves nothing behind.

mod authorities;
mod bundles;
mod certificates;
mod hosts;
mod revocations;
mod tokens;

use ferrule_identity::Timestamp;
use rusqlite::Connection;

pub(super) use self::certificates::{prune, tag};
use super::state::State;
use super::statement::run;
use crate::ledger::event::Restored;
use crate::ledger::{Conflict, Event};

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
        Event::Issued(issued) => certificates::issue(conn, state, issued),
        Event::Revoked(revoked) => revocations::revoke(conn, state, revoked, now),
        Event::Lifted(lifted) => revocations::lift(conn, state, lifted),
        Event::TokenCreated(created) => tokens::create(conn, created, now),
        Event::TokenUsed(used) => tokens::use_up(conn, used, now),
        Event::TokenRevoked(revoked) => tokens::revoke(conn, revoked),
        Event::HostEnrolled(enrolled) => hosts::enroll(conn, state, enrolled, now),
        Event::AuthorityPrepared(prepared) => authorities::prepare(conn, state, prepared, sealed, now),
        Event::AuthorityStepped(stepped) => authorities::step(conn, state, stepped, now),
        Event::AuthoritySealed(reseal) => authorities::seal(conn, reseal, sealed),
        Event::BundlePublished(published) => bundles::publish(conn, state, published, now),
        Event::Acknowledged(acknowledged) => bundles::acknowledge(conn, acknowledged, now),
        Event::Restored(restored) => restore(conn, state, restored),
    }
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

/// How far counters leap at a restore: more changes than a mesh sees between two backups.
const RESTORE_LEAP: u64 = 1_000_000;
