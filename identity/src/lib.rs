//! Decides who is who: SPIFFE IDs, keys, requests, certificates, bundles, verification.
//!
//! Nothing here opens a socket or a file, starts a task, reads the environment or a clock: bytes and the
//! time are arguments. Reading order: [`spiffe`] (names), [`timestamp`] (time), [`key`], [`request`],
//! [`certificate`], [`bundle`], [`leaf`] and [`verify`](mod@verify).

pub mod key;
pub mod pem;
pub mod spiffe;
pub mod timestamp;

pub use key::{Fingerprint, KeyAlgorithm, KeyError, PrivateKey, PublicKey, SealCost};
pub use pem::PemError;
pub use spiffe::{SpiffeId, SpiffeIdError, TrustDomain};
pub use timestamp::{Lifetime, Timestamp};
