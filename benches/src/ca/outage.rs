//! Lets many proxies ask at once after the CA was away.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use ferrule_credentials::connection::Connection;
use ferrule_identity::WorkloadCertificate;
use serde::Serialize;
use tokio::task::JoinSet;

use super::callers::{Asker, Callers};
use super::load::LIMIT;
use super::server::{Limits, Server};
use crate::figures::percentile;
use crate::process::{Memory, cpu, memory};

/// What became of proxies that asked at once.
#[derive(Debug, Serialize)]
pub(crate) struct Outage {
    /// Their number.
    pub(crate) proxies: usize,
    /// Those that got a certificate, each verified.
    pub(crate) served: usize,
    /// Those that were refused or not answered.
    pub(crate) failed: usize,
    /// Handshakes that had to be tried again although the CA was there.
    pub(crate) tried_again: usize,
    /// From the start of the CA's process until the last proxy was served, in seconds.
    pub(crate) since_start_s: f64,
    /// From the first connection until then, in seconds.
    pub(crate) since_first_s: f64,
    /// From each proxy's request until its answer, in milliseconds: the one in the middle, the 99th in a hundred.
    pub(crate) answer_p50_ms: f64,
    pub(crate) answer_p99_ms: f64,
    /// CPU time of the CA for all of it, in seconds.
    pub(crate) cpu_s: f64,
    /// What the CA held in memory, every connection still open.
    pub(crate) memory: Memory,
}

/// What all proxies know of the CA's return.
#[derive(Debug, Default)]
struct Return {
    first: Option<Instant>,
    tried_again: usize,
}

/// Stops the CA, lets `proxies` proxies with certificates of it try to reach it, and starts it again, with the limits
/// that it has by default.
pub(crate) async fn measure(server: &mut Server, callers: Callers, proxies: usize) -> anyhow::Result<Outage> {
    let askers = Asker::several("proxy", proxies)?;
    let owned = callers
        .certificates(&askers)
        .await
        .context("the proxies need certificates")?;
    // The next certificate is for another key, as always.
    let askers = Asker::several("proxy", proxies)?;
    server.stop()?;
    let callers = Arc::new(callers);
    let back = Arc::new(Mutex::new(Return::default()));
    let mut asking = JoinSet::new();
    for (asker, own) in askers.into_iter().zip(owned) {
        let (callers, back) = (callers.clone(), back.clone());
        asking.spawn(async move {
            let asked = ask(&callers, &asker, &own, &back).await;
            asked.map(|(delay, end, body, connection)| (delay, end, body, connection, asker))
        });
    }
    // Each has found the door closed by now.
    tokio::time::sleep(2 * AGAIN).await;
    let start = Instant::now();
    server.start(Limits::Default)?;
    let (mut served, mut delays, mut last, mut kept) = (Vec::new(), Vec::new(), start, Vec::new());
    while let Some(asked) = asking.join_next().await {
        if let Ok((delay, end, body, connection, asker)) = asked.context("a proxy has panicked")? {
            delays.push(delay);
            last = last.max(end);
            kept.push(connection);
            served.push((asker, body));
        }
    }
    let id = server.id()?;
    let (memory, cpu) = (memory(id)?, cpu(id)?);
    drop(kept);
    for (asker, body) in &served {
        callers
            .certificate(asker, body)
            .context("a certificate is no good")?;
    }
    let back = back.lock().unwrap_or_else(PoisonError::into_inner);
    let first = back.first.context("nobody reached the CA")?;
    Ok(Outage {
        proxies,
        served: served.len(),
        failed: proxies - served.len(),
        tried_again: back.tried_again,
        since_start_s: (last - start).as_secs_f64(),
        since_first_s: (last - first).as_secs_f64(),
        answer_p50_ms: percentile(&mut delays, 500),
        answer_p99_ms: percentile(&mut delays, 990),
        cpu_s: cpu.as_secs_f64(),
        memory,
    })
}

/// One proxy: tries to connect until it can, then renews its certificate once.
async fn ask(
    callers: &Callers,
    asker: &Asker,
    own: &WorkloadCertificate,
    back: &Mutex<Return>,
) -> anyhow::Result<(Duration, Instant, Vec<u8>, Connection)> {
    let shared = || back.lock().unwrap_or_else(PoisonError::into_inner);
    let ask = callers.renewal(asker)?;
    let mut connection = loop {
        match callers.connect(Some(own)).await {
            Ok(connection) => break connection,
            Err(error) => {
                let refused = error.chain().any(|cause| {
                    cause
                        .downcast_ref::<std::io::Error>()
                        .is_some_and(|cause| cause.kind() == std::io::ErrorKind::ConnectionRefused)
                });
                if !refused {
                    shared().tried_again += 1;
                }
                ensure!(
                    shared().tried_again < MAX_TRIES,
                    "the CA does not take connections: {error:#}"
                );
                tokio::time::sleep(AGAIN.mul_f64(rand::random_range(0.5..1.0))).await;
            }
        }
    };
    shared().first.get_or_insert_with(Instant::now);
    let begun = Instant::now();
    let answer = connection
        .ask(ask.method, ask.path, &ask.headers, ask.body, LIMIT)
        .await?;
    let delay = begun.elapsed();
    ensure!(answer.status.is_success(), "refused with {}", answer.status);
    Ok((delay, Instant::now(), answer.body.to_vec(), connection))
}

/// How long a proxy waits at most before it tries to connect again.
const AGAIN: Duration = Duration::from_millis(200);

const MAX_TRIES: usize = 10_000;
