//! Accepts connections, through shortages of descriptors and memory.

use std::io;
use std::time::{Duration, Instant};

use ferrule_daemon::drain::Drain;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tracing::warn;

use super::address::ClientAddr;

/// Hands each connection of `listener` to `take`, until `drain` closes; then hands over those that wait in the
/// queue, which their clients believe to be accepted, and closes the listener.
///
/// A failed accept never ends it: where the system is short of something it pauses for [`PAUSE`], and says so at
/// most once a second.
pub async fn accept_each(listener: TcpListener, drain: &Drain, mut take: impl FnMut(TcpStream, ClientAddr)) {
    let mut complaint = Complaint::default();
    loop {
        let accepted = tokio::select! {
            biased;
            accepted = listener.accept() => accepted,
            () = drain.closing() => break,
        };
        match accepted {
            Ok((stream, address)) => take(stream, ClientAddr::new(address)),
            Err(error) if is_shortage(&error) => {
                complaint.make(&error);
                tokio::select! {
                    () = tokio::time::sleep(PAUSE) => {}
                    () = drain.closing() => break,
                }
            }
            // The client has left the queue already; the next one may be fine.
            Err(_) => {}
        }
    }
    // A listener tells of its queue only after the runtime has looked, so an empty answer needs a moment.
    let end = Instant::now() + LAST_CALL;
    while Instant::now() < end {
        match timeout(MOMENT, listener.accept()).await {
            Ok(Ok((stream, address))) => take(stream, ClientAddr::new(address)),
            Ok(Err(error)) if is_shortage(&error) => return,
            Ok(Err(_)) => {}
            Err(_) => return,
        }
    }
}

/// Whether an error is about this machine and stays for a while, rather than about one client (accept(2)).
fn is_shortage(error: &io::Error) -> bool {
    !matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted
    )
}

/// Says the same thing at most once a second, with how often it was not said.
#[derive(Default)]
struct Complaint {
    last: Option<Instant>,
    unsaid: u64,
}

impl Complaint {
    fn make(&mut self, error: &io::Error) {
        if self
            .last
            .is_some_and(|last| last.elapsed() < Duration::from_secs(1))
        {
            self.unsaid += 1;
            return;
        }
        warn!(%error, unsaid = self.unsaid, "cannot accept a connection, pausing");
        self.last = Some(Instant::now());
        self.unsaid = 0;
    }
}

/// How long accepting pauses after a shortage.
pub const PAUSE: Duration = Duration::from_millis(20);

/// How long a closing listener goes on with those that still arrive.
const LAST_CALL: Duration = Duration::from_millis(100);

/// How long the runtime has to look at the queue.
const MOMENT: Duration = Duration::from_millis(2);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_that_left_is_no_shortage() {
        assert!(!is_shortage(&io::ErrorKind::ConnectionAborted.into()));
        // EMFILE
        assert!(is_shortage(&io::Error::from_raw_os_error(24)));
    }

    #[tokio::test]
    async fn a_connection_in_the_queue_is_not_lost_when_the_listener_closes() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let drain = Drain::new();
        drain.close();
        let mut taken = Vec::new();
        accept_each(listener, &drain, |_, address| taken.push(address)).await;
        assert_eq!(taken, [ClientAddr::new(client.local_addr().unwrap())]);
    }
}
