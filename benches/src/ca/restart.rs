//! Kills the CA while it issues, and takes the time until it issues again.

use std::time::{Duration, Instant};

use anyhow::ensure;
use serde::Serialize;

use super::callers::{Asker, Callers};
use super::load::{self, LIMIT};
use super::server::{Limits, Server};
use crate::figures::Spread;

/// What became of a CA that was killed.
#[derive(Debug, Serialize)]
pub(crate) struct Restart {
    /// How often it was killed.
    pub(crate) kills: usize,
    /// From the start of the new process until a host has a certificate from it, in seconds.
    pub(crate) until_issue_s: Spread,
}

/// Kills the CA `kills` times, each time in the midst of issuing, and starts it again.
pub(crate) async fn measure(server: &mut Server, callers: &Callers, kills: usize) -> anyhow::Result<Restart> {
    let askers = Asker::several("restart", LANES)?;
    let mut taken = Vec::new();
    for _ in 0..kills {
        let mut lanes = Vec::new();
        for _ in 0..LANES {
            lanes.push(callers.connect(None).await?);
        }
        let asks = askers
            .iter()
            .cycle()
            .take(ASKS)
            .map(|asker| callers.statement(asker));
        let asks = asks.collect::<Result<_, _>>()?;
        let kill = async {
            tokio::time::sleep(HEAD_START).await;
            server.kill()
        };
        let (cut, killed) = tokio::join!(load::closed(lanes, asks), kill);
        killed?;
        ensure!(cut.is_err(), "the load ended before the kill");
        let begun = Instant::now();
        server.start(Limits::Raised)?;
        issue(callers, &askers[0], begun).await?;
        taken.push(begun.elapsed().as_secs_f64());
    }
    Ok(Restart {
        kills,
        until_issue_s: Spread::of(taken),
    })
}

/// Tries to get a certificate until there is one.
async fn issue(callers: &Callers, asker: &Asker, begun: Instant) -> anyhow::Result<()> {
    let mut connection = loop {
        match callers.connect(None).await {
            Ok(connection) => break connection,
            Err(error) => ensure!(begun.elapsed() < LIMIT, "the CA does not come back: {error:#}"),
        }
        tokio::time::sleep(AGAIN).await;
    };
    let ask = callers.statement(asker)?;
    let answer = connection
        .ask(ask.method, ask.path, &ask.headers, ask.body, LIMIT)
        .await?;
    ensure!(answer.status.is_success(), "refused with {}", answer.status);
    callers.certificate(asker, &answer.body).map(drop)
}

/// Connections that are busy when the CA is killed.
const LANES: usize = 16;

/// More than any machine answers in the [`HEAD_START`].
const ASKS: usize = 20_000;

/// How long it issues before it is killed.
const HEAD_START: Duration = Duration::from_millis(300);

const AGAIN: Duration = Duration::from_millis(5);
