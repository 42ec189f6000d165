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
use ferrule_policy::Joined;
use ferrule_wire::directory::address::octets;
use ferrule_wire::directory::{ANNOUNCE_CALL, DELTA_CALL, HOST_ACCOUNT, PROXIES_CALL};
use ferrule_wire::proto::ferrule::v1::{AnnounceReply, AnnounceRequest, KnownService};
use prost::Message as _;
use tokio::sync::watch;
use tokio::time::timeout;
use tracing::warn;

use crate::acks::Proxies;
use crate::announced::{Announced, Announcement};
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
    /// What other hosts have said; none where nobody is listened to.
    pub announced: Option<Announced>,
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
            ANNOUNCE_CALL => self.listen(&caller, call).await,
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

    /// Takes what a host says about the namespace that its identity names, and tells it which services there are.
    async fn listen(&self, caller: &Caller, mut call: Call) -> Result<(), Status> {
        let Some(announced) = &self.announced else {
            let message = "this directory listens to no other hosts; its setting `announced` makes it";
            return Err(Status::new(Code::Unimplemented, message));
        };
        let id = caller.peer.id();
        let namespace = match id.namespace_and_account() {
            Some((namespace, HOST_ACCOUNT)) => namespace,
            _ => {
                let message = format!("{id} may not speak for a host: its account is not {HOST_ACCOUNT}");
                return Err(Status::new(Code::PermissionDenied, message));
            }
        };
        let asked = timeout(FIRST_TIME, call.requests.next()).await;
        let asked = asked.map_err(|_| Status::new(Code::DeadlineExceeded, "no request came"))??;
        let Some(asked) = asked else { return Ok(()) };
        let request = AnnounceRequest::decode(asked)
            .map_err(|error| Status::new(Code::InvalidArgument, error.to_string()))?;
        let model = self.pictures.borrow().model.clone();
        let said = Announcement {
            namespace,
            host: &request.host,
            documents: &request.documents,
            until: caller.peer.lifetime().not_after(),
        };
        if let Err(error) = announced.take(said, &model) {
            let error = Chain(&error).to_string();
            warn!(
                host = request.host,
                namespace, error, "an announcement is refused"
            );
            return Err(Status::new(Code::InvalidArgument, error));
        }
        let services = model
            .addresses()
            .values()
            .filter_map(|address| match &*address.joined {
                Joined::Service(service) if service.is_in_mesh => Some(KnownService {
                    namespace: service.name.namespace.to_string(),
                    name: service.name.name.to_string(),
                    addresses: service.addresses.iter().copied().map(octets).collect(),
                }),
                _ => None,
            });
        let reply = AnnounceReply {
            services: services.collect(),
        };
        call.replies.send(&reply.encode_to_vec()).await
    }

    fn now(&self) -> Timestamp {
        Timestamp::from_unix(self.clock.unix())
    }
}

/// How long the first message of a call may take.
const FIRST_TIME: Duration = Duration::from_secs(10);
