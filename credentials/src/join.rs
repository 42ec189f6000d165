//! Enters a mesh with a join token, once, for a whole host.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ferrule_daemon::clock::Clock;
use ferrule_identity::tls::{TrustCell, TrustSnapshot};
use ferrule_identity::{
    BundleError, Bundles, KeyAlgorithm, KeyError, PrivateKey, Revocations, SigningRequest, SpiffeIdError,
    Timestamp, TrustBundle, TrustDomain,
};
use ferrule_wire::JoinToken;
use ferrule_wire::ca::EnrollRequest;
use serde::{Deserialize, Serialize};

use crate::client::{Anchor, CaClient, ClientError, Fetched, Since};
use crate::evidence::Evidence;
use crate::store::{self, PRIVATE, StoreError};

/// A host that the CA knows: its name, its key, and whom it trusts.
#[derive(Debug, Clone)]
pub struct Host {
    /// Its name with the CA.
    pub name: String,
    /// The trust domain that it entered.
    pub trust_domain: TrustDomain,
    /// Where the CA listens.
    pub addresses: Vec<String>,
    /// What it may ask for: exact SPIFFE IDs, or patterns that end in `/*`.
    pub identities: Vec<String>,
    key: Arc<PrivateKey>,
    bundle: TrustBundle,
}

/// What a host's file says, beside its key and its bundle.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct HostFile {
    version: u32,
    host: String,
    trust_domain: String,
    addresses: Vec<String>,
    identities: Vec<String>,
}

/// Uses `token` up: makes a host key, enrols it, fetches the bundle. The CA is believed because its certificate
/// chains to a root that the token names.
///
/// # Errors
/// When the CA cannot be reached, is not the token's, or refuses.
pub async fn join(token: &JoinToken, clock: &Clock) -> Result<Host, JoinError> {
    let key = PrivateKey::generate(KeyAlgorithm::EcdsaP256).map_err(|source| JoinError::Key { source })?;
    let csr = SigningRequest::build_pem(&key).map_err(|source| JoinError::Request { source })?;
    let request = EnrollRequest {
        token: token.secret.to_text(),
        csr,
    };
    let mut refused = None;
    // Any of the roots may be the one that the CA uses now. A handshake that fails has not used the token.
    for root in &token.roots {
        let anchor = Anchor::Root(*root);
        let mut client = CaClient::new(
            token.addresses.clone(),
            token.trust_domain.clone(),
            anchor,
            clock.clone(),
        );
        let bundle = match client.bundle(Since::default()).await {
            Ok(Fetched::New { value, .. }) => value,
            Ok(Fetched::Unchanged) => continue,
            Err(source) => {
                refused = Some(source);
                continue;
            }
        };
        let reply = client
            .enroll(&request)
            .await
            .map_err(|source| JoinError::Ca { source })?;
        return Ok(Host {
            name: reply.host,
            trust_domain: token.trust_domain.clone(),
            addresses: token.addresses.clone(),
            identities: reply.identities,
            key: Arc::new(key),
            bundle,
        });
    }
    Err(match refused {
        Some(source) => JoinError::Ca { source },
        None => JoinError::NoRoot,
    })
}

impl Host {
    /// Writes the host into `folder`, its key readable by the owner alone.
    ///
    /// # Errors
    /// Names the file that cannot be written.
    pub fn write(&self, folder: &Path) -> Result<(), JoinError> {
        let stored = |source| JoinError::Store { source };
        let file = HostFile {
            version: 1,
            host: self.name.clone(),
            trust_domain: self.trust_domain.to_string(),
            addresses: self.addresses.clone(),
            identities: self.identities.clone(),
        };
        let text = serde_json::to_vec_pretty(&file).map_err(|source| JoinError::File {
            path: folder.join(HOST_FILE),
            source: source.into(),
        })?;
        store::make_folder(folder).map_err(stored)?;
        store::replace(&folder.join(HOST_KEY_FILE), self.key.to_pem().as_bytes(), PRIVATE).map_err(stored)?;
        store::replace(
            &folder.join(HOST_BUNDLE_FILE),
            self.bundle.to_jwks().as_bytes(),
            PRIVATE,
        )
        .map_err(stored)?;
        // Last: a folder with this file is whole.
        store::replace(&folder.join(HOST_FILE), &text, PRIVATE).map_err(stored)
    }

    /// Reads a host that [`write`](Self::write) wrote.
    ///
    /// # Errors
    /// Names the file that cannot be read, and what is wrong in it.
    pub fn read(folder: &Path, now: Timestamp) -> Result<Self, JoinError> {
        let text = read(&folder.join(HOST_FILE))?;
        let wrong = |source: Box<dyn std::error::Error + Send + Sync>| JoinError::File {
            path: folder.join(HOST_FILE),
            source,
        };
        let file: HostFile = serde_json::from_str(&text).map_err(|source| wrong(source.into()))?;
        if file.version != 1 {
            return Err(wrong(
                format!("version {} is not known here", file.version).into(),
            ));
        }
        let trust_domain =
            TrustDomain::parse(&file.trust_domain).map_err(|source: SpiffeIdError| wrong(source.into()))?;
        let key =
            PrivateKey::from_pem(&read(&folder.join(HOST_KEY_FILE))?).map_err(|source| JoinError::File {
                path: folder.join(HOST_KEY_FILE),
                source: source.into(),
            })?;
        let jwks = read(&folder.join(HOST_BUNDLE_FILE))?;
        let bundle =
            TrustBundle::from_jwks(trust_domain.clone(), &jwks, now).map_err(|source: BundleError| {
                JoinError::File {
                    path: folder.join(HOST_BUNDLE_FILE),
                    source: source.into(),
                }
            })?;
        Ok(Self {
            name: file.host,
            trust_domain,
            addresses: file.addresses,
            identities: file.identities,
            key: Arc::new(key),
            bundle,
        })
    }

    /// What shows the CA that this host asks.
    pub fn evidence(&self) -> Evidence {
        Evidence::HostKey {
            host: self.name.clone(),
            key: Arc::clone(&self.key),
        }
    }

    /// Whom the host trusts as far as it knows: where a keeper starts from.
    pub fn trust(&self) -> TrustCell {
        TrustCell::new(TrustSnapshot {
            bundles: Bundles::from_iter([self.bundle.clone()]),
            revocations: Revocations::empty(),
        })
    }
}

fn read(path: &Path) -> Result<String, JoinError> {
    std::fs::read_to_string(path).map_err(|source| JoinError::Read {
        path: path.to_owned(),
        source,
    })
}

/// What the host is called, and where the CA is.
pub const HOST_FILE: &str = "host.json";
/// The host's private key.
pub const HOST_KEY_FILE: &str = "host_key.pem";
/// The newest trust bundle that the host knows, in SPIFFE's JSON; see [`crate::remember`].
pub const HOST_BUNDLE_FILE: &str = "host_bundle.json";

/// How long a join takes at most before it is better to type it again.
pub const JOIN_LIMIT: Duration = Duration::from_secs(60);

/// Why a host has not joined, or is not known any more.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// No key.
    #[error("cannot make a host key")]
    Key {
        /// Why.
        source: KeyError,
    },
    /// No request.
    #[error("cannot make the host's request")]
    Request {
        /// Why.
        source: ferrule_identity::RequestError,
    },
    /// The token names no root, so no CA can be believed.
    #[error("the join token names no root certificate")]
    NoRoot,
    /// The CA cannot be reached, is another one, or refuses.
    #[error("cannot join")]
    Ca {
        /// Why.
        source: ClientError,
    },
    /// A file that cannot be written.
    #[error("the host has joined, but cannot be kept; make another token, and try again")]
    Store {
        /// Which, and why.
        source: StoreError,
    },
    /// A file that cannot be read.
    #[error("cannot read {path}; has this host joined?", path = path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A file that says what it should not.
    #[error("{path} is not as it was written", path = path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}
