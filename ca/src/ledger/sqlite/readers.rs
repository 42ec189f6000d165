//! Runs questions on a few connections of their own, away from the tasks that ask.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode};
use tokio::sync::Semaphore;

use super::connect::{Purpose, connect};
use crate::ledger::LedgerError;

/// A small pool of connections that only read.
#[derive(Clone)]
pub(super) struct Readers {
    path: PathBuf,
    patience: Duration,
    idle: Arc<Mutex<Vec<Connection>>>,
    places: Arc<Semaphore>,
}

impl Readers {
    /// A pool of at most `size` connections to the file `path`; they are made when first needed.
    pub(super) fn new(path: PathBuf, patience: Duration, size: usize) -> Self {
        Self {
            path,
            patience,
            idle: Arc::new(Mutex::new(Vec::with_capacity(size))),
            places: Arc::new(Semaphore::new(size)),
        }
    }

    /// Asks the ledger for `what`.
    ///
    /// # Errors
    /// When no connection was free in time, the pool is closed, or the store failed.
    pub(super) async fn ask<T: Send + 'static>(
        &self,
        what: &'static str,
        question: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, LedgerError> {
        let limit = self.patience;
        let place = tokio::time::timeout(limit, Arc::clone(&self.places).acquire_owned())
            .await
            .map_err(|_| LedgerError::Busy { limit })?
            .map_err(|_| LedgerError::Closed)?;
        let pool = self.clone();
        let asked = tokio::task::spawn_blocking(move || {
            let answer = pool.run(question);
            drop(place);
            answer
        });
        match asked.await {
            Ok(answer) => answer.map_err(|error| LedgerError::Read {
                what,
                ledger: self.path.clone(),
                source: Arc::new(error),
            }),
            Err(error) => Err(LedgerError::Read {
                what,
                ledger: self.path.clone(),
                source: Arc::new(error),
            }),
        }
    }

    /// Takes no more questions and closes the connections.
    pub(super) fn close(&self) {
        self.places.close();
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    fn run<T>(&self, question: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> rusqlite::Result<T> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let conn = match idle {
            Some(conn) => conn,
            None => connect(&self.path, Purpose::Read, self.patience)?,
        };
        let answer = question(&conn);
        // A connection that has met a failure of the disk or the file is not asked again.
        let sound = answer
            .as_ref()
            .err()
            .and_then(rusqlite::Error::sqlite_error_code)
            .is_none_or(|code| {
                !matches!(
                    code,
                    ErrorCode::SystemIoFailure
                        | ErrorCode::DatabaseCorrupt
                        | ErrorCode::NotADatabase
                        | ErrorCode::CannotOpen
                )
            });
        if sound && !self.places.is_closed() {
            self.idle
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(conn);
        }
        answer
    }
}
