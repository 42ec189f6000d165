//! Opens gRPC connections to one of our own programs, known by its SPIFFE ID, as a workload that shows its own.

use std::sync::Arc;
use std::time::Duration;

use ferrule_daemon::clock::Clock;
use ferrule_daemon::grpc::client::Channel;
use ferrule_daemon::grpc::{ALPN, Limits, Status};
use ferrule_identity::tls::{
    Expected, Outcome, PeerVerifier, Presented, TlsError, TrustCell, peer_client_config,
};
use ferrule_identity::{SpiffeId, VerifyError, WorkloadCertificate};
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::client::now;

/// Secures `tcp`, where exactly `expected` has to answer, and begins to speak gRPC. `own` is shown, `trust` says whom
/// to believe.
///
/// # Errors
/// When somebody else answers, or nobody within [`HANDSHAKE_LIMIT`].
pub async fn open(
    tcp: TcpStream,
    expected: SpiffeId,
    own: &WorkloadCertificate,
    trust: Arc<TrustCell>,
    clock: &Clock,
    limits: Limits,
) -> Result<Channel, PeerError> {
    let tls = |source| PeerError::Tls { source };
    let outcome = Outcome::new();
    let verifier = PeerVerifier::new(trust, Expected::one(expected.clone())).reporting_to(outcome.clone());
    let presented = Presented::workload(own).map_err(tls)?;
    let config = peer_client_config(verifier, &presented, &[ALPN], now(clock)).map_err(tls)?;
    let address = tcp
        .peer_addr()
        .map_err(|source| PeerError::Handshake { source })?;
    // Whom we expect is decided by the certificate's SPIFFE ID alone, so this name is only for the record.
    let name = ServerName::from(address.ip());
    let shake = TlsConnector::from(Arc::new(config)).connect(name, tcp);
    let stream = match timeout(HANDSHAKE_LIMIT, shake).await {
        Err(_) => {
            let source = std::io::ErrorKind::TimedOut.into();
            return Err(PeerError::Handshake { source });
        }
        Ok(Err(source)) => {
            return Err(match outcome.refusal() {
                Some(source) => PeerError::Refused { expected, source },
                None => PeerError::Handshake { source },
            });
        }
        Ok(Ok(stream)) => stream,
    };
    match timeout(
        HANDSHAKE_LIMIT,
        Channel::open(stream, address.to_string(), limits),
    )
    .await
    {
        Ok(opened) => opened.map_err(|source| PeerError::Call { source }),
        Err(_) => {
            let source = std::io::ErrorKind::TimedOut.into();
            Err(PeerError::Handshake { source })
        }
    }
}

/// How long the TLS handshake may take, and the beginning of HTTP/2 after it.
pub const HANDSHAKE_LIMIT: Duration = Duration::from_secs(5);

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum PeerError {
    /// No settings for TLS.
    #[error("cannot prepare TLS")]
    Tls {
        /// Why.
        source: TlsError,
    },
    /// Somebody else answers, or it cannot be told who.
    #[error("whoever answers is not {expected}")]
    Refused {
        /// Who is expected.
        expected: SpiffeId,
        /// Why it is not taken for that.
        source: Arc<VerifyError>,
    },
    /// The handshake did not come about.
    #[error("the TLS handshake failed")]
    Handshake {
        /// Why.
        source: std::io::Error,
    },
    /// The other end does not speak gRPC.
    #[error("cannot speak gRPC")]
    Call {
        /// Why.
        source: Status,
    },
}
