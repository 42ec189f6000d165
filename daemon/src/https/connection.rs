//! Carries one connection from its handshake to its end.

use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use http::header::{CONNECTION, DATE};
use http::{HeaderValue, Method};
use hyper::body::{Body as _, Incoming};
use hyper::server::conn::http1;
use hyper::service::Service;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;
use tracing::debug;

use super::body::Body;
use super::guard::{Busy, Guard};
use super::handler::{Allowance, Handler, Peer, PeerAddr, Refusal, Reply};
use super::{Limits, Shared};
use crate::caught::caught;
use crate::logging::Foreign;

/// The HTTP library, set to the server's limits.
pub(super) fn http(limits: &Limits) -> http1::Builder {
    let mut http = http1::Builder::new();
    http.max_header_size(limits.header_bytes)
        .max_headers(limits.header_count)
        .max_buf_size(limits.header_bytes.max(MIN_BUFFER))
        // Waiting is the guard's: the library has one limit for idle connections and for slow headers.
        .header_read_timeout(None)
        .auto_date_header(false)
        .half_close(false);
    http
}

/// Carries one connection. Whatever goes wrong ends here.
pub(super) async fn carry<S, H>(stream: S, address: PeerAddr, shared: &Arc<Shared<H>>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    H: Handler,
{
    shared.front.counters.open.inc();
    tokio::select! {
        () = serve(stream, address, shared) => {}
        () = shared.front.drain.cut() => {
            shared.front.counters.refuse("cut");
            debug!(server = shared.front.name, %address, "connection cut");
        }
    }
    shared.front.counters.open.dec();
}

async fn serve<S, H>(stream: S, address: PeerAddr, shared: &Arc<Shared<H>>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    H: Handler,
{
    let Some(tls) = &shared.tls else {
        let peer = Peer {
            address,
            certificates: Vec::new(),
        };
        return exchange(stream, peer, shared).await;
    };
    if let Some((stream, peer)) = shared.front.secure(tls, stream, address).await {
        exchange(stream, peer, shared).await;
    }
}

/// Answers the requests of one connection, then closes it.
async fn exchange<S, H>(stream: S, peer: Peer, shared: &Arc<Shared<H>>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    H: Handler,
{
    let address = peer.address;
    let guard = Guard::new(stream, &shared.limits);
    let service = Answers {
        shared: shared.clone(),
        peer: Arc::new(peer),
        busy: guard.busy(),
    };
    let mut http = shared.http.serve_connection(TokioIo::new(guard), service);
    let outcome = tokio::select! {
        outcome = &mut http => outcome,
        () = shared.front.drain.closing() => {
            Pin::new(&mut http).graceful_shutdown();
            (&mut http).await
        }
    };
    let guard = http.into_parts().io.into_inner();
    if let Some(fault) = guard.fault() {
        shared.front.counters.refuse("framing");
        debug!(server = shared.front.name, %address, fault = fault.word(), "request refused");
    } else if let Err(error) = &outcome {
        if error.is_parse() {
            shared.front.counters.refuse("malformed");
        } else if waited_too_long(error) {
            shared.front.counters.refuse("waiting");
        }
        let error = crate::logging::Chain(error).to_string();
        debug!(server = shared.front.name, %address, error = %Foreign(&error), "connection ended");
    }
    let ended = guard.ended();
    close(guard.into_inner(), ended).await;
}

/// Says goodbye, and gives the last answer time to arrive: closing a socket that holds unread bytes resets the
/// connection, and a reset overtakes what the other end has not read yet.
async fn close<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S, ended: bool) {
    let goodbye = async {
        stream.shutdown().await?;
        let mut left = if ended { 0 } else { LINGER_BYTES };
        let mut scrap = [0; 1024];
        while left > 0 {
            match stream.read(&mut scrap).await? {
                0 => break,
                read => left = left.saturating_sub(read),
            }
        }
        Ok::<_, io::Error>(())
    };
    // Whether the goodbye is heard changes nothing here.
    let _ = timeout(LINGER, goodbye).await;
}

fn waited_too_long(error: &hyper::Error) -> bool {
    std::error::Error::source(error)
        .and_then(|source| source.downcast_ref::<io::Error>())
        .is_some_and(|source| source.kind() == io::ErrorKind::TimedOut)
}

/// The service that the HTTP library calls for each request of one connection.
struct Answers<H> {
    shared: Arc<Shared<H>>,
    peer: Arc<Peer>,
    busy: Busy,
}

impl<H: Handler> Service<http::Request<Incoming>> for Answers<H> {
    type Response = Reply;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Reply, Infallible>> + Send>>;

    fn call(&self, request: http::Request<Incoming>) -> Self::Future {
        self.busy.set(true);
        let (shared, peer, busy) = (self.shared.clone(), self.peer.clone(), self.busy.clone());
        Box::pin(async move {
            let mut reply = match answer(request, peer, &shared).await {
                Ok(reply) => reply,
                Err(refusal) => {
                    shared.front.counters.refuse(refusal.word());
                    let mut reply = shared.handler.refuse(refusal);
                    reply
                        .headers_mut()
                        .insert(CONNECTION, HeaderValue::from_static("close"));
                    reply
                }
            };
            reply
                .headers_mut()
                .entry(DATE)
                .or_insert_with(|| shared.date.now());
            reply.body_mut().keep_busy(busy);
            Ok(reply)
        })
    }
}

async fn answer<H: Handler>(
    request: http::Request<Incoming>,
    peer: Arc<Peer>,
    shared: &Shared<H>,
) -> Result<Reply, Refusal> {
    let (mut head, body) = request.into_parts();
    if head.method == Method::CONNECT {
        return Err(Refusal::Connect);
    }
    head.extensions.insert(peer);
    let allowed = shared.handler.allowance(&head, Allowance::from(&shared.limits));
    if body.size_hint().lower() > allowed.body_bytes as u64 {
        return Err(Refusal::BodyTooLarge {
            limit: allowed.body_bytes,
        });
    }
    shared.front.counters.requests.inc();
    let body = Body::network(body, allowed.body_bytes, allowed.body_time.min(allowed.time));
    let request = http::Request::from_parts(head, body);
    match timeout(allowed.time, caught(Box::pin(shared.handler.answer(request)))).await {
        Ok(Ok(reply)) => Ok(reply),
        Ok(Err(panic)) => {
            tracing::error!(server = shared.front.name, panic, "a request's handler panicked");
            Err(Refusal::Fault)
        }
        Err(_) => Err(Refusal::TooSlow { limit: allowed.time }),
    }
}

/// The smallest read buffer that the HTTP library takes.
const MIN_BUFFER: usize = 8 * 1024;

/// How long, and for how many bytes, a closed connection is listened to.
const LINGER: Duration = Duration::from_secs(1);
const LINGER_BYTES: usize = 256 * 1024;
