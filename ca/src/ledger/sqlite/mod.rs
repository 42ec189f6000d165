//! Keeps the ledger in a file on this machine, in SQLite.

pub(super) mod connect;
pub(super) mod files;
mod number;
pub(super) mod open;
pub mod peek;
pub(super) mod project;
mod read;
mod readers;
pub(super) mod rows;
pub(super) mod schema;
pub(super) mod state;
mod statement;
pub(super) mod transaction;
mod writer;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use ferrule_identity::{Fingerprint, PrivateKey, TrustDomain};
use tokio::sync::{Semaphore, oneshot, watch};
use tokio::time::timeout;

use self::readers::Readers;
use self::transaction::Written;
use self::writer::{Job, Order, Writer};
use super::{
    Acknowledgement, Appended, Authority, ChainInfo, Entry, Generations, Host, IssuerUse, Ledger,
    LedgerError, LiveCertificate, LiveCount, Now, OpenError, Pending, PublishedBundle, RevocationList, Row,
    RowFilter, Serial, Token,
};

/// How to open a ledger.
#[derive(Clone)]
pub struct Options {
    /// The trust domain of the CA; a ledger of another is refused.
    pub trust_domain: TrustDomain,
    /// The replica's key, which signs checkpoints. Without it none are signed, and no ledger can be made.
    pub key: Option<Arc<PrivateKey>>,
    /// Tells the time.
    pub now: Now,
    /// Makes the ledger when there is none; otherwise that is an error.
    pub create: bool,
    /// How long an append or a question waits for its turn: for a place in the queue, and for other processes.
    /// 5 s by default.
    pub patience: Duration,
    /// How many appends wait at most. 1,024 by default.
    pub queue: usize,
    /// How many appends share a transaction at most. 256 by default.
    pub batch: usize,
    /// A checkpoint is signed once this many rows came after the last. 1,000 by default.
    pub checkpoint_rows: u64,
    /// A checkpoint is signed when a row has waited this long for one. 60 s by default.
    pub checkpoint_after: Duration,
    /// How many questions are answered at a time. 2 by default.
    pub readers: usize,
}

impl Options {
    /// The defaults, for the trust domain, the checkpoint key and the clock.
    pub fn new(trust_domain: TrustDomain, key: Option<Arc<PrivateKey>>, now: Now) -> Self {
        Self {
            trust_domain,
            key,
            now,
            create: false,
            patience: Duration::from_secs(5),
            queue: 1024,
            batch: 256,
            checkpoint_rows: 1000,
            checkpoint_after: Duration::from_secs(60),
            readers: 2,
        }
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("trust_domain", &self.trust_domain)
            .field("key", &self.key)
            .field("create", &self.create)
            .finish_non_exhaustive()
    }
}

/// A ledger in a file, used by this process and perhaps by others at the same time.
pub struct SqliteLedger {
    path: PathBuf,
    options: Arc<Options>,
    orders: SyncSender<Order>,
    places: Arc<Semaphore>,
    generations: watch::Receiver<Generations>,
    readers: Readers,
    writer: Mutex<Option<JoinHandle<()>>>,
}

impl SqliteLedger {
    /// Opens the ledger in `folder`, or makes it there when the options say so. Does blocking input and output.
    ///
    /// # Errors
    /// When the folder or a file is open to others than its owner, the ledger belongs to another trust domain or key,
    /// or its last rows do not hold together.
    pub fn open(folder: &Path, options: Options) -> Result<Self, OpenError> {
        let (conn, state) = open::open(folder, &options)?;
        let path = files::ledger_path(folder);
        let options = Arc::new(options);
        let (changed, generations) = watch::channel(state.generations);
        // One place more than appends may wait, for the order to close.
        let (orders, received) = sync_channel(options.queue.saturating_add(1));
        let writer = Writer::new(path.clone(), Arc::clone(&options), received, changed, conn);
        let thread = std::thread::Builder::new()
            .name("ledger".into())
            .spawn(move || writer.run())
            .map_err(files::file_error("start a thread for", &path))?;
        Ok(Self {
            readers: Readers::new(path.clone(), options.patience, options.readers),
            places: Arc::new(Semaphore::new(options.queue)),
            path,
            options,
            orders,
            generations,
            writer: Mutex::new(Some(thread)),
        })
    }

    /// The ledger's file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    async fn enqueue(&self, entries: Vec<Entry>) -> Result<Appended, LedgerError> {
        let entries = entries
            .into_iter()
            .map(Written::from_caller)
            .collect::<Result<_, _>>()?;
        let limit = self.options.patience;
        let place = timeout(limit, Arc::clone(&self.places).acquire_owned())
            .await
            .map_err(|_| LedgerError::Busy { limit })?
            .map_err(|_| LedgerError::Closed)?;
        let (answer, answered) = oneshot::channel();
        let job = Job {
            entries,
            answer,
            _place: place,
        };
        self.orders
            .try_send(Order::Append(job))
            .map_err(|error| match error {
                TrySendError::Full(_) => LedgerError::Busy { limit },
                TrySendError::Disconnected(_) => LedgerError::Closed,
            })?;
        let limit = ANSWER_LIMIT.max(2 * limit);
        timeout(limit, answered)
            .await
            .map_err(|_| LedgerError::NoAnswer { limit })?
            // The thread has ended with the job in its hands, so it is not known to be recorded.
            .map_err(|_| LedgerError::Closed)?
    }

    async fn shut(&self) -> Result<(), LedgerError> {
        self.places.close();
        self.readers.close();
        let thread = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(thread) = thread else {
            return Ok(());
        };
        let (closed, done) = oneshot::channel();
        // When it cannot be sent the thread has ended already.
        if self.orders.try_send(Order::Close(closed)).is_ok() {
            timeout(ANSWER_LIMIT, done)
                .await
                .map_err(|_| LedgerError::NoAnswer { limit: ANSWER_LIMIT })?
                .map_err(|_| LedgerError::Closed)?;
        }
        thread.join().map_err(|_| LedgerError::Closed)
    }
}

impl Ledger for SqliteLedger {
    fn append(&self, entries: Vec<Entry>) -> Pending<'_, Appended> {
        Box::pin(self.enqueue(entries))
    }

    fn watch(&self) -> watch::Receiver<Generations> {
        self.generations.clone()
    }

    fn revocations(&self) -> Pending<'_, RevocationList> {
        let now = (self.options.now)();
        Box::pin(
            self.readers
                .ask("the revocations", move |conn| read::revocations(conn, now)),
        )
    }

    fn certificate(&self, serial: Serial) -> Pending<'_, Option<LiveCertificate>> {
        Box::pin(
            self.readers
                .ask("a certificate", move |conn| read::certificate(conn, serial)),
        )
    }

    fn issuers(&self) -> Pending<'_, Vec<IssuerUse>> {
        let now = (self.options.now)();
        Box::pin(
            self.readers
                .ask("the issuers in use", move |conn| read::issuers(conn, now)),
        )
    }

    fn live(&self) -> Pending<'_, LiveCount> {
        let now = (self.options.now)();
        Box::pin(
            self.readers
                .ask("the live certificates", move |conn| read::live(conn, now)),
        )
    }

    fn live_identities(&self) -> Pending<'_, Vec<String>> {
        let now = (self.options.now)();
        let question = move |conn: &_| read::live_identities(conn, now);
        Box::pin(self.readers.ask("the live identities", question))
    }

    fn tokens(&self) -> Pending<'_, Vec<Token>> {
        Box::pin(self.readers.ask("the tokens", read::tokens))
    }

    fn token_by_secret(&self, secret: Fingerprint) -> Pending<'_, Option<Token>> {
        let question = move |conn: &_| read::token_by_secret(conn, secret);
        Box::pin(self.readers.ask("a token", question))
    }

    fn host(&self, host: String) -> Pending<'_, Option<Host>> {
        Box::pin(self.readers.ask("a host", move |conn| read::host(conn, &host)))
    }

    fn hosts(&self) -> Pending<'_, Vec<Host>> {
        Box::pin(self.readers.ask("the hosts", read::hosts))
    }

    fn authorities(&self) -> Pending<'_, Vec<Authority>> {
        Box::pin(self.readers.ask("the authorities", read::authorities))
    }

    fn sealed(&self, authority: String) -> Pending<'_, Option<Vec<u8>>> {
        Box::pin(
            self.readers
                .ask("a sealed key", move |conn| read::sealed(conn, &authority)),
        )
    }

    fn bundle(&self) -> Pending<'_, PublishedBundle> {
        Box::pin(self.readers.ask("the bundle", read::bundle))
    }

    fn acknowledgements(&self) -> Pending<'_, Vec<Acknowledgement>> {
        Box::pin(self.readers.ask("the acknowledgements", read::acknowledgements))
    }

    fn chain(&self) -> Pending<'_, ChainInfo> {
        Box::pin(self.readers.ask("the chain", read::chain))
    }

    fn rows(&self, filter: RowFilter, after: u64, limit: usize) -> Pending<'_, Vec<Row>> {
        let question = move |conn: &_| rows::matching(conn, &filter, after, limit);
        Box::pin(self.readers.ask("the log", question))
    }

    fn close(&self) -> Pending<'_, ()> {
        Box::pin(self.shut())
    }
}

impl fmt::Debug for SqliteLedger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteLedger")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

/// How long an append waits for its answer: longer than any disk that still works takes.
const ANSWER_LIMIT: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests;
