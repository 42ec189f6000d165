//! Serves the SPIFFE Workload API, X.509 profile, to applications that do their own TLS.
//!
//! The callers are this workload's own processes, told by their user id, which the kernel vouches for. The JWT
//! profile is not served, so this is no complete implementation of the standard.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use ferrule_credentials::{Credentials, Newest};
use ferrule_daemon::admin::AdminError;
use ferrule_daemon::admin::socket::{Socket, SocketPath};
use ferrule_daemon::backoff::Jitter;
use ferrule_daemon::drain::Drain;
use ferrule_daemon::grpc::server::{Call, Replies, Server, Service};
use ferrule_daemon::grpc::{Code, Limits, Status};
use ferrule_daemon::https::{PeerAddr, ServerMetrics};
use ferrule_wire::workload_api::{
    FETCH_BUNDLES, FETCH_SVID, HEADER, HEADER_VALUE, X509BundlesResponse, X509svid, X509svidResponse, row,
};
use prost::Message as _;
use tokio::net::UnixListener;
use tracing::info;

/// Where the Workload API is served, and to whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkloadApiConfig {
    /// The socket.
    pub socket: PathBuf,
    /// The user ids of callers.
    pub users: Users,
}

/// Who may fetch the workload's certificate and key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Users {
    /// Whoever reaches the socket: where nobody else can, as in a pod.
    Every,
    /// These user ids.
    These(Vec<u32>),
}

/// An open socket that nobody is answered at yet.
pub struct WorkloadApi {
    listener: UnixListener,
    _path: SocketPath,
    server: Server,
    answers: Arc<Answers>,
}

/// What is answered.
struct Answers {
    users: Users,
    credentials: Newest,
}

impl WorkloadApi {
    /// Opens the socket for callers who are told whatever comes to `credentials`.
    ///
    /// # Errors
    /// When the socket cannot be made, or somebody else serves it.
    pub fn open(
        config: &WorkloadApiConfig,
        credentials: Newest,
        drain: Drain,
        counters: &ServerMetrics,
    ) -> Result<Self, AdminError> {
        // Who may is judged by who they are, once they are connected.
        let (listener, path) = Socket::open(&config.socket, EVERYBODY)?.split();
        Ok(Self {
            listener,
            _path: path,
            server: Server::new("workload-api", LIMITS, MOST_CALLERS, 1, drain, counters),
            answers: Arc::new(Answers {
                users: config.users.clone(),
                credentials,
            }),
        })
    }

    /// Answers until its drain closes; the socket goes with it.
    pub async fn serve(self) {
        self.server.serve_clear(self.listener, self.answers).await;
    }
}

impl Service for Answers {
    async fn call(&self, mut call: Call) -> Result<(), Status> {
        let demanded = call.headers.get(HEADER).map(http::HeaderValue::as_bytes);
        if demanded != Some(HEADER_VALUE.as_bytes()) {
            let message = format!("the metadata {HEADER}: {HEADER_VALUE} is missing");
            return Err(Status::new(Code::InvalidArgument, message));
        }
        let say = match call.path.as_str() {
            FETCH_SVID => svids,
            FETCH_BUNDLES => bundles,
            _ => {
                let message = "only the X.509 profile of the SPIFFE Workload API is served here";
                return Err(Status::new(Code::Unimplemented, message));
            }
        };
        self.admit(&call)?;
        // The request has no fields that we could heed.
        call.requests.next().await?;
        self.tell(say, &call.replies).await
    }
}

impl Answers {
    fn admit(&self, call: &Call) -> Result<(), Status> {
        let PeerAddr::Unix { user } = call.peer.address else {
            return Err(Status::new(
                Code::PermissionDenied,
                "only a Unix socket tells who calls",
            ));
        };
        match (&self.users, user) {
            (Users::Every, _) => Ok(()),
            (Users::These(users), Some(user)) if users.contains(&user) => Ok(()),
            (Users::These(_), user) => {
                info!(
                    user,
                    "a caller of the Workload API is refused: it runs under another user id"
                );
                let message = "the settings of the sidecar do not name this user";
                Err(Status::new(Code::PermissionDenied, message))
            }
        }
    }

    /// Says everything at once, and again, whole, whenever it is something else than before.
    async fn tell(&self, say: fn(&Credentials) -> Bytes, replies: &Replies) -> Result<(), Status> {
        let mut newest = self.credentials.clone();
        let Some(first) = newest.borrow_and_update().clone() else {
            return Err(Status::new(Code::Unavailable, "there is no certificate yet"));
        };
        let mut said = say(&first);
        drop(first);
        replies.send(&said).await?;
        loop {
            if newest.changed().await.is_err() {
                return Err(Status::new(Code::Unavailable, "the sidecar is stopping"));
            }
            // Not everybody at the same moment: each may open connections anew with what it hears.
            tokio::time::sleep(MOST_SPREAD.mul_f64(Jitter::random().share())).await;
            let Some(now) = newest.borrow_and_update().clone() else {
                continue;
            };
            let news = say(&now);
            if news != said {
                replies.send(&news).await?;
                said = news;
            }
        }
    }
}

/// The certificate with its key, whom to trust of its own trust domain and of others. Revocation is not told here:
/// inside the mesh it is the deny list, which the standard has no field for.
fn svids(credentials: &Credentials) -> Bytes {
    let certificate = &credentials.certificate;
    let own = certificate.id().trust_domain();
    let (mut bundle, mut federated_bundles) = (Bytes::new(), BTreeMap::new());
    for (name, roots) in roots(credentials) {
        if name == format!("spiffe://{own}") {
            bundle = roots;
        } else {
            federated_bundles.insert(name, roots);
        }
    }
    let svid = X509svid {
        spiffe_id: certificate.id().to_string(),
        x509_svid: row(certificate.chain_der()).into(),
        x509_svid_key: certificate.key().to_pkcs8_der().to_vec().into(),
        bundle,
        hint: String::new(),
    };
    let response = X509svidResponse {
        svids: vec![svid],
        crl: Vec::new(),
        federated_bundles,
    };
    response.encode_to_vec().into()
}

/// Whom to trust, by trust domain.
fn bundles(credentials: &Credentials) -> Bytes {
    let response = X509BundlesResponse {
        crl: Vec::new(),
        bundles: roots(credentials),
    };
    response.encode_to_vec().into()
}

fn roots(credentials: &Credentials) -> BTreeMap<String, Bytes> {
    credentials
        .trust
        .bundles
        .iter()
        .map(|bundle| {
            let roots = row(bundle.anchors().iter().map(ferrule_identity::Anchor::der));
            (format!("spiffe://{}", bundle.trust_domain()), roots.into())
        })
        .collect()
}

const EVERYBODY: u32 = 0o666;

/// Applications at once; each has one connection, or a few.
const MOST_CALLERS: usize = 256;

/// The time over which news are spread.
const MOST_SPREAD: Duration = Duration::from_millis(500);

const LIMITS: Limits = Limits {
    // Requests have no fields.
    message_bytes: 4096,
    calls: 8,
    header_bytes: 16 * 1024,
    ping_after: Duration::from_secs(60),
    ping_time: Duration::from_secs(20),
    write_stall_time: Duration::from_secs(30),
};
