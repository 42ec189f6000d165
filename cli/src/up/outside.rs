//! Dials for the mesh what lies beyond it, and asks the machine's resolver for names.

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use ferrule_daemon::dial::dial;
use ferrule_daemon::drain::Drain;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UdpSocket, UnixListener, UnixStream};
use tokio::time::timeout;

use super::relay::{ANSWERED, HEAD, NAMES, REFUSED, look_after, splice};

/// Serves the socket at `path`, which only this user can reach, until `drain` closes.
///
/// # Errors
/// When the socket cannot be made.
pub(super) fn serve(path: &Path, drain: &Drain) -> io::Result<()> {
    let listener = UnixListener::bind(path)?;
    let connections = drain.clone();
    drain.spawn(async move {
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = connections.closing() => return,
            };
            match accepted {
                Ok((stream, _)) => {
                    let cut = connections.clone();
                    connections.spawn(async move {
                        tokio::select! {
                            // What fails here ends the connection, which the other side sees.
                            _ = carry(stream) => {}
                            () = cut.cut() => {}
                        }
                    });
                }
                // Out of descriptors, as a rule: others must end first.
                Err(_) => tokio::time::sleep(PAUSE).await,
            }
        }
    });
    Ok(())
}

async fn carry(mut inner: UnixStream) -> io::Result<()> {
    let mut head = [0; HEAD];
    timeout(LIMIT, inner.read_exact(&mut head)).await??;
    let head = std::str::from_utf8(&head).map_err(io::Error::other)?.trim_end();
    if head == NAMES {
        let mut question = Vec::new();
        timeout(LIMIT, (&mut inner).take(LONGEST).read_to_end(&mut question)).await??;
        let answer = timeout(LIMIT, ask(&question)).await??;
        return inner.write_all(&answer).await;
    }
    let target: SocketAddr = head.parse().map_err(io::Error::other)?;
    let Ok(outer) = dial(target, LIMIT).await else {
        return inner.write_u8(REFUSED).await;
    };
    look_after(&outer)?;
    inner.write_u8(ANSWERED).await?;
    splice(inner, outer).await;
    Ok(())
}

/// What the machine's first resolver says.
async fn ask(question: &[u8]) -> io::Result<Vec<u8>> {
    let server = resolver(&fs::read_to_string("/etc/resolv.conf").unwrap_or_default());
    let any: SocketAddr = if server.is_ipv4() {
        ([0, 0, 0, 0], 0).into()
    } else {
        ([0_u16; 8], 0).into()
    };
    let socket = UdpSocket::bind(any).await?;
    // Connected, so that only that server's answers are taken.
    socket.connect((server, DNS)).await?;
    socket.send(question).await?;
    let mut answer = vec![0; usize::try_from(LONGEST).unwrap_or(usize::MAX)];
    let length = socket.recv(&mut answer).await?;
    answer.truncate(length);
    Ok(answer)
}

/// The first server that resolv.conf(5) names; without one the machine asks itself.
fn resolver(text: &str) -> IpAddr {
    let named = text.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        (words.next() == Some("nameserver")).then(|| words.next()?.parse().ok())?
    });
    named.into_iter().next().unwrap_or(Ipv4Addr::LOCALHOST.into())
}

const DNS: u16 = 53;

/// The longest question and answer without a connection of their own.
const LONGEST: u64 = 4096;

const LIMIT: Duration = Duration::from_secs(5);

const PAUSE: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_resolver_is_asked() {
        let text = "# comment\nsearch local\nnameserver fe80::1%eth0\nnameserver 192.0.2.53\nnameserver 192.0.2.54\n";
        assert_eq!(resolver(text), IpAddr::from([192, 0, 2, 53]));
        assert_eq!(resolver(""), IpAddr::from([127, 0, 0, 1]));
    }

    #[tokio::test]
    async fn who_answers_is_carried_and_who_does_not_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out.sock");
        let drain = Drain::new();
        serve(&path, &drain).unwrap();
        let server = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let target = server.local_addr().unwrap();
        let mut inner = UnixStream::connect(&path).await.unwrap();
        inner
            .write_all(format!("{:<HEAD$}", target.to_string()).as_bytes())
            .await
            .unwrap();
        assert_eq!(inner.read_u8().await.unwrap(), ANSWERED);
        let (mut outer, _) = server.accept().await.unwrap();
        outer.write_all(b"x").await.unwrap();
        assert_eq!(inner.read_u8().await.unwrap(), b'x');
        drop((server, outer));
        let mut inner = UnixStream::connect(&path).await.unwrap();
        inner
            .write_all(format!("{:<HEAD$}", target.to_string()).as_bytes())
            .await
            .unwrap();
        assert_eq!(inner.read_u8().await.unwrap(), REFUSED);
        drain.cut_now();
    }
}
