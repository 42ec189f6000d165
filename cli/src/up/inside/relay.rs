//! Lets the supervisor reach the ports of the mesh, by a Unix socket: the way in for published ports.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use ferrule_daemon::dial::dial;
use ferrule_daemon::drain::Drain;
use tokio::io::AsyncReadExt as _;
use tokio::net::{UnixListener, UnixStream};
use tokio::time::timeout;

use super::Mesh;
use crate::up::relay::{HEAD, splice};

/// Serves the socket until `drain` closes.
pub(super) fn serve(mesh: &Arc<Mesh>, drain: &Drain) -> io::Result<()> {
    let path = mesh.places.relay_in();
    let listener = UnixListener::bind(&path)?;
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
                            () = carry(stream) => {}
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

/// One connection: the address of its destination, 32 bytes, then what is carried.
async fn carry(mut outer: UnixStream) {
    let mut head = [0; HEAD];
    let read = timeout(LIMIT, outer.read_exact(&mut head)).await;
    if !matches!(read, Ok(Ok(_))) {
        return;
    }
    let Some(target) = target(&head) else { return };
    if let Ok(inner) = dial(target, LIMIT).await {
        splice(outer, inner).await;
    }
}

/// The address in the head of a connection.
fn target(head: &[u8; HEAD]) -> Option<SocketAddr> {
    std::str::from_utf8(head).ok()?.trim_end().parse().ok()
}

const LIMIT: Duration = Duration::from_secs(5);

const PAUSE: Duration = Duration::from_millis(100);
