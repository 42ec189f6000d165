//! Kills a process that appends, again and again.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Ledger, append, certificate, child, examined, issued, make, open, serials};

/// Issues from `from` on, many at a time, and tells each acknowledged serial on stdout, until it is killed.
async fn issue_until_killed(folder: &Path, from: u64, most: u64) {
    let ledger: Arc<dyn Ledger> = Arc::new(open(folder).unwrap());
    let mut tasks = tokio::task::JoinSet::new();
    for lane in 0..LANES {
        let ledger = Arc::clone(&ledger);
        tasks.spawn(async move {
            for number in (from + lane..from + most).step_by(usize::try_from(LANES).unwrap()) {
                let certificate = certificate(number);
                let serial = certificate.serial;
                append(ledger.as_ref(), certificate).await.unwrap();
                // One write, so that a line is told whole or not at all.
                std::io::stdout()
                    .write_all(format!("ack {serial}\n").as_bytes())
                    .unwrap();
            }
        });
    }
    tasks.join_all().await;
    ledger.close().await.unwrap();
}

/// Lets a process issue from `from` on, kills it once it has told of `after` serials, and gives those that it told of.
fn kill_after(folder: &Path, from: u64, after: usize) -> Vec<String> {
    let mut child = child::command(&format!("issue-{from}"), folder).spawn().unwrap();
    let mut told = Vec::new();
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        if told.len() >= after {
            // Again for every line that was on its way: killing twice does no harm.
            child.kill().unwrap();
        }
        if let Some(serial) = line.unwrap().strip_prefix("ack ") {
            told.push(serial.to_owned());
        }
    }
    child.wait().unwrap();
    told
}

/// Kills a process `rounds` times, each time at another moment, and checks after each that nothing is missing. Several
/// ledgers at a time: a round is mostly waiting, for the disk and for the process to be there.
fn kill_many_times(rounds: u64) {
    let test = std::thread::current().name().unwrap().to_owned();
    let lanes: Vec<_> = (0..KILLERS)
        .map(|lane| {
            let kill = move || {
                let runtime = tokio::runtime::Runtime::new().unwrap();
                runtime.block_on(kill_in_turn(
                    (lane..rounds).step_by(usize::try_from(KILLERS).unwrap()),
                ))
            };
            // A child runs the test that its parent's thread is named after.
            std::thread::Builder::new()
                .name(test.clone())
                .spawn(kill)
                .unwrap()
        })
        .collect();
    let acknowledged: usize = lanes.into_iter().map(|lane| lane.join().unwrap()).sum();
    assert!(acknowledged > 0);
}

/// The given rounds, one after the other; gives how many appends were acknowledged in them.
async fn kill_in_turn(rounds: impl Iterator<Item = u64>) -> usize {
    let mut folder = tempfile::tempdir().unwrap();
    let mut acknowledged = 0;
    for (turn, round) in (0_u64..).zip(rounds) {
        if turn % PER_LEDGER == 0 {
            folder = tempfile::tempdir().unwrap();
            make(folder.path()).await;
        }
        // Moments spread over the first appends, the middle of many and the checkpoints between them.
        let after = usize::try_from(round * 37 % 211).unwrap();
        let told = kill_after(folder.path(), round * PER_ROUND, after);
        acknowledged += told.len();

        let began = Instant::now();
        let ledger = open(folder.path()).unwrap();
        assert!(
            began.elapsed() < Duration::from_secs(5),
            "{:?} to start",
            began.elapsed()
        );
        let recorded = serials(&ledger).await;
        ledger.close().await.unwrap();
        for serial in told {
            assert!(
                recorded.contains_key(&serial),
                "round {round}: {serial} was acknowledged and is missing"
            );
        }
        let report = examined(folder.path());
        assert_eq!(report.fault, None, "round {round}");
    }
    acknowledged
}

/// The part that a child plays, when this process is one.
async fn played() -> bool {
    let Some((part, folder)) = child::part() else {
        return false;
    };
    let from = part.strip_prefix("issue-").unwrap().parse().unwrap();
    issue_until_killed(&folder, from, PER_ROUND).await;
    true
}

/// Rows A10 and G8: kill -9 at any point.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_process_loses_nothing_that_it_acknowledged() {
    if !played().await {
        kill_many_times(12);
    }
}

/// Rows A10 and G8, as often as they ask.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes minutes: tests/run"]
async fn a_thousand_kills_lose_nothing() {
    if !played().await {
        kill_many_times(1000);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_processes_append_to_one_chain() {
    if played().await {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    make(folder.path()).await;
    let children: Vec<_> = (0..2_u64)
        .map(|number| {
            child::command(&format!("issue-{}", number * PER_ROUND), folder.path())
                .spawn()
                .unwrap()
        })
        .collect();
    let mut told = Vec::new();
    for child in children {
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success());
        let text = String::from_utf8(output.stdout).unwrap();
        told.extend(
            text.lines()
                .filter_map(|line| line.strip_prefix("ack "))
                .map(str::to_owned),
        );
    }
    assert_eq!(told.len(), usize::try_from(2 * PER_ROUND).unwrap());
    let recorded = issued(folder.path()).await;
    assert_eq!(recorded.len(), told.len());
    assert!(told.iter().all(|serial| recorded.contains_key(serial)));
    assert_eq!(examined(folder.path()).fault, None);
}

/// How many appends are under way at a time.
const LANES: u64 = 16;

/// How many certificates one process issues at most.
const PER_ROUND: u64 = 400;

/// How many ledgers lose their processes at the same time.
const KILLERS: u64 = 6;

/// How many processes are killed over one ledger: each check reads all of it.
const PER_LEDGER: u64 = 25;
