//! Tries out, when asked through the debug socket, how a destination answers this workload.

use std::convert::Infallible;
use std::error::Error;
use std::io::ErrorKind;
use std::iter::successors;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use ferrule_daemon::logging::Chain;
use ferrule_identity::SpiffeId;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;

use crate::buffer::Buffer;
use crate::closed::CloseReason;
use crate::config::Config;
use crate::framing::exchange::{self, OpenError};
use crate::framing::{Heard, Opening};
use crate::net::address::UpstreamAddr;
use crate::net::dial::dial;
use crate::tls::handshake::{HandshakeError, Secured, connect};
use crate::tls::material::Material;

/// What is to be tried out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    address: UpstreamAddr,
    expected: SpiffeId,
    /// Whether it is enough to know who is there, and not whether the stream is taken.
    is_brief: bool,
}

/// An order, with who waits for what comes of it.
#[derive(Debug)]
pub struct Job {
    order: Order,
    answer: mpsc::Sender<Bytes>,
}

/// Where orders are left; cheap to clone.
#[derive(Debug, Clone)]
pub struct Prober(mpsc::Sender<Job>);

/// A prober, and the queue that [`serve`] works off.
pub fn prober() -> (Prober, mpsc::Receiver<Job>) {
    let (sender, jobs) = mpsc::channel(WAITING);
    (Prober(sender), jobs)
}

impl Order {
    /// Reads `{"address": "10.1.0.3:8080", "expected": "spiffe://…"}`; `"brief": true` leaves out whether
    /// the stream is taken.
    ///
    /// # Errors
    /// When it is something else.
    pub fn read(text: &[u8]) -> Result<Self, OrderError> {
        let order: Value = serde_json::from_slice(text).map_err(|source| OrderError::Json { source })?;
        let address: Option<SocketAddr> = order["address"].as_str().and_then(|text| text.parse().ok());
        let expected = order["expected"].as_str().map(SpiffeId::parse);
        Ok(Self {
            address: UpstreamAddr::new(address.ok_or(OrderError::Address)?),
            expected: expected.and_then(Result::ok).ok_or(OrderError::Expected)?,
            is_brief: order["brief"] == true,
        })
    }
}

impl Prober {
    /// Leaves an order; its outcome comes through the receiver. None while four others wait.
    pub fn order(&self, order: Order) -> Option<mpsc::Receiver<Bytes>> {
        let (answer, outcome) = mpsc::channel(1);
        self.0.try_send(Job { order, answer }).ok()?;
        Some(outcome)
    }
}

/// Works orders off, one at a time, for ever.
pub async fn serve(
    mut jobs: mpsc::Receiver<Job>,
    config: Arc<Config>,
    material: watch::Receiver<Option<Arc<Material>>>,
) -> Infallible {
    while let Some(job) = jobs.recv().await {
        let material = material.borrow().clone();
        let outcome = probe(&job.order, &config, material.as_deref()).await;
        // Whoever asked may have left.
        let _ = job.answer.try_send(Bytes::from(format!("{outcome}\n")));
    }
    std::future::pending().await
}

/// The wire evidence: a handshake to exactly the one who is expected, and a connection in clear beside it.
async fn probe(order: &Order, config: &Config, material: Option<&Material>) -> Value {
    let Some(material) = material else {
        return json!({ "error": "this sidecar has no certificate yet" });
    };
    let mut told = json!({
        "source": material.id().as_str(),
        "source_serial": material.serial().to_string(),
        "target": order.address.to_string(),
        "expected": order.expected.as_str(),
    });
    told["mutual"] = mutual(order, config, material).await;
    told["plaintext"] = plaintext(order, config).await;
    told
}

async fn mutual(order: &Order, config: &Config, material: &Material) -> Value {
    let began = Instant::now();
    let tcp = match dial(order.address, &config.dialing()).await {
        Ok(tcp) => tcp,
        Err(error) => {
            let reason = if is_reset(&error) {
                let source = ErrorKind::ConnectionReset.into();
                HandshakeError::Broken { source }.reason()
            } else {
                CloseReason::of_dial(&error)
            };
            return json!({
                "established": false, "reason": reason.word(), "error": Chain(&error).to_string(),
            });
        }
    };
    let limit = config.limits.handshake;
    let expected = order.expected.clone();
    let shaken = connect(tcp, order.address.ip(), expected, material, limit).await;
    let secured = match shaken {
        Ok(secured) => secured,
        Err(error) => {
            return json!({
                "established": false, "reason": error.reason().word(), "error": Chain(&error).to_string(),
            });
        }
    };
    let handshake_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    let (peer, agreed) = (&secured.peer, secured.agreed);
    let mut told = json!({
        "established": true,
        "handshake_ms": handshake_ms,
        "peer": peer.id().as_str(),
        "peer_serial": peer.serial().to_string(),
        "peer_not_after": peer.lifetime().not_after().to_string(),
        "tls_version": agreed.version,
        "tls_group": agreed.group,
        "tls_cipher": agreed.cipher,
    });
    if order.is_brief {
        return told;
    }
    let (admitted, detail) = admitted(secured, limit).await;
    told["admitted"] = admitted.into();
    told["detail"] = detail.into();
    told
}

/// Whether the other side takes a stream. Where the framing does not say so, a connection that stays open is one
/// that was taken.
async fn admitted(secured: Secured, limit: Duration) -> (bool, String) {
    let Secured {
        mut tcp,
        mut channel,
        arrived,
        ..
    } = secured;
    let said = channel.opening() == Opening::Awaited;
    match exchange::open(&mut tcp, &mut channel, arrived, limit).await {
        Err(OpenError::Refused { reason }) => return (false, reason),
        Err(error) => return (false, Chain(&error).to_string()),
        Ok(_) if said => return (true, "the other side takes the stream".to_owned()),
        Ok(arrived) if arrived.finished => return (false, CLOSED.to_owned()),
        Ok(_) => {}
    }
    let mut incoming = Buffer::new();
    incoming.push(channel.held());
    let read = timeout(SETTLED, tcp.read(incoming.room(READ_BYTES))).await;
    match read {
        Err(_) => (true, "the connection stays open".to_owned()),
        Ok(Err(_) | Ok(0)) => (false, CLOSED.to_owned()),
        Ok(Ok(read)) => {
            incoming.advance(read);
            let (mut text, mut reply) = (Buffer::new(), Buffer::new());
            match channel.receive(&mut incoming, &mut text, &mut reply) {
                Ok(Heard::Data) => (true, "the application speaks".to_owned()),
                Ok(_) => (false, CLOSED.to_owned()),
                Err(error) => (false, Chain(&error).to_string()),
            }
        }
    }
}

/// What comes of a connection in clear: in strict mode nothing may.
async fn plaintext(order: &Order, config: &Config) -> Value {
    let told = |outcome: &str, detail: String| json!({ "outcome": outcome, "detail": detail });
    let mut tcp = match dial(order.address, &config.dialing()).await {
        Ok(tcp) => tcp,
        Err(error) if is_reset(&error) => return told("refused", Chain(&error).to_string()),
        Err(error) => return told("unreachable", Chain(&error).to_string()),
    };
    if let Err(error) = tcp.write_all(b"GET / HTTP/1.0\r\n\r\n").await {
        return told("refused", error.to_string());
    }
    match timeout(SETTLED, first_byte(&mut tcp)).await {
        Err(_) => told("open", format!("the connection is still open after {SETTLED:?}")),
        Ok(Err(error)) => told("refused", error.to_string()),
        Ok(Ok(None)) => told("refused", "the connection was closed".to_owned()),
        // An alert is how TLS says no (RFC 8446 §6).
        Ok(Ok(Some(ALERT))) => told("refused", "the answer is an alert of TLS".to_owned()),
        Ok(Ok(Some(_))) => told("answered", "bytes came back in clear".to_owned()),
    }
}

/// Whether somebody was there, and cut the connection: a reset may be here before the connect is over.
fn is_reset(error: &(dyn Error + 'static)) -> bool {
    let causes = successors(Some(error), |&error| error.source());
    let mut failures = causes.filter_map(|error| error.downcast_ref::<std::io::Error>());
    failures.any(|failure| failure.kind() == ErrorKind::ConnectionReset)
}

async fn first_byte(tcp: &mut TcpStream) -> std::io::Result<Option<u8>> {
    let mut byte = [0];
    let read = tcp.read(&mut byte).await?;
    Ok(byte.first().copied().filter(|_| read > 0))
}

const CLOSED: &str = "the other side closed the connection";

/// The type of a TLS record that has an alert (RFC 8446 §5.1).
const ALERT: u8 = 21;

/// How long a connection must stay open to count as taken.
const SETTLED: Duration = Duration::from_secs(1);

/// What one read takes at most.
const READ_BYTES: usize = 16 * 1024;

/// Orders that wait at most.
const WAITING: usize = 4;

/// Why an order cannot be followed.
#[derive(Debug, thiserror::Error)]
pub enum OrderError {
    /// It is no JSON.
    #[error("the order is no JSON")]
    Json {
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// It has no address.
    #[error("`address` is to be an IP address with a port")]
    Address,
    /// It does not say who is expected.
    #[error("`expected` is to be a SPIFFE ID")]
    Expected,
}
