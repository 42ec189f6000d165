//! Tells in permissive mode whether a caller comes in TLS of the mesh or in clear.

use std::io;

use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

use crate::buffer::Buffer;
use crate::kit::Kit;
use crate::net::address::ClientAddr;
use crate::sniff::{Sniffer, Speech};

/// What comes, with the bytes of it that were read.
pub enum Coming {
    /// TLS of the mesh, or nothing that is let in.
    Tls(Buffer),
    /// Something in clear, or TLS of the application's own.
    Clear(Box<[u8]>),
}

/// Tells what comes from `client`. A workload of the mesh comes in TLS; of anybody else the first bytes tell, and
/// who says nothing for the time of the settings is in clear, since a server may have to speak first.
pub async fn expect(tcp: &TcpStream, client: ClientAddr, kit: &Kit) -> Coming {
    if kit.map.borrow().workload(client.ip()).is_some() {
        return Coming::Tls(Buffer::new());
    }
    let end = Instant::now() + kit.config.limits.sniff;
    let mut sniffer = Sniffer::default();
    let mut seen = Buffer::new();
    loop {
        match timeout_at(end, tcp.readable()).await {
            // Also a socket that failed: whoever reads it next will find out.
            Ok(Err(_)) => return Coming::Clear(seen.filled().into()),
            Err(_) => {
                kit.book.waited();
                return Coming::Clear(seen.filled().into());
            }
            Ok(Ok(())) => {}
        }
        let before = seen.filled().len();
        let read = match tcp.try_read(seen.room(MOST_BYTES).get_mut(..MOST_BYTES).unwrap_or_default()) {
            Ok(0) => return Coming::Clear(seen.filled().into()),
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
            Err(_) => return Coming::Clear(seen.filled().into()),
        };
        seen.advance(read);
        match sniffer.take(seen.filled().get(before..).unwrap_or_default()) {
            Speech::Mesh => return Coming::Tls(seen),
            Speech::Clear | Speech::OtherTls => return Coming::Clear(seen.filled().into()),
            Speech::Unclear if seen.filled().len() > MOST_BYTES => {
                return Coming::Clear(seen.filled().into());
            }
            Speech::Unclear => {}
        }
    }
}

/// A hello is shorter.
const MOST_BYTES: usize = 16 * 1024;
