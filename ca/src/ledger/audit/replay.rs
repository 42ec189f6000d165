//! Derives what holds now from the log alone, to compare it with what the tables say.

use aws_lc_rs::digest::{self, SHA256};
use ferrule_identity::Timestamp;
use rusqlite::{Connection, Row as StoreRow, params};

use crate::ledger::chain::{ChainFault, Head};
use crate::ledger::event::Event;
use crate::ledger::record::Row;
use crate::ledger::sqlite::project::{self, ApplyError};
use crate::ledger::sqlite::schema::TABLES;
use crate::ledger::sqlite::state::State;
use crate::ledger::sqlite::transaction::PRUNE_GRACE;

/// The tables as the log makes them, in memory. Of the certificates, which are many, it keeps only a sum.
pub(super) struct Replay {
    conn: Connection,
    state: Option<State>,
    /// Over every certificate that runs out at `live_from` or later.
    live: Sum,
    live_from: Timestamp,
    /// The latest time of any row.
    latest: Timestamp,
}

impl Replay {
    /// Begins with empty tables. `last` is the time of the log's last row.
    pub(super) fn new(last: Timestamp) -> rusqlite::Result<Self> {
        let conn = Connection::open_in_memory()?;
        conn.execute_batch(TABLES)?;
        conn.set_prepared_statement_cache_capacity(64);
        Ok(Self {
            conn,
            state: None,
            live: Sum::default(),
            live_from: last,
            latest: last,
        })
    }

    /// Applies a row that was checked; `head` is the chain's end with it.
    pub(super) fn take(&mut self, event: &Event, row: &Row, head: &Head) -> Result<(), ChainFault> {
        self.latest = self.latest.max(row.time);
        if let Event::Opened(opened) = event {
            let trust_domain = opened.trust_domain.to_string();
            self.state = Some(State::new(trust_domain, opened.replica.clone(), &opened.key));
        }
        let sequence = row.sequence;
        let Some(state) = &mut self.state else {
            return Err(ChainFault::Opening { sequence });
        };
        match event {
            Event::Issued(issued) => {
                if issued.not_after >= self.live_from {
                    let host = issued.host.as_deref().unwrap_or("");
                    self.live.add(&Certificate {
                        serial: issued.serial.as_be_bytes(),
                        issuer: &issued.issuer,
                        not_after: issued.not_after.unix(),
                        id: &issued.id,
                        host,
                    });
                }
            }
            other => match project::apply(&self.conn, state, other, None, row.time) {
                Ok(()) => {}
                Err(ApplyError::Conflict(conflict)) => {
                    return Err(ChainFault::Impossible { sequence, conflict });
                }
                Err(ApplyError::Store(error)) => {
                    return Err(ChainFault::Unreadable {
                        after: sequence - 1,
                        reason: error.to_string(),
                    });
                }
            },
        }
        state.head = head.clone();
        Ok(())
    }

    /// The first table of `ledger`, whose own state is `state`, that does not say what the log says.
    pub(super) fn compare(
        &self,
        ledger: &Connection,
        state: &State,
    ) -> rusqlite::Result<Option<&'static str>> {
        if self.state.as_ref() != Some(state) {
            return Ok(Some("chain"));
        }
        for (table, sql) in COMPARED {
            let mut here = self.conn.prepare(sql)?;
            let mut there = ledger.prepare(sql)?;
            let (mut here, mut there) = (here.query([])?, there.query([])?);
            loop {
                let (mine, theirs) = (text(here.next()?)?, text(there.next()?)?);
                if mine != theirs {
                    return Ok(Some(table));
                }
                if mine.is_none() {
                    break;
                }
            }
        }
        // Certificates that ran out long before the latest row may be gone from the table. After a clock was set back
        // further than that, it cannot be told which should still be there.
        let comparable = self.latest <= self.live_from.plus(PRUNE_GRACE);
        if comparable && self.live != live(ledger, self.live_from)? {
            return Ok(Some("live"));
        }
        Ok(None)
    }
}

fn text(row: Option<&StoreRow<'_>>) -> rusqlite::Result<Option<String>> {
    row.map(|row| row.get(0)).transpose()
}

/// The sum over the table of live certificates.
fn live(ledger: &Connection, from: Timestamp) -> rusqlite::Result<Sum> {
    let mut sum = Sum::default();
    let mut statement = ledger.prepare(LIVE)?;
    let mut rows = statement.query(params![from.unix()])?;
    while let Some(row) = rows.next()? {
        sum.add(&Certificate {
            serial: row.get_ref(0)?.as_blob()?,
            issuer: row.get_ref(1)?.as_str()?,
            not_after: row.get(2)?,
            id: row.get_ref(3)?.as_str()?,
            host: row.get_ref(4)?.as_str_or_null()?.unwrap_or(""),
        });
    }
    Ok(sum)
}

/// What the table keeps of a certificate.
struct Certificate<'a> {
    serial: &'a [u8],
    issuer: &'a str,
    not_after: i64,
    id: &'a str,
    host: &'a str,
}

/// A sum over certificates that does not depend on their order.
#[derive(Debug, Default, PartialEq, Eq)]
struct Sum {
    count: u64,
    hashes: u128,
}

impl Sum {
    fn add(&mut self, certificate: &Certificate<'_>) {
        let mut context = digest::Context::new(&SHA256);
        for field in [
            certificate.serial,
            certificate.issuer.as_bytes(),
            &certificate.not_after.to_be_bytes(),
            certificate.id.as_bytes(),
            certificate.host.as_bytes(),
        ] {
            context.update(&(field.len() as u64).to_be_bytes());
            context.update(field);
        }
        let mut first = [0; 16];
        first.copy_from_slice(&context.finish().as_ref()[..16]);
        self.count += 1;
        self.hashes = self.hashes.wrapping_add(u128::from_be_bytes(first));
    }
}

/// Every table that follows from the log, as one text a row. What a revocation says of its certificate is left out: it
/// was looked up among certificates that may be gone by now.
const COMPARED: [(&str, &str); 6] = [
    (
        "authorities",
        "SELECT number || quote(authority) || role || step || since || '/' || prepared || quote(fingerprint) \
         || quote(certificate) || not_before || '/' || not_after FROM authorities ORDER BY number",
    ),
    (
        "tokens",
        "SELECT number || quote(token) || secret || quote(identities) || created || '/' || expires || quote(made_by) \
         || state || quote(host) FROM tokens ORDER BY number",
    ),
    (
        "hosts",
        "SELECT quote(host) || quote(key) || quote(identities) || quote(token) || enrolled FROM hosts ORDER BY host",
    ),
    (
        "revocations",
        "SELECT kind || quote(subject) || quote(reason) || quote(revoked_by) || time FROM revocations \
         ORDER BY kind, subject",
    ),
    (
        "bundles",
        "SELECT sequence || quote(anchors) || published FROM bundles ORDER BY sequence",
    ),
    (
        "acknowledgements",
        "SELECT quote(who) || generation || '/' || time FROM acknowledgements ORDER BY who",
    ),
];

const LIVE: &str = "SELECT serial, authority, live.not_after, id, host FROM live \
                    JOIN authorities ON authorities.number = live.issuer WHERE live.not_after >= ?1";
