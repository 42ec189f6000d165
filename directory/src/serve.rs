//! Serves delta xDS to proxies, and the list of proxies to those who run the mesh.

mod session;
mod views;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use ferrule_daemon::clock::Clock;
use ferrule_daemon::grpc::server::{Call, Service};
use ferrule_daemon::grpc::{Code, Status};
use ferrule_daemon::https::Peer;
use ferrule_daemon::logging::Chain;
use ferrule_identity::tls::TrustCell;
use ferrule_identity::{CertificateInfo, PeerIdentity, SpiffeId, Timestamp, verify};
use ferrule_wire::directory::{DELTA_CALL, PROXIES_CALL};
use prost::Message as _;
use tokio::sync::watch;
use tokio::time::timeout;

use crate::acks::Proxies;
use crate::gauges::Gauges;
use crate::picture::Picture;
use session::Session;

/// Answers the calls of proxies, and of those who run the mesh.
pub struct Directory {
    /// What there is to tell.
    pub pictures: watch::Receiver<Arc<Picture>>,
    /// Who is told.
    pub proxies: Proxies,
    /// Whom to believe.
    pub trust: Arc<TrustCell>,
    /// Who may list the proxies.
    pub readers: BTreeSet<SpiffeId>,
    /// The metrics.
    pub gauges: Gauges,
    /// The time.
    pub clock: Clock,
}

/// A caller who has shown who it is.
#[derive(Debug, Clone)]
struct Caller {
    peer: PeerIdentity,
    serial: String,
    address: String,
}

impl Service for Directory {
    async fn call(&self, call: Call) -> Result<(), Status> {
        let caller = self.identify(&call.peer)?;
        match call.path.as_str() {
            DELTA_CALL => Session::run(self, caller, call).await,
            PROXIES_CALL => self.list(&caller, call).await,
            _ => Err(Status::new(Code::Unimplemented, "there is no such call here")),
        }
    }
}

impl Directory {
    /// Who calls. Its certificate was judged in the handshake, and is judged again: much may have happened since.
    fn identify(&self, peer: &Peer) -> Result<Caller, Status> {
        let refused = |why: String| Status::new(Code::Unauthenticated, why);
        let trust = self.trust.load();
        let (bundles, revocations) = (&trust.bundles, &trust.revocations);
        let verified = verify(&peer.certificates, bundles, revocations, self.now());
        let verified = verified.map_err(|error| refused(Chain(&error).to_string()))?;
        let leaf = peer
            .certificates
            .first()
            .map(|leaf| CertificateInfo::from_der(leaf));
        let serial = match leaf {
            Some(Ok(info)) => info.serial.to_string(),
            _ => return Err(refused("the certificate cannot be read".to_owned())),
        };
        Ok(Caller {
            peer: verified,
            serial,
            address: peer.address.to_string(),
        })
    }

    async fn list(&self, caller: &Caller, mut call: Call) -> Result<(), Status> {
        if !self.readers.contains(caller.peer.id()) {
            let message = format!(
                "{} may not list the proxies; the setting `readers` names who may",
                caller.peer.id()
            );
            return Err(Status::new(Code::PermissionDenied, message));
        }
        let asked = timeout(FIRST_TIME, call.requests.next()).await;
        asked.map_err(|_| Status::new(Code::DeadlineExceeded, "no request came"))??;
        let reply = self.proxies.list(self.now()).encode_to_vec();
        call.replies.send(&reply).await
    }

    fn now(&self) -> Timestamp {
        Timestamp::from_unix(self.clock.unix())
    }
}

/// How long the first message of a call may take.
const FIRST_TIME: Duration = Duration::from_secs(10);
