//! Asks directories which proxies there are, and what they hold.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use ferrule_daemon::clock::Clock;
use ferrule_daemon::dial::{DialError, dial};
use ferrule_daemon::grpc::{Limits, Status};
use ferrule_identity::tls::TrustCell;
use ferrule_identity::{SpiffeId, WorkloadCertificate};
use ferrule_wire::directory::{ANNOUNCE_CALL, PROXIES_CALL};
use ferrule_wire::proto::ferrule::v1::{AnnounceReply, AnnounceRequest, ProxiesReply, ProxiesRequest, Proxy};
use prost::Message as _;
use tokio::net::lookup_host;
use tokio::time::timeout;

use crate::peer::{self, PeerError};

/// Where the directories of a mesh are, and who asks them.
#[derive(Debug, Clone)]
pub struct Directories {
    /// Where they listen, each `HOST:PORT`; a name may stand for several.
    pub addresses: Vec<String>,
    /// Who must answer there.
    pub id: SpiffeId,
    /// What is shown to them.
    pub own: WorkloadCertificate,
    /// Whom to believe.
    pub trust: Arc<TrustCell>,
    /// The time.
    pub clock: Clock,
}

impl Directories {
    /// All proxies that any of the directories knows. Where two know the same one, whoever knows it to hold more is
    /// right: a proxy follows one at a time.
    ///
    /// # Errors
    /// When one of them does not answer: it may be the one that knows of a proxy that lags.
    pub async fn proxies(&self) -> Result<Vec<Proxy>, DirectoryError> {
        let mut found: BTreeMap<(String, String), Proxy> = BTreeMap::new();
        for address in &self.addresses {
            let failed = |source| DirectoryError::Lookup {
                address: address.clone(),
                source,
            };
            let targets = timeout(LIMIT, lookup_host(address)).await;
            let targets: Vec<SocketAddr> = targets
                .unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into()))
                .map_err(failed)?
                .collect();
            if targets.is_empty() {
                return Err(failed(std::io::ErrorKind::NotFound.into()));
            }
            for target in targets {
                for proxy in self.ask(target).await? {
                    let key = (proxy.identity.clone(), proxy.name.clone());
                    let known = found.entry(key).or_insert_with(|| proxy.clone());
                    if proxy.bundle_sequence > known.bundle_sequence {
                        *known = proxy;
                    }
                }
            }
        }
        Ok(found.into_values().collect())
    }

    /// Says what runs on this host; the directory at `target` tells what else there is.
    ///
    /// # Errors
    /// When it does not answer, or refuses.
    pub async fn announce(
        &self,
        target: SocketAddr,
        request: &AnnounceRequest,
    ) -> Result<AnnounceReply, DirectoryError> {
        let reply = self.call(target, ANNOUNCE_CALL, &request.encode_to_vec()).await?;
        AnnounceReply::decode(reply).map_err(|source| DirectoryError::Answer { target, source })
    }

    async fn ask(&self, target: SocketAddr) -> Result<Vec<Proxy>, DirectoryError> {
        let reply = self
            .call(target, PROXIES_CALL, &ProxiesRequest {}.encode_to_vec())
            .await?;
        let reply =
            ProxiesReply::decode(reply).map_err(|source| DirectoryError::Answer { target, source })?;
        Ok(reply.proxies)
    }

    async fn call(
        &self,
        target: SocketAddr,
        path: &'static str,
        request: &[u8],
    ) -> Result<bytes::Bytes, DirectoryError> {
        let tcp = dial(target, LIMIT)
            .await
            .map_err(|source| DirectoryError::Dial { source })?;
        let (expected, trust) = (self.id.clone(), Arc::clone(&self.trust));
        let mut channel = peer::open(tcp, expected, &self.own, trust, &self.clock, LIMITS)
            .await
            .map_err(|source| DirectoryError::Peer { target, source })?;
        channel
            .ask(path, request, LIMIT)
            .await
            .map_err(|source| DirectoryError::Call { target, source })
    }
}

const LIMIT: Duration = Duration::from_secs(5);

const LIMITS: Limits = Limits {
    // Ten thousand proxies take some three megabytes.
    message_bytes: 64 * 1024 * 1024,
    calls: 1,
    header_bytes: 16 * 1024,
    ping_after: Duration::from_secs(10),
    ping_time: Duration::from_secs(5),
    write_stall_time: Duration::from_secs(5),
};

/// Why it is not known which proxies there are.
#[derive(Debug, thiserror::Error)]
pub enum DirectoryError {
    /// A name without an address.
    #[error("cannot find the address of the directory {address}")]
    Lookup {
        /// The name.
        address: String,
        /// What the system says.
        source: std::io::Error,
    },
    /// Nobody answers.
    #[error("cannot reach the directory")]
    Dial {
        /// Where, and why.
        source: DialError,
    },
    /// Somebody else answers.
    #[error("cannot talk to the directory at {target}")]
    Peer {
        /// Where.
        target: SocketAddr,
        /// Why.
        source: PeerError,
    },
    /// It refuses.
    #[error("the directory at {target} refuses")]
    Call {
        /// Where.
        target: SocketAddr,
        /// Why.
        source: Status,
    },
    /// It answers something else.
    #[error("the answer of the directory at {target} cannot be read")]
    Answer {
        /// Where.
        target: SocketAddr,
        /// Why.
        source: prost::DecodeError,
    },
}
