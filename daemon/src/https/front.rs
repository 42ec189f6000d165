//! Stands before HTTP: counts connections, secures them.

use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use rustls::pki_types::CertificateDer;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_rustls::server::TlsStream;
use tracing::debug;

use super::Counters;
use super::handler::{Peer, PeerAddr};
use super::hello;
use super::places::Places;
use crate::drain::Drain;
use crate::logging::Foreign;

/// What the connections of a listener have in common before anybody speaks HTTP.
pub(crate) struct Front {
    pub(crate) name: &'static str,
    pub(crate) drain: Drain,
    pub(crate) counters: Counters,
    pub(crate) places: Places,
    pub(crate) handshakes: Semaphore,
    pub(crate) handshake_time: Duration,
}

impl Front {
    /// The TLS handshake, within its limits; `None` when it did not come about.
    pub(crate) async fn secure<S>(
        &self,
        tls: impl FnOnce() -> Arc<ServerConfig>,
        stream: S,
        address: PeerAddr,
    ) -> Option<(TlsStream<S>, Peer)>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let handshake = async {
            // Whoever says nothing takes nobody's turn.
            let start = hello::read(stream).await?;
            // The semaphore is never closed.
            let _turn = self.handshakes.acquire().await;
            start.into_stream(tls()).await
        };
        let secured = tokio::select! {
            secured = timeout(self.handshake_time, handshake) => secured,
            // Nobody has asked for anything yet.
            () = self.drain.closing() => return None,
        };
        match secured {
            Ok(Ok(stream)) => {
                let certificates = certificates(stream.get_ref().1);
                let peer = Peer {
                    address,
                    certificates,
                };
                Some((stream, peer))
            }
            Ok(Err(error)) => {
                self.counters.refuse("handshake");
                let error = error.to_string();
                debug!(server = self.name, %address, error = %Foreign(&error), "handshake failed");
                None
            }
            Err(_) => {
                self.counters.refuse("handshake_time");
                debug!(server = self.name, %address, "handshake took too long");
                None
            }
        }
    }
}

fn certificates(session: &rustls::ServerConnection) -> Vec<CertificateDer<'static>> {
    session.peer_certificates().map(<[_]>::to_vec).unwrap_or_default()
}
