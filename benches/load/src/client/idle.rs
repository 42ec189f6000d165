//! Holds connections on which nothing happens.

use std::net::SocketAddr;

use ferrule_daemon::dial::dial;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::client::requests::{exchange, message};
use crate::words::Wish;
use crate::{LoadError, PATIENCE};

/// Connections that are open from end to end. Dropping it closes them.
#[derive(Debug, Default)]
pub struct Held(Vec<TcpStream>);

impl Held {
    /// How many there are.
    pub const fn count(&self) -> usize {
        self.0.len()
    }

    /// Opens more of them through `target` until there are `count`; each has carried one small request, so that it is
    /// known to be whole. To be run by [`crate::runtime::run`].
    ///
    /// # Errors
    /// When one cannot be opened.
    pub async fn fill(&mut self, target: SocketAddr, count: usize) -> Result<(), LoadError> {
        let mut opening: JoinSet<Result<TcpStream, LoadError>> = JoinSet::new();
        let mut missing = count.saturating_sub(self.0.len());
        loop {
            while missing > 0 && opening.len() < AT_ONCE {
                opening.spawn_local(open(target));
                missing -= 1;
            }
            match opening.join_next().await {
                None => return Ok(()),
                Some(Ok(opened)) => self.0.push(opened?),
                Some(Err(panic)) => {
                    let source = std::io::Error::other(panic);
                    return Err(LoadError::Runtime { source });
                }
            }
        }
    }
}

async fn open(target: SocketAddr) -> Result<TcpStream, LoadError> {
    let doing = "opening connections to hold";
    let mut tcp = dial(target, PATIENCE).await?;
    let asked = async {
        Wish::Echo { size: SIZE }.say(&mut tcp).await?;
        exchange(&mut tcp, &mut message(SIZE)).await
    };
    match timeout(PATIENCE, asked).await {
        Ok(asked) => asked.map_err(LoadError::broken(doing))?,
        Err(_) => {
            return Err(LoadError::Stuck {
                doing,
                limit: PATIENCE,
            });
        }
    }
    Ok(tcp)
}

/// How many are opened side by side.
const AT_ONCE: usize = 16;

/// The size of the request that each one carries first.
const SIZE: u32 = 64;
