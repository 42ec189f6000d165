//! Answers at the far end of a path.

use std::io;
use std::net::SocketAddr;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use crate::words::{START_BYTES, Wish};
use crate::{LoadError, runtime};

/// A far end on a thread of its own. Dropping it stops it.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<Result<(), LoadError>>>,
}

impl Server {
    /// Serves who comes to `listener`, wherever that was opened.
    ///
    /// # Errors
    /// When the listener or a thread cannot be used.
    pub fn start(listener: std::net::TcpListener) -> Result<Self, LoadError> {
        let failed = |source| LoadError::Runtime { source };
        listener.set_nonblocking(true).map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::Builder::new()
            .name("far-end".to_owned())
            .spawn(move || {
                runtime::run(async {
                    let listener = TcpListener::from_std(listener).map_err(failed)?;
                    tokio::select! {
                        served = serve(listener) => served.map_err(failed),
                        _ = stopped => Ok(()),
                    }
                })?
            })
            .map_err(failed)?;
        Ok(Self {
            address,
            stop: Some(stop),
            thread: Some(thread),
        })
    }

    /// Where it is.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // How it ended changes nothing any more.
            let _ = thread.join();
        }
    }
}

/// Serves who comes to `listener`, each as it wishes, until the system refuses to. To be run by [`runtime::run`].
///
/// # Errors
/// What the system says.
pub async fn serve(listener: TcpListener) -> io::Result<()> {
    let mut open = JoinSet::new();
    loop {
        let (tcp, _) = listener.accept().await?;
        tcp.set_nodelay(true)?;
        // A connection that breaks is the near end's to notice, and to report.
        while open.try_join_next().is_some() {}
        if open.len() < MOST_CONNECTIONS {
            open.spawn_local(answer(tcp));
        }
    }
}

async fn answer(mut tcp: TcpStream) -> io::Result<()> {
    match Wish::hear(&mut tcp).await? {
        Wish::Upload => take(tcp).await,
        Wish::Amount { size } => collect(tcp, size).await,
        Wish::Download => give(tcp).await,
        Wish::Echo { size } => echo(tcp, usize::try_from(size).unwrap_or(usize::MAX)).await,
    }
}

async fn take(mut tcp: TcpStream) -> io::Result<()> {
    let mut bytes = vec![0; CHUNK_BYTES];
    let mut total = 0_u64;
    let mut told = Instant::now();
    loop {
        let read = tcp.read(&mut bytes).await?;
        total += u64::try_from(read).unwrap_or(0);
        if read == 0 || told.elapsed() >= TELL_EVERY {
            tcp.write_all(&total.to_be_bytes()).await?;
            told = Instant::now();
        }
        if read == 0 {
            return tcp.shutdown().await;
        }
    }
}

async fn collect(mut tcp: TcpStream, size: u32) -> io::Result<()> {
    let mut bytes = vec![0; CHUNK_BYTES];
    for size in [0, START_BYTES, size] {
        let mut left = usize::try_from(size).unwrap_or(usize::MAX);
        while let Some(room) = bytes
            .get_mut(..left.min(CHUNK_BYTES))
            .filter(|room| !room.is_empty())
        {
            match tcp.read(room).await? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                read => left -= read,
            }
        }
        tcp.write_u64(u64::from(size)).await?;
    }
    match tcp.read(&mut bytes).await? {
        0 => tcp.shutdown().await,
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}

async fn give(mut tcp: TcpStream) -> io::Result<()> {
    let bytes = vec![b'x'; CHUNK_BYTES];
    let (mut from, mut to) = tcp.split();
    let sending = async {
        loop {
            to.write_all(&bytes).await?;
        }
    };
    let mut end = [0];
    let done: io::Result<()> = tokio::select! {
        sent = sending => sent,
        end = from.read(&mut end) => end.map(drop),
    };
    done?;
    tcp.shutdown().await
}

async fn echo(mut tcp: TcpStream, size: usize) -> io::Result<()> {
    let mut bytes = vec![0; size];
    let mut filled = 0;
    loop {
        let read = match bytes.get_mut(filled..) {
            Some(room) => tcp.read(room).await?,
            None => 0,
        };
        if read == 0 {
            return tcp.shutdown().await;
        }
        filled += read;
        if filled == size {
            tcp.write_all(&bytes).await?;
            filled = 0;
        }
    }
}

/// How much is read or written at once.
pub(crate) const CHUNK_BYTES: usize = 256 * 1024;

/// How often the near end hears what has come.
const TELL_EVERY: Duration = Duration::from_millis(10);

/// More than any load opens.
const MOST_CONNECTIONS: usize = 100_000;
