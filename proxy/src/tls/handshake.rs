//! Brings a TCP connection through its TLS handshake, within limits of time and size.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use ferrule_identity::tls::{Outcome, TlsError};
use ferrule_identity::{PeerIdentity, SpiffeId, VerifyError};
use rustls::NamedGroup;
use rustls::client::UnbufferedClientConnection;
use rustls::pki_types::ServerName;
use rustls::server::UnbufferedServerConnection;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::material::Material;
use super::session::{Progress, Session, Terms};
use crate::buffer::Buffer;
use crate::closed::CloseReason;
use crate::forward::relay::Arrived;
use crate::framing::channel::Channel;
use crate::framing::streams::Side;
use crate::framing::{self, FramingError};

/// A connection whose other end has proved who it is.
pub struct Secured {
    /// The socket.
    pub tcp: TcpStream,
    /// The TLS connection over it, with the framing that was agreed on.
    pub channel: Channel,
    /// Who is at the other end.
    pub peer: PeerIdentity,
    /// What both sides agreed on.
    pub agreed: Agreed,
    /// What came along with the end of the handshake.
    pub arrived: Arrived,
}

/// What both sides of a handshake agreed on, in the words of the standards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Agreed {
    /// The version of TLS.
    pub version: &'static str,
    /// The key exchange.
    pub group: &'static str,
    /// The cipher.
    pub cipher: &'static str,
}

/// Handshakes as the side that was dialled. `first` are bytes that were read already.
///
/// # Errors
/// When the other side is not who it should be, breaks the protocol, or takes longer than `limit`. Where TLS has a
/// word for it, the other side has been told.
pub async fn accept(
    tcp: TcpStream,
    first: Buffer,
    material: &Material,
    limit: Duration,
) -> Result<Secured, HandshakeError> {
    let connection = UnbufferedServerConnection::new(material.server())
        .map_err(|source| HandshakeError::Protocol { source })?;
    let session = Session::server(connection);
    secure(tcp, session, Side::Dialled, first, limit).await
}

/// Handshakes as the side that dialled, with exactly `expected`.
///
/// # Errors
/// As [`accept`].
pub async fn connect(
    tcp: TcpStream,
    target: IpAddr,
    expected: SpiffeId,
    material: &Material,
    limit: Duration,
) -> Result<Secured, HandshakeError> {
    let config = material
        .client(&expected)
        .map_err(|source| HandshakeError::Settings { source })?;
    // An address is never sent as a server name (RFC 6066 §3), so the name of nobody travels in clear.
    let name = ServerName::IpAddress(target.into());
    let connection = UnbufferedClientConnection::new(config, name)
        .map_err(|source| HandshakeError::Protocol { source })?;
    let session = Session::client(connection);
    secure(tcp, session, Side::Dialling, Buffer::new(), limit).await
}

async fn secure(
    mut tcp: TcpStream,
    mut session: Session,
    side: Side,
    first: Buffer,
    limit: Duration,
) -> Result<Secured, HandshakeError> {
    let outcome = Outcome::new();
    let shaken = timeout(limit, shake(&mut tcp, &mut session, first, &outcome)).await;
    let arrived = match shaken {
        Err(_) => return Err(HandshakeError::Timeout { limit }),
        Ok(Ok(arrived)) => arrived,
        Ok(Err(error)) => {
            let told = matches!(error, HandshakeError::Protocol { .. });
            let error = match outcome.refusal() {
                Some(source) => HandshakeError::Refused { source },
                None => error,
            };
            if told {
                // The alert is worth some patience, but not more than the handshake was.
                let _ = timeout(LINGER, linger(&mut tcp)).await;
            }
            return Err(error);
        }
    };
    let peer = outcome.result().and_then(Result::ok).cloned();
    let peer = peer.ok_or(HandshakeError::Nobody)?;
    let terms = session.take_terms().ok_or(HandshakeError::Nobody)?;
    let agreed = Agreed::of(&terms);
    let framing = framing::agreed(terms.protocol.as_deref(), side)
        .map_err(|source| HandshakeError::Framing { source })?;
    Ok(Secured {
        tcp,
        channel: Channel::new(session, framing),
        peer,
        agreed,
        arrived,
    })
}

/// Takes flights and answers them until the session is open.
async fn shake(
    tcp: &mut TcpStream,
    session: &mut Session,
    first: Buffer,
    outcome: &Outcome,
) -> Result<Arrived, HandshakeError> {
    let broken = |source| HandshakeError::Broken { source };
    let mut incoming = first;
    let (mut taken, mut answered) = (0, false);
    loop {
        let (mut text, mut reply) = (Buffer::new(), Buffer::new());
        let progress = outcome.collect(|| session.receive(incoming.filled_mut(), &mut text, &mut reply));
        drop(incoming);
        if !reply.filled().is_empty() {
            answered = true;
            tcp.write_all(reply.filled()).await.map_err(broken)?;
        }
        drop(reply);
        match progress.map_err(|source| HandshakeError::Protocol { source })? {
            Progress::Handshake => {}
            open => {
                return Ok(Arrived {
                    text: text.filled().into(),
                    finished: open == Progress::PeerFinished,
                });
            }
        }
        tcp.readable().await.map_err(broken)?;
        incoming = Buffer::lent();
        incoming.push(session.held());
        match tcp.try_read(
            incoming
                .room(READ_BYTES)
                .get_mut(..READ_BYTES)
                .unwrap_or_default(),
        ) {
            Ok(0) => return Err(HandshakeError::Ended),
            Ok(read) => {
                incoming.advance(read);
                taken += read;
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(source) => return Err(broken(source)),
        }
        // A hello has one or two thousand bytes; nobody who has not been answered may make us hold more than this.
        let most = if answered { FLIGHTS_BYTES } else { HELLO_BYTES };
        if taken > most {
            return Err(HandshakeError::TooLong { most });
        }
    }
}

/// Lets the other side read an alert: closing a socket with unread bytes would reset it, and the alert be lost.
async fn linger(tcp: &mut TcpStream) {
    if tcp.shutdown().await.is_err() {
        return;
    }
    let mut rest = [0; 1024];
    let mut left = FLIGHTS_BYTES;
    while let Ok(read) = tcp.read(&mut rest).await {
        left = left.saturating_sub(read);
        if read == 0 || left == 0 {
            return;
        }
    }
}

impl Agreed {
    fn of(terms: &Terms) -> Self {
        Self {
            version: match terms.version {
                Some(rustls::ProtocolVersion::TLSv1_3) => "TLSv1.3",
                _ => "",
            },
            group: match terms.group {
                Some(NamedGroup::X25519MLKEM768) => "X25519MLKEM768",
                Some(NamedGroup::X25519) => "x25519",
                Some(NamedGroup::secp256r1) => "secp256r1",
                _ => "",
            },
            cipher: terms
                .cipher
                .and_then(|cipher| cipher.as_str())
                .map_or("", |name| name.strip_prefix("TLS13_").unwrap_or(name)),
        }
    }
}

impl HandshakeError {
    /// The reason word for the end of the connection.
    pub fn reason(&self) -> CloseReason {
        match self {
            Self::Timeout { .. } => CloseReason::HandshakeTimeout,
            Self::Refused { source } => CloseReason::of_refusal(source),
            Self::Protocol {
                source: rustls::Error::AlertReceived(_),
            } => CloseReason::RefusedByPeer,
            Self::Protocol {
                source: rustls::Error::NoCertificatesPresented,
            }
            | Self::Nobody => CloseReason::BadCertificate,
            Self::Protocol { .. }
            | Self::Framing { .. }
            | Self::Settings { .. }
            | Self::Broken { .. }
            | Self::Ended
            | Self::TooLong { .. } => CloseReason::HandshakeFailed,
        }
    }
}

/// What one read takes at most.
const READ_BYTES: usize = 16 * 1024;

/// The longest first flight of a client.
const HELLO_BYTES: usize = 16 * 1024;

/// The most bytes of a whole handshake: the longest chain, and room for what is around it.
const FLIGHTS_BYTES: usize = 96 * 1024;

/// How long a refused peer has to take its alert.
const LINGER: Duration = Duration::from_millis(500);

/// Why there is no TLS connection.
#[derive(Debug, thiserror::Error)]
pub enum HandshakeError {
    /// Too slow.
    #[error("the TLS handshake was not over within {limit:?}")]
    Timeout {
        /// The time that is allowed.
        limit: Duration,
    },
    /// The peer's certificate was not believed.
    #[error("the peer is refused")]
    Refused {
        /// Why.
        source: Arc<VerifyError>,
    },
    /// TLS itself failed.
    #[error("the TLS handshake failed")]
    Protocol {
        /// How.
        source: rustls::Error,
    },
    /// The socket failed.
    #[error("the connection broke during the TLS handshake")]
    Broken {
        /// What the system says.
        source: io::Error,
    },
    /// The peer went away.
    #[error("the peer left during the TLS handshake")]
    Ended,
    /// The peer sends too much.
    #[error("the peer sent more than {most} bytes without finishing the TLS handshake")]
    TooLong {
        /// What is allowed.
        most: usize,
    },
    /// The handshake is over, and nobody was verified.
    #[error("the peer showed no certificate")]
    Nobody,
    /// The handshake agreed on something that cannot be carried.
    #[error("the TLS handshake is over, but nothing can be carried")]
    Framing {
        /// Why.
        source: FramingError,
    },
    /// Our own settings are refused.
    #[error("cannot prepare the TLS handshake")]
    Settings {
        /// Why.
        source: TlsError,
    },
}
