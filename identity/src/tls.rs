//! Puts verification into rustls: settings for both ends of a handshake, in TLS 1.3 only.
//!
//! The builders here make what is easily made wrong: no tickets, no resumption (a ticket outlives a revocation),
//! no early data, one list of algorithms. Bundles and revocations are read anew at each handshake.

mod configs;
mod outcome;
mod peer;
mod presented;
mod profile;
mod refusal;
mod server;
mod trust;

pub use configs::{control_client_config, control_server_config, peer_client_config, peer_server_config};
pub use outcome::Outcome;
pub use peer::{Expected, PeerVerifier};
pub use presented::Presented;
pub use profile::{Now, provider};
pub use refusal::refusal;
pub use server::ServerVerifier;
pub use trust::{TrustCell, TrustSnapshot};

use crate::VerifyError;

/// Why settings for TLS cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// rustls does not take the private key.
    #[error("rustls does not take the private key")]
    Key {
        /// What it says.
        source: rustls::Error,
    },
    /// The private key is not the certificate's.
    #[error("the private key is not the one of the certificate")]
    OtherKey,
    /// Our own serving certificate is one that clients would refuse.
    #[error("clients would refuse the serving certificate")]
    Serving {
        /// For this reason.
        source: VerifyError,
    },
    /// rustls does not take the settings.
    #[error("rustls does not take the settings")]
    Settings {
        /// What it says.
        source: rustls::Error,
    },
}
