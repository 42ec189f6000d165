//! Opens TCP connections, never waiting longer than it was told to.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::{TcpStream, lookup_host};
use tokio::time::{Instant, timeout, timeout_at};

/// Connects to `target` within `limit`, with Nagle's algorithm off.
///
/// # Errors
/// When nobody answers in time, or the system or the other end refuses.
pub async fn dial(target: SocketAddr, limit: Duration) -> Result<TcpStream, DialError> {
    let connected = timeout(limit, connect(target)).await;
    let stream = connected
        .map_err(|_| DialError::Timeout { target, limit })?
        .map_err(|source| DialError::Refused { target, source })?;
    stream
        .set_nodelay(true)
        .map_err(|source| DialError::Refused { target, source })?;
    Ok(stream)
}

/// Looks `host` up and connects to the first of its addresses that answers, all within `limit`. Each address has
/// an even share of the time that is left, so that one that swallows packets cannot use it all.
///
/// # Errors
/// When the name is not found in time, or none of its addresses answers; the error is the last address's.
pub async fn dial_name(host: &str, port: u16, limit: Duration) -> Result<TcpStream, DialError> {
    let end = Instant::now() + limit;
    let failed = |source| DialError::Lookup {
        host: host.to_owned(),
        source,
    };
    let found = timeout_at(end, lookup_host((host, port))).await;
    let targets: Vec<_> = found
        .map_err(|_| failed(io::ErrorKind::TimedOut.into()))?
        .map_err(failed)?
        .collect();
    let mut last = failed(io::ErrorKind::NotFound.into());
    for (tried, target) in targets.iter().enumerate() {
        let untried = u32::try_from(targets.len() - tried).unwrap_or(u32::MAX);
        match dial(*target, (end - Instant::now()) / untried).await {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

#[allow(clippy::disallowed_methods, reason = "both callers put a limit on the wait")]
async fn connect(target: SocketAddr) -> io::Result<TcpStream> {
    TcpStream::connect(target).await
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// Nobody answered in time.
    #[error("no answer from {target} within {limit:?}")]
    Timeout {
        /// The address that was tried.
        target: SocketAddr,
        /// How long.
        limit: Duration,
    },
    /// The system or the other end refused.
    #[error("cannot reach {target}")]
    Refused {
        /// The address that was tried.
        target: SocketAddr,
        /// The system's answer.
        source: io::Error,
    },
    /// The name has no address, or none was found in time.
    #[error("cannot find the address of {host}")]
    Lookup {
        /// The name.
        host: String,
        /// The system's answer.
        source: io::Error,
    },
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn connects_by_address_and_by_name() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let target = listener.local_addr().unwrap();
        let stream = dial(target, Duration::from_secs(5)).await.unwrap();
        assert!(stream.nodelay().unwrap());
        let stream = dial_name("127.0.0.1", target.port(), Duration::from_secs(5))
            .await
            .unwrap();
        assert_eq!(stream.peer_addr().unwrap(), target);
    }

    #[tokio::test]
    async fn a_closed_port_is_refused_by_name() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let target = listener.local_addr().unwrap();
        drop(listener);
        let error = dial(target, Duration::from_secs(5)).await.unwrap_err();
        assert_eq!(error.to_string(), format!("cannot reach {target}"));
    }

    #[tokio::test]
    async fn no_time_is_a_timeout() {
        // A listener with a full queue would do as well, but a limit of zero needs no tricks.
        let target = "192.0.2.1:9".parse().unwrap();
        let error = dial(target, Duration::ZERO).await.unwrap_err();
        assert!(
            matches!(error, DialError::Timeout { .. } | DialError::Refused { .. }),
            "{error}"
        );
    }

    #[tokio::test]
    async fn a_name_that_is_none_is_not_found() {
        let error = dial_name("no such name", 1, Duration::from_secs(30))
            .await
            .unwrap_err();
        assert_eq!(error.to_string(), "cannot find the address of no such name");
    }
}
