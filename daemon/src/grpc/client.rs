//! Calls a server over a connection that somebody else has opened and secured.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE as CONTENT_TYPE_HEADER, TE};
use http::{HeaderName, HeaderValue, Method, Request, StatusCode, Version};
use http_body_util::BodyExt as _;
use hyper::body::{Body, Frame, Incoming};
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;

use super::frame::{Messages, frame};
use super::{CONTENT_TYPE, Code, Limits, Status};

/// A connection that calls are made on. Dropping it, and what came of its calls, closes it.
#[derive(Debug)]
pub struct Channel {
    sender: SendRequest<Requesting>,
    authority: String,
    header: Option<(HeaderName, HeaderValue)>,
    limits: Limits,
    _driver: AbortOnDropHandle<()>,
}

/// Sends the messages of one call. Dropping it says that there are no more.
#[derive(Debug)]
pub struct Sender {
    sender: mpsc::Sender<Bytes>,
    stall: Duration,
}

/// Receives the messages of one call. Dropping it gives the call up.
#[derive(Debug)]
pub struct Receiver {
    body: Incoming,
    messages: Messages,
    status: Option<Status>,
}

impl Channel {
    /// Speaks HTTP/2 over `io`, to the server that is called `authority`.
    ///
    /// # Errors
    /// When the other end does not speak it.
    pub async fn open<T>(io: T, authority: String, limits: Limits) -> Result<Self, Status>
    where
        T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (sender, connection) = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .keep_alive_interval(limits.ping_after)
            .keep_alive_timeout(limits.ping_time)
            .keep_alive_while_idle(true)
            .max_header_list_size(limits.header_bytes)
            .initial_stream_window_size(WINDOW)
            .initial_connection_window_size(WINDOW)
            .handshake(TokioIo::new(io))
            .await
            .map_err(|error| unavailable(&error))?;
        let driver = async move {
            // Its error, if any, comes to whoever waits for a message, too.
            let _ = connection.await;
        };
        #[allow(
            clippy::disallowed_methods,
            reason = "owned: the handle ends the task when the channel is dropped"
        )]
        let driver = AbortOnDropHandle::new(tokio::spawn(driver));
        Ok(Self {
            sender,
            authority,
            header: None,
            limits,
            _driver: driver,
        })
    }

    /// Sends this header along with each call, where a server demands one.
    #[must_use]
    pub fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.header = Some((name, value));
        self
    }

    /// Begins a call in which both ends send messages. The first message goes along, since servers may wait for it
    /// before they answer at all.
    ///
    /// # Errors
    /// When the server refuses, or does not answer within `limit`.
    pub async fn call(
        &mut self,
        path: &str,
        first: &[u8],
        limit: Duration,
    ) -> Result<(Sender, Receiver), Status> {
        let (sender, messages) = self.first(first).await?;
        let receiver = self.begin(path, messages, limit).await?;
        Ok((sender, receiver))
    }

    /// Makes a call of one message that is answered by any number of them. The end of the request goes along, too:
    /// servers may wait for it before they answer.
    ///
    /// # Errors
    /// When the server refuses, or does not answer within `limit`.
    pub async fn hear(&mut self, path: &str, request: &[u8], limit: Duration) -> Result<Receiver, Status> {
        let (sender, messages) = self.first(request).await?;
        drop(sender);
        self.begin(path, messages, limit).await
    }

    /// What a request is sent through, with its first message in it.
    async fn first(&self, message: &[u8]) -> Result<(Sender, mpsc::Receiver<Bytes>), Status> {
        let (sender, messages) = mpsc::channel(1);
        let sender = Sender {
            sender,
            stall: self.limits.write_stall_time,
        };
        sender.send(message).await?;
        Ok((sender, messages))
    }

    async fn begin(
        &mut self,
        path: &str,
        messages: mpsc::Receiver<Bytes>,
        limit: Duration,
    ) -> Result<Receiver, Status> {
        let mut request = Request::builder()
            .method(Method::POST)
            .version(Version::HTTP_2)
            .uri(format!("https://{}{path}", self.authority))
            .header(CONTENT_TYPE_HEADER, CONTENT_TYPE)
            .header(TE, "trailers")
            .body(Requesting { messages })
            .map_err(|error| Status::new(Code::Internal, error.to_string()))?;
        if let Some((name, value)) = &self.header {
            request.headers_mut().insert(name, value.clone());
        }
        let answer = async {
            self.sender.ready().await.map_err(|error| unavailable(&error))?;
            self.sender
                .send_request(request)
                .await
                .map_err(|error| unavailable(&error))
        };
        let answer = timeout(limit, answer)
            .await
            .map_err(|_| Status::new(Code::DeadlineExceeded, "no answer in time"))??;
        // A refusal may come without a body, its status among the headers.
        if let Some(status) = Status::from_trailers(answer.headers())
            && status.code != Code::Ok
        {
            return Err(status);
        }
        if answer.status() != StatusCode::OK {
            let message = format!("the server answers with HTTP status {}", answer.status().as_u16());
            return Err(Status::new(Code::Unknown, message));
        }
        Ok(Receiver {
            body: answer.into_body(),
            messages: Messages::new(self.limits.message_bytes),
            status: None,
        })
    }

    /// A call of one message that is answered by one, all within `limit`.
    ///
    /// # Errors
    /// When the server refuses, or does not answer in time or as it should.
    pub async fn ask(&mut self, path: &str, request: &[u8], limit: Duration) -> Result<Bytes, Status> {
        let asking = async {
            let mut receiver = self.hear(path, request, limit).await?;
            let reply = receiver.next().await?;
            let reply = reply.ok_or_else(|| Status::new(Code::Internal, "there is no answer"))?;
            match receiver.next().await? {
                None => Ok(reply),
                Some(_) => Err(Status::new(Code::Internal, "there is more than one answer")),
            }
        };
        match timeout(limit, asking).await {
            Ok(answer) => answer,
            Err(_) => Err(Status::new(Code::DeadlineExceeded, "no answer in time")),
        }
    }
}

impl Sender {
    /// Sends a message; waits while the one before has not left.
    ///
    /// # Errors
    /// When the call is over, or the server takes nothing for too long.
    pub async fn send(&self, message: &[u8]) -> Result<(), Status> {
        let framed = frame(message).map_err(|error| Status::new(Code::Internal, error.to_string()))?;
        match timeout(self.stall, self.sender.send(framed)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(Status::new(Code::Cancelled, "the call is over")),
            Err(_) => Err(Status::new(Code::DeadlineExceeded, "the server takes nothing")),
        }
    }
}

impl Receiver {
    /// The next message; `None` when the call has ended well. Nothing is lost when the future is dropped before it ends.
    ///
    /// # Errors
    /// When the call ended in another way, or the connection broke.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Status> {
        loop {
            match self.messages.take() {
                Ok(Some(message)) => return Ok(Some(message)),
                Ok(None) => {}
                Err(error) => return Err(Status::new(Code::ResourceExhausted, error.to_string())),
            }
            match self.body.frame().await {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => self.messages.add(&data),
                    Err(frame) => {
                        if let Ok(trailers) = frame.into_trailers() {
                            self.status = Status::from_trailers(&trailers);
                        }
                    }
                },
                Some(Err(error)) => return Err(unavailable(&error)),
                None => {
                    return match self.status.take() {
                        Some(status) if status.code == Code::Ok => Ok(None),
                        Some(status) => Err(status),
                        None => Err(Status::new(Code::Unavailable, "the call broke off")),
                    };
                }
            }
        }
    }
}

fn unavailable(error: &hyper::Error) -> Status {
    Status::new(Code::Unavailable, crate::logging::Chain(error).to_string())
}

/// The body of a request.
#[derive(Debug)]
struct Requesting {
    messages: mpsc::Receiver<Bytes>,
}

impl Body for Requesting {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let message = self.messages.poll_recv(cx);
        message.map(|message| message.map(|message| Ok(Frame::data(message))))
    }
}

/// Bytes that the server may send before they are read.
const WINDOW: u32 = 1024 * 1024;
