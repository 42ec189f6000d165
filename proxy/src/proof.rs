//! Proves that the redirect is in place, outbound by meeting itself, inbound by answering a probe.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use ferrule_daemon::ready::Readiness;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::config::Config;
use crate::net::address::{OriginalDst, UpstreamAddr};
use crate::net::dial::{DialError, Dialing, dial};
use crate::redirect::rules::{PROOF_V4, PROOF_V6};

/// What a process knows itself by: whoever answers with it is this very process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Token([u8; 16]);

impl Token {
    /// A new one.
    pub fn random() -> Self {
        Self(rand::random())
    }
}

/// Whether a captured connection was going to a place of the proof: it can only come from a prover on this host.
pub fn is_proof(original: OriginalDst, config: &Config) -> bool {
    let Some(capture) = &config.capture else {
        return false;
    };
    let places = [PROOF_V4, PROOF_V6];
    original.port() == capture.proof.get() && places.iter().any(|place| place.parse() == Ok(original.ip()))
}

/// Answers a prover.
pub async fn meet(mut tcp: TcpStream, token: Token) {
    // A prover that is gone needs no answer.
    let _ = timeout(LIMIT, tcp.write_all(&token.0)).await;
}

/// Answers the probe from outside, whoever sends it, in the words of HTTP/1.1.
pub async fn answer_probe(mut tcp: TcpStream, readiness: &Readiness) {
    let answer = match readiness.check() {
        Ok(()) => "HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
        Err(_) => "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
    };
    let talk = async {
        // Read first: closing a socket with unread bytes would reset it, and the answer be lost.
        let mut request = [0; 1024];
        let _asked = tcp.read(&mut request).await?;
        tcp.write_all(answer.as_bytes()).await?;
        tcp.shutdown().await
    };
    // A probe that is gone needs no answer.
    let _ = timeout(LIMIT, talk).await;
}

/// Dials the place of the proof in each family that the workload has, and waits to meet itself.
///
/// # Errors
/// Names the family in which the redirect is not in place.
pub async fn prove(config: &Config, token: Token) -> Result<(), ProofError> {
    let Some(capture) = &config.capture else {
        return Ok(());
    };
    let how = Dialing {
        mark: capture.mark,
        limit: LIMIT,
        keepalive: config.connection.keepalive,
    };
    let has_v6 = config.own.addresses.iter().any(IpAddr::is_ipv6);
    let has_v4 = config.own.addresses.is_empty() || config.own.addresses.iter().any(IpAddr::is_ipv4);
    for (place, there) in [(PROOF_V4, has_v4), (PROOF_V6, has_v6)] {
        let Ok(place) = place.parse::<IpAddr>() else {
            continue;
        };
        if there {
            let target = UpstreamAddr::new(SocketAddr::new(place, capture.proof.get()));
            prove_one(target, &how, token).await?;
        }
    }
    Ok(())
}

async fn prove_one(target: UpstreamAddr, how: &Dialing, token: Token) -> Result<(), ProofError> {
    let mut tcp = dial(target, how)
        .await
        .map_err(|source| ProofError::Dial { target, source })?;
    let mut answer = [0; 16];
    match timeout(LIMIT, tcp.read_exact(&mut answer)).await {
        Ok(Ok(_)) if answer == token.0 => Ok(()),
        Ok(_) => Err(ProofError::Other { target }),
        Err(_) => Err(ProofError::Silent { target }),
    }
}

/// How long a step of the proof may take.
const LIMIT: Duration = Duration::from_secs(1);

/// Why the redirect is not proved.
#[derive(Debug, thiserror::Error)]
pub enum ProofError {
    /// Nobody is at the place of the proof: connections leave the workload past the proxy.
    #[error("the redirect is not in place: the proxy cannot meet itself at {target}")]
    Dial {
        /// The place.
        target: UpstreamAddr,
        /// What happened.
        source: DialError,
    },
    /// Somebody else is there.
    #[error("the redirect is not in place: who answers at {target} is not this proxy")]
    Other {
        /// The place.
        target: UpstreamAddr,
    },
    /// Somebody is there who says nothing in time.
    #[error("the redirect is not proved: who is at {target} says nothing within {LIMIT:?}")]
    Silent {
        /// The place.
        target: UpstreamAddr,
    },
}

impl ProofError {
    /// Whether nothing was learnt: nobody answered in time, or this system had nothing left to ask with. So it is where
    /// connections leave past the proxy and are dropped on their way, and so it is for a while on a host that has too much
    /// to do.
    pub const fn is_silence(&self) -> bool {
        match self {
            Self::Dial { source, .. } => !matches!(source, DialError::Refused { .. }),
            Self::Silent { .. } => true,
            Self::Other { .. } => false,
        }
    }
}
