//! The application in the pods of the tests on Kubernetes: serves, asks, and leaves like a well-behaved one.

#![allow(
    clippy::unwrap_used,
    reason = "an application of tests that cannot go on has failed"
)]

use std::convert::Infallible;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv6Addr, SocketAddr, TcpListener, TcpStream, ToSocketAddrs as _};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response};
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let done = match words.as_slice() {
        // Also what keeps a pod's namespaces open.
        [] | ["pause"] => {
            stopped();
            true
        }
        ["done"] => true,
        ["serve", name, port] => serve(name, number(port)),
        ["grpc", port] => grpc(number(port)),
        ["ask", target] => match ask(target) {
            Ok(answer) => {
                print!("{answer}");
                true
            }
            Err(error) => {
                eprintln!("{target}: {error}");
                false
            }
        },
        ["watch", target] => watch(target),
        ["load", target, rate] => load(target, rate.parse().unwrap()),
        _ => {
            eprintln!(
                "usage: pause | done | serve NAME PORT | grpc PORT | ask HOST:PORT[/PATH] | watch HOST:PORT[/PATH] | load HOST:PORT RATE"
            );
            return ExitCode::from(64);
        }
    };
    if done {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn number(text: &str) -> u16 {
    text.parse().unwrap()
}

/// Answers every request over HTTP/1.1 with its name, the path and where the request came from.
fn serve(name: &str, port: u16) -> bool {
    let name: Arc<str> = name.into();
    accept(port, move |stream| {
        // A caller who goes away is no matter.
        let _ = answer(&name, &stream);
    });
    stopped();
    // Those who still send have to learn first that this one leaves.
    thread::sleep(LEAVE);
    true
}

fn answer(name: &str, stream: &TcpStream) -> io::Result<()> {
    stream.set_read_timeout(Some(IDLE))?;
    let from = stream.peer_addr()?.ip().to_canonical();
    let mut lines = BufReader::new(stream);
    loop {
        let mut first = String::new();
        if lines.read_line(&mut first)? == 0 {
            return Ok(());
        }
        let path = first.split(' ').nth(1).unwrap_or_default().to_owned();
        let (mut line, mut close) = (String::new(), false);
        while lines.read_line(&mut line)? > 2 {
            close |= line.to_ascii_lowercase().trim_end() == "connection: close";
            line.clear();
        }
        let body = format!("{name} {path} {from}\n");
        let length = body.len();
        let mut to = stream;
        write!(to, "HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{body}")?;
        if close {
            return Ok(());
        }
    }
}

/// Answers every call as a healthy server answers `grpc.health.v1.Health/Check`.
fn grpc(port: u16) -> bool {
    accept(port, |stream| {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            stream.set_nonblocking(true).unwrap();
            let stream = tokio::net::TcpStream::from_std(stream).unwrap();
            let service = hyper::service::service_fn(|_| async {
                let mut trailers = HeaderMap::new();
                trailers.insert("grpc-status", HeaderValue::from_static("0"));
                let body = Full::new(Bytes::from_static(SERVING)).with_trailers(async { Some(Ok(trailers)) });
                Ok::<_, Infallible>(
                    Response::builder()
                        .header("content-type", "application/grpc")
                        .body(body)
                        .unwrap(),
                )
            });
            let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            // A caller who goes away is no matter.
            let _ = server.serve_connection(TokioIo::new(stream), service).await;
        });
    });
    stopped();
    true
}

/// Opens the port in both families and serves each connection on a thread of its own.
fn accept(port: u16, each: impl Fn(TcpStream) + Clone + Send + 'static) {
    let listener = TcpListener::bind((Ipv6Addr::UNSPECIFIED, port))
        .or_else(|_| TcpListener::bind(("0.0.0.0", port)))
        .unwrap();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let each = each.clone();
            thread::spawn(move || each(stream));
        }
    });
}

/// One request on a connection of its own; the answer's body.
fn ask(target: &str) -> io::Result<String> {
    let (place, path) = target.split_once('/').unwrap_or((target, ""));
    let all: Vec<SocketAddr> = place.to_socket_addrs()?.collect();
    let first = all.first().ok_or(io::ErrorKind::AddrNotAvailable)?;
    let mut stream = TcpStream::connect_timeout(first, LIMIT)?;
    stream.set_read_timeout(Some(LIMIT))?;
    stream.set_write_timeout(Some(LIMIT))?;
    write!(
        stream,
        "GET /{path} HTTP/1.1\r\nhost: {place}\r\nconnection: close\r\n\r\n"
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer
        .split_once("\r\n\r\n")
        .ok_or_else(|| io::Error::new(io::ErrorKind::UnexpectedEof, format!("no answer: {answer:?}")))?;
    if head.starts_with("HTTP/1.1 200") {
        Ok(body.to_owned())
    } else {
        Err(io::Error::other(
            head.lines().next().unwrap_or_default().to_owned(),
        ))
    }
}

/// Asks again and again, and notes when that begins to get an answer or ends to, in milliseconds of Unix time, until
/// nobody reads it any more.
fn watch(target: &str) -> bool {
    let mut last = None;
    loop {
        let got = ask(target);
        if last.replace(got.is_ok()) != Some(got.is_ok()) {
            let word = got.map_or_else(|error| format!("no {error}"), |_| "yes".to_owned());
            let noted = writeln!(
                io::stdout(),
                "{} {word}",
                ferrule_tests::wait::unix_milliseconds()
            );
            if noted.is_err() {
                return true;
            }
        }
        thread::sleep(PAUSE);
    }
}

/// Asks `rate` times in a second until it is told to stop, then says how often that failed. Requests start on time,
/// whatever became of those before them.
fn load(target: &str, rate: u32) -> bool {
    let counts = Arc::new(Counts::default());
    let every = Duration::from_secs(1) / rate;
    let (asking, target) = (Arc::clone(&counts), Arc::<str>::from(target));
    let asker = thread::spawn(move || {
        let start = Instant::now();
        let mut number = 0;
        while !asking.stop.load(Ordering::Acquire) {
            number += 1;
            let (counts, target) = (Arc::clone(&asking), Arc::clone(&target));
            counts.open.fetch_add(1, Ordering::AcqRel);
            thread::spawn(move || {
                match ask(&target) {
                    Ok(_) => counts.good.fetch_add(1, Ordering::AcqRel),
                    Err(error) => {
                        println!("failed: {error}");
                        counts.failed.fetch_add(1, Ordering::AcqRel)
                    }
                };
                counts.open.fetch_sub(1, Ordering::AcqRel);
            });
            if number % (rate * 2) == 0 {
                asking.print();
            }
            thread::sleep((start + every * number).saturating_duration_since(Instant::now()));
        }
    });
    stopped();
    counts.stop.store(true, Ordering::Release);
    asker.join().unwrap();
    while counts.open.load(Ordering::Acquire) > 0 {
        thread::sleep(Duration::from_millis(5));
    }
    counts.print();
    println!("ended");
    counts.failed.load(Ordering::Acquire) == 0
}

#[derive(Default)]
struct Counts {
    stop: AtomicBool,
    open: AtomicU64,
    good: AtomicU64,
    failed: AtomicU64,
}

impl Counts {
    fn print(&self) {
        let (good, failed) = (
            self.good.load(Ordering::Acquire),
            self.failed.load(Ordering::Acquire),
        );
        println!("good={good} failed={failed}");
    }
}

/// Returns when the pod is told to stop.
fn stopped() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let mut told = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()).unwrap();
        told.recv().await;
    });
}

/// A message of five octets of frame and `status: SERVING`.
const SERVING: &[u8] = &[0, 0, 0, 0, 2, 8, 1];
const LIMIT: Duration = Duration::from_secs(30);
const IDLE: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(20);
const LEAVE: Duration = Duration::from_secs(5);
