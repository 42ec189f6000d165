//! Decides who is who: SPIFFE IDs, keys, requests, certificates, bundles, verification.
//!
//! Nothing here opens a socket or a file, starts a task, reads the environment or a clock: bytes and the
//! time are arguments. Reading order: [`spiffe`] (names), [`timestamp`] (time), [`key`], [`request`],
//! [`certificate`], [`bundle`], [`leaf`], [`verify`](mod@verify) and [`tls`].

pub mod bundle;
pub mod certificate;
pub mod key;
pub mod leaf;
pub mod path;
pub mod pem;
pub mod request;
pub mod revocation;
pub mod serial;
pub mod spiffe;
pub mod timestamp;
pub mod tls;
pub mod verified;
pub mod verify;

pub use bundle::{Anchor, Anchors, BundleError, Bundles, TrustBundle};
pub use certificate::{CertificateError, CertificateInfo, WorkloadCertificate, read_chain, write_chain};
pub use key::{Fingerprint, KeyAlgorithm, KeyError, PrivateKey, PublicKey, SealCost};
pub use leaf::{LeafError, check_leaf, check_serving_leaf};
pub use path::{CertificateFault, Link, PathError, Place, Purpose, verify_path};
pub use pem::PemError;
pub use request::{AskedNames, RequestError, SigningRequest};
pub use revocation::{Crl, CrlError, DenyList, Revocations, Revoked};
pub use serial::{SerialError, SerialNumber};
pub use spiffe::{SpiffeId, SpiffeIdError, TrustDomain};
pub use timestamp::{Lifetime, Timestamp};
pub use verified::Verified;
pub use verify::{PeerIdentity, VerifyError, chain_fingerprint, verify, verify_made, verify_server_name};
