//! Follows a directory: connects, resumes, and never forgets what it was told.

mod again;
mod held;
mod session;

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use ferrule_credentials::{Credentials, Newest, peer};
use ferrule_daemon::backoff::Jitter;
use ferrule_daemon::clock::Clock;
use ferrule_daemon::grpc::client::Channel;
use ferrule_daemon::grpc::{Limits, Status};
use ferrule_daemon::logging::Chain;
use ferrule_identity::tls::TrustCell;
use ferrule_policy::{Mesh, Policy};
use tokio::net::lookup_host;
use tokio::sync::watch;
use tokio::time::timeout;
use tracing::{info, warn};

use super::{Source, Teller};
use crate::config::{Config, DirectoryConfig, Own};
use crate::net::address::UpstreamAddr;
use crate::net::dial::{DialError, Dialing, dial};
use crate::observe::metrics::ProxyMetrics;
use again::{Failure, Failures};
use held::Held;

/// The stream of a directory, and what it has told.
#[derive(Debug)]
pub struct Stream {
    directory: DirectoryConfig,
    own: Own,
    dialing: Dialing,
    credentials: Newest,
    trust: Trust,
    metrics: ProxyMetrics,
    clock: Clock,
    held: Held,
    /// Where the next connection is tried first.
    next: usize,
    /// The names of the rules in force, to say what changed.
    names: BTreeSet<String>,
    /// Who lives where has changed, and nobody was told yet.
    is_map_new: bool,
    /// Rules of which nobody was told yet.
    policy: Option<Arc<Policy>>,
}

/// Where news of trust go.
#[derive(Debug)]
pub struct Trust {
    /// Whom handshakes trust.
    pub cell: Arc<TrustCell>,
    /// Counts the changes, so that open connections are judged again at once.
    pub changes: watch::Sender<u64>,
}

impl Stream {
    /// The stream of `directory`, for the sidecar that is set up as `config` says and shows `credentials`.
    pub fn new(
        directory: DirectoryConfig,
        config: &Config,
        credentials: Newest,
        trust: Trust,
        metrics: ProxyMetrics,
        clock: Clock,
    ) -> Self {
        let mesh: Mesh = config.mesh.clone();
        let selects = directory.selects;
        Self {
            directory,
            own: config.own.clone(),
            dialing: Dialing {
                mark: config.capture.as_ref().and_then(|capture| capture.mark),
                limit: config.limits.connect,
                keepalive: config.connection.keepalive,
            },
            credentials,
            trust,
            metrics,
            clock,
            held: Held::new(mesh, selects),
            next: 0,
            names: BTreeSet::new(),
            is_map_new: false,
            policy: None,
        }
    }

    /// One connection, from its beginning to its end.
    async fn follow(&mut self, teller: &mut Teller) -> Result<(), StreamError> {
        let credentials = self.own_credentials().await;
        let channel = self.connect(&credentials).await?;
        self.metrics.directory_connected.set(1);
        let serial = credentials.certificate.serial().clone();
        let ended = self.session(channel, &serial, teller).await;
        self.metrics.directory_connected.set(0);
        self.held.interrupt();
        ended.map_err(|source| StreamError::Call { source })
    }

    /// The certificate to show, once there is one.
    async fn own_credentials(&mut self) -> Arc<Credentials> {
        loop {
            if let Some(credentials) = self.credentials.borrow_and_update().clone() {
                return credentials;
            }
            if self.credentials.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// Tries every address, the one first that answered last.
    async fn connect(&mut self, credentials: &Credentials) -> Result<Channel, StreamError> {
        let mut answered: Option<StreamError> = None;
        let addresses = self.directory.addresses.len();
        for at in (self.next..).take(addresses).map(|at| at % addresses) {
            let address = self.directory.addresses[at].clone();
            match self.try_address(&address, credentials).await {
                Ok(channel) => {
                    self.next = at;
                    return Ok(channel);
                }
                // What somebody said tells more than that nobody was there.
                Err(error) if answered.as_ref().is_none_or(StreamError::is_away) => answered = Some(error),
                Err(_) => {}
            }
        }
        Err(answered.unwrap_or_else(|| StreamError::Nowhere {
            address: "of the settings".to_owned(),
        }))
    }

    async fn try_address(&self, address: &str, credentials: &Credentials) -> Result<Channel, StreamError> {
        let looking = timeout(self.dialing.limit, lookup_host(address)).await;
        let found = looking
            .unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into()))
            .map_err(|source| StreamError::Lookup {
                address: address.to_owned(),
                source,
            })?;
        let found: Vec<SocketAddr> = found.collect();
        let mut last = StreamError::Nowhere {
            address: address.to_owned(),
        };
        for target in found {
            let tcp = match dial(UpstreamAddr::new(target), &self.dialing).await {
                Ok(tcp) => tcp,
                Err(source) => {
                    last = StreamError::Dial { source };
                    continue;
                }
            };
            let (expected, trust) = (self.directory.id.clone(), Arc::clone(&self.trust.cell));
            let opened = peer::open(
                tcp,
                expected,
                &credentials.certificate,
                trust,
                &self.clock,
                LIMITS,
            )
            .await;
            match opened {
                Ok(channel) => {
                    info!(%address, directory = %self.directory.id, "following the directory");
                    return Ok(channel);
                }
                Err(source) => last = StreamError::Peer { target, source },
            }
        }
        Err(last)
    }
}

impl Source for Stream {
    async fn run(mut self, mut teller: Teller) -> Infallible {
        let mut failures = Failures::default();
        let mut told: Option<(&'static str, tokio::time::Instant)> = None;
        loop {
            let began = tokio::time::Instant::now();
            let Err(error) = self.follow(&mut teller).await else {
                // Another certificate: the directory is to see it at once.
                failures.none();
                continue;
            };
            let failure = if error.is_away() {
                Failure::Away
            } else {
                let lasted = began.elapsed();
                Failure::Broken { lasted }
            };
            let reason = error.reason();
            self.metrics
                .directory_failures
                .get_or_create(&[("reason", reason)])
                .inc();
            let wait = failures.wait(failure, Jitter::random());
            // An outage is tried out every second, and may last for hours.
            if told.is_none_or(|(before, at)| before != reason || at.elapsed() > TELL_AGAIN) {
                told = Some((reason, tokio::time::Instant::now()));
                warn!(
                    reason, error = %Chain(&error),
                    "not following the directory; what it told last stays in force"
                );
            }
            let waiting = tokio::time::sleep(wait);
            tokio::pin!(waiting);
            loop {
                tokio::select! {
                    () = &mut waiting => break,
                    // Nobody can tell: whoever asks need not wait for that.
                    Some(question) = teller.questions.recv() => drop(question),
                }
            }
        }
    }
}

const LIMITS: Limits = Limits {
    // The rules of a whole namespace come in one message, so that they count from one moment.
    message_bytes: 32 * 1024 * 1024,
    calls: 1,
    header_bytes: 16 * 1024,
    ping_after: Duration::from_secs(10),
    ping_time: Duration::from_secs(10),
    write_stall_time: Duration::from_secs(30),
};

/// The same reason is logged again after so long.
const TELL_AGAIN: Duration = Duration::from_secs(60);

/// Why the directory is not followed.
#[derive(Debug, thiserror::Error)]
enum StreamError {
    #[error("cannot find the address of the directory {address}")]
    Lookup { address: String, source: std::io::Error },
    #[error("the directory {address} has no address")]
    Nowhere { address: String },
    #[error("cannot reach the directory")]
    Dial { source: DialError },
    #[error("cannot talk to the directory at {target}")]
    Peer {
        target: SocketAddr,
        source: peer::PeerError,
    },
    #[error("the directory ended the stream")]
    Call { source: Status },
}

impl StreamError {
    /// Whether nobody was there at all.
    const fn is_away(&self) -> bool {
        matches!(self, Self::Dial { .. })
    }

    /// The word for it in metrics.
    const fn reason(&self) -> &'static str {
        match self {
            Self::Lookup { .. } | Self::Nowhere { .. } => "unknown",
            Self::Dial { .. } => "unreachable",
            Self::Peer { .. } => "handshake_failed",
            Self::Call { .. } => "ended",
        }
    }
}
