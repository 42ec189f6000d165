//! Measures how many appends a second become durable.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Ledger, append, certificate, examined, make, open};

/// Seconds of CPU that this process has used.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    // The fields after the name in brackets; 14 and 15 of all are user and system time in hundredths.
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    let ticks = |field: usize| fields[field].parse::<f64>().unwrap();
    (ticks(11) + ticks(12)) / 100.0
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "prints figures, worth reading in release mode on an idle machine: tests/run"]
async fn appends_per_second_with_64_in_flight() {
    let folder = tempfile::tempdir().unwrap();
    make(folder.path()).await;
    let ledger: Arc<dyn Ledger> = Arc::new(open(folder.path()).unwrap());
    let (began, cpu) = (Instant::now(), cpu_seconds());
    let mut lanes = tokio::task::JoinSet::new();
    for lane in 0..64_u64 {
        let ledger = Arc::clone(&ledger);
        lanes.spawn(async move {
            let mut slowest = Duration::ZERO;
            for number in (lane..APPENDS).step_by(64) {
                let began = Instant::now();
                append(ledger.as_ref(), certificate(number)).await.unwrap();
                slowest = slowest.max(began.elapsed());
            }
            slowest
        });
    }
    let slowest = lanes.join_all().await.into_iter().max().unwrap();
    let (took, cpu) = (began.elapsed(), cpu_seconds() - cpu);
    let count = f64::from(u32::try_from(APPENDS).unwrap());
    println!(
        "{:.0} appends/s, {:.1} us of CPU each, slowest {slowest:?}, {took:?} in all",
        count / took.as_secs_f64(),
        cpu * 1e6 / count
    );
    ledger.close().await.unwrap();
    let began = Instant::now();
    let report = examined(folder.path());
    println!("{} rows proven in {:?}", report.rows, began.elapsed());
    assert_eq!((report.fault, report.rows), (None, APPENDS + 3));
}

const APPENDS: u64 = 50_000;
