//! Takes new connections, and goes on taking them when the system runs out of something.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::time::Instant;

use super::front::Front;
use super::handler::PeerAddr;
use super::places::Place;

/// Something that connections come from.
pub trait Listen: Send + 'static {
    /// A connection.
    type Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    /// Waits for the next connection. Nothing is lost when the future is dropped before it ends.
    fn accept(&self) -> impl Future<Output = io::Result<(Self::Stream, PeerAddr)>> + Send;
}

impl Listen for TcpListener {
    type Stream = TcpStream;

    async fn accept(&self) -> io::Result<(TcpStream, PeerAddr)> {
        let (stream, address) = Self::accept(self).await?;
        // Answers are written whole, so Nagle's algorithm could only delay their ends. A caller that has gone
        // already makes this fail, which reading will find out.
        let _ = stream.set_nodelay(true);
        let address = SocketAddr::new(address.ip().to_canonical(), address.port());
        Ok((stream, PeerAddr::Tcp(address)))
    }
}

impl Listen for UnixListener {
    type Stream = UnixStream;

    async fn accept(&self) -> io::Result<(UnixStream, PeerAddr)> {
        let (stream, _) = Self::accept(self).await?;
        let user = stream.peer_cred().ok().map(|caller| caller.uid());
        Ok((stream, PeerAddr::Unix { user }))
    }
}

/// Takes connections until the drain closes, and hands each to `carry` with the place that it takes up.
pub(crate) async fn run<L: Listen>(listener: L, front: &Front, carry: impl Fn(L::Stream, PeerAddr, Place)) {
    let mut complaint = Throttle::default();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = front.drain.closing() => return,
        };
        match accepted {
            Ok((stream, address)) => match front.places.take(address.ip()) {
                Ok(place) => {
                    front.counters.accepted.inc();
                    carry(stream, address, place);
                }
                Err(limit) => {
                    front.counters.refuse(limit);
                    if let Some(missed) = complaint.due() {
                        tracing::warn!(server = front.name, %address, limit, missed, "connection refused");
                    }
                }
            },
            Err(error) if concerns_one_connection(&error) => {}
            Err(error) => {
                // EMFILE, ENFILE, ENOBUFS, ENOMEM: the connection stays in the kernel's queue, so that trying
                // again at once would spin.
                front.counters.refuse("accept");
                if let Some(missed) = complaint.due() {
                    tracing::error!(server = front.name, %error, missed, "cannot accept connections");
                }
                tokio::select! {
                    () = tokio::time::sleep(PAUSE) => {}
                    () = front.drain.closing() => return,
                }
            }
        }
    }
}

/// Whether only the connection is lost that was about to be accepted, as accept(2) tells of errors that were
/// already pending on it.
fn concerns_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind as Kind;
    matches!(
        error.kind(),
        Kind::ConnectionAborted
            | Kind::ConnectionReset
            | Kind::ConnectionRefused
            | Kind::Interrupted
            | Kind::HostUnreachable
            | Kind::NetworkUnreachable
            | Kind::NetworkDown
            | Kind::TimedOut
            | Kind::BrokenPipe
    )
}

/// Lets one complaint through in [`COMPLAIN`].
#[derive(Debug, Default)]
struct Throttle {
    last: Option<Instant>,
    missed: u64,
}

impl Throttle {
    /// How many were held back since the last one, when it is time for the next.
    fn due(&mut self) -> Option<u64> {
        let now = Instant::now();
        if self.last.is_some_and(|last| now - last < COMPLAIN) {
            self.missed += 1;
            return None;
        }
        self.last = Some(now);
        Some(std::mem::take(&mut self.missed))
    }
}

/// How long to leave the listener alone after an error of the system: 20 tries a second cost nothing, and the
/// first free descriptor is found within this time.
const PAUSE: Duration = Duration::from_millis(50);

/// At most one line in the log in this time.
const COMPLAIN: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn complaints_come_once_a_second() {
        let mut throttle = Throttle::default();
        assert_eq!(throttle.due(), Some(0));
        assert_eq!(throttle.due(), None);
        assert_eq!(throttle.due(), None);
        tokio::time::advance(COMPLAIN).await;
        assert_eq!(throttle.due(), Some(2));
    }
}
