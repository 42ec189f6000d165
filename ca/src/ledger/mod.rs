//! Keeps what the CA did, row by row, with what holds now because of it.
//!
//! [`Ledger`] is all that the rest of the CA knows of it. [`sqlite`] fills it with a file on this machine.
//! Reading order: [`event`] (what is recorded), [`chain`] (what ties the rows together), [`checkpoint`] (what
//! vouches for them), [`record`] (what holds now), [`sqlite`], [`audit`] (proof and export), [`backup`].

pub mod audit;
pub mod backup;
pub mod chain;
pub mod checkpoint;
pub mod error;
pub mod event;
pub mod record;
pub mod refusals;
pub mod sample;
pub mod serial;
pub mod sqlite;
mod written;

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;

use ferrule_identity::{Fingerprint, Timestamp};
use tokio::sync::watch;

pub use chain::{ChainFault, RowHash};
pub use error::{Conflict, LedgerError, OpenError};
pub use event::Event;
pub use record::{
    Acknowledgement, Authority, ChainInfo, Generations, Host, IssuerUse, LiveCertificate, LiveCount,
    PublishedBundle, Revocation, RevocationList, Row, RowFilter, Token, TokenState,
};
pub use serial::Serial;

/// An answer that is still to come.
pub type Pending<'a, T> = Pin<Box<dyn Future<Output = Result<T, LedgerError>> + Send + 'a>>;

/// Tells the time. The ledger stamps its rows with it, and judges by it what has run out.
pub type Now = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// The CA's one place of truth: an append-only log, chained by hashes, with the tables of what holds now.
///
/// Several processes may use one ledger at a time. Every append is durable before it is answered.
pub trait Ledger: fmt::Debug + Send + Sync {
    /// Records `entries`, all or none, in their order, in one transaction with the tables that they change.
    ///
    /// Answers when they are durable. An append whose future is dropped before that may still be recorded.
    ///
    /// # Errors
    /// [`LedgerError::Conflict`] when a precondition does not hold, with nothing recorded;
    /// [`LedgerError::NotDurable`] when the store fails, with nothing acknowledged.
    fn append(&self, entries: Vec<Entry>) -> Pending<'_, Appended>;

    /// The counters of what changes, kept up to date within a second, changes by other processes included.
    fn watch(&self) -> watch::Receiver<Generations>;

    /// Everything that is revoked now.
    fn revocations(&self) -> Pending<'_, RevocationList>;

    /// The certificate with this serial number, while it is on record as live.
    fn certificate(&self, serial: Serial) -> Pending<'_, Option<LiveCertificate>>;

    /// What still hangs on each authority that has live certificates.
    fn issuers(&self) -> Pending<'_, Vec<IssuerUse>>;

    /// How many certificates and identities are live.
    fn live(&self) -> Pending<'_, LiveCount>;

    /// Every name that has a live certificate, sorted.
    fn live_identities(&self) -> Pending<'_, Vec<String>>;

    /// Every join token, the newest first.
    fn tokens(&self) -> Pending<'_, Vec<Token>>;

    /// The join token whose secret has this SHA-256.
    fn token_by_secret(&self, secret: Fingerprint) -> Pending<'_, Option<Token>>;

    /// The enrolled host of this name.
    fn host(&self, host: String) -> Pending<'_, Option<Host>>;

    /// Every enrolled host, sorted by name.
    fn hosts(&self) -> Pending<'_, Vec<Host>>;

    /// Every authority that is not removed, the oldest first.
    fn authorities(&self) -> Pending<'_, Vec<Authority>>;

    /// The sealed key of an authority, where the ledger holds one.
    fn sealed(&self, authority: String) -> Pending<'_, Option<Vec<u8>>>;

    /// The newest trust bundle.
    fn bundle(&self) -> Pending<'_, PublishedBundle>;

    /// The newest bundle that each of those who reported has.
    fn acknowledgements(&self) -> Pending<'_, Vec<Acknowledgement>>;

    /// Whose chain this process appends to, and its last row.
    fn chain(&self) -> Pending<'_, ChainInfo>;

    /// At most `limit` rows that match `filter`, in their order, beginning after row `after` (0 for the first).
    fn rows(&self, filter: RowFilter, after: u64, limit: usize) -> Pending<'_, Vec<Row>>;

    /// Ends this process's use of the ledger: records what is queued, signs a last checkpoint, closes the files.
    fn close(&self) -> Pending<'_, ()>;
}

/// Something to record.
#[derive(Clone, PartialEq, Eq)]
pub struct Entry {
    /// What happened.
    pub event: Event,
    /// The sealed key that goes with an [`event::AuthorityPrepared`] or an [`event::AuthoritySealed`]. It is kept
    /// beside the log, never in it.
    pub sealed: Option<Vec<u8>>,
}

impl Entry {
    /// The event with the sealed key that belongs to it.
    pub fn with_sealed(event: impl Into<Event>, sealed: Vec<u8>) -> Self {
        Self {
            event: event.into(),
            sealed: Some(sealed),
        }
    }
}

impl<E: Into<Event>> From<E> for Entry {
    fn from(event: E) -> Self {
        Self {
            event: event.into(),
            sealed: None,
        }
    }
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sealed = self.sealed.as_ref().map(|_| "[redacted]");
        f.debug_struct("Entry")
            .field("event", &self.event)
            .field("sealed", &sealed)
            .finish()
    }
}

/// What an append has become.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Appended {
    /// The epoch of its rows.
    pub epoch: u64,
    /// The number of its first row; the others follow without a gap.
    pub first: u64,
    /// The number of its last row.
    pub last: u64,
    /// When it was recorded.
    pub time: Timestamp,
    /// The counters when all that was committed together with it was in force.
    pub generations: Generations,
}

#[cfg(test)]
pub(crate) mod scratch;

#[cfg(test)]
mod proofs;
