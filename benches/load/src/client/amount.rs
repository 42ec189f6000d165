//! Sends an amount over many connections at once, from its first byte until its last has arrived.
//!
//! The kernels' buffers of a thousand connections hold gigabytes, far more than a path carries in a second. A look at
//! such a path between two marks sees one program fill the buffers that another has not begun to empty, so what it
//! finds is mostly how full they were. Between rest and rest every program on the way has carried every byte, once.

use std::cell::Cell;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Instant;

use ferrule_daemon::dial::dial;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::Barrier;

use super::bulk::Carried;
use crate::lanes::Lanes;
use crate::server::CHUNK_BYTES;
use crate::words::{START_BYTES, Wish};
use crate::{LoadError, Meter, PATIENCE};

/// How much is sent to the far end.
#[derive(Debug, Clone, Copy)]
pub struct Amount {
    /// How many connections, all at once.
    pub connections: usize,
    /// What each of them sends, in bytes: at least 1.
    pub each: u32,
}

/// Puts the load on the path that begins at `target`. `open` is called when every connection is open along the whole way
/// and nothing was sent. Each then carries half a megabyte that does not count, because the windows of a new connection
/// are small. `meter` is read when that has arrived, and when everything has; every connection is still open then. To be
/// run by [`crate::runtime::run`].
///
/// # Errors
/// When the path does not carry it.
pub async fn run(
    amount: Amount,
    target: SocketAddr,
    open: impl FnOnce(),
    meter: Meter<'_>,
) -> Result<Carried, LoadError> {
    let read = || meter().map_err(|source| LoadError::Meter { source });
    let mut lanes = Lanes::new(DOING);
    let moved = Rc::new(Cell::new(0_u64));
    // All lanes come to it six times: open, and told to start; started, and told to begin; arrived, and told to end.
    let mark = Rc::new(Barrier::new(amount.connections + 1));
    for _ in 0..amount.connections {
        let tcp = dial(target, PATIENCE).await?;
        let (moved, mark) = (Rc::clone(&moved), Rc::clone(&mark));
        lanes.add(async move {
            let sent = carry(tcp, amount.each, &moved, &mark).await;
            sent.map_err(LoadError::broken(DOING))
        });
    }
    // Nobody sends before all are open: while some do, each step of opening waits its turn behind them, and a thousand
    // take longer than all that they send.
    lanes.until(&mark).await?;
    open();
    lanes.until(&mark).await?;
    lanes.until_or_still(&mark, || moved.get()).await?;
    let before = read()?;
    let begun = Instant::now();
    lanes.until(&mark).await?;
    lanes.until_or_still(&mark, || moved.get()).await?;
    let took = begun.elapsed();
    let cpu = read()?.saturating_sub(before);
    lanes.until(&mark).await?;
    lanes.end().await?;
    let connections = u64::try_from(amount.connections).unwrap_or(u64::MAX);
    Ok(Carried {
        bytes: connections.saturating_mul(u64::from(amount.each)),
        took,
        cpu,
    })
}

async fn carry(mut tcp: TcpStream, each: u32, moved: &Cell<u64>, mark: &Barrier) -> io::Result<()> {
    Wish::Amount { size: each }.say(&mut tcp).await?;
    // The far end is there.
    expect(&mut tcp, 0).await?;
    let bytes = vec![b'x'; CHUNK_BYTES];
    mark.wait().await;
    mark.wait().await;
    for size in [START_BYTES, each] {
        let mut left = usize::try_from(size).unwrap_or(usize::MAX);
        while let Some(chunk) = bytes
            .get(..left.min(CHUNK_BYTES))
            .filter(|chunk| !chunk.is_empty())
        {
            tcp.write_all(chunk).await?;
            left -= chunk.len();
            moved.set(moved.get() + u64::try_from(chunk.len()).unwrap_or(0));
            // In turn with the others, so that all of them are under way at once.
            tokio::task::yield_now().await;
        }
        expect(&mut tcp, u64::from(size)).await?;
        moved.set(moved.get() + 1);
        mark.wait().await;
        mark.wait().await;
    }
    tcp.shutdown().await?;
    match tcp.read(&mut [0]).await? {
        0 => Ok(()),
        // Nobody asked for it.
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}

/// Waits until the far end says that so many bytes have come.
async fn expect(tcp: &mut TcpStream, count: u64) -> io::Result<()> {
    match tcp.read_u64().await? {
        said if said == count => Ok(()),
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}

const DOING: &str = "sending an amount";
