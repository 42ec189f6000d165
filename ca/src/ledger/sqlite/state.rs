//! Holds the one row that says whose chain this is, with where it stands.

use ferrule_identity::PublicKey;
use rusqlite::{Connection, OptionalExtension, params};

use super::number::Count;
use crate::ledger::chain::Head;
use crate::ledger::{Generations, RowHash};

/// Whose chain this is, where it stands, and the counters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::ledger) struct State {
    pub(in crate::ledger) trust_domain: String,
    pub(in crate::ledger) replica: String,
    /// The last row.
    pub(in crate::ledger) head: Head,
    /// The key that signs this epoch's checkpoints, as SubjectPublicKeyInfo.
    pub(in crate::ledger) key: Vec<u8>,
    pub(in crate::ledger) generations: Generations,
    /// The sequence that the next bundle should have.
    pub(in crate::ledger) next_bundle: u64,
}

impl State {
    /// The state of a chain that has no rows.
    pub(in crate::ledger) fn new(trust_domain: String, replica: String, key: &PublicKey) -> Self {
        Self {
            trust_domain,
            replica,
            head: Head::EMPTY,
            key: key.spki_der().to_vec(),
            generations: Generations::default(),
            next_bundle: 1,
        }
    }

    /// Reads the state and the head of the log together.
    ///
    /// # Errors
    /// When it cannot be read, or the tables follow from another row than the log's last.
    pub(in crate::ledger) fn read(conn: &Connection) -> rusqlite::Result<Self> {
        let (applied, mut state) = conn.prepare_cached(READ)?.query_row([], |row| {
            let state = Self {
                trust_domain: row.get(0)?,
                replica: row.get(1)?,
                head: Head {
                    epoch: row.get::<_, Count>(2)?.0,
                    ..Head::EMPTY
                },
                key: row.get(4)?,
                generations: Generations {
                    revocations: row.get::<_, Count>(5)?.0,
                    authorities: row.get::<_, Count>(6)?.0,
                    bundles: row.get::<_, Count>(7)?.0,
                    hosts: row.get::<_, Count>(8)?.0,
                },
                next_bundle: row.get::<_, Count>(9)?.0,
            };
            Ok((row.get::<_, Count>(3)?.0, state))
        })?;
        let last = conn
            .prepare_cached("SELECT epoch, sequence, hash FROM log ORDER BY sequence DESC LIMIT 1")?
            .query_row([], |row| {
                Ok(Head {
                    epoch: row.get::<_, Count>(0)?.0,
                    sequence: row.get::<_, Count>(1)?.0,
                    hash: row.get::<_, RowHash>(2)?,
                })
            })
            .optional()?
            .unwrap_or(Head::EMPTY);
        if last.sequence != applied || last.epoch != state.head.epoch {
            return Err(damaged(format!(
                "the log ends with row {} of epoch {}, but the tables follow from row {applied} of epoch {}",
                last.sequence, last.epoch, state.head.epoch
            )));
        }
        state.head = last;
        Ok(state)
    }

    /// Writes the state for the first time.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(in crate::ledger) fn insert(&self, conn: &Connection) -> rusqlite::Result<()> {
        conn.execute(
            "INSERT INTO chain VALUES (1, ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
            params![
                self.trust_domain,
                self.replica,
                Count(self.head.epoch),
                Count(self.head.sequence),
                self.key,
                Count(self.generations.revocations),
                Count(self.generations.authorities),
                Count(self.generations.bundles),
                Count(self.generations.hosts),
                Count(self.next_bundle),
            ],
        )?;
        Ok(())
    }

    /// Writes the state over the one that is there; `before` is what that one says.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(in crate::ledger) fn update(&self, conn: &Connection, before: &Self) -> rusqlite::Result<()> {
        if (self.generations, self.next_bundle) == (before.generations, before.next_bundle)
            && self.key == before.key
        {
            conn.prepare_cached("UPDATE chain SET epoch = ?1, sequence = ?2")?
                .execute(params![Count(self.head.epoch), Count(self.head.sequence)])?;
            return Ok(());
        }
        conn.prepare_cached(UPDATE)?.execute(params![
            Count(self.head.epoch),
            Count(self.head.sequence),
            self.key,
            Count(self.generations.revocations),
            Count(self.generations.authorities),
            Count(self.generations.bundles),
            Count(self.generations.hosts),
            Count(self.next_bundle),
        ])?;
        Ok(())
    }
}

/// An error that says the file is damaged, in the store's own terms, so that it is handled like its own.
pub(super) fn damaged(what: String) -> rusqlite::Error {
    let code = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CORRUPT);
    rusqlite::Error::SqliteFailure(code, Some(what))
}

const READ: &str = "SELECT trust_domain, replica, epoch, sequence, key, revocations, authorities, bundles, hosts, \
                    next_bundle FROM chain";

const UPDATE: &str = "UPDATE chain SET epoch = ?1, sequence = ?2, key = ?3, revocations = ?4, authorities = ?5, \
                      bundles = ?6, hosts = ?7, next_bundle = ?8";
