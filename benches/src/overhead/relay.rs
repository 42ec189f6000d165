//! A proxy that only carries bytes: what any second and third program on the path costs, whatever it is for.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context as _;
use ferrule_daemon::dial::dial;
use ferrule_load::runtime;
use ferrule_proxy::buffer::{BUFFER_BYTES, Buffer};
use ferrule_proxy::net::address::ListenAddr;
use ferrule_proxy::net::listener::listen;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::task::JoinSet;

/// From where to where.
#[derive(Debug, clap::Args)]
pub(crate) struct Relay {
    /// Where to listen
    #[arg(long)]
    pub(crate) listen: SocketAddr,
    /// Where it leads
    #[arg(long)]
    pub(crate) to: SocketAddr,
}

/// Carries connections until it is killed: one thread, and Ferrule's own buffers, listeners and dialling.
pub(crate) fn run(relay: &Relay) -> anyhow::Result<()> {
    let to = relay.to;
    runtime::run(async {
        let listener = listen(ListenAddr::new(relay.listen), BACKLOG, false)?;
        let mut open: JoinSet<io::Result<()>> = JoinSet::new();
        loop {
            let (near, _) = listener.accept().await.context("cannot accept")?;
            while open.try_join_next().is_some() {}
            // One that breaks is noticed at its two ends.
            open.spawn_local(async move {
                near.set_nodelay(true)?;
                let far = dial(to, PATIENCE).await.map_err(io::Error::other)?;
                carry(near, far).await
            });
        }
    })?
}

async fn carry(mut near: TcpStream, mut far: TcpStream) -> io::Result<()> {
    let (near_read, near_write) = near.split();
    let (far_read, far_write) = far.split();
    tokio::try_join!(flow(near_read, far_write), flow(far_read, near_write)).map(drop)
}

async fn flow(from: ReadHalf<'_>, mut to: WriteHalf<'_>) -> io::Result<()> {
    loop {
        from.readable().await?;
        let mut buffer = Buffer::lent();
        match from.try_read(buffer.room(BUFFER_BYTES)) {
            Ok(0) => return to.shutdown().await,
            Ok(read) => buffer.advance(read),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
            Err(error) => return Err(error),
        }
        to.write_all(buffer.filled()).await?;
    }
}

const BACKLOG: i32 = 4096;
const PATIENCE: Duration = Duration::from_secs(5);
