//! Tests the probes against applications of all kinds.

use std::net::Ipv4Addr;
use std::num::NonZeroU16;
use std::time::Duration;

use ferrule_daemon::metrics::Metrics;
use http::{HeaderName, HeaderValue};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::*;
use crate::config::{HttpProbe, ProbeAsk};

/// An application that answers every connection with `answer`, and tells what it was sent.
async fn application(answer: &'static [u8]) -> (NonZeroU16, tokio::sync::mpsc::Receiver<Vec<u8>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = NonZeroU16::new(listener.local_addr().unwrap().port()).unwrap();
    let (tell, told) = tokio::sync::mpsc::channel(8);
    #[allow(clippy::disallowed_methods, reason = "ends with the test's runtime")]
    tokio::spawn(async move {
        while let Ok((mut tcp, _)) = listener.accept().await {
            let mut sent = vec![0; 4096];
            let read = tcp.read(&mut sent).await.unwrap_or(0);
            sent.truncate(read);
            let _ = tcp.write_all(answer).await;
            let _ = tell.send(sent).await;
        }
    });
    (port, told)
}

fn probe(ask: ProbeAsk) -> Probe {
    Probe {
        name: "app/readiness".to_owned(),
        timeout: Duration::from_secs(5),
        ask,
    }
}

fn get(port: NonZeroU16, path: &str, headers: &[(&'static str, &'static str)]) -> ProbeAsk {
    ProbeAsk::Http(HttpProbe {
        port,
        path: path.to_owned(),
        tls: false,
        headers: headers
            .iter()
            .map(|(name, value)| {
                let (name, value) = (HeaderName::from_static(name), HeaderValue::from_static(value));
                (name, value)
            })
            .collect(),
    })
}

/// Serves the probes, and gives the first line of the answer to a request.
async fn first_line(declared: Vec<Probe>, request: &str) -> String {
    let config = ProbesConfig {
        listen: "127.0.0.1:0".parse().unwrap(),
        declared,
    };
    let counters = ServerMetrics::register(&Metrics::new());
    let here = Ipv4Addr::LOCALHOST.into();
    let probes = Probes::open(&config, here, Clock::system(), Drain::new(), &counters).unwrap();
    let address = probes.listener.local_addr().unwrap();
    let asking = async {
        #[allow(clippy::disallowed_methods, reason = "loopback, in a test")]
        let mut tcp = TcpStream::connect(address).await.unwrap();
        tcp.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        tcp.read_to_string(&mut answer).await.unwrap();
        answer.lines().next().unwrap_or_default().to_owned()
    };
    tokio::select! {
        () = probes.serve() => panic!("ended"),
        line = asking => line,
    }
}

const ASK: &str = "GET /probe/app/readiness HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

#[tokio::test]
async fn what_is_asked_is_what_was_declared_and_nothing_of_the_callers() {
    let (port, mut told) = application(OK).await;
    let declared = vec![probe(get(port, "/healthz?full=1", &[("x-probe", "1")]))];
    let request = "GET /probe/app/readiness?path=/admin HTTP/1.1\r\nhost: evil\r\nx-evil: 1\r\nconnection: close\r\n\r\n";
    assert_eq!(first_line(declared, request).await, "HTTP/1.1 200 OK");
    let sent = String::from_utf8(told.recv().await.unwrap()).unwrap();
    assert!(sent.starts_with("GET /healthz?full=1 HTTP/1.1\r\n"), "{sent}");
    assert!(sent.contains("x-probe: 1"), "{sent}");
    assert!(!sent.contains("evil"), "{sent}");
}

#[tokio::test]
async fn what_no_probe_declares_is_refused_and_not_asked() {
    let (port, mut told) = application(OK).await;
    for path in [
        "/",
        "/healthz",
        "/probe/",
        "/probe/app",
        "/probe/app/liveness",
        "/probe/app/readiness/",
        "/probe//app/readiness",
    ] {
        let declared = vec![probe(get(port, "/healthz", &[]))];
        let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        assert_eq!(
            first_line(declared, &request).await,
            "HTTP/1.1 404 Not Found",
            "{path}"
        );
    }
    let declared = vec![probe(get(port, "/healthz", &[]))];
    let posted = ASK.replace("GET", "POST");
    assert_eq!(
        first_line(declared, &posted).await,
        "HTTP/1.1 405 Method Not Allowed"
    );
    assert!(told.try_recv().is_err(), "the application was asked");
}

#[tokio::test]
async fn a_no_of_the_application_is_a_no() {
    for answer in [
        b"HTTP/1.1 500 Oh\r\ncontent-length: 0\r\n\r\n".as_slice(),
        b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n",
        b"not http at all\r\n\r\n",
        b"",
    ] {
        let (port, _told) = application(answer).await;
        let declared = vec![probe(get(port, "/", &[]))];
        assert_eq!(
            first_line(declared, ASK).await,
            "HTTP/1.1 503 Service Unavailable"
        );
    }
    let (port, _told) = application(b"HTTP/1.1 302 Found\r\nlocation: /x\r\ncontent-length: 0\r\n\r\n").await;
    let declared = vec![probe(get(port, "/", &[]))];
    assert_eq!(first_line(declared, ASK).await, "HTTP/1.1 200 OK");
}

#[tokio::test]
async fn a_tcp_probe_asks_the_application_and_not_the_proxy() {
    let (port, _told) = application(b"").await;
    let declared = vec![probe(ProbeAsk::Tcp { port })];
    assert_eq!(first_line(declared, ASK).await, "HTTP/1.1 200 OK");
    let closed = {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        NonZeroU16::new(listener.local_addr().unwrap().port()).unwrap()
    };
    let declared = vec![probe(ProbeAsk::Tcp { port: closed })];
    assert_eq!(
        first_line(declared, ASK).await,
        "HTTP/1.1 503 Service Unavailable"
    );
}

#[tokio::test]
async fn an_application_that_never_answers_is_a_no_in_time() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = NonZeroU16::new(listener.local_addr().unwrap().port()).unwrap();
    let mut slow = probe(get(port, "/", &[]));
    slow.timeout = Duration::from_millis(200);
    assert_eq!(
        first_line(vec![slow], ASK).await,
        "HTTP/1.1 503 Service Unavailable"
    );
}

/// Answers one gRPC call with these bytes as its only message, and says what was asked.
async fn health_service(
    answer: &'static [u8],
) -> (NonZeroU16, tokio::sync::oneshot::Receiver<(String, Vec<u8>)>) {
    use http_body_util::{BodyExt as _, Full};

    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = NonZeroU16::new(listener.local_addr().unwrap().port()).unwrap();
    let (tell, told) = tokio::sync::oneshot::channel();
    #[allow(clippy::disallowed_methods, reason = "ends with the test's runtime")]
    tokio::spawn(async move {
        let (tcp, _) = listener.accept().await.unwrap();
        let tell = std::sync::Mutex::new(Some(tell));
        let service = hyper::service::service_fn(|request: http::Request<hyper::body::Incoming>| {
            let tell = tell.lock().unwrap().take();
            async move {
                let path = request.uri().path().to_owned();
                let body = request.into_body().collect().await.unwrap().to_bytes();
                if let Some(tell) = tell {
                    let _ = tell.send((path, body.to_vec()));
                }
                Ok::<_, std::convert::Infallible>(http::Response::new(Full::new(bytes::Bytes::from_static(
                    answer,
                ))))
            }
        });
        let _ = hyper::server::conn::http2::Builder::new(hyper_util::rt::TokioExecutor::new())
            .serve_connection(hyper_util::rt::TokioIo::new(tcp), service)
            .await;
    });
    (port, told)
}

#[tokio::test]
async fn a_grpc_probe_speaks_the_health_protocol() {
    let serving = &[0, 0, 0, 0, 2, 0x08, 1];
    let not_serving = &[0, 0, 0, 0, 2, 0x08, 2];
    for (answer, line) in [
        (serving, "HTTP/1.1 200 OK"),
        (not_serving, "HTTP/1.1 503 Service Unavailable"),
    ] {
        let (port, told) = health_service(answer).await;
        let service = "shop.Api".to_owned();
        let declared = vec![probe(ProbeAsk::Grpc { port, service })];
        assert_eq!(first_line(declared, ASK).await, line);
        let (path, asked) = told.await.unwrap();
        assert_eq!(path, "/grpc.health.v1.Health/Check");
        assert_eq!(
            asked,
            [&[0, 0, 0, 0, 10, 0x0a, 8], b"shop.Api".as_slice()].concat()
        );
    }
}
