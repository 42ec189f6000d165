//! Tests what happens when the process has no file descriptors left, in a process of its own.

use std::fs;
use std::process::Command;

use tokio::net::TcpStream;

use super::*;

/// How many descriptors this process may have.
fn allowed() -> usize {
    let limits = fs::read_to_string("/proc/self/limits").unwrap();
    let line = limits
        .lines()
        .find(|line| line.starts_with("Max open files"))
        .unwrap();
    line.split_whitespace().nth(3).unwrap().parse().unwrap()
}

// E7: at 64 descriptors the server pauses, and answers again once there are some.
#[test]
#[ignore = "needs prlimit: tests/run"]
fn the_server_outlives_a_lack_of_descriptors() {
    if allowed() == 64 {
        tokio::runtime::Runtime::new()
            .unwrap()
            .block_on(run_out_of_descriptors());
        return;
    }
    let child = Command::new("prlimit")
        .arg("--nofile=64:64")
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "--include-ignored", "--nocapture"])
        .arg("https::tests::descriptors::the_server_outlives_a_lack_of_descriptors")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&child.stdout);
    assert!(
        child.status.success(),
        "{said}{}",
        String::from_utf8_lossy(&child.stderr)
    );
    assert!(said.contains("1 passed"), "{said}");
}

#[allow(clippy::disallowed_methods, reason = "the test's own clients and tasks")]
async fn run_out_of_descriptors() {
    let listener = listen("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = listener.local_addr().unwrap();
    let (metrics, drain) = (Metrics::new(), Drain::new());
    let counters = ServerMetrics::register(&metrics);
    let server = Server::new(
        "test",
        Limits::default(),
        Clock::system(),
        drain.clone(),
        &counters,
    );
    let serving = tokio::spawn(server.serve_plain(listener, Arc::new(echo)));
    let refusals = |metrics: &Metrics| {
        let text = metrics.encode().unwrap();
        let line = text.lines().find(|line| line.contains(r#"reason="accept""#));
        line.map_or(0, |line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap())
    };

    // The clients live in this process too, so both sides run out together.
    let mut clients = Vec::new();
    let begin = tokio::time::Instant::now();
    while refusals(&metrics) < 5 {
        match TcpStream::connect(address).await {
            Ok(client) => clients.push(client),
            Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
        }
        assert!(
            begin.elapsed() < Duration::from_secs(30),
            "{} refusals",
            refusals(&metrics)
        );
    }
    // It tried at most once in 10 ms.
    let tries = u128::from(refusals(&metrics));
    assert!(tries <= 1 + begin.elapsed().as_millis() / 10, "{tries} tries");

    clients.clear();
    let mut client = TcpStream::connect(address).await.unwrap();
    send(&mut client, LAST).await;
    assert!(rest(&mut client).await.ends_with("/last ."));
    drain.close();
    serving.await.unwrap();
}
