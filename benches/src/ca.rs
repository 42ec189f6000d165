//! Measures the CA as a whole and step by step, with the yardstick beside it in every round.

mod alone;
mod callers;
mod load;
mod outage;
mod pieces;
mod record;
mod report;
mod restart;
mod rounds;
mod server;
mod step;
mod syncs;

use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use clap::ValueEnum;

use alone::Alone;
use callers::Callers;
use report::{Plan, Report};
use rounds::{Rounds, Way};
use server::{Limits, Server};
use step::StepCa;

use crate::programs::{beside, build};

/// What to measure, and how long.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  ferrule-benches ca
  ferrule-benches ca --step-ca ~/go/bin/step-ca --output json
A quick look, whose figures are not worth noting:
  ferrule-benches ca --rounds 1 --issues 2000 --proxies 100 --latency-seconds 1")]
pub(crate) struct Options {
    /// How often each measurement is taken, in turn with the others
    #[arg(long, value_name = "NUMBER", default_value_t = 5, value_parser = at_least::<1>)]
    rounds: usize,
    /// Certificates of one measurement
    #[arg(long, value_name = "NUMBER", default_value_t = 20_000, value_parser = at_least::<1_000>)]
    issues: usize,
    /// Connections, each with one request in flight
    #[arg(long, value_name = "NUMBER", default_value_t = 64, value_parser = at_least::<1>)]
    in_flight: usize,
    /// Proxies that ask at once after an outage
    #[arg(long, value_name = "NUMBER", default_value_t = 1_000, value_parser = at_least::<1>)]
    proxies: usize,
    /// How long delays are measured at half the rate
    #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = at_least::<1>)]
    latency_seconds: usize,
    /// The program to measure [default: ferrule-ca beside this program, built anew]
    #[arg(long, value_name = "FILE")]
    program: Option<PathBuf>,
    /// step-ca, to be measured beside it
    #[arg(long, value_name = "FILE", env = "FERRULE_STEP_CA")]
    step_ca: Option<PathBuf>,
    /// Where the data goes for the time; on a disk, because durability has its price [default: beside this program]
    #[arg(long, value_name = "FOLDER")]
    folder: Option<PathBuf>,
    /// How the figures are printed
    #[arg(long, value_enum, default_value_t)]
    output: Format,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people.
    #[default]
    Table,
    /// For programs.
    Json,
}

/// Measures what `options` say and prints it; gives whether every target is met.
pub(crate) fn run(options: &Options) -> anyhow::Result<bool> {
    let program = match &options.program {
        Some(program) => program.clone(),
        None => build("ferrule-ca")?,
    };
    // All clients on one thread: what they take, the CA does not get.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let report = runtime.block_on(measure(options, &program))?;
    let text = match options.output {
        Format::Table => report.table(),
        Format::Json => serde_json::to_string_pretty(&report)?,
    };
    writeln!(std::io::stdout(), "{text}").context("cannot write to standard output")?;
    Ok(report.targets.iter().all(|target| target.met))
}

async fn measure(options: &Options, program: &Path) -> anyhow::Result<Report> {
    let base = match &options.folder {
        Some(folder) => folder.clone(),
        None => beside("")?,
    };
    let home = tempfile::Builder::new()
        .prefix("ferrule-benches-")
        .tempdir_in(&base)?;
    let below = |name: &str| -> anyhow::Result<PathBuf> {
        let folder = home.path().join(name);
        std::fs::create_dir(&folder)?;
        Ok(folder)
    };
    let plan = Plan::new(options, home.path());
    let served = below("served")?;
    let mut server = Server::make(program, &served)?;
    server.start(Limits::Raised)?;
    server.listens()?;
    let callers = Callers::enter(&server.token()?).await?;
    let alone = Alone::make(&home.path().join("alone")).await?;
    let step = match &options.step_ca {
        Some(step_ca) => Some(StepCa::start(step_ca, &below("step")?)?),
        None => None,
    };
    let mut rounds = Rounds::prepare(&server, &callers, &alone, step, options.in_flight).await?;
    tell(&format!("{} rounds …", options.rounds));
    let turns = rounds.take(options.rounds, options.issues).await?;
    // Whoever is not measured any more leaves its cores and its memory to the others.
    rounds.end_step()?;
    tell("delays at half the rate …");
    let mut delays = Vec::new();
    for way in Way::OURS {
        let rate = turns.of(way).rate.median / 2.0;
        delays.push(rounds.delays(way, rate, options.latency_seconds).await?);
    }
    let groups = rounds.groups(options.issues, &served).await?;
    let serials = rounds.finish();
    tell("each step alone …");
    let pieces = pieces::measure(&alone, options.rounds, options.in_flight).await?;
    alone.ca.close().await?;
    tell("killed and started again …");
    let restart = restart::measure(&mut server, &callers, options.rounds).await?;
    tell(&format!("{} proxies at once …", options.proxies));
    let outage = outage::measure(&mut server, callers, options.proxies).await?;
    server.stop()?;
    tell("the record …");
    let record = record::check(&server, &serials)?;
    Ok(Report::new(
        plan,
        turns,
        delays,
        groups,
        pieces,
        (restart, outage),
        record,
    ))
}

/// Tells people how far the measurement is.
fn tell(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

fn at_least<const MIN: usize>(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(number) if number >= MIN => Ok(number),
        _ => Err(format!("is not a number from {MIN} on")),
    }
}

fn base64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

fn base64url(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}
