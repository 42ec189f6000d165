//! Sends as much as a path carries in a stretch of time, in one direction, over few connections.

use std::cell::Cell;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use ferrule_daemon::dial::dial;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

use crate::lanes::Lanes;
use crate::server::CHUNK_BYTES;
use crate::words::Wish;
use crate::{LoadError, Meter, PATIENCE};

/// Which way the bytes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From the near end to the far one.
    Up,
    /// From the far end to the near one.
    Down,
}

/// How much is sent, and for how long.
#[derive(Debug, Clone, Copy)]
pub struct Bulk {
    /// Which way.
    pub direction: Direction,
    /// How many connections, all at once; for many there is [`crate::amount`], because what waits in the kernels' buffers
    /// of many outweighs what comes through in the time that counts.
    pub connections: usize,
    /// How long it goes on before it counts.
    pub warm_up: Duration,
    /// How long it counts.
    pub time: Duration,
}

/// What a path carried.
#[derive(Debug, Clone, Copy)]
pub struct Carried {
    /// Bytes that came out at its end.
    pub bytes: u64,
    /// In this time.
    pub took: Duration,
    /// CPU time that the programs between the ends used, as the meter says.
    pub cpu: Duration,
}

impl Carried {
    /// Gbit/s of what the application sent.
    pub fn gigabits(&self) -> f64 {
        self.gigabytes() * 8.0 / self.took.as_secs_f64()
    }

    /// CPU seconds for each GB (10⁹ bytes).
    pub fn cpu_per_gigabyte(&self) -> f64 {
        self.cpu.as_secs_f64() / self.gigabytes()
    }

    fn gigabytes(&self) -> f64 {
        self.bytes as f64 / 1e9
    }
}

/// Puts the load on the path that begins at `target`. To be run by [`crate::runtime::run`].
///
/// # Errors
/// When the path does not carry it.
pub async fn run(bulk: Bulk, target: SocketAddr, meter: Meter<'_>) -> Result<Carried, LoadError> {
    let mut lanes = Lanes::new("sending in bulk");
    let count = Rc::new(Cell::new(0));
    for _ in 0..bulk.connections {
        let mut tcp = dial(target, PATIENCE).await?;
        let (stop, count) = (lanes.stop(), Rc::clone(&count));
        match bulk.direction {
            Direction::Up => {
                broken(Wish::Upload.say(&mut tcp).await)?;
                let (from, to) = tcp.into_split();
                // Two tasks: in one, the half that always may go on would keep the other from its turn.
                lanes.add(async move { broken(send(to, &stop).await) });
                lanes.add(async move { broken(hear(from, &count).await) });
            }
            Direction::Down => {
                broken(Wish::Download.say(&mut tcp).await)?;
                lanes.add(async move { broken(down(tcp, &stop, &count).await) });
            }
        }
    }
    let window = lanes
        .window(bulk.warm_up, bulk.time, meter, || count.set(0))
        .await?;
    let bytes = count.get();
    lanes.end().await?;
    LoadError::unless_nothing(bytes, "sending in bulk")?;
    Ok(Carried {
        bytes,
        took: window.took,
        cpu: window.cpu,
    })
}

fn broken(ended: io::Result<()>) -> Result<(), LoadError> {
    ended.map_err(LoadError::broken("sending in bulk"))
}

async fn send(mut to: OwnedWriteHalf, stop: &Cell<bool>) -> io::Result<()> {
    let bytes = vec![b'x'; CHUNK_BYTES];
    while !stop.get() {
        to.write_all(&bytes).await?;
    }
    to.shutdown().await
}

/// What is sent has not arrived: the far end says how much has.
async fn hear(mut from: OwnedReadHalf, count: &Cell<u64>) -> io::Result<()> {
    let mut known = 0;
    let mut word = [0; 8];
    while !is_over(from.read_exact(&mut word).await)? {
        let total = u64::from_be_bytes(word);
        // Less than before is no count, and nobody's who means well.
        let more = total.checked_sub(known).ok_or(io::ErrorKind::InvalidData)?;
        count.set(count.get() + more);
        known = total;
    }
    Ok(())
}

fn is_over(read: io::Result<usize>) -> io::Result<bool> {
    match read {
        Ok(_) => Ok(false),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(true),
        Err(error) => Err(error),
    }
}

async fn down(mut tcp: TcpStream, stop: &Cell<bool>, count: &Cell<u64>) -> io::Result<()> {
    let mut bytes = vec![0; CHUNK_BYTES];
    while !stop.get() {
        let read = tcp.read(&mut bytes).await?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        count.set(count.get() + u64::try_from(read).unwrap_or(0));
    }
    tcp.shutdown().await?;
    while tcp.read(&mut bytes).await? > 0 {}
    Ok(())
}
