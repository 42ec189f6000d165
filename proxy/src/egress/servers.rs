//! Asks a workload's resolvers, over UDP and where that is not enough over TCP.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use ferrule_daemon::metrics::Counter;
use ferrule_policy::HostName;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UdpSocket;
use tokio::time::{Instant, timeout_at};

use super::message::{self, Answer, DATAGRAM_BYTES, Family, MessageError};
use crate::net::address::UpstreamAddr;
use crate::net::dial::{DialError, Dialing, dial};

/// The resolvers of a workload.
#[derive(Debug, Clone)]
pub struct Servers {
    named: Vec<SocketAddr>,
    system: PathBuf,
    dialing: Dialing,
    patience: Duration,
    datagrams: Counter,
}

impl Servers {
    /// The resolvers that settings name; where they name none, those of the system's `/etc/resolv.conf`. Each is
    /// given `patience`, and asked twice. What is sent by UDP is counted in `datagrams`.
    pub fn new(named: Vec<SocketAddr>, dialing: Dialing, patience: Duration, datagrams: Counter) -> Self {
        Self {
            named,
            system: PathBuf::from(SYSTEM),
            dialing,
            patience,
            datagrams,
        }
    }

    /// Asks one after the other until one answers.
    ///
    /// # Errors
    /// When none does; the error is the last one's.
    pub async fn ask(&self, host: &HostName, family: Family) -> Result<Answer, AskError> {
        let servers = match self.named.is_empty() {
            true => read_system(&self.system).map_err(|source| AskError::System { source })?,
            false => self.named.clone(),
        };
        let mut last = AskError::Nobody;
        for _ in 0..ROUNDS {
            for server in &servers {
                match self.ask_one(*server, host, family).await {
                    Ok(answer) => return Ok(answer),
                    Err(error) => last = error,
                }
            }
        }
        Err(last)
    }

    async fn ask_one(&self, server: SocketAddr, host: &HostName, family: Family) -> Result<Answer, AskError> {
        // A number that cannot be guessed, from a port that cannot be guessed (RFC 5452 §4).
        let id = rand::random();
        let question =
            message::question(id, host, family).map_err(|source| AskError::Answer { server, source })?;
        let read = |bytes: &[u8]| message::answer(bytes, id, host, family);
        let end = Instant::now() + self.patience;
        match timeout_at(end, over_udp(server, &question, &self.datagrams, read)).await {
            Err(_) => Err(AskError::Silent {
                server,
                limit: self.patience,
            }),
            Ok(Ok(Answer::Cut)) => {
                let end = Instant::now() + self.patience;
                let over_tcp = over_tcp(server, &question, &self.dialing, read);
                timeout_at(end, over_tcp).await.unwrap_or(Err(AskError::Silent {
                    server,
                    limit: self.patience,
                }))
            }
            Ok(answered) => answered,
        }
    }
}

async fn over_udp(
    server: SocketAddr,
    question: &[u8],
    datagrams: &Counter,
    read: impl Fn(&[u8]) -> Result<Answer, MessageError>,
) -> Result<Answer, AskError> {
    let failed = |source| AskError::Socket { server, source };
    let local: SocketAddr = match server {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(local).await.map_err(failed)?;
    // Connected, so that nobody else's datagrams are taken, and a closed port is noticed.
    socket.connect(server).await.map_err(failed)?;
    socket.send(question).await.map_err(failed)?;
    datagrams.inc();
    let mut bytes = vec![0; DATAGRAM_BYTES.into()];
    loop {
        let length = socket.recv(&mut bytes).await.map_err(failed)?;
        match read(bytes.get(..length).unwrap_or_default()) {
            Ok(answer) => return Ok(answer),
            Err(source @ MessageError::Refused { .. }) => return Err(AskError::Answer { server, source }),
            // Somebody's guess: the answer may still come.
            Err(_) => {}
        }
    }
}

async fn over_tcp(
    server: SocketAddr,
    question: &[u8],
    dialing: &Dialing,
    read: impl Fn(&[u8]) -> Result<Answer, MessageError>,
) -> Result<Answer, AskError> {
    let failed = |source| AskError::Socket { server, source };
    let mut stream = dial(UpstreamAddr::new(server), dialing)
        .await
        .map_err(|source| AskError::Dial { source })?;
    let length = u16::try_from(question.len()).map_err(|_| failed(io::ErrorKind::InvalidInput.into()))?;
    let sent = [&length.to_be_bytes(), question].concat();
    stream.write_all(&sent).await.map_err(failed)?;
    let length = stream.read_u16().await.map_err(failed)?;
    let mut bytes = vec![0; length.into()];
    stream.read_exact(&mut bytes).await.map_err(failed)?;
    match read(&bytes) {
        Ok(Answer::Cut) => Err(AskError::Answer {
            server,
            source: MessageError::Other,
        }),
        Ok(answer) => Ok(answer),
        Err(source) => Err(AskError::Answer { server, source }),
    }
}

/// The name servers of a file in the form of resolv.conf(5).
fn read_system(path: &Path) -> io::Result<Vec<SocketAddr>> {
    let text = std::fs::read_to_string(path)?;
    let lines = text.lines().filter_map(|line| {
        let mut words = line.split_ascii_whitespace();
        let address = (words.next() == Some("nameserver")).then(|| words.next())??;
        Some(SocketAddr::new(address.parse().ok()?, 53))
    });
    Ok(lines.take(MOST_SERVERS).collect())
}

const SYSTEM: &str = "/etc/resolv.conf";

/// As in the system's own resolver.
const MOST_SERVERS: usize = 3;

/// How often each is asked: datagrams get lost.
const ROUNDS: usize = 2;

/// Why nobody answers.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// There is nobody to ask.
    #[error("there is no resolver: the settings name none, nor does {SYSTEM}")]
    Nobody,
    /// The system's resolvers are not known.
    #[error("cannot read {SYSTEM}")]
    System {
        /// What the system says.
        source: io::Error,
    },
    /// A resolver says nothing.
    #[error("no answer from the resolver {server} within {limit:?}")]
    Silent {
        /// Which.
        server: SocketAddr,
        /// How long.
        limit: Duration,
    },
    /// A resolver cannot be reached.
    #[error("cannot ask the resolver {server}")]
    Socket {
        /// Which.
        server: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
    /// A resolver cannot be reached over TCP.
    #[error("cannot ask a resolver over TCP")]
    Dial {
        /// Why.
        source: DialError,
    },
    /// A resolver answers something that does not help.
    #[error("the answer of the resolver {server} does not help")]
    Answer {
        /// Which.
        server: SocketAddr,
        /// Why.
        source: MessageError,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_systems_resolvers_are_the_first_three_of_its_file() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let text = "# nameserver 192.0.2.9\nsearch a.example\nnameserver 192.0.2.1\n nameserver fd00::1\nnameserver x\n\
                    options ndots:5\nnameserver\nnameserver 192.0.2.2\nnameserver 192.0.2.3\n";
        std::fs::write(file.path(), text).unwrap();
        let expected: Vec<SocketAddr> = ["192.0.2.1:53", "[fd00::1]:53", "192.0.2.2:53"]
            .map(|address| address.parse().unwrap())
            .into();
        assert_eq!(read_system(file.path()).unwrap(), expected);
    }
}
