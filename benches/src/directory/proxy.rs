//! A proxy as the directory sees it: follows addresses, takes everything, tells when it came.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ferrule_credentials::{Credentials, peer};
use ferrule_daemon::clock::Clock;
use ferrule_daemon::dial::dial;
use ferrule_daemon::grpc::Limits;
use ferrule_identity::SpiffeId;
use ferrule_identity::tls::TrustCell;
use ferrule_wire::directory::report::Told;
use ferrule_wire::directory::{ADDRESS, DELTA_CALL};
use ferrule_wire::proto::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DeltaDiscoveryResponse};
use prost::Message as _;
use tokio::sync::mpsc;

/// One proxy.
pub(super) struct Proxy {
    pub(super) address: SocketAddr,
    pub(super) directory: SpiffeId,
    pub(super) credentials: Arc<Credentials>,
    pub(super) trust: Arc<TrustCell>,
    pub(super) clock: Clock,
    pub(super) name: String,
    pub(super) arrived: mpsc::Sender<Arrival>,
}

/// Everything that belongs to one change has arrived at a proxy.
pub(super) struct Arrival {
    pub(super) at: Instant,
    pub(super) bytes: usize,
}

impl Proxy {
    /// Follows the directory until that ends.
    pub(super) async fn run(self) -> anyhow::Result<()> {
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

const LIMIT: Duration = Duration::from_secs(60);
