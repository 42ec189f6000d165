//! Sets the options of connected sockets.

use std::io;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpListener, TcpStream};

/// How soon a dead peer is noticed: probes begin after `idle`, come every `interval`, and `retries` of them
/// without an answer end the connection (tcp(7)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeepAlive {
    /// Silence before the first probe.
    pub idle: Duration,
    /// Time between probes.
    pub interval: Duration,
    /// Probes without an answer.
    pub retries: u32,
}

impl Default for KeepAlive {
    /// First probe after a minute, then every 10 s, six of them: two minutes in all.
    fn default() -> Self {
        Self {
            idle: Duration::from_secs(60),
            interval: Duration::from_secs(10),
            retries: 6,
        }
    }
}

/// Prepares a connection that was dialled: small writes go out at once, a dead peer is noticed.
///
/// # Errors
/// When the kernel refuses an option.
pub fn prepare(stream: &TcpStream, keepalive: KeepAlive) -> io::Result<()> {
    set(SockRef::from(stream), keepalive)
}

/// Prepares every connection that `listener` will accept, in the same way: Linux hands its options on to them, which
/// saves five calls for each.
///
/// # Errors
/// When the kernel refuses an option.
pub fn prepare_accepted(listener: &TcpListener, keepalive: KeepAlive) -> io::Result<()> {
    set(SockRef::from(listener), keepalive)
}

fn set(socket: SockRef<'_>, keepalive: KeepAlive) -> io::Result<()> {
    socket.set_tcp_nodelay(true)?;
    let probes = TcpKeepalive::new()
        .with_time(keepalive.idle)
        .with_interval(keepalive.interval)
        .with_retries(keepalive.retries);
    socket.set_tcp_keepalive(&probes)
}

/// Makes closing `stream` send RST instead of FIN: the other side learns that the stream was cut, not finished.
///
/// # Errors
/// When the kernel refuses the option.
pub fn reset_on_close(stream: &TcpStream) -> io::Result<()> {
    // A linger time of zero is how a program asks for an abort (RFC 9293 §3.10.5, socket(7)).
    SockRef::from(stream).set_linger(Some(Duration::ZERO))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_accepted_is_prepared_by_its_listener() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let keepalive = KeepAlive {
            idle: Duration::from_secs(77),
            ..KeepAlive::default()
        };
        prepare_accepted(&listener, keepalive).unwrap();
        let client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (accepted, _) = listener.accept().await.unwrap();
        let socket = SockRef::from(&accepted);
        assert!(socket.tcp_nodelay().unwrap() && socket.keepalive().unwrap());
        assert_eq!(socket.tcp_keepalive_time().unwrap(), keepalive.idle);
        assert_eq!(socket.tcp_keepalive_interval().unwrap(), keepalive.interval);
        assert_eq!(socket.tcp_keepalive_retries().unwrap(), keepalive.retries);
        drop(client);
    }
}
