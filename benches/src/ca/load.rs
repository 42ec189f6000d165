//! Sends many requests over kept connections, and takes the time.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use ferrule_credentials::connection::{Answer, Connection};
use http::{HeaderName, Method};
use serde::Deserialize;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

/// One request, written down before any clock runs.
#[derive(Debug, Clone)]
pub(crate) struct Ask {
    pub(crate) method: Method,
    pub(crate) path: &'static str,
    pub(crate) headers: Vec<(HeaderName, String)>,
    pub(crate) body: Bytes,
}

/// What came of a number of requests, all of which were answered as they should.
#[derive(Debug, Default)]
pub(crate) struct Answered {
    /// From the first request to the last answer.
    pub(crate) took: Duration,
    /// The serial numbers in the answers, where they have any.
    pub(crate) serials: Vec<String>,
    /// How long each answer took.
    pub(crate) delays: Vec<Duration>,
}

/// A connection that carries one request at a time.
type Lane = Connection;

/// Sends `asks` over `lanes`, the next one on each as soon as the last is answered.
pub(crate) async fn closed(lanes: Vec<Lane>, asks: Vec<Ask>) -> anyhow::Result<Answered> {
    let asks = Arc::new(Mutex::new(asks.into_iter()));
    let next = move || {
        let ask = asks.lock().unwrap_or_else(PoisonError::into_inner).next();
        std::future::ready(ask.map(|ask| (ask, Instant::now())))
    };
    drive(lanes, next).await
}

/// Sends `asks` over `lanes`, `rate` of them a second, whether or not the ones before are answered. A delay counts
/// from when the request was due, also where it had to wait for a lane.
pub(crate) async fn open(lanes: Vec<Lane>, asks: Vec<Ask>, rate: f64) -> anyhow::Result<Answered> {
    let (send, due) = mpsc::channel(asks.len().max(1));
    let due = Arc::new(tokio::sync::Mutex::new(due));
    // A thread, because the runtime's timer counts in whole milliseconds.
    let pacing = std::thread::spawn(move || pace(asks, rate, &send));
    let next = move || {
        let due = Arc::clone(&due);
        async move { due.lock().await.recv().await }
    };
    let answered = drive(lanes, next).await;
    pacing.join().ok().context("the thread that paces has panicked")?;
    answered
}

/// Hands each of `asks` out when it is due.
fn pace(asks: Vec<Ask>, rate: f64, send: &mpsc::Sender<(Ask, Instant)>) {
    let begun = Instant::now();
    for (ask, number) in asks.into_iter().zip(0_u32..) {
        let due = begun + Duration::from_secs_f64(f64::from(number) / rate);
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        if send.try_send((ask, due)).is_err() {
            // The receivers are gone, and say why themselves.
            return;
        }
    }
}

/// Lets each lane take what `next` gives until there is no more.
async fn drive<N, F>(lanes: Vec<Lane>, next: N) -> anyhow::Result<Answered>
where
    N: Fn() -> F + Clone + Send + 'static,
    F: Future<Output = Option<(Ask, Instant)>> + Send,
{
    let begun = Instant::now();
    let mut driven = JoinSet::new();
    for mut lane in lanes {
        let next = next.clone();
        driven.spawn(async move {
            let mut answered = Answered::default();
            while let Some((ask, due)) = next().await {
                let answer = lane
                    .ask(ask.method, ask.path, &ask.headers, ask.body, LIMIT)
                    .await?;
                answered.delays.push(due.elapsed());
                answered.serials.extend(serial(&answer)?);
            }
            anyhow::Ok(answered)
        });
    }
    let mut all = Answered::default();
    while let Some(done) = driven.join_next().await {
        let answered = done.context("a lane has panicked")??;
        all.serials.extend(answered.serials);
        all.delays.extend(answered.delays);
    }
    all.took = begun.elapsed();
    Ok(all)
}

/// The serial number in a good answer.
fn serial(answer: &Answer) -> anyhow::Result<Option<String>> {
    #[derive(Deserialize)]
    struct Reply {
        serial: Option<String>,
    }
    let text = || String::from_utf8_lossy(&answer.body).into_owned();
    ensure!(
        answer.status.is_success(),
        "refused with {}: {}",
        answer.status,
        text()
    );
    let reply: Reply = serde_json::from_slice(&answer.body).with_context(text)?;
    Ok(reply.serial)
}

/// How long any answer may take.
pub(crate) const LIMIT: Duration = Duration::from_secs(30);
