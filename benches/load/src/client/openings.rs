//! Opens a new connection for each request.

use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use ferrule_daemon::dial::dial;
use tokio::net::TcpStream;

use crate::client::requests::{Answered, close, exchange, message};
use crate::delays::Delays;
use crate::lanes::Lanes;
use crate::words::Wish;
use crate::{LoadError, Meter, PATIENCE};

/// How many connections are opened, and for how long.
#[derive(Debug, Clone, Copy)]
pub struct Opening {
    /// How many at once.
    pub parallel: usize,
    /// The size of the one request on each, and of its answer, in bytes: 1 to 1,048,576.
    pub size: u32,
    /// How long it goes on before it counts.
    pub warm_up: Duration,
    /// How long it counts.
    pub time: Duration,
}

/// Puts the load on the path that begins at `target`: connect, ask, be answered, close from both sides. To be run by
/// [`crate::runtime::run`]. The delays are those of the whole of it.
///
/// # Errors
/// When the path does not answer.
pub async fn run(opening: Opening, target: SocketAddr, meter: Meter<'_>) -> Result<Answered, LoadError> {
    let mut lanes = Lanes::new("opening connections");
    let delays = Rc::new(RefCell::new(Delays::default()));
    for _ in 0..opening.parallel {
        let (stop, delays) = (lanes.stop(), Rc::clone(&delays));
        lanes.add(async move {
            let mut bytes = message(opening.size);
            while !stop.get() {
                let begun = Instant::now();
                let tcp = dial(target, PATIENCE).await?;
                let asked = once(tcp, opening.size, &mut bytes).await;
                asked.map_err(LoadError::broken("opening connections"))?;
                delays.borrow_mut().record(begun.elapsed());
            }
            Ok(())
        });
    }
    let begin = || delays.borrow_mut().clear();
    let window = lanes.window(opening.warm_up, opening.time, meter, begin).await?;
    let delays = delays.borrow().clone();
    lanes.end().await?;
    LoadError::unless_nothing(delays.count(), "opening connections")?;
    Ok(Answered {
        count: delays.count(),
        took: window.took,
        cpu: window.cpu,
        delays,
    })
}

async fn once(mut tcp: TcpStream, size: u32, bytes: &mut [u8]) -> io::Result<()> {
    Wish::Echo { size }.say(&mut tcp).await?;
    exchange(&mut tcp, bytes).await?;
    close(tcp).await
}
