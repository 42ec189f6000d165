//! The program is killed at any moment, and loses nothing that it answered.

use std::collections::HashSet;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use ferrule_credentials::client::{Anchor, CaClient};
use ferrule_credentials::join::{Host, join};
use ferrule_daemon::clock::Clock;
use ferrule_identity::{KeyAlgorithm, PrivateKey, SigningRequest, SpiffeId, Timestamp};
use ferrule_wire::JoinToken;
use ferrule_wire::ca::IssueRequest;
use serde_json::Value;
use tokio::sync::mpsc;

use crate::harness::PATIENCE;
use crate::program::{Program, Running};

const WEB: &str = "spiffe://shop.test/ns/shop/sa/web";
const CLIENTS: usize = 32;

/// Starts the CA at `port`, with no limit in the way of the load.
fn serve(program: &Program, port: u16) -> Running {
    let mut command = program.command(&["serve", "--listen", &format!("127.0.0.1:{port}")]);
    command
        .env("FERRULE_CA__LIMITS__ISSUES_PER_CALLER", "1000000")
        .env("FERRULE_CA__LIMITS__ISSUE_BURST", "1000000")
        .env("FERRULE_CA__LIMITS__REQUESTS_PER_ADDRESS", "1000000")
        .env("FERRULE_CA__LIMITS__REQUEST_BURST", "1000000")
        .env("FERRULE_CA__ADMIN__ENABLED", "false");
    program.start(command)
}

/// Asks for one certificate after another until the CA is gone; tells each serial that was answered.
async fn ask_until_gone(host: Host, csr: String, answered: mpsc::Sender<String>) {
    let id = SpiffeId::parse(WEB).unwrap();
    let anchor = Anchor::Trust(Arc::new(host.trust()));
    let mut client = CaClient::new(
        host.addresses.clone(),
        host.trust_domain.clone(),
        anchor,
        Clock::system(),
    );
    loop {
        let now = Timestamp::from_unix(Clock::system().unix());
        let evidence = host.evidence().show(&host.trust_domain, &id, &csr, now).unwrap();
        let request = IssueRequest {
            csr: csr.clone(),
            id: Some(WEB.to_owned()),
            lifetime_seconds: None,
            serving: false,
            evidence,
        };
        match client.issue(&request).await {
            Ok(reply) if answered.send(reply.serial.clone()).await.is_ok() => {}
            _ => return,
        }
    }
}

/// One life of the CA: until it has answered `answers` times, and is killed in the middle of the next ones.
async fn live_and_die(
    program: &Program,
    host: &Host,
    csr: &str,
    port: u16,
    answers: usize,
    all: &mut Vec<String>,
) {
    let mut ca = serve(program, port);
    let (answered, mut answers_come) = mpsc::channel(CLIENTS);
    let mut clients = tokio::task::JoinSet::new();
    let mut living = 0;
    while living < answers {
        // Whoever came before the CA listened, or was cut off, comes again.
        while clients.len() < CLIENTS {
            clients.spawn(ask_until_gone(host.clone(), csr.to_owned(), answered.clone()));
        }
        tokio::select! {
            serial = answers_come.recv() => {
                all.push(serial.unwrap());
                living += 1;
            }
            _ = clients.join_next() => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
    ca.kill();
    drop(answered);
    // What was answered before the end and is still on its way counts, too.
    while let Some(serial) = answers_come.recv().await {
        all.push(serial);
    }
}

async fn killed(rounds: usize, answers: usize) {
    let home = tempfile::tempdir().unwrap();
    let program = Program::new(home.path());
    program.fine(&["init", "--trust-domain", "shop.test"]);
    let port = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let address = format!("127.0.0.1:{port}");
    let token = program.fine(&["token", "create", "--id", WEB, "--address", &address]);
    let token: JoinToken = token.trim().parse().unwrap();
    let mut ca = serve(&program, port);
    let host = tokio::time::timeout(PATIENCE, async {
        loop {
            match join(&token, &Clock::system()).await {
                Ok(host) => return host,
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    })
    .await
    .unwrap();
    ca.kill();
    let key = PrivateKey::generate(KeyAlgorithm::EcdsaP256).unwrap();
    let csr = SigningRequest::build_pem(&key).unwrap();

    let mut answered = Vec::new();
    for _ in 0..rounds {
        let until = answers / 2 + rand::random::<u32>() as usize % answers;
        live_and_die(&program, &host, &csr, port, until, &mut answered).await;
    }

    let verified = program.fine(&["audit", "verify"]);
    assert!(verified.contains("whole and unchanged"), "{verified}");
    let recorded = program.fine(&["audit", "export", "--kind", "issued"]);
    let serials: Vec<String> = recorded
        .lines()
        .map(|line| {
            serde_json::from_str::<Value>(line).unwrap()["body"]["serial"]
                .as_str()
                .unwrap()
                .to_owned()
        })
        .collect();
    let once: HashSet<&String> = serials.iter().collect();
    assert_eq!(once.len(), serials.len(), "no serial twice");
    let missing: Vec<_> = answered.iter().filter(|serial| !once.contains(serial)).collect();
    assert!(missing.is_empty(), "answered and not on record: {missing:?}");
    println!(
        "{} answered, {} on record, {rounds} kills",
        answered.len(),
        serials.len()
    );
}

// A10: killed at any moment, the CA has every answer on record, and no serial twice.
#[tokio::test]
async fn a_kill_loses_no_answer() {
    killed(3, 100).await;
}

#[tokio::test]
#[ignore = "takes minutes: tests/run"]
async fn forty_kills_in_ten_thousand_issues_lose_no_answer() {
    killed(40, 250).await;
}
