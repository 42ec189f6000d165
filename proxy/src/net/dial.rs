//! Opens connections as the proxy's own: marked where a mark tells them, never waiting longer than allowed.

use std::io;
use std::time::Duration;

use rustix::io::Errno;
use socket2::SockRef;
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

use super::address::UpstreamAddr;
use super::pace::unpace;
use super::socket::{KeepAlive, prepare};

/// How the proxy dials.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dialing {
    /// The mark (`SO_MARK`) by which the redirect rules know the proxy's own connections.
    pub mark: Option<u32>,
    /// How long a connect may take.
    pub limit: Duration,
    /// The probes of the connection.
    pub keepalive: KeepAlive,
}

/// Connects to `target`.
///
/// # Errors
/// When nobody answers in time, or the system or the other end refuses.
pub async fn dial(target: UpstreamAddr, how: &Dialing) -> Result<TcpStream, DialError> {
    let limit = how.limit;
    match timeout(limit, prepared(target, how)).await {
        Err(_) => Err(DialError::Timeout { target, limit }),
        Ok(connected) => connected.map_err(|source| DialError::of(target, source)),
    }
}

/// As [`dial`], for somebody on this very machine, who cannot vanish without the kernel's knowing: nothing is probed for.
///
/// # Errors
/// As there.
pub async fn dial_beside(target: UpstreamAddr, how: &Dialing) -> Result<TcpStream, DialError> {
    let limit = how.limit;
    let connecting = async {
        let stream = connect(target, how).await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    };
    match timeout(limit, connecting).await {
        Err(_) => Err(DialError::Timeout { target, limit }),
        Ok(connected) => connected.map_err(|source| DialError::of(target, source)),
    }
}

async fn prepared(target: UpstreamAddr, how: &Dialing) -> io::Result<TcpStream> {
    let stream = connect(target, how).await?;
    prepare(&stream, how.keepalive)?;
    Ok(stream)
}

async fn connect(target: UpstreamAddr, how: &Dialing) -> io::Result<TcpStream> {
    let socket = match target.socket() {
        std::net::SocketAddr::V4(_) => TcpSocket::new_v4()?,
        std::net::SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    if let Some(mark) = how.mark {
        SockRef::from(&socket).set_mark(mark)?;
    }
    if target.ip().is_loopback() {
        unpace(&SockRef::from(&socket));
    }
    socket.connect(target.socket()).await
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// Nobody answered in time.
    #[error("no answer from {target} within {limit:?}")]
    Timeout {
        /// The address.
        target: UpstreamAddr,
        /// How long.
        limit: Duration,
    },
    /// This system has no descriptor, no port or no memory left for it. That says nothing about the other end.
    #[error("nothing is left here to dial {target} with")]
    Shortage {
        /// The address.
        target: UpstreamAddr,
        /// Of what.
        source: io::Error,
    },
    /// The system or the other end refused.
    #[error("cannot reach {target}")]
    Refused {
        /// The address.
        target: UpstreamAddr,
        /// What the system says.
        source: io::Error,
    },
}

impl DialError {
    fn of(target: UpstreamAddr, source: io::Error) -> Self {
        let is_shortage = Errno::from_io_error(&source).is_some_and(|errno| SHORTAGES.contains(&errno));
        if is_shortage {
            Self::Shortage { target, source }
        } else {
            Self::Refused { target, source }
        }
    }
}

/// What connect(2) and socket(2) say when something has run out. No port is left: `EADDRNOTAVAIL`.
const SHORTAGES: [Errno; 5] = [
    Errno::ADDRNOTAVAIL,
    Errno::MFILE,
    Errno::NFILE,
    Errno::NOBUFS,
    Errno::NOMEM,
];
