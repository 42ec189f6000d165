//! Asks a sidecar, or another of our programs, through its debug socket.

use std::cell::Cell;
use std::ffi::OsString;
use std::io;
use std::path::PathBuf;
use std::pin::pin;
use std::process::Stdio;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite};
use tokio::net::UnixStream;
use tokio::process::Command;
use tokio::time::timeout;

use crate::failure::Failure;

/// A debug socket. Whoever may open it may ask everything.
#[derive(Debug, Clone)]
pub struct Socket {
    /// What it is called in sentences.
    place: String,
    way: Way,
}

/// How a debug socket is reached.
#[derive(Debug, Clone)]
enum Way {
    /// It is a file here.
    File(PathBuf),
    /// A program's input and output are joined with it.
    Program {
        program: PathBuf,
        arguments: Vec<OsString>,
    },
}

impl Socket {
    /// The socket at `path`.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        let path = path.into();
        Self {
            place: path.display().to_string(),
            way: Way::File(path),
        }
    }

    /// The socket that the input and output of `program` are joined with, once it is started; in sentences it is called
    /// `place`.
    pub fn through(program: impl Into<PathBuf>, arguments: Vec<OsString>, place: impl Into<String>) -> Self {
        Self {
            place: place.into(),
            way: Way::Program {
                program: program.into(),
                arguments,
            },
        }
    }

    /// Whether a program runs for as long as this is spoken to.
    pub(crate) const fn is_by_program(&self) -> bool {
        matches!(self.way, Way::Program { .. })
    }

    /// How long to wait for something that takes `limit` there.
    fn patience(&self, limit: Duration) -> Duration {
        match self.way {
            Way::File(_) => limit,
            Way::Program { .. } => limit + STARTING,
        }
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
                    let place = self.place.clone();
                    return Err(SocketError::TooMuch { place }.into());
                }
            }
            Ok(())
        };
        self.with(Method::GET, path, Bytes::new(), talk).await
    }

    fn json(&self, asked: &'static str, text: &[u8]) -> Result<Value, SocketError> {
        serde_json::from_slice(text).map_err(|source| SocketError::Json {
            place: self.place.clone(),
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
                place: self.place.clone(),
            })?;
            Ok(whole.to_bytes())
        };
        let limit = self.patience(limit);
        match timeout(limit, self.with(method, path, body, talk)).await {
            Ok(answered) => answered,
            Err(_) => Err(SocketError::Slow {
                place: self.place.clone(),
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
            place: self.place.clone(),
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
        talk: impl AsyncFnMut(Response<Incoming>) -> Result<T, E>,
    ) -> Result<T, E> {
        let cannot = |source| SocketError::Connect {
            place: self.place.clone(),
            source,
        };
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "localhost")
            // So that what is joined with the socket ends by itself, whatever becomes of this side.
            .header("connection", "close")
            .body(Full::new(body))
            .map_err(|source| SocketError::Request { asked: path, source })?;
        let (program, arguments) = match &self.way {
            Way::File(file) => {
                let connecting = timeout(PATIENCE, UnixStream::connect(file)).await;
                let stream = connecting
                    .map_err(|_| cannot(io::ErrorKind::TimedOut.into()))?
                    .map_err(cannot)?;
                return self.over(stream, path, request, talk).await;
            }
            Way::Program { program, arguments } => (program, arguments),
        };
        let mut child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(cannot)?;
        let (Some(to), Some(from), Some(mut says)) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take())
        else {
            return Err(cannot(io::ErrorKind::BrokenPipe.into()).into());
        };
        let has_answered = Cell::new(false);
        let mut talk = talk;
        let noting = async |reply: Response<Incoming>| {
            has_answered.set(true);
            talk(reply).await
        };
        let done = self.over(tokio::io::join(from, to), path, request, noting).await;
        if done.is_ok() || has_answered.get() {
            return done;
        }
        // Why the program has ended before there was an answer, it says itself.
        let mut said = Vec::new();
        let _ = timeout(LAST_WORDS, (&mut says).take(MOST_WORDS).read_to_end(&mut said)).await;
        match first_words(&String::from_utf8_lossy(&said)) {
            "" => done,
            said => Err(SocketError::Said {
                place: self.place.clone(),
                said: said.to_owned(),
            }
            .into()),
        }
    }

    /// The same, over a connection that stands.
    async fn over<T, E: From<SocketError>>(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin,
        path: &'static str,
        request: Request<Full<Bytes>>,
        mut talk: impl AsyncFnMut(Response<Incoming>) -> Result<T, E>,
    ) -> Result<T, E> {
        let broke = |source| self.broke(path, source);
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(broke)?;
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
            place: self.place.clone(),
            asked,
            source,
        }
    }
}

/// The first line that tells people something: `kubectl` says before it what its own parts have met, each line with the
/// time and the place in its source.
pub(crate) fn first_words(said: &str) -> &str {
    let of_its_parts = |line: &str| {
        let mut characters = line.chars();
        matches!(characters.next(), Some('E' | 'W' | 'I')) && characters.take(4).all(|c| c.is_ascii_digit())
    };
    let mut lines = said.lines().map(str::trim);
    lines
        .find(|line| !line.is_empty() && !of_its_parts(line))
        .unwrap_or_default()
}

/// Why a debug socket did not answer.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// Nobody serves it, or it may not be opened.
    #[error("cannot open the debug socket {place}")]
    Connect {
        /// The socket.
        place: String,
        /// The system's answer.
        source: io::Error,
    },
    /// The program that leads to it has ended instead.
    #[error("cannot ask {place}: {said}")]
    Said {
        /// The socket.
        place: String,
        /// What that program said.
        said: String,
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
    #[error("{place} broke off while asked for {asked}")]
    Broke {
        /// The socket.
        place: String,
        /// What was asked.
        asked: &'static str,
        /// How.
        source: hyper::Error,
    },
    /// No answer in time.
    #[error("no answer from {place} within {limit:?}")]
    Slow {
        /// The socket.
        place: String,
        /// How long.
        limit: Duration,
    },
    /// The answer is too long.
    #[error("the answer of {place} is longer than any should be")]
    TooMuch {
        /// The socket.
        place: String,
    },
    /// The answer is a refusal.
    #[error("{place} answers {status} when asked for {asked}: {text}")]
    Status {
        /// The socket.
        place: String,
        /// What was asked.
        asked: &'static str,
        /// The HTTP status.
        status: StatusCode,
        /// What came with it.
        text: String,
    },
    /// The answer is no JSON.
    #[error("{place} answers something else when asked for {asked}")]
    Json {
        /// The socket.
        place: String,
        /// What was asked.
        asked: &'static str,
        /// What is wrong.
        source: serde_json::Error,
    },
}

/// How long an answer may take that needs nothing but memory.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long a program may take besides, until it is joined with the socket.
const STARTING: Duration = Duration::from_secs(20);

/// How long a program that has failed may take to say why, and the most that is read of it.
const LAST_WORDS: Duration = Duration::from_secs(2);
const MOST_WORDS: u64 = 16 * 1024;

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

    fn through(script: &str) -> Socket {
        Socket::through("sh", vec!["-c".into(), script.into()], "web-1.shop")
    }

    #[tokio::test]
    async fn a_program_joined_with_the_socket_is_as_good_as_the_socket() {
        let socket = through(
            "read -r line; echo \"$line\" >&2; printf 'HTTP/1.1 200 OK\\r\\ncontent-length: 7\\r\\n\\r\\n{\"a\":1}'; cat >/dev/null",
        );
        assert_eq!(socket.get("/edges").await.unwrap()["a"], 1);
    }

    #[tokio::test]
    async fn a_program_that_ends_instead_says_why() {
        let socket =
            through("echo 'E1122 15:00:00 memcache.go:265] x' >&2; echo 'error: no such pod' >&2; exit 1");
        let error = socket.get("/edges").await.unwrap_err().to_string();
        assert_eq!(error, "cannot ask web-1.shop: error: no such pod");
        let error = Socket::through("no-such-program", Vec::new(), "web-1.shop");
        let error = error.get("/edges").await.unwrap_err().to_string();
        assert_eq!(error, "cannot open the debug socket web-1.shop");
    }

    #[tokio::test]
    async fn nobody_there_is_told() {
        let error = Socket::new("no-such-socket").get("/edges").await.unwrap_err();
        assert_eq!(error.to_string(), "cannot open the debug socket no-such-socket");
    }
}
