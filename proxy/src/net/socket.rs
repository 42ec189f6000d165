//! Sets the options of connected sockets.

use std::io;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;

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

/// Prepares either leg of a proxied connection: small writes go out at once, a dead peer is noticed.
///
/// # Errors
/// When the kernel refuses an option.
pub fn prepare(stream: &TcpStream, keepalive: KeepAlive) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let probes = TcpKeepalive::new()
        .with_time(keepalive.idle)
        .with_interval(keepalive.interval)
        .with_retries(keepalive.retries);
    SockRef::from(stream).set_tcp_keepalive(&probes)
}

/// Makes closing `stream` send RST instead of FIN: the other side learns that the stream was cut, not finished.
///
/// # Errors
/// When the kernel refuses the option.
pub fn reset_on_close(stream: &TcpStream) -> io::Result<()> {
    // A linger time of zero is how a program asks for an abort (RFC 9293 §3.10.5, socket(7)).
    SockRef::from(stream).set_linger(Some(Duration::ZERO))
}
