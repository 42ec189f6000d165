//! Asks and is answered over kept connections, as fast as that goes or at a fixed rate.

use std::cell::{Cell, RefCell};
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use ferrule_daemon::dial::dial;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::{Barrier, Mutex, mpsc};

use crate::delays::Delays;
use crate::lanes::Lanes;
use crate::words::Wish;
use crate::{LoadError, Meter, PATIENCE};

/// What is asked, and for how long.
#[derive(Debug, Clone, Copy)]
pub struct Asking {
    /// How many connections; each has one request in flight.
    pub connections: usize,
    /// The size of a request, and of an answer, in bytes: 1 to 1,048,576.
    pub size: u32,
    /// How many a second in all; left out: the next one when an answer is there.
    pub rate: Option<f64>,
    /// How long it goes on before it counts.
    pub warm_up: Duration,
    /// How long it counts.
    pub time: Duration,
}

/// What was answered.
#[derive(Debug, Clone)]
pub struct Answered {
    /// How many answers came.
    pub count: u64,
    /// In this time.
    pub took: Duration,
    /// CPU time that the programs between the ends used, as the meter says.
    pub cpu: Duration,
    /// How long each took; at a fixed rate from when it was due, so that a path that stalls is charged for all that
    /// had to wait.
    pub delays: Delays,
}

impl Answered {
    /// Answers a second.
    pub fn rate(&self) -> f64 {
        self.count as f64 / self.took.as_secs_f64()
    }

    /// Microseconds of CPU for each.
    pub fn cpu_each(&self) -> f64 {
        self.cpu.as_secs_f64() * 1e6 / self.count as f64
    }
}

/// Puts the load on the path that begins at `target`. To be run by [`crate::runtime::run`].
///
/// # Errors
/// When the path does not answer.
pub async fn run(asking: Asking, target: SocketAddr, meter: Meter<'_>) -> Result<Answered, LoadError> {
    let mut lanes = Lanes::new("waiting for an answer");
    let delays = Rc::new(RefCell::new(Delays::default()));
    let mut pacer = asking.rate.map(Pacer::new).transpose()?;
    let due = pacer.as_mut().and_then(|pacer| pacer.due.take());
    let due = due.map(|due| Rc::new(Mutex::new(due)));
    // What it costs to open so many connections is no part of what is asked over them.
    let ready = Rc::new(Barrier::new(asking.connections + 1));
    for _ in 0..asking.connections {
        let tcp = dial(target, PATIENCE).await?;
        let (stop, delays, due) = (lanes.stop(), Rc::clone(&delays), due.clone());
        let ready = Rc::clone(&ready);
        lanes.add(async move {
            let asked = async {
                let (tcp, bytes) = opened(tcp, asking.size).await?;
                ready.wait().await;
                match due {
                    None => ask(tcp, bytes, &stop, &delays).await,
                    Some(due) => ask_when_due(tcp, bytes, &due, &stop, &delays).await,
                }
            };
            asked.await.map_err(LoadError::broken("waiting for an answer"))
        });
    }
    lanes.until(&ready).await?;
    let pacer = pacer.map(Pacer::begin).transpose()?;
    let begin = || delays.borrow_mut().clear();
    let window = lanes.window(asking.warm_up, asking.time, meter, begin).await?;
    let delays = delays.borrow().clone();
    drop(pacer);
    lanes.end().await?;
    LoadError::unless_nothing(delays.count(), "waiting for an answer")?;
    Ok(Answered {
        count: delays.count(),
        took: window.took,
        cpu: window.cpu,
        delays,
    })
}

/// Asks once, so that the whole way is open; gives what to ask on it.
async fn opened(mut tcp: TcpStream, size: u32) -> io::Result<(TcpStream, Vec<u8>)> {
    Wish::Echo { size }.say(&mut tcp).await?;
    let mut bytes = message(size);
    exchange(&mut tcp, &mut bytes).await?;
    Ok((tcp, bytes))
}

async fn ask(
    mut tcp: TcpStream,
    mut bytes: Vec<u8>,
    stop: &Cell<bool>,
    delays: &RefCell<Delays>,
) -> io::Result<()> {
    while !stop.get() {
        let begun = Instant::now();
        exchange(&mut tcp, &mut bytes).await?;
        delays.borrow_mut().record(begun.elapsed());
    }
    close(tcp).await
}

async fn ask_when_due(
    mut tcp: TcpStream,
    mut bytes: Vec<u8>,
    due: &Mutex<mpsc::Receiver<Instant>>,
    stop: &Cell<bool>,
    delays: &RefCell<Delays>,
) -> io::Result<()> {
    loop {
        let begun = due.lock().await.recv().await;
        let Some(begun) = begun.filter(|_| !stop.get()) else {
            return close(tcp).await;
        };
        exchange(&mut tcp, &mut bytes).await?;
        delays.borrow_mut().record(begun.elapsed());
    }
}

/// Bytes that nothing on the way can make smaller.
pub(crate) fn message(size: u32) -> Vec<u8> {
    let mut state = 0x2545_f491_u32;
    let byte = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state.to_le_bytes()[0]
    };
    std::iter::repeat_with(byte)
        .take(usize::try_from(size).unwrap_or(usize::MAX))
        .collect()
}

pub(crate) async fn exchange(tcp: &mut TcpStream, bytes: &mut [u8]) -> io::Result<()> {
    tcp.write_all(bytes).await?;
    tcp.read_exact(bytes).await.map(drop)
}

/// Says that nothing more comes, and waits for the far end to say so too.
pub(crate) async fn close(mut tcp: TcpStream) -> io::Result<()> {
    tcp.shutdown().await?;
    match tcp.read(&mut [0]).await? {
        0 => Ok(()),
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}

/// Says when the next request is due. On a thread of its own: the timers of the runtime tick in milliseconds, and
/// nothing that happens to answers may hold it up.
struct Pacer {
    rate: f64,
    due: Option<mpsc::Receiver<Instant>>,
    say: mpsc::Sender<Instant>,
}

/// A pacer at work; dropping it ends it.
struct Pacing {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Pacer {
    fn new(rate: f64) -> Result<Self, LoadError> {
        if !(rate.is_finite() && rate > 0.0) {
            let source = io::Error::new(io::ErrorKind::InvalidInput, "the rate is no rate");
            return Err(LoadError::Runtime { source });
        }
        let (say, due) = mpsc::channel(MOST_DUE);
        Ok(Self {
            rate,
            due: Some(due),
            say,
        })
    }

    fn begin(self) -> Result<Pacing, LoadError> {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let step = Duration::from_secs_f64(1.0 / self.rate);
        let thread = std::thread::Builder::new()
            .name("pacer".to_owned())
            .spawn(move || {
                let mut due = Instant::now();
                while !stopped.load(Ordering::Relaxed) {
                    due += step;
                    std::thread::sleep(due.saturating_duration_since(Instant::now()));
                    // A queue that is full is a path that stands still, which its delays tell.
                    if self.say.blocking_send(due).is_err() {
                        return;
                    }
                }
            })
            .map_err(|source| LoadError::Runtime { source })?;
        Ok(Pacing {
            stop,
            thread: Some(thread),
        })
    }
}

impl Drop for Pacing {
    fn drop(&mut self) {
        // Not joined: it may wait for room in the queue, and ends as soon as nobody takes from it.
        self.stop.store(true, Ordering::Relaxed);
        drop(self.thread.take());
    }
}

/// Requests that may be due at once.
const MOST_DUE: usize = 100_000;
