//! Tests of the admin interface, over its own thread.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;

use tempfile::TempDir;

use super::*;
use crate::logging::{self, Format};

struct Fixture {
    readiness: Readiness,
    metrics: Metrics,
    running: RunningAdmin,
    folder: TempDir,
}

fn start() -> Fixture {
    let folder = tempfile::tempdir().unwrap();
    let (readiness, metrics) = (Readiness::new(), Metrics::new());
    let counters = ServerMetrics::register(&metrics);
    let places = Places {
        address: Some("127.0.0.1:0".parse().unwrap()),
        socket: Some(folder.path().join("admin.sock")),
    };
    let running = Admin::new(readiness.clone(), metrics.clone(), None)
        .action("/drain", |body| {
            line(StatusCode::OK, format!("draining {}", body.len()))
        })
        .start(&places, &Clock::system(), &counters)
        .unwrap();
    Fixture {
        readiness,
        metrics,
        running,
        folder,
    }
}

impl Fixture {
    fn tcp(&self, request: &str) -> String {
        ask(
            TcpStream::connect(self.running.address().unwrap()).unwrap(),
            request,
        )
    }

    fn unix(&self, request: &str) -> String {
        ask(
            UnixStream::connect(self.folder.path().join("admin.sock")).unwrap(),
            request,
        )
    }
}

fn ask(mut stream: impl Read + Write, request: &str) -> String {
    write!(
        stream,
        "{request} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 5\r\n\r\ndebug"
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn says_what_is_missing_until_the_program_is_ready() {
    let fixture = start();
    let latch = fixture.readiness.latch("certificate");
    let answer = fixture.tcp("GET /ready");
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    assert!(answer.ends_with("not ready: certificate\n"), "{answer}");
    latch.release();
    assert!(fixture.tcp("GET /ready").starts_with("HTTP/1.1 200 "));
    assert!(fixture.unix("GET /ready").starts_with("HTTP/1.1 200 "));
    fixture.readiness.leave();
    assert!(fixture.tcp("GET /ready").ends_with("not ready: stopping\n"));
    assert!(fixture.tcp("GET /live").starts_with("HTTP/1.1 200 "));
}

#[test]
fn shows_the_metrics_in_the_type_that_prometheus_asks_for() {
    let fixture = start();
    fixture.metrics.counter("denied", "Refusals").inc();
    let answer = fixture.tcp("GET /metrics");
    assert!(
        answer.contains(&format!("content-type: {}\r\n", metrics::CONTENT_TYPE)),
        "{answer}"
    );
    assert!(answer.contains("\nferrule_denied_total 1\n"), "{answer}");
    assert!(answer.ends_with("# EOF\n"), "{answer}");
}

// C10: a request over TCP, even from this host, changes nothing.
#[test]
fn only_the_socket_changes_anything() {
    let fixture = start();
    for request in ["POST /loglevel", "GET /loglevel", "POST /drain", "PUT /loglevel"] {
        let answer = fixture.tcp(request);
        assert!(answer.starts_with("HTTP/1.1 403 "), "{request}: {answer}");
    }
    let answer = fixture.unix("POST /drain");
    assert!(answer.ends_with("draining 5\n"), "{answer}");
    assert!(fixture.unix("DELETE /drain").starts_with("HTTP/1.1 405 "));
    for request in ["POST /ready", "POST /metrics", "DELETE /live"] {
        assert!(fixture.tcp(request).starts_with("HTTP/1.1 405 "), "{request}");
    }
    let answer = fixture.tcp("GET /debug/pprof");
    assert!(answer.starts_with("HTTP/1.1 404 "), "{answer}");
}

#[test]
fn the_log_level_changes_through_the_socket() {
    let folder = tempfile::tempdir().unwrap();
    let filter = "info".parse().unwrap();
    let dropped = metrics::Counter::default();
    // The level belongs to the subscriber, so it lives as long as the test.
    let prepared = logging::prepare(Format::Json, filter, Clock::system(), dropped, std::io::sink());
    let (logging, _subscriber) = prepared.unwrap();
    let places = Places {
        address: None,
        socket: Some(folder.path().join("s")),
    };
    let metrics = Metrics::new();
    let counters = ServerMetrics::register(&metrics);
    let admin = Admin::new(Readiness::new(), metrics, Some(logging.levels()));
    let _running = admin.start(&places, &Clock::system(), &counters).unwrap();
    let socket = || UnixStream::connect(folder.path().join("s")).unwrap();
    assert!(ask(socket(), "GET /loglevel").ends_with("\r\n\r\ninfo\n"));
    assert!(ask(socket(), "POST /loglevel").ends_with("\r\n\r\ndebug\n"));
    assert_eq!(logging.levels().current().unwrap().to_string(), "debug");
    let mut stream = socket();
    stream
        .write_all(b"POST /loglevel HTTP/1.1\r\nConnection: close\r\nContent-Length: 6\r\n\r\na=loud")
        .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    assert!(answer.contains("cannot read the log filter a=loud: "), "{answer}");
    assert_eq!(logging.levels().current().unwrap().to_string(), "debug");
}

#[test]
fn a_program_without_levels_says_so() {
    assert!(
        start()
            .unix("POST /loglevel")
            .ends_with("this program's log level is fixed\n")
    );
}

#[test]
fn the_socket_is_for_its_owner_and_goes_with_the_program() {
    let fixture = start();
    let path = fixture.folder.path().join("admin.sock");
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(std::fs::read_dir(fixture.folder.path()).unwrap().count(), 1);
    let Fixture { running, folder, .. } = fixture;
    drop(running);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn a_socket_in_use_is_left_alone_and_a_dead_one_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s");
    let (listener, kept) = Socket::open(&path, 0o600).unwrap().split();
    let error = Socket::open(&path, 0o600).unwrap_err();
    assert!(
        error.to_string().ends_with("another program serves it"),
        "{error}"
    );
    drop(listener);
    let (_listener, _path) = Socket::open(&path, 0o600).unwrap().split();
    std::mem::forget(kept);
    let file = folder.path().join("file");
    std::fs::write(&file, "precious").unwrap();
    let error = Socket::open(&file, 0o600).unwrap_err();
    assert!(
        error
            .to_string()
            .ends_with("something that is no socket is there"),
        "{error}"
    );
    let error = Socket::open(&folder.path().join("none/s"), 0o600).unwrap_err();
    assert!(matches!(error, AdminError::Socket { .. }), "{error}");
}

#[test]
fn an_address_in_use_is_a_fault_before_anything_runs() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let places = Places {
        address: taken.local_addr().ok(),
        socket: None,
    };
    let metrics = Metrics::new();
    let counters = ServerMetrics::register(&metrics);
    let admin = Admin::new(Readiness::new(), metrics, None);
    let error = admin.start(&places, &Clock::system(), &counters).unwrap_err();
    let expected = format!(
        "cannot open the admin address: cannot listen on {}: Address already in use (os error 98)",
        taken.local_addr().unwrap()
    );
    assert_eq!(Chain(&error).to_string(), expected);
}

#[tokio::test]
async fn the_end_of_the_thread_is_the_failure_of_a_task() {
    let mut fixture = start();
    let tasks = Tasks::new();
    fixture.running.watch(&tasks);
    fixture.running.drain.cut_now();
    let failure = tasks.failed().await;
    assert_eq!(
        Chain(failure.as_ref()).to_string(),
        "task admin failed: the admin thread has ended"
    );
}
