//! Gathers appends from many tasks into few transactions, on one thread that owns the connection.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use rusqlite::{Connection, ErrorCode};
use tokio::sync::{OwnedSemaphorePermit, oneshot, watch};
use tracing::{info, warn};

use super::Options;
use super::connect::{Purpose, connect};
use super::state::State;
use super::transaction::{self, Committed, Signing, Written};
use crate::ledger::{Appended, Generations, LedgerError};

/// What the thread is told to do.
pub(super) enum Order {
    /// Record something.
    Append(Job),
    /// End, once everything before it is done.
    Close(oneshot::Sender<()>),
}

/// One append, with the way back to whoever waits for it.
pub(super) struct Job {
    pub(super) entries: Vec<Written>,
    pub(super) answer: oneshot::Sender<Result<Appended, LedgerError>>,
    /// The place in the queue; given back when the job is answered.
    pub(super) _place: OwnedSemaphorePermit,
}

/// The thread's own things.
pub(super) struct Writer {
    path: PathBuf,
    options: Arc<Options>,
    orders: Receiver<Order>,
    generations: watch::Sender<Generations>,
    /// `None` after a failure that the connection may not have survived; the next use makes another.
    conn: Option<Connection>,
    /// The store's number for "somebody else has committed".
    data_version: Option<i64>,
    /// Failed transactions since the last good one.
    failures: u32,
    /// Since when there are rows that no checkpoint covers.
    unsigned_since: Option<Instant>,
    /// Rows since the write-ahead log was last copied back.
    unfolded_rows: usize,
    /// Whether several shared the last batch.
    shared: bool,
    looked: Instant,
}

impl Writer {
    pub(super) fn new(
        path: PathBuf,
        options: Arc<Options>,
        orders: Receiver<Order>,
        generations: watch::Sender<Generations>,
        conn: Connection,
    ) -> Self {
        let now = Instant::now();
        Self {
            path,
            options,
            orders,
            generations,
            conn: Some(conn),
            data_version: None,
            failures: 0,
            // Rows from before may lack a checkpoint; asking for one that is not needed costs nothing.
            unsigned_since: Some(now),
            unfolded_rows: 0,
            shared: false,
            looked: now,
        }
    }

    /// Works until told to close, or until nobody can send any more.
    pub(super) fn run(mut self) {
        let closed = loop {
            match self.orders.recv_timeout(LOOK_EVERY) {
                Ok(Order::Append(first)) => {
                    if let Some(closed) = self.take_batch(first) {
                        break Some(closed);
                    }
                }
                Ok(Order::Close(closed)) => break Some(closed),
                Err(RecvTimeoutError::Timeout) => self.fold(1),
                Err(RecvTimeoutError::Disconnected) => break None,
            }
            self.sign_when_due();
            self.look_for_others();
        };
        self.finish();
        if let Some(closed) = closed {
            // Whoever asked may have stopped waiting.
            let _unused = closed.send(());
        }
    }

    /// Records `first` and what else is waiting. Gives the order to close, when that came with it.
    fn take_batch(&mut self, first: Job) -> Option<oneshot::Sender<()>> {
        let mut jobs = vec![first];
        let mut closed = None;
        // A transaction costs as much for one append as for twenty, and on a fast disk it would be over before the
        // second one is here: while many ask at once, each batch waits until it is worth its price.
        let mut naps = if self.shared { NAPS } else { 0 };
        loop {
            while jobs.len() < self.options.batch && closed.is_none() {
                match self.orders.try_recv() {
                    Ok(Order::Append(job)) => jobs.push(job),
                    Ok(Order::Close(asked)) => closed = Some(asked),
                    Err(_) => break,
                }
            }
            if naps == 0 || closed.is_some() || jobs.len() >= WORTH_IT {
                break;
            }
            naps -= 1;
            std::thread::sleep(NAP);
        }
        self.shared = jobs.len() > 1;
        self.record(jobs);
        // After the answers, so that nobody waits for it but the next batch.
        self.fold(FOLD_ROWS);
        closed
    }

    /// Commits `jobs` and answers each.
    fn record(&mut self, jobs: Vec<Job>) {
        let appends: Vec<&[Written]> = jobs.iter().map(|job| job.entries.as_slice()).collect();
        match self.commit(&appends, self.options.checkpoint_rows) {
            Ok(answers) => {
                for (job, answer) in jobs.into_iter().zip(answers) {
                    let _unused = job.answer.send(answer.map_err(LedgerError::Conflict));
                }
            }
            // One append that the store cannot take must not fail those that share its transaction.
            Err(error) if jobs.len() > 1 && blames_the_data(&error) => {
                for job in jobs {
                    self.record(vec![job]);
                }
            }
            Err(error) => {
                let error = self.failed(error);
                for job in jobs {
                    let _unused = job.answer.send(Err(error.clone()));
                }
            }
        }
    }

    /// Runs one transaction and keeps account of it.
    fn commit(
        &mut self,
        appends: &[&[Written]],
        every_rows: u64,
    ) -> rusqlite::Result<Vec<Result<Appended, crate::ledger::Conflict>>> {
        let now = (self.options.now)();
        let options = Arc::clone(&self.options);
        let signing = Signing {
            key: options.key.as_deref(),
            every_rows,
        };
        let Committed {
            answers,
            state,
            checkpoint,
        } = transaction::commit(self.connection()?, appends, now, signing)?;
        if self.failures > 0 {
            info!(ledger = %self.path.display(), "the ledger can be written again");
            self.failures = 0;
        }
        self.publish(state.generations);
        self.unfolded_rows += appends.iter().map(|append| append.len()).sum::<usize>();
        if checkpoint {
            self.unsigned_since = None;
        } else if self.unsigned_since.is_none() && answers.iter().any(Result::is_ok) {
            self.unsigned_since = Some(Instant::now());
        }
        Ok(answers)
    }

    /// Turns a failure into what the callers are told, and decides whether the connection can stay.
    fn failed(&mut self, error: rusqlite::Error) -> LedgerError {
        let code = error.sqlite_error_code();
        if code == Some(ErrorCode::DatabaseBusy) {
            return LedgerError::Busy {
                limit: self.options.patience,
            };
        }
        self.failures = self.failures.saturating_add(1);
        let stuck = self.conn.as_ref().is_none_or(|conn| !conn.is_autocommit());
        // A full disk leaves a connection sound. Other failures get one more try on it.
        if stuck || (self.failures > 1 && code != Some(ErrorCode::DiskFull)) {
            self.conn = None;
        } else if code == Some(ErrorCode::DiskFull) {
            // What lies in the write-ahead log may fit into the file's free pages, and its space be used again.
            self.fold(0);
        }
        if self.failures == 1 {
            warn!(ledger = %self.path.display(), error = %error, "the ledger cannot be written; nothing is issued until it can");
        }
        LedgerError::NotDurable {
            ledger: self.path.clone(),
            source: Arc::new(error),
        }
    }

    fn connection(&mut self) -> rusqlite::Result<&Connection> {
        if self.conn.is_none() {
            self.data_version = None;
            self.conn = Some(connect(&self.path, Purpose::Write, self.options.patience)?);
        }
        self.conn.as_ref().ok_or(rusqlite::Error::InvalidQuery)
    }

    /// Signs a checkpoint when rows have waited long enough for one.
    fn sign_when_due(&mut self) {
        let due = self
            .unsigned_since
            .is_some_and(|since| since.elapsed() >= self.options.checkpoint_after);
        if due && self.options.key.is_some() {
            self.unsigned_since = None;
            if let Err(error) = self.commit(&[], 1) {
                // Tried again after the same time; the rows themselves are safe.
                self.unsigned_since = Some(Instant::now());
                self.failed(error);
            }
        }
    }

    /// Looks whether another process has changed something that others keep a copy of.
    fn look_for_others(&mut self) {
        if self.looked.elapsed() < LOOK_EVERY {
            return;
        }
        self.looked = Instant::now();
        let before = self.data_version;
        let seen = self.connection().and_then(|conn| {
            let version = conn
                .prepare_cached("PRAGMA data_version")?
                .query_row([], |row| row.get::<_, i64>(0))?;
            if before == Some(version) {
                return Ok((version, None));
            }
            let view = conn.unchecked_transaction()?;
            Ok((version, Some(State::read(&view)?.generations)))
        });
        // When it fails, the next append will say so to somebody.
        if let Ok((version, generations)) = seen {
            self.data_version = Some(version);
            if let Some(generations) = generations {
                self.publish(generations);
            }
        }
    }

    fn publish(&self, generations: Generations) {
        self.generations.send_if_modified(|current| {
            let changed = *current != generations;
            *current = generations;
            changed
        });
    }

    /// Copies the write-ahead log back into the file once `rows` rows have gathered in it, so that no commit has to.
    fn fold(&mut self, rows: usize) {
        if self.unfolded_rows < rows {
            return;
        }
        self.unfolded_rows = 0;
        if let Some(conn) = &self.conn {
            // A reader may hold it back, or the disk be full: what is not copied now is copied later.
            let _unused = conn.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()));
        }
    }

    /// Records what is still queued, signs the last row and closes the connection.
    fn finish(&mut self) {
        while let Ok(order) = self.orders.try_recv() {
            match order {
                Order::Append(job) => {
                    self.take_batch(job);
                }
                Order::Close(closed) => drop(closed),
            }
        }
        if self.options.key.is_some()
            && let Err(error) = self.commit(&[], 1)
        {
            self.failed(error);
        }
        self.conn = None;
    }
}

/// Whether the store refused what it was given, rather than failed at its work.
fn blames_the_data(error: &rusqlite::Error) -> bool {
    match error.sqlite_error_code() {
        Some(code) => matches!(
            code,
            ErrorCode::ConstraintViolation | ErrorCode::TooBig | ErrorCode::TypeMismatch
        ),
        None => true,
    }
}

/// How often the thread looks for changes by other processes: well within the second that is promised.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// How long a batch waits at a time for others to join it, when several joined the last one: sleep, because being woken
/// for each would cost what is to be saved.
const NAP: Duration = Duration::from_millis(2);

/// How often a batch waits for that long at most.
const NAPS: u32 = 4;

/// How many appends make a batch that waits no longer.
const WORTH_IT: usize = 16;

/// Rows after which the write-ahead log is copied back: some 5 MiB of it.
const FOLD_ROWS: usize = 2_000;
