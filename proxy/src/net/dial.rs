//! Opens connections as the proxy's own: marked where a mark tells them, never waiting longer than allowed.

use std::io;
use std::time::Duration;

use rustix::io::Errno;
use socket2::{Domain, SockRef, Socket, Type};
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
/// Within a machine a connection is mostly open before the call that asks for it returns. Then nothing is waited for, and the runtime
/// does not know yet that the stream takes bytes: [`write_first`](super::write::write_first) does not ask it.
///
/// # Errors
/// As there.
pub async fn dial_beside(target: UpstreamAddr, how: &Dialing) -> Result<TcpStream, DialError> {
    let failed = |source| DialError::of(target, source);
    let (socket, is_open) = begin(target, how).map_err(failed)?;
    let stream = TcpStream::from_std(socket.into()).map_err(failed)?;
    if !is_open {
        let limit = how.limit;
        let opened = timeout(limit, stream.writable()).await;
        opened
            .map_err(|_| DialError::Timeout { target, limit })?
            .map_err(failed)?;
        if let Some(error) = stream.take_error().map_err(failed)? {
            return Err(failed(error));
        }
    }
    Ok(stream)
}

/// Asks for a connection; whether it is open already.
fn begin(target: UpstreamAddr, how: &Dialing) -> io::Result<(Socket, bool)> {
    let socket = socket(target, how)?;
    socket.set_tcp_nodelay(true)?;
    let address = target.socket().into();
    match socket.connect(&address) {
        Ok(()) => return Ok((socket, true)),
        Err(error) if Errno::from_io_error(&error) == Some(Errno::INPROGRESS) => {}
        Err(error) => return Err(error),
    }
    // Asked again, it says what has become of it (connect(2)).
    match socket.connect(&address) {
        Ok(()) => Ok((socket, true)),
        Err(error) if Errno::from_io_error(&error) == Some(Errno::ALREADY) => Ok((socket, false)),
        Err(error) => Err(error),
    }
}

async fn prepared(target: UpstreamAddr, how: &Dialing) -> io::Result<TcpStream> {
    let stream = connect(target, how).await?;
    prepare(&stream, how.keepalive)?;
    Ok(stream)
}

async fn connect(target: UpstreamAddr, how: &Dialing) -> io::Result<TcpStream> {
    let socket = TcpSocket::from_std_stream(socket(target, how)?.into());
    socket.connect(target.socket()).await
}

/// A socket that has everything that must be set before it asks for a connection.
fn socket(target: UpstreamAddr, how: &Dialing) -> io::Result<Socket> {
    let kind = Type::STREAM.nonblocking().cloexec();
    let socket = Socket::new(Domain::for_address(target.socket()), kind, None)?;
    if let Some(mark) = how.mark {
        socket.set_mark(mark)?;
    }
    if target.ip().is_loopback() {
        unpace(&SockRef::from(&socket));
    }
    Ok(socket)
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

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;
    use crate::net::write::write_first;

    const HOW: Dialing = Dialing {
        mark: None,
        limit: Duration::from_secs(20),
        keepalive: KeepAlive {
            idle: Duration::from_secs(60),
            interval: Duration::from_secs(10),
            retries: 6,
        },
    };

    fn target(listener: &std::net::TcpListener) -> UpstreamAddr {
        UpstreamAddr::new(listener.local_addr().unwrap())
    }

    #[tokio::test]
    async fn whoever_is_dialled_beside_is_spoken_to_without_a_wait() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = dial_beside(target(&listener), &HOW).await.unwrap();
        assert!(stream.nodelay().unwrap());
        // The runtime has not looked yet, and need not.
        assert_eq!(write_first(&stream, b"hello").unwrap(), 5);
        let (mut accepted, _) = listener.accept().unwrap();
        let mut said = [0; 5];
        accepted.read_exact(&mut said).unwrap();
        assert_eq!(said, *b"hello");
        stream.writable().await.unwrap();
        assert_eq!(stream.try_write(b"more").unwrap(), 4);
    }

    #[tokio::test]
    async fn a_dial_beside_where_nobody_listens_is_refused() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let nobody = target(&listener);
        drop(listener);
        let refused = dial_beside(nobody, &HOW).await.unwrap_err();
        let DialError::Refused { target, source } = refused else {
            panic!("{refused}");
        };
        assert_eq!(target, nobody);
        assert_eq!(source.kind(), io::ErrorKind::ConnectionRefused);
    }

    #[tokio::test]
    async fn a_dial_beside_to_a_full_queue_waits_for_room_and_not_for_ever() {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket
            .bind(&"127.0.0.1:0".parse::<std::net::SocketAddr>().unwrap().into())
            .unwrap();
        socket.listen(1).unwrap();
        let listener = std::net::TcpListener::from(socket);
        let short = Dialing {
            limit: Duration::from_millis(200),
            ..HOW
        };
        let mut open = Vec::new();
        let full = loop {
            match dial_beside(target(&listener), &short).await {
                Ok(stream) => open.push(stream),
                Err(full) => break full,
            }
            assert!(open.len() < 16, "the queue has no end");
        };
        assert!(
            matches!(full, DialError::Timeout { limit, .. } if limit == short.limit),
            "{full}"
        );
        // The kernel asks again after a second; by then there is room.
        let waiting = dial_beside(target(&listener), &HOW);
        let taking = async {
            tokio::task::yield_now().await;
            listener.accept().unwrap();
            listener.accept().unwrap();
        };
        let (opened, ()) = tokio::join!(waiting, taking);
        assert_eq!(write_first(&opened.unwrap(), b"x").unwrap(), 1);
    }
}
