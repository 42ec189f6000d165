//! Asks a sidecar, or another of our programs, through its debug socket.

use std::io;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::UnixStream;
use tokio::time::timeout;

use crate::failure::Failure;

/// A debug socket. Whoever may open it may ask everything.
#[derive(Debug, Clone)]
pub struct Socket {
    path: PathBuf,
}

impl Socket {
    /// The socket at `path`.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The JSON at `path`.
    ///
    /// # Errors
    /// When nobody answers within ten seconds, or with anything else.
    pub async fn get(&self, path: &'static str) -> Result<Value, SocketError> {
        let text = self.ask(Method::GET, path, Bytes::new(), PATIENCE).await?;
        self.json(path, &text)
    }

    /// The text at `path`.
    ///
    /// # Errors
    /// As [`Socket::get`].
    pub async fn text(&self, path: &'static str) -> Result<String, SocketError> {
        let text = self.ask(Method::GET, path, Bytes::new(), PATIENCE).await?;
        Ok(String::from_utf8_lossy(&text).into_owned())
    }

    /// Sends `message` to `path`, and takes JSON back within `limit`.
    ///
    /// # Errors
    /// When nobody answers in time, or with anything else.
    pub async fn post(
        &self,
        path: &'static str,
        message: &Value,
        limit: Duration,
    ) -> Result<Value, SocketError> {
        let body = Bytes::from(message.to_string());
        let text = self.ask(Method::POST, path, body, limit).await?;
        self.json(path, &text)
    }

    /// Gives `each` the lines at `path` as they come; it ends by an error of `each` or the end of the program there.
    ///
    /// # Errors
    /// When nobody answers, or `each` fails.
    pub async fn lines(
        &self,
        path: &'static str,
        mut each: impl FnMut(&str) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let talk = async |reply: Response<Incoming>| {
            let mut body = self.fine(path, reply).await?.into_body();
            let mut held = Vec::new();
            while let Some(frame) = body.frame().await {
                let frame = frame.map_err(|source| self.broke(path, source))?;
                let Ok(piece) = frame.into_data() else { continue };
                held.extend_from_slice(&piece);
                while let Some(end) = held.iter().position(|byte| *byte == b'\n') {
                    let line: Vec<u8> = held.drain(..=end).collect();
                    each(String::from_utf8_lossy(&line).trim_end())?;
                }
                if held.len() > MOST_BYTES {
                    return Err(SocketError::TooMuch {
                        path: self.path.clone(),
                    }
                    .into());
                }
            }
            Ok(())
        };
        self.with(Method::GET, path, Bytes::new(), talk).await
    }

    fn json(&self, asked: &'static str, text: &[u8]) -> Result<Value, SocketError> {
        serde_json::from_slice(text).map_err(|source| SocketError::Json {
            path: self.path.clone(),
            asked,
            source,
        })
    }

    async fn ask(
        &self,
        method: Method,
        path: &'static str,
        body: Bytes,
        limit: Duration,
    ) -> Result<Bytes, SocketError> {
        let talk = async |reply: Response<Incoming>| {
            let body = self.fine(path, reply).await?.into_body();
            let whole = Limited::new(body, MOST_BYTES).collect().await;
            let whole = whole.map_err(|_| SocketError::TooMuch {
                path: self.path.clone(),
            })?;
            Ok(whole.to_bytes())
        };
        match timeout(limit, self.with(method, path, body, talk)).await {
            Ok(answered) => answered,
            Err(_) => Err(SocketError::Slow {
                path: self.path.clone(),
                limit,
            }),
        }
    }

    /// The reply, when it is a good one.
    async fn fine(
        &self,
        asked: &'static str,
        reply: Response<Incoming>,
    ) -> Result<Response<Incoming>, SocketError> {
        let status = reply.status();
        if status == StatusCode::OK {
            return Ok(reply);
        }
        let body = Limited::new(reply.into_body(), 4096).collect().await;
        let text = body.map(|body| body.to_bytes()).unwrap_or_default();
        Err(SocketError::Status {
            path: self.path.clone(),
            asked,
            status,
            text: String::from_utf8_lossy(&text).trim().to_owned(),
        })
    }

    /// One request, whose reply `talk` takes while the connection goes on.
    async fn with<T, E: From<SocketError>>(
        &self,
        method: Method,
        path: &'static str,
        body: Bytes,
        mut talk: impl AsyncFnMut(Response<Incoming>) -> Result<T, E>,
    ) -> Result<T, E> {
        let cannot = |source| SocketError::Connect {
            path: self.path.clone(),
            source,
        };
        let connecting = timeout(PATIENCE, UnixStream::connect(&self.path)).await;
        let stream = connecting
            .map_err(|_| cannot(io::ErrorKind::TimedOut.into()))?
            .map_err(cannot)?;
        let broke = |source| self.broke(path, source);
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(broke)?;
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "localhost")
            .body(Full::new(body))
            .map_err(|source| SocketError::Request { asked: path, source })?;
        let work = async {
            let reply = sender.send_request(request).await.map_err(broke)?;
            talk(reply).await
        };
        let (mut work, connection) = (pin!(work), pin!(connection));
        tokio::select! {
            done = &mut work => done,
            // What was read before its end is still to be taken.
            _ = connection => work.await,
        }
    }

    fn broke(&self, asked: &'static str, source: hyper::Error) -> SocketError {
        SocketError::Broke {
            path: self.path.clone(),
            asked,
            source,
        }
    }
}

/// Why a debug socket did not answer.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// Nobody serves it, or it may not be opened.
    #[error("cannot open the debug socket {path}", path = path.display())]
    Connect {
        /// The socket.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// The request cannot be written.
    #[error("cannot ask for {asked}")]
    Request {
        /// What was asked.
        asked: &'static str,
        /// Why.
        source: http::Error,
    },
    /// The connection broke.
    #[error("{path} broke off while asked for {asked}", path = path.display())]
    Broke {
        /// The socket.
        path: PathBuf,
        /// What was asked.
        asked: &'static str,
        /// How.
        source: hyper::Error,
    },
    /// No answer in time.
    #[error("no answer from {path} within {limit:?}", path = path.display())]
    Slow {
        /// The socket.
        path: PathBuf,
        /// How long.
        limit: Duration,
    },
    /// The answer is too long.
    #[error("the answer of {path} is longer than any should be", path = path.display())]
    TooMuch {
        /// The socket.
        path: PathBuf,
    },
    /// The answer is a refusal.
    #[error("{path} answers {status} when asked for {asked}: {text}", path = path.display())]
    Status {
        /// The socket.
        path: PathBuf,
        /// What was asked.
        asked: &'static str,
        /// The HTTP status.
        status: StatusCode,
        /// What came with it.
        text: String,
    },
    /// The answer is no JSON.
    #[error("{path} answers something else when asked for {asked}", path = path.display())]
    Json {
        /// The socket.
        path: PathBuf,
        /// What was asked.
        asked: &'static str,
        /// What is wrong.
        source: serde_json::Error,
    },
}

/// How long an answer may take that needs nothing but memory.
const PATIENCE: Duration = Duration::from_secs(10);

/// The longest answer, and the longest line of a stream.
const MOST_BYTES: usize = 16 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::UnixListener;

    use super::*;

    /// Answers one connection with `answer`, whatever is asked.
    async fn answering(listener: UnixListener, answer: &str) {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut asked = [0; 1024];
        assert_ne!(stream.read(&mut asked).await.unwrap(), 0);
        stream.write_all(answer.as_bytes()).await.unwrap();
    }

    fn place() -> (tempfile::TempDir, Socket, UnixListener) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        let listener = UnixListener::bind(&path).unwrap();
        (folder, Socket::new(path), listener)
    }

    #[tokio::test]
    async fn json_is_taken_and_a_refusal_told() {
        let (_folder, socket, listener) = place();
        let fine = "HTTP/1.1 200 OK\r\ncontent-length: 7\r\n\r\n{\"a\":1}";
        let (asked, ()) = tokio::join!(socket.get("/edges"), answering(listener, fine));
        assert_eq!(asked.unwrap()["a"], 1);

        let (_folder, socket, listener) = place();
        let no = "HTTP/1.1 404 Not Found\r\ncontent-length: 4\r\n\r\nnone";
        let (asked, ()) = tokio::join!(socket.get("/edges"), answering(listener, no));
        let error = asked.unwrap_err().to_string();
        assert!(
            error.ends_with("answers 404 Not Found when asked for /edges: none"),
            "{error}"
        );
    }

    #[tokio::test]
    async fn lines_come_one_by_one_whatever_the_pieces() {
        let (_folder, socket, listener) = place();
        let answer =
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\na\nb\r\n3\r\nc\nd\r\n0\r\n\r\n";
        let mut lines = Vec::new();
        let asked = socket.lines("/tap", |line| {
            lines.push(line.to_owned());
            Ok(())
        });
        let (asked, ()) = tokio::join!(asked, answering(listener, answer));
        asked.unwrap();
        assert_eq!(lines, ["a", "bc"]);
    }

    #[tokio::test]
    async fn nobody_there_is_told() {
        let error = Socket::new("no-such-socket").get("/edges").await.unwrap_err();
        assert_eq!(error.to_string(), "cannot open the debug socket no-such-socket");
    }
}
