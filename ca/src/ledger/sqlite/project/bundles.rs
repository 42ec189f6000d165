//! Keeps the published bundles with those who have them.

use ferrule_identity::Timestamp;
use rusqlite::{Connection, params};

use super::Applied;
use crate::ledger::Conflict;
use crate::ledger::event::{Acknowledged, BundlePublished};
use crate::ledger::sqlite::number::Count;
use crate::ledger::sqlite::state::State;
use crate::ledger::sqlite::statement::{list, run};

pub(super) fn publish(
    conn: &Connection,
    state: &mut State,
    published: &BundlePublished,
    now: Timestamp,
) -> Applied {
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

pub(super) fn acknowledge(conn: &Connection, acknowledged: &Acknowledged, now: Timestamp) -> Applied {
    run(
        conn,
        "INSERT INTO acknowledgements VALUES (?1, ?2, ?3) ON CONFLICT (who) \
         DO UPDATE SET generation = max(generation, excluded.generation), time = excluded.time",
        params![acknowledged.who, Count(acknowledged.generation), now.unix()],
    )?;
    Ok(())
}
