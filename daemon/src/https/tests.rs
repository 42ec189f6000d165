//! Tests of the server: every limit, every refusal.

mod descriptors;
mod limits;
mod stopping;
mod tls;

use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use http::StatusCode;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, duplex};
use tokio::sync::{Mutex, mpsc};

use super::*;

/// A listener whose connections the test makes: pipes in memory, so that paused time works. It can be told to
/// fail, as the system's would.
struct Pipes {
    coming: Mutex<mpsc::Receiver<io::Result<DuplexStream>>>,
}

impl Listen for Pipes {
    type Stream = DuplexStream;

    async fn accept(&self) -> io::Result<(DuplexStream, PeerAddr)> {
        match self.coming.lock().await.recv().await {
            Some(Ok(stream)) => Ok((stream, PeerAddr::Tcp("192.0.2.7:4711".parse().unwrap()))),
            Some(Err(error)) => Err(error),
            None => std::future::pending().await,
        }
    }
}

/// A running server, its metrics, and the way in.
struct Running {
    drain: Drain,
    metrics: Metrics,
    coming: mpsc::Sender<io::Result<DuplexStream>>,
    serving: tokio::task::JoinHandle<()>,
}

#[allow(clippy::disallowed_methods, reason = "the test itself sees the task end")]
fn start<H: Handler>(limits: Limits, tls: Option<Arc<ServerConfig>>, handler: H) -> Running {
    let (coming, pipes) = mpsc::channel(1024);
    let pipes = Pipes {
        coming: Mutex::new(pipes),
    };
    let (metrics, drain) = (Metrics::new(), Drain::new());
    let (clock, _) = Clock::manual(784_111_777);
    let counters = ServerMetrics::register(&metrics);
    let server = Server::new("test", limits, clock, drain.clone(), &counters);
    let handler = Arc::new(handler);
    let serving = tokio::spawn(async move {
        match tls {
            Some(tls) => server.serve_tls(pipes, move || tls.clone(), handler).await,
            None => server.serve_plain(pipes, handler).await,
        }
    });
    Running {
        drain,
        metrics,
        coming,
        serving,
    }
}

impl Running {
    async fn connect(&self) -> DuplexStream {
        let (ours, theirs) = duplex(64 * 1024);
        self.coming.send(Ok(theirs)).await.unwrap();
        ours
    }

    /// Sends `bytes` on a connection of its own, and returns all that comes back until the server closes.
    async fn exchange(&self, bytes: &[u8]) -> String {
        let mut stream = self.connect().await;
        stream.write_all(bytes).await.unwrap();
        rest(&mut stream).await
    }

    /// The number that a metric shows.
    fn count(&self, series: &str) -> u64 {
        let text = self.metrics.encode().unwrap();
        let line = text.lines().find(|line| line.starts_with(series));
        line.map_or(0, |line| line.rsplit(' ').next().unwrap().parse().unwrap())
    }

    fn refused(&self, reason: &str) -> u64 {
        self.count(&format!(
            r#"ferrule_server_refused_total{{server="test",reason="{reason}"}}"#
        ))
    }
}

/// All that comes until the end, reset or not.
async fn rest(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut bytes = Vec::new();
    let _ = stream.read_to_end(&mut bytes).await;
    String::from_utf8(bytes).unwrap()
}

/// The next answer on a kept connection, read up to its length.
async fn next_answer(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut bytes = Vec::new();
    while !bytes.ends_with(b"\r\n\r\n") {
        bytes.push(stream.read_u8().await.unwrap());
    }
    let mut answer = String::from_utf8(bytes).unwrap();
    let length = answer
        .split("content-length: ")
        .nth(1)
        .unwrap()
        .split('\r')
        .next()
        .unwrap();
    let mut body = vec![0; length.parse().unwrap()];
    stream.read_exact(&mut body).await.unwrap();
    answer.push_str(&String::from_utf8(body).unwrap());
    answer
}

async fn send(stream: &mut (impl AsyncWrite + Unpin), text: &str) {
    stream.write_all(text.as_bytes()).await.unwrap();
    stream.flush().await.unwrap();
}

fn text(status: StatusCode, body: String) -> Reply {
    reply(status, "text/plain", body)
}

/// Answers with the path and the body.
async fn echo(request: Request) -> Reply {
    let path = request.uri().path().to_owned();
    match request.into_body().read().await {
        Ok(body) => text(
            StatusCode::OK,
            format!("{path} {}.", String::from_utf8_lossy(&body)),
        ),
        Err(error) => text(error.status(), format!("{error}.")),
    }
}

const GET: &str = "GET /a HTTP/1.1\r\nHost: x\r\n\r\n";
const LAST: &str = "GET /last HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";

#[tokio::test]
async fn answers_one_request_after_another_on_a_kept_connection() {
    let running = start(Limits::default(), None, echo);
    let mut stream = running.connect().await;
    send(&mut stream, GET).await;
    let answer = next_answer(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(
        answer.contains("\r\ndate: Sun, 06 Nov 1994 08:49:37 GMT\r\n"),
        "{answer}"
    );
    assert!(answer.ends_with("\r\n\r\n/a ."), "{answer}");
    send(&mut stream, "POST /b HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc").await;
    assert!(next_answer(&mut stream).await.ends_with("/b abc."));
    let chunked = "POST /c HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nde\r\n1\r\nf\r\n0\r\n\r\n";
    send(&mut stream, chunked).await;
    assert!(next_answer(&mut stream).await.ends_with("/c def."));
    send(&mut stream, LAST).await;
    assert!(rest(&mut stream).await.ends_with("/last ."));
    assert_eq!(running.count("ferrule_server_requests_total"), 4);
    assert_eq!(running.count("ferrule_server_connections_total"), 1);
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let running = start(Limits::default(), None, echo);
    let both = running.exchange(format!("{GET}{LAST}").as_bytes()).await;
    let (first, last) = (both.find("/a .").unwrap(), both.find("/last .").unwrap());
    assert!(first < last, "{both}");
}

// E6: on raw connections, with a request smuggled behind; what the handler sees is counted.
#[tokio::test]
async fn a_smuggled_request_never_reaches_the_handler() {
    static SEEN: AtomicUsize = AtomicUsize::new(0);
    let count = |request: Request| async {
        SEEN.fetch_add(1, Ordering::SeqCst);
        echo(request).await
    };
    let running = start(Limits::default(), None, count);
    let hidden = "0\r\n\r\nGET /hidden HTTP/1.1\r\nHost: x\r\n\r\n";
    let heads = [
        "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 40\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: +5\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: x\r\nContent-Length : 5\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: xchunked\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding : chunked\r\n\r\n",
        "POST / HTTP/1.0\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: x\r\nX: 1\r\n Content-Length: 5\r\n\r\n",
        "POST / HTTP/1.1\nHost: x\nContent-Length: 5\n\n",
        "POST / HTTP/1.1\r\nHost: x\nContent-Length: 5\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: x\r\nX: a\rContent-Length: 5\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: x\r\nHost: y\r\nContent-Length: 5\r\n\r\n",
        "\r\nPOST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: x\r\nX\0: 1\r\n\r\n",
    ];
    for head in heads {
        let answer = running.exchange(format!("{head}{hidden}").as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{head:?}: {answer}");
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{head:?}: {answer}");
        assert_eq!(SEEN.load(Ordering::SeqCst), 0, "{head:?}");
    }
    let refused = running.refused("framing") + running.refused("malformed");
    assert_eq!(refused, heads.len() as u64);
    // The same faults behind a sound request, in one write, do not spoil that one.
    for head in heads {
        let before = SEEN.load(Ordering::SeqCst);
        let both = running.exchange(format!("{GET}{head}{hidden}").as_bytes()).await;
        assert!(both.starts_with("HTTP/1.1 200 "), "{head:?}: {both}");
        assert!(both.contains("HTTP/1.1 400 "), "{head:?}: {both}");
        assert_eq!(SEEN.load(Ordering::SeqCst), before + 1, "{head:?}");
    }
}

#[tokio::test]
async fn a_chunk_that_says_more_than_its_size_is_refused() {
    let running = start(Limits::default(), None, echo);
    for body in [
        "3;x=1\r\nabc\r\n0\r\n\r\n",
        "3\nabc\r\n0\r\n\r\n",
        "3\r\nabc\r\n0\r\nX: 1\r\n\r\n",
    ] {
        let head = "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n";
        let answer = running.exchange(format!("{head}{body}{GET}").as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{body:?}: {answer}");
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{body:?}: {answer}");
    }
}

#[tokio::test]
async fn garbage_is_answered_once_and_closed() {
    let running = start(Limits::default(), None, echo);
    for garbage in [
        &b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n"[..],
        b"\0\0\0\0\r\n\r\n",
        b"{}\r\n\r\n",
    ] {
        let answer = running.exchange(garbage).await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{garbage:?}: {answer}");
    }
    // HTTP/2 is not spoken here; its preface gets no answer that it could mistake for one.
    let answer = running.exchange(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
    assert!(!answer.contains("200"), "{answer}");
    assert!(running.exchange(LAST.as_bytes()).await.ends_with("/last ."));
}

#[tokio::test]
async fn a_tunnel_is_refused_and_its_bytes_are_not_requests() {
    let running = start(Limits::default(), None, echo);
    let connect = "CONNECT example.com:443 HTTP/1.1\r\nHost: example.com\r\n\r\n";
    let answer = running.exchange(format!("{connect}{GET}").as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 405 "), "{answer}");
    assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{answer}");
}

#[tokio::test]
async fn a_panic_costs_one_connection() {
    let handler = |request: Request| async move {
        assert!(request.uri().path() != "/fault", "torn");
        echo(request).await
    };
    let running = start(Limits::default(), None, handler);
    let mut other = running.connect().await;
    send(&mut other, GET).await;
    next_answer(&mut other).await;
    let answer = running
        .exchange(format!("GET /fault HTTP/1.1\r\n\r\n{GET}").as_bytes())
        .await;
    assert!(answer.starts_with("HTTP/1.1 500 "), "{answer}");
    assert!(answer.contains("connection: close"), "{answer}");
    assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{answer}");
    send(&mut other, LAST).await;
    assert!(rest(&mut other).await.ends_with("/last ."));
    assert_eq!(running.refused("fault"), 1);
}

#[tokio::test]
async fn a_handler_can_be_called_without_a_connection() {
    let request = http::Request::new(Body::from(Bytes::from_static(b"abc")));
    assert_eq!(echo(request).await.status(), StatusCode::OK);
}
