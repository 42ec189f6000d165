//! Serves calls over TLS to callers who may be slow, hostile, or many.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_TYPE as CONTENT_TYPE_HEADER;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use hyper::body::{Body, Frame, Incoming};
use hyper::rt::Executor;
use hyper::server::conn::http2;
use hyper::service::Service as HttpService;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::timeout;
use tokio_util::sync::{CancellationToken, DropGuard};
use tracing::debug;

use super::authority::Plain;
use super::frame::{Messages, frame};
use super::{CONTENT_TYPE, Code, Limits, Status};
use crate::caught::caught;
use crate::drain::Drain;
use crate::https::front::Front;
use crate::https::places::Places;
use crate::https::{Listen, Peer, PeerAddr, ServerMetrics, accept};
use crate::logging::Foreign;

/// Answers calls.
pub trait Service: Send + Sync + 'static {
    /// Carries one call from its headers to its end, and says how it ended. It is dropped when the caller is gone, and
    /// when the program stops.
    fn call(&self, call: Call) -> impl Future<Output = Result<(), Status>> + Send;
}

/// A call that has begun.
#[derive(Debug)]
pub struct Call {
    /// What is called: `/package.Service/Method`.
    pub path: String,
    /// The headers that came with it.
    pub headers: HeaderMap,
    /// The caller.
    pub peer: Arc<Peer>,
    /// What the caller sends.
    pub requests: Requests,
    /// What is sent to the caller.
    pub replies: Replies,
}

/// The messages that a caller sends.
#[derive(Debug)]
pub struct Requests {
    body: Incoming,
    messages: Messages,
}

/// Sends messages to a caller.
#[derive(Debug, Clone)]
pub struct Replies {
    sender: mpsc::Sender<Sent>,
    stall: Duration,
}

#[derive(Debug)]
enum Sent {
    Message(Bytes),
    End(Status),
}

impl Requests {
    /// The next message; `None` when the caller has said everything.
    ///
    /// # Errors
    /// When the caller is gone, or sends what is no message.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Status> {
        next_message(&mut self.body, &mut self.messages).await
    }
}

/// The next message of a body; `None` at its end. Trailers are passed over.
pub(super) async fn next_message(
    body: &mut Incoming,
    messages: &mut Messages,
) -> Result<Option<Bytes>, Status> {
    loop {
        match messages.take() {
            Ok(Some(message)) => return Ok(Some(message)),
            Ok(None) => {}
            Err(error) => {
                let code = match error {
                    super::FrameError::Compressed => Code::Unimplemented,
                    super::FrameError::TooLong { .. } => Code::ResourceExhausted,
                };
                return Err(Status::new(code, error.to_string()));
            }
        }
        match body.frame().await {
            Some(Ok(frame)) => {
                if let Some(data) = frame.data_ref() {
                    messages.add(data);
                }
            }
            Some(Err(error)) => {
                let why = crate::logging::Chain(&error).to_string();
                return Err(Status::new(Code::Cancelled, why));
            }
            None if messages.is_empty() => return Ok(None),
            None => return Err(Status::new(Code::InvalidArgument, "a message broke off")),
        }
    }
}

impl Replies {
    /// Sends one message; waits while those before have not left.
    ///
    /// # Errors
    /// When the caller is gone, or takes nothing for too long.
    pub async fn send(&self, message: &[u8]) -> Result<(), Status> {
        let framed = frame(message).map_err(|error| Status::new(Code::Internal, error.to_string()))?;
        match timeout(self.stall, self.sender.send(Sent::Message(framed))).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(Status::new(Code::Cancelled, "the caller is gone")),
            Err(_) => Err(Status::new(Code::DeadlineExceeded, "the caller takes nothing")),
        }
    }
}

/// A gRPC server: the limits and counters of one listener.
pub struct Server {
    limits: Limits,
    front: Front,
}

impl Server {
    /// A server that is called `name` in logs and metrics, with at most `connections` open and `handshakes` going on.
    /// Its connections count as open in `drain`.
    pub fn new(
        name: &'static str,
        limits: Limits,
        connections: usize,
        handshakes: usize,
        drain: Drain,
        counters: &ServerMetrics,
    ) -> Self {
        Self {
            limits,
            front: Front {
                name,
                drain,
                counters: counters.of(name),
                places: Places::new(connections, None),
                handshakes: Semaphore::new(handshakes),
                handshake_time: HANDSHAKE_TIME,
            },
        }
    }

    /// Serves over TLS until the drain closes, and returns once the listener is closed. Calls that are open then end
    /// with [`Code::Unavailable`], so that callers go elsewhere.
    ///
    /// `tls` is asked for the configuration at each connection, so that a new certificate serves the next caller. It
    /// should offer the ALPN protocol [`ALPN`](super::ALPN) alone.
    pub async fn serve<L, T, S>(self, listener: L, tls: T, service: Arc<S>)
    where
        L: Listen,
        T: Fn() -> Arc<ServerConfig> + Send + Sync + 'static,
        S: Service,
    {
        self.run(listener, Some(Box::new(tls)), service).await;
    }

    /// As [`serve`](Self::serve), in clear: for sockets that do not leave the machine.
    pub async fn serve_clear<L: Listen, S: Service>(self, listener: L, service: Arc<S>) {
        self.run(listener, None, service).await;
    }

    async fn run<L: Listen, S: Service>(self, listener: L, tls: Option<Tls>, service: Arc<S>) {
        let shared = Arc::new(Shared {
            front: self.front,
            limits: self.limits,
            tls,
            service,
        });
        accept::run(listener, &shared.front, |stream, address, place| {
            let carried = shared.clone();
            shared.front.drain.spawn(async move {
                carried.front.counters.open.inc();
                tokio::select! {
                    () = carry(stream, address, &carried) => {}
                    () = carried.front.drain.cut() => carried.front.counters.refuse("cut"),
                }
                carried.front.counters.open.dec();
                drop(place);
            });
        })
        .await;
    }
}

struct Shared<S> {
    front: Front,
    limits: Limits,
    tls: Option<Tls>,
    service: Arc<S>,
}

type Tls = Box<dyn Fn() -> Arc<ServerConfig> + Send + Sync>;

/// Carries one connection from its handshake to its end.
async fn carry<T, S>(stream: T, address: PeerAddr, shared: &Arc<Shared<S>>)
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    S: Service,
{
    match &shared.tls {
        Some(tls) => {
            if let Some((stream, peer)) = shared.front.secure(tls, stream, address).await {
                speak(stream, peer, shared).await;
            }
        }
        None => {
            let certificates = Vec::new();
            let peer = Peer {
                address,
                certificates,
            };
            speak(Plain::new(stream), peer, shared).await;
        }
    }
}

/// Speaks HTTP/2 on a connection until its end.
async fn speak<T, S>(stream: T, peer: Peer, shared: &Arc<Shared<S>>)
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    S: Service,
{
    let address = peer.address;
    let service = Calls {
        shared: shared.clone(),
        peer: Arc::new(peer),
    };
    let limits = &shared.limits;
    let http = http2::Builder::new(OnDrain(shared.front.drain.clone()))
        .timer(TokioTimer::new())
        .keep_alive_interval(limits.ping_after)
        .keep_alive_timeout(limits.ping_time)
        .max_concurrent_streams(limits.calls)
        .max_header_list_size(limits.header_bytes)
        .max_send_buf_size(SEND_BUFFER)
        .serve_connection(TokioIo::new(stream), service);
    let mut http = std::pin::pin!(http);
    let outcome = tokio::select! {
        outcome = http.as_mut() => outcome,
        () = shared.front.drain.closing() => {
            http.as_mut().graceful_shutdown();
            http.as_mut().await
        }
    };
    if let Err(error) = outcome {
        let error = crate::logging::Chain(&error).to_string();
        debug!(server = shared.front.name, %address, error = %Foreign(&error), "connection ended");
    }
}

/// Starts what a connection needs as its own tasks, which count as open.
#[derive(Clone)]
struct OnDrain(Drain);

impl<F> Executor<F> for OnDrain
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, task: F) {
        self.0.spawn(task);
    }
}

/// The service that the HTTP library calls for each call of one connection.
struct Calls<S> {
    shared: Arc<Shared<S>>,
    peer: Arc<Peer>,
}

impl<S: Service> HttpService<Request<Incoming>> for Calls<S> {
    type Response = Response<Replying>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let (shared, peer) = (self.shared.clone(), self.peer.clone());
        Box::pin(async move { Ok(answer(request, peer, &shared)) })
    }
}

fn answer<S: Service>(
    request: Request<Incoming>,
    peer: Arc<Peer>,
    shared: &Arc<Shared<S>>,
) -> Response<Replying> {
    let (head, body) = request.into_parts();
    let kind = head
        .headers
        .get(CONTENT_TYPE_HEADER)
        .and_then(|kind| kind.to_str().ok());
    let is_grpc = kind
        .and_then(|kind| kind.strip_prefix(CONTENT_TYPE))
        .is_some_and(|rest| rest.is_empty() || rest.starts_with(['+', ';']));
    if head.method != Method::POST || !is_grpc {
        shared.front.counters.refuse("not_grpc");
        let (_, nothing) = mpsc::channel(1);
        let mut response = Response::new(Replying {
            sent: nothing,
            is_over: true,
            _alive: CancellationToken::new().drop_guard(),
        });
        *response.status_mut() = StatusCode::UNSUPPORTED_MEDIA_TYPE;
        return response;
    }
    shared.front.counters.requests.inc();
    let (sender, sent) = mpsc::channel(1);
    let call = Call {
        path: head.uri.path().to_owned(),
        headers: head.headers,
        peer,
        requests: Requests {
            body,
            messages: Messages::new(shared.limits.message_bytes),
        },
        replies: Replies {
            sender: sender.clone(),
            stall: shared.limits.write_stall_time,
        },
    };
    let carried = shared.clone();
    // When the caller resets the call, or the connection breaks, the answer is dropped and the work with it.
    let gone = CancellationToken::new();
    let alive = gone.clone().drop_guard();
    shared.front.drain.spawn(async move {
        let ended = tokio::select! {
            ended = caught(Box::pin(carried.service.call(call))) => ended,
            () = carried.front.drain.closing() => Ok(Err(Status::new(Code::Unavailable, "the server is stopping"))),
            () = gone.cancelled() => return,
        };
        let status = match ended {
            Ok(Ok(())) => Status::new(Code::Ok, ""),
            Ok(Err(status)) => status,
            Err(panic) => {
                tracing::error!(server = carried.front.name, panic, "a call's handler panicked");
                Status::new(Code::Internal, "the server has a fault")
            }
        };
        // Whoever is gone, or takes nothing, is not told.
        let _ = timeout(carried.limits.write_stall_time, sender.send(Sent::End(status))).await;
    });
    let mut response = Response::new(Replying {
        sent,
        is_over: false,
        _alive: alive,
    });
    response
        .headers_mut()
        .insert(CONTENT_TYPE_HEADER, HeaderValue::from_static(CONTENT_TYPE));
    response
}

/// The body of an answer. Its call ends when it is dropped.
struct Replying {
    sent: mpsc::Receiver<Sent>,
    is_over: bool,
    _alive: DropGuard,
}

impl Body for Replying {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.is_over {
            return Poll::Ready(None);
        }
        match self.sent.poll_recv(cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Some(Sent::Message(message))) => Poll::Ready(Some(Ok(Frame::data(message)))),
            Poll::Ready(Some(Sent::End(status))) => {
                self.is_over = true;
                let trailers: HeaderMap = status.to_trailers();
                Poll::Ready(Some(Ok(Frame::trailers(trailers))))
            }
            Poll::Ready(None) => {
                self.is_over = true;
                Poll::Ready(None)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.is_over
    }
}

/// From the connection to the end of the TLS handshake.
const HANDSHAKE_TIME: Duration = Duration::from_secs(5);

/// Bytes of one call that wait for the network.
const SEND_BUFFER: usize = 256 * 1024;
