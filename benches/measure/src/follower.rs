//! Proxies as a directory sees them: each follows addresses, takes everything, tells when it came.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use ferrule_credentials::files::{FileKeeper, Files};
use ferrule_credentials::{Credentials, peer};
use ferrule_daemon::clock::Clock;
use ferrule_daemon::dial::dial;
use ferrule_daemon::grpc::Limits;
use ferrule_identity::tls::TrustCell;
use ferrule_identity::{SpiffeId, TrustDomain};
use ferrule_wire::directory::report::Told;
use ferrule_wire::directory::{ADDRESS, DELTA_CALL};
use ferrule_wire::proto::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DeltaDiscoveryResponse};
use prost::Message as _;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;

/// Proxies that follow one directory, all under one certificate.
pub struct Followers {
    running: JoinSet<anyhow::Result<()>>,
    arrivals: mpsc::Receiver<Arrival>,
    count: usize,
    // Whom they trust is kept up to date as long as this is there.
    _keeper: FileKeeper,
}

/// Everything that belongs to one change has arrived at a proxy.
#[derive(Debug, Clone, Copy)]
pub struct Arrival {
    /// When.
    pub at: Instant,
    /// Of the messages that brought it.
    pub bytes: usize,
}

impl Followers {
    /// Connects `count` of them to the `directory` at `address`, with what lies in `files`.
    ///
    /// # Errors
    /// When the files cannot be used.
    pub fn connect(
        count: usize,
        address: SocketAddr,
        directory: &SpiffeId,
        files: Files,
    ) -> anyhow::Result<Self> {
        let clock = Clock::system();
        let trust = Arc::new(TrustCell::default());
        let (keeper, newest) = FileKeeper::open(files, Arc::clone(&trust), clock.clone())?;
        let newest = newest.borrow().clone();
        let credentials = newest.context("the proxies have no certificate")?;
        let (arrived, arrivals) = mpsc::channel(count * 2);
        let mut running = JoinSet::new();
        for number in 0..count {
            let one = Follower {
                address,
                directory: directory.clone(),
                credentials: Arc::clone(&credentials),
                trust: Arc::clone(&trust),
                clock: clock.clone(),
                name: format!("shop/p{number}"),
                arrived: arrived.clone(),
            };
            running.spawn(one.run());
        }
        Ok(Self {
            running,
            arrivals,
            count,
            _keeper: keeper,
        })
    }

    /// Waits until something has arrived at each of them.
    ///
    /// # Errors
    /// When one of them has ended, or has had no news for two minutes.
    pub async fn all(&mut self) -> anyhow::Result<Vec<Arrival>> {
        let mut all = Vec::with_capacity(self.count);
        while all.len() < self.count {
            let next = async {
                tokio::select! {
                    Some(arrival) = self.arrivals.recv() => Ok(arrival),
                    Some(ended) = self.running.join_next() => match ended? {
                        Ok(()) => bail!("the directory has ended a proxy's stream"),
                        Err(error) => Err(error.context("a proxy has lost the directory")),
                    },
                }
            };
            all.push(
                timeout(PATIENCE, next)
                    .await
                    .context("a proxy is not told in time")??,
            );
        }
        Ok(all)
    }
}

/// The files of a workload of `domain`, with a chain, a key and a bundle.
pub fn files(domain: &TrustDomain, chain: &Path, key: &Path, bundle: &Path) -> Files {
    Files {
        trust_domain: domain.clone(),
        chain: chain.to_owned(),
        key: key.to_owned(),
        bundle: bundle.to_owned(),
        crls: None,
    }
}

/// One of them.
struct Follower {
    address: SocketAddr,
    directory: SpiffeId,
    credentials: Arc<Credentials>,
    trust: Arc<TrustCell>,
    clock: Clock,
    name: String,
    arrived: mpsc::Sender<Arrival>,
}

impl Follower {
    /// Follows the directory until that ends.
    async fn run(self) -> anyhow::Result<()> {
        let tcp = dial(self.address, LIMIT).await?;
        let own = &self.credentials.certificate;
        let mut channel = peer::open(
            tcp,
            self.directory,
            own,
            self.trust,
            &self.clock,
            Limits::default(),
        )
        .await?;
        let told = Told {
            name: self.name,
            ..Told::default()
        };
        let first = DeltaDiscoveryRequest {
            node: Some(told.to_node()),
            type_url: ADDRESS.to_owned(),
            ..DeltaDiscoveryRequest::default()
        };
        let (sender, mut receiver) = channel.call(DELTA_CALL, &first.encode_to_vec(), LIMIT).await?;
        let mut bytes = 0;
        while let Some(message) = receiver.next().await? {
            bytes += message.len();
            let response = DeltaDiscoveryResponse::decode(message)?;
            let answer = DeltaDiscoveryRequest {
                type_url: ADDRESS.to_owned(),
                response_nonce: response.nonce,
                ..DeltaDiscoveryRequest::default()
            };
            if !response.system_version_info.is_empty() {
                let at = Instant::now();
                self.arrived.send(Arrival { at, bytes }).await?;
                bytes = 0;
            }
            sender.send(&answer.encode_to_vec()).await?;
        }
        Ok(())
    }
}

/// Of a connection, and of its call.
const LIMIT: Duration = Duration::from_secs(60);

/// For the next news of a change.
const PATIENCE: Duration = Duration::from_secs(120);
