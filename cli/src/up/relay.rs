//! Carries the connections of published ports from the machine's loopback into the mesh.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use ferrule_daemon::drain::Drain;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream, UnixStream};

/// Bytes that the address of a destination takes at the head of a connection: the address, then blanks.
pub(super) const HEAD: usize = 64;

/// In place of a destination: what follows is a question for a name.
pub(super) const NAMES: &str = "names";

/// The answer of who dials for the mesh: somebody is there.
pub(super) const ANSWERED: u8 = 1;

/// The other answer: nobody is there.
pub(super) const REFUSED: u8 = 0;

/// Carries both directions until both have finished or one has failed.
pub(super) async fn splice<A, B>(mut one: A, mut other: B)
where
    A: AsyncRead + AsyncWrite + Unpin,
    B: AsyncRead + AsyncWrite + Unpin,
{
    // Whoever is at either end sees its own connection end; there is nobody else to tell.
    let _ = copy_bidirectional(&mut one, &mut other).await;
}

/// Lets a connection end when the other machine is not heard of any more: a relay has nothing to say by itself, so that
/// it would never find out.
///
/// # Errors
/// When the connection has ended already.
pub(super) fn look_after(stream: &TcpStream) -> io::Result<()> {
    let socket = SockRef::from(stream);
    let questions = TcpKeepalive::new()
        .with_time(SILENCE)
        .with_interval(AGAIN)
        .with_retries(QUESTIONS);
    socket.set_tcp_keepalive(&questions)?;
    socket.set_tcp_user_timeout(Some(UNHEARD))
}

/// Listens at `at`.
///
/// # Errors
/// When the port is taken, or the address is not this machine's.
pub(super) fn listen(at: SocketAddr) -> io::Result<TcpListener> {
    let listener = std::net::TcpListener::bind(at)?;
    listener.set_nonblocking(true)?;
    TcpListener::from_std(listener)
}

/// Carries everything that comes to `listener` to `target`, by way of the socket at `mesh`, until `drain` closes.
pub(super) fn serve(listener: TcpListener, mesh: PathBuf, target: SocketAddr, drain: &Drain) {
    let connections = drain.clone();
    drain.spawn(async move {
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = connections.closing() => return,
            };
            match accepted {
                Ok((stream, _)) => {
                    let (cut, mesh) = (connections.clone(), mesh.clone());
                    connections.spawn(async move {
                        tokio::select! {
                            () = carry(stream, mesh, target) => {}
                            () = cut.cut() => {}
                        }
                    });
                }
                // Out of descriptors, as a rule: others must end first.
                Err(_) => tokio::time::sleep(PAUSE).await,
            }
        }
    });
}

async fn carry(stream: TcpStream, mesh: PathBuf, target: SocketAddr) {
    let Ok(mut inner) = UnixStream::connect(mesh).await else {
        return;
    };
    let head = format!("{:<HEAD$}", target.to_string());
    if stream.set_nodelay(true).is_ok()
        && look_after(&stream).is_ok()
        && inner.write_all(head.as_bytes()).await.is_ok()
    {
        splice(stream, inner).await;
    }
}

const PAUSE: Duration = Duration::from_millis(100);

/// After so much silence the other machine is asked whether it is there.
const SILENCE: Duration = Duration::from_secs(10);

const AGAIN: Duration = Duration::from_secs(5);

const QUESTIONS: u32 = 3;

/// How long what was sent may stay unanswered.
const UNHEARD: Duration = Duration::from_secs(25);
