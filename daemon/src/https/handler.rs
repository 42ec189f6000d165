//! What a program's own code sees of a request.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, StatusCode, request};
use rustls::pki_types::CertificateDer;
use tokio::sync::mpsc;

use super::Limits;
use super::body::Body;
use super::content::Content;

/// A request whose headers have been read; its extensions hold the [`Peer`] (see [`Peer::of`]).
pub type Request = http::Request<Body>;

/// An answer: whole in memory, or a stream.
pub type Reply = http::Response<Content>;

/// Answers requests. Any `async fn(Request) -> Reply` is one.
pub trait Handler: Send + Sync + 'static {
    /// Answers one request. A panic is answered with 500, and ends the connection alone. The future is dropped
    /// when the caller goes away or time is up, so what must not be left half done runs in a task of its own.
    fn answer(&self, request: Request) -> impl Future<Output = Reply> + Send;

    /// What this request may take, judged by its head alone; the server's limits unless a route needs others,
    /// as a long poll does.
    fn allowance(&self, _head: &request::Parts, default: Allowance) -> Allowance {
        default
    }

    /// The answer when the server itself refuses a request whose head could be read: a line of plain text unless
    /// the program's clients expect another form.
    fn refuse(&self, refusal: Refusal) -> Reply {
        reply(
            refusal.status(),
            "text/plain; charset=utf-8",
            format!("{refusal}\n"),
        )
    }
}

impl<F, A> Handler for F
where
    F: Fn(Request) -> A + Send + Sync + 'static,
    A: Future<Output = Reply> + Send,
{
    fn answer(&self, request: Request) -> impl Future<Output = Reply> + Send {
        self(request)
    }
}

/// What one request may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Allowance {
    /// From the end of its headers to the answer.
    pub time: Duration,
    /// Reading its body; never longer than `time`.
    pub body_time: Duration,
    /// Its body in bytes.
    pub body_bytes: usize,
}

impl From<&Limits> for Allowance {
    fn from(limits: &Limits) -> Self {
        Self {
            time: limits.request_time,
            body_time: limits.body_time,
            body_bytes: limits.body_bytes,
        }
    }
}

/// Why the server itself refuses a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The declared length of the body is over the limit.
    #[error("the body may have at most {limit} bytes")]
    BodyTooLarge {
        /// The limit in bytes.
        limit: usize,
    },
    /// The handler had not answered when the time was up.
    #[error("no answer within {limit:?}")]
    TooSlow {
        /// The limit.
        limit: Duration,
    },
    /// The handler panicked.
    #[error("the request could not be answered because of a fault in the server")]
    Fault,
    /// The request asks for a tunnel, which this server never opens.
    #[error("CONNECT is not served here")]
    Connect,
}

impl Refusal {
    /// The status that goes with it.
    pub fn status(self) -> StatusCode {
        match self {
            Self::BodyTooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Self::TooSlow { .. } => StatusCode::SERVICE_UNAVAILABLE,
            Self::Fault => StatusCode::INTERNAL_SERVER_ERROR,
            Self::Connect => StatusCode::METHOD_NOT_ALLOWED,
        }
    }

    pub(super) fn word(self) -> &'static str {
        match self {
            Self::BodyTooLarge { .. } => "body_too_large",
            Self::TooSlow { .. } => "request_time",
            Self::Fault => "fault",
            Self::Connect => "connect",
        }
    }
}

/// Who is at the other end of a connection, the same for all its requests.
#[derive(Debug)]
pub struct Peer {
    /// Where the connection comes from.
    pub address: PeerAddr,
    /// The certificates that the caller showed in the TLS handshake, leaf first, and that the configuration's
    /// verifier accepted; empty when it showed none.
    pub certificates: Vec<CertificateDer<'static>>,
}

impl Peer {
    /// The peer that sent `request`; `None` only for a request that no server has received.
    pub fn of<B>(request: &http::Request<B>) -> Option<&Arc<Self>> {
        request.extensions().get::<Arc<Self>>()
    }
}

/// Where a connection comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PeerAddr {
    /// Over TCP. An IPv4 caller of an IPv6 listener appears with its IPv4 address.
    Tcp(SocketAddr),
    /// Through a Unix socket of this machine.
    Unix {
        /// Under which user id the caller runs, as the kernel tells it (`SO_PEERCRED`, unix(7)).
        user: Option<u32>,
    },
}

impl PeerAddr {
    /// The IP address; `None` through a Unix socket.
    pub fn ip(self) -> Option<IpAddr> {
        match self {
            Self::Tcp(address) => Some(address.ip()),
            Self::Unix { .. } => None,
        }
    }
}

impl fmt::Display for PeerAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix { .. } => f.write_str("unix"),
        }
    }
}

/// An answer of the given type; `content_type` is one of the program's own constants.
pub fn reply(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Reply {
    with(status, content_type, Content::whole(body.into()))
}

/// An answer that goes on for as long as somebody sends to `pieces`.
pub fn stream(status: StatusCode, content_type: &'static str, pieces: mpsc::Receiver<Bytes>) -> Reply {
    with(status, content_type, Content::stream(pieces))
}

fn with(status: StatusCode, content_type: &'static str, content: Content) -> Reply {
    let mut reply = Reply::new(content);
    *reply.status_mut() = status;
    reply
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    reply
}
