//! Waits for the first bytes of the workload, for as long as it takes them to name a host.

use std::io;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

use crate::buffer::Buffer;
use crate::sniff::name::{MOST_BYTES, Nameless, Told, name_in};
use ferrule_policy::HostName;

/// What a workload said first.
#[derive(Debug)]
pub struct First {
    /// The host that it named.
    pub named: Result<HostName, Unnamed>,
    /// Every byte that was read; they are not in the socket any more.
    pub bytes: Box<[u8]>,
}

/// Why no host was named.
#[derive(Debug, thiserror::Error)]
pub enum Unnamed {
    /// The bytes tell none.
    #[error("the client names no host: {why}")]
    Nameless {
        /// Why.
        why: Nameless,
    },
    /// Too little came in time.
    #[error("the client named no host within {limit:?}")]
    Silent {
        /// The time.
        limit: Duration,
    },
    /// The client finished before it named one.
    #[error("the client finished without naming a host")]
    Finished,
    /// The client's socket broke.
    #[error("the client left without naming a host")]
    Broken {
        /// What the system says.
        source: io::Error,
    },
}

/// Reads from `client` until it has named a host, at most for `limit`.
pub async fn first_words(client: &TcpStream, limit: Duration) -> First {
    let mut seen = Buffer::new();
    let named = words(client, &mut seen, limit).await;
    First {
        named,
        bytes: seen.filled().into(),
    }
}

async fn words(client: &TcpStream, seen: &mut Buffer, limit: Duration) -> Result<HostName, Unnamed> {
    let end = Instant::now() + limit;
    let broken = |source| Unnamed::Broken { source };
    loop {
        match timeout_at(end, client.readable()).await {
            Err(_) => return Err(Unnamed::Silent { limit }),
            Ok(ready) => ready.map_err(broken)?,
        }
        let room = MOST_BYTES.saturating_sub(seen.filled().len());
        // Little at first: most hellos and requests are short.
        let room = room.min(seen.filled().len().max(LEAST_READ));
        match client.try_read(seen.room(room).get_mut(..room).unwrap_or_default()) {
            Ok(0) => return Err(Unnamed::Finished),
            Ok(read) => seen.advance(read),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
            Err(source) => return Err(broken(source)),
        }
        match name_in(seen.filled()) {
            Told::Unclear => {}
            Told::Host(host) => return Ok(host),
            Told::Nameless(why) => return Err(Unnamed::Nameless { why }),
        }
    }
}

const LEAST_READ: usize = 4096;
