//! Decides who a peer is: the only maker of `PeerIdentity`.

use std::sync::Arc;

use rustls_pki_types::{CertificateDer, ServerName};
use webpki::EndEntityCert;

use crate::bundle::{BundleError, Bundles, TrustBundle};
use crate::leaf::{self, LeafError};
use crate::path::reading::Reading;
use crate::path::{self, CertificateFault, Link, Path, PathError, Purpose};
use crate::revocation::Revocations;
use crate::{Fingerprint, Lifetime, PublicKey, SerialNumber, SpiffeId, Timestamp, TrustDomain};

/// A workload that proved who it is, as far as certificates can: they were all in order at one time. That it
/// holds the key is the handshake's part. Only [`verify`] makes one. A clone is the same one, and costs no memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerIdentity(Arc<Proved>);

/// What certificates proved, once for all connections to whoever showed them.
#[derive(Debug, PartialEq, Eq)]
struct Proved {
    id: SpiffeId,
    leaf_life: Lifetime,
    key: Fingerprint,
    chain: Fingerprint,
    path: Path,
    bundle_sequence: u64,
    bundle: Fingerprint,
    revocation_generation: u64,
    /// What it showed, leaf first.
    shown: Box<[CertificateDer<'static>]>,
}

impl PeerIdentity {
    /// Who it is.
    pub fn id(&self) -> &SpiffeId {
        &self.0.id
    }

    /// The serial number of its certificate.
    pub fn serial(&self) -> &SerialNumber {
        &self.link().serial
    }

    /// The SHA-256 of the public key that signed its certificate.
    pub fn issuer(&self) -> Fingerprint {
        self.link().issuer
    }

    /// Its certificate as a revocation names it.
    pub fn link(&self) -> &Link {
        // The path of a leaf has at least the leaf's own link.
        &self.0.path.links[0]
    }

    /// The life of its certificate.
    pub fn lifetime(&self) -> Lifetime {
        self.0.leaf_life
    }

    /// When its certificate and all above it are valid; a kept result is no good outside this time.
    pub fn valid(&self) -> Lifetime {
        self.0.path.valid
    }

    /// The path to the anchor that was found.
    pub fn path(&self) -> &Path {
        &self.0.path
    }

    /// The SHA-256 of its public key.
    pub fn key_fingerprint(&self) -> Fingerprint {
        self.0.key
    }

    /// What [`chain_fingerprint`] says about the chain that it showed.
    pub fn chain_fingerprint(&self) -> Fingerprint {
        self.0.chain
    }

    /// The number of the bundle that it was judged by.
    pub fn bundle_sequence(&self) -> u64 {
        self.0.bundle_sequence
    }

    /// The content of the bundle that it was judged by, for bundles without numbers.
    pub fn bundle_fingerprint(&self) -> Fingerprint {
        self.0.bundle
    }

    /// The number of the revocations that it was judged by.
    pub fn revocation_generation(&self) -> u64 {
        self.0.revocation_generation
    }

    /// Decides again about the same chain, by other bundles or revocations: another path may lead to an anchor that
    /// is still there. A certificate that has ended since is judged as of its end.
    ///
    /// # Errors
    /// As [`verify`].
    pub fn verify_again(
        &self,
        bundles: &Bundles,
        revocations: &Revocations,
        now: Timestamp,
    ) -> Result<Self, VerifyError> {
        let then = now.min(self.0.leaf_life.not_after());
        verify(&self.0.shown, bundles, revocations, then)
    }
}

/// A name for a whole chain: the SHA-256 over the SHA-256 of each certificate. Two equal chains that are
/// judged by the same bundle, the same revocations and at a time within [`PeerIdentity::valid`] have one result.
pub fn chain_fingerprint(chain: &[CertificateDer<'_>]) -> Fingerprint {
    let all: Vec<u8> = chain
        .iter()
        .flat_map(|certificate| *Fingerprint::of(certificate).as_bytes())
        .collect();
    Fingerprint::of(&all)
}

/// Decides who showed `chain`, leaf first: X509-SVID.md §5 with the leaf rules of §4, RFC 5280 path validation
/// against the bundle of the ID's own trust domain and no other, and `revocations`, all at `now`.
///
/// # Errors
/// When the chain has more than 10 certificates or 64 KiB, breaks a rule, leads to no anchor of its domain's
/// bundle, or is revoked.
pub fn verify(
    chain: &[CertificateDer<'_>],
    bundles: &Bundles,
    revocations: &Revocations,
    now: Timestamp,
) -> Result<PeerIdentity, VerifyError> {
    let reading = Reading::new(first(chain)?).map_err(unreadable)?;
    let (id, bundle, path) = judge(&reading, None, chain, bundles, revocations, now)?;
    let proved = Proved {
        leaf_life: reading.lifetime().map_err(unreadable)?,
        key: reading.key_fingerprint(),
        chain: chain_fingerprint(chain),
        path,
        bundle_sequence: bundle.sequence(),
        bundle: bundle.fingerprint(),
        revocation_generation: revocations.generation(),
        shown: chain
            .iter()
            .map(|certificate| certificate.clone().into_owned())
            .collect(),
        id,
    };
    Ok(PeerIdentity(Arc::new(proved)))
}

/// Judges `leaf`, a certificate that was just made for `key`, as [`verify`] will wherever it is shown, and gives the ID
/// in it. The key in it has to be `key`, octet for octet, which was read when the certificate was asked for.
///
/// # Errors
/// As [`verify`], or when it is for another key.
pub fn verify_made(
    leaf: &CertificateDer<'_>,
    key: &PublicKey,
    bundles: &Bundles,
    now: Timestamp,
) -> Result<SpiffeId, VerifyError> {
    let chain = std::slice::from_ref(leaf);
    let reading = Reading::new(first(chain)?).map_err(unreadable)?;
    let (id, ..) = judge(&reading, Some(key), chain, bundles, &Revocations::empty(), now)?;
    Ok(id)
}

/// What [`verify`] does with a chain whose leaf was read: whose it is, by which bundle, and the path.
fn judge<'b>(
    reading: &Reading<'_>,
    made_for: Option<&PublicKey>,
    chain: &[CertificateDer<'_>],
    bundles: &'b Bundles,
    revocations: &Revocations,
    now: Timestamp,
) -> Result<(SpiffeId, &'b TrustBundle, Path), VerifyError> {
    let extensions = reading.extensions().map_err(unreadable)?;
    let id = leaf::check_extensions(&extensions).map_err(|source| VerifyError::Leaf { source })?;
    let Some(bundle) = bundles.about(&id) else {
        let trust_domain = id.trust_domain();
        return Err(VerifyError::NoBundle { trust_domain });
    };
    let leaf = path::Leaf {
        reading,
        extensions: &extensions,
        made_for,
    };
    let found = path::verify_read(&leaf, chain, bundle.trust(), Purpose::Peer, revocations, now);
    let path = match found {
        Ok(path) => path,
        Err(source) => {
            let source = Box::new(source);
            return Err(VerifyError::Path { id, source });
        }
    };
    // Last, so that only who proved to be it learns that it is revoked.
    if revocations.revokes(&id) {
        return Err(VerifyError::IdentityRevoked { id });
    }
    Ok((id, bundle, path))
}

fn unreadable(source: CertificateFault) -> VerifyError {
    VerifyError::Leaf {
        source: LeafError::Unreadable { source },
    }
}

/// Checks the serving certificate of our own control plane: its leaf rules
/// ([`check_serving_leaf`](leaf::check_serving_leaf)), a path to `bundle`, and that it is for `name`. It makes no
/// peer: the holder is a server at a name, and no workload.
///
/// # Errors
/// As [`verify`], or when the certificate is not for `name`.
pub fn verify_server_name(
    chain: &[CertificateDer<'_>],
    bundle: &TrustBundle,
    revocations: &Revocations,
    name: &ServerName<'_>,
    now: Timestamp,
) -> Result<(), VerifyError> {
    let leaf = first(chain)?;
    leaf::check_serving_leaf(leaf).map_err(|source| VerifyError::Leaf { source })?;
    path::verify_path(chain, bundle.trust(), Purpose::Server, revocations, now).map_err(|source| {
        VerifyError::Server {
            name: name.to_str().into_owned(),
            source: Box::new(source),
        }
    })?;
    let for_name = EndEntityCert::try_from(leaf)
        .is_ok_and(|certificate| certificate.verify_is_valid_for_subject_name(name).is_ok());
    for_name.then_some(()).ok_or_else(|| VerifyError::ServerName {
        name: name.to_str().into_owned(),
    })
}

/// The leaf of a chain that is small enough to be looked at.
fn first<'c, 'd>(chain: &'c [CertificateDer<'d>]) -> Result<&'c CertificateDer<'d>, VerifyError> {
    path::check_size(chain, MAX_CHAIN_CERTIFICATES).map_err(VerifyError::chain)?;
    chain.first().ok_or_else(|| VerifyError::chain(PathError::Empty))
}

/// Why a peer is not believed.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// The peer sent no chain, or too much of one.
    #[error("the peer's certificate chain is not looked at")]
    Chain {
        /// What is too much.
        source: Box<PathError>,
    },
    /// The peer's certificate breaks a rule for leaves.
    #[error("the peer's certificate is not that of a workload")]
    Leaf {
        /// The rule.
        source: LeafError,
    },
    /// We have no bundle for the peer's trust domain.
    #[error("there is no bundle for the peer's trust domain {trust_domain}")]
    NoBundle {
        /// The domain.
        trust_domain: TrustDomain,
    },
    /// The peer's chain is not accepted by its domain's bundle.
    #[error("the certificate chain of {id} is not accepted by the bundle of {}", id.trust_domain())]
    Path {
        /// Who the peer says it is.
        id: SpiffeId,
        /// What is wrong with the chain.
        source: Box<PathError>,
    },
    /// The peer is revoked.
    #[error("the identity {id} is revoked")]
    IdentityRevoked {
        /// Who it is.
        id: SpiffeId,
    },
    /// The peer is someone else than the one we wanted.
    #[error("the peer is {found}, and not the one that was expected ({expected})")]
    Unexpected {
        /// Who it is.
        found: SpiffeId,
        /// Whom we wanted, as text.
        expected: String,
    },
    /// A server did not send the one root that is trusted.
    #[error("the server did not send the root certificate with the fingerprint {root}")]
    RootNotSent {
        /// The SHA-256 of the certificate.
        root: Fingerprint,
    },
    /// The one root that is trusted is not fit to be.
    #[error("the root certificate with the fingerprint {root} cannot be trusted")]
    RootUnfit {
        /// The SHA-256 of the certificate.
        root: Fingerprint,
        /// What is wrong with it.
        source: Box<BundleError>,
    },
    /// A server's chain is not accepted.
    #[error("the certificate chain of the server {name} is not accepted")]
    Server {
        /// The name that we called it by.
        name: String,
        /// What is wrong with the chain.
        source: Box<PathError>,
    },
    /// A server's certificate is for other names.
    #[error("the server's certificate is not for {name}")]
    ServerName {
        /// The name that we called it by.
        name: String,
    },
}

impl VerifyError {
    fn chain(source: PathError) -> Self {
        Self::Chain {
            source: Box::new(source),
        }
    }

    /// One word for logs and metrics, from a small fixed set.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Leaf { .. } => "bad_leaf",
            Self::NoBundle { .. } => "unknown_trust_domain",
            Self::IdentityRevoked { .. } => "revoked",
            Self::Unexpected { .. } => "unexpected_identity",
            Self::ServerName { .. } => "wrong_name",
            Self::RootNotSent { .. } => "unknown_authority",
            Self::RootUnfit { .. } => "bad_chain",
            Self::Chain { source } | Self::Path { source, .. } | Self::Server { source, .. } => {
                match **source {
                    PathError::Expired { .. } => "expired",
                    PathError::NotYetValid { .. } => "not_yet_valid",
                    PathError::Revoked { .. } => "revoked",
                    PathError::UnknownIssuer | PathError::Signature => "unknown_authority",
                    PathError::Empty => "no_certificate",
                    PathError::TooMany { .. }
                    | PathError::TooLarge { .. }
                    | PathError::Namesakes { .. }
                    | PathError::TooComplex => "chain_too_large",
                    _ => "bad_chain",
                }
            }
        }
    }
}

impl From<CertificateFault> for LeafError {
    fn from(source: CertificateFault) -> Self {
        Self::Unreadable { source }
    }
}

/// The most certificates that a peer may send, its own included. Ours send two or three.
pub const MAX_CHAIN_CERTIFICATES: usize = 10;
