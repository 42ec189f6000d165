//! Measures how soon the first byte of a server that speaks first is there.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use serde::Serialize;

use crate::figures::{Spread, percentile};
use crate::idle::{API, Stage};
use crate::process::{Running, free_address};

/// What to measure.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
A server greets whoever connects, as databases and mail servers do; the time runs from before the client's connect to
the first byte of the greeting. One connection at a time, over loopback, so that it is the work of the programs on the
way that counts. The ways are taken in turn.

Examples:
  ferrule-benches first
  ferrule-benches first --rounds 5 --connections 100 --json")]
pub(crate) struct Options {
    /// How often each way is measured
    #[arg(long, value_name = "NUMBER", default_value_t = 9, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Connections of each way in a round
    #[arg(long, value_name = "NUMBER", default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..))]
    connections: u32,
    /// The program to measure [default: ferrule-proxy beside this program]
    #[arg(long, value_name = "FILE")]
    program: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What one way took, in milliseconds: the median of each round.
#[derive(Debug, Serialize)]
struct Took {
    way: &'static str,
    rounds: Vec<f64>,
    /// Beside two plain proxies, round by round.
    ratio: Option<Spread>,
}

/// Measures and prints; gives whether the greeting comes as fast as two plain proxies bring it.
pub(crate) fn run(options: &Options) -> anyhow::Result<bool> {
    let program = match &options.program {
        Some(program) => program.clone(),
        None => std::env::current_exe()?.with_file_name("ferrule-proxy"),
    };
    let folder = tempfile::tempdir().context("cannot make a folder")?;
    let server = greeter()?;
    let (_near, _far, relays) = relays(server, folder.path())?;
    let stage = Stage::new(folder.path(), program, DESCRIPTORS, 1)?;
    let api = stage.start("api", |door| {
        format!("serves: [{{ listen: \"{door}\", to: \"{server}\" }}]")
    })?;
    let web = stage.start("web", |door| {
        let to = api.door;
        format!("upstreams: [{{ listen: \"{door}\", address: \"{to}\", identity: \"{API}\" }}]")
    })?;
    let ways = [("direct", server), ("relays", relays), ("ferrule", web.door)];
    for (_, at) in ways {
        comes_through(at)?;
    }
    let mut all = ways.map(|(way, _)| Took {
        way,
        rounds: Vec::new(),
        ratio: None,
    });
    for _ in 0..options.rounds {
        for (took, (_, at)) in all.iter_mut().zip(ways) {
            took.rounds.push(median(at, options.connections)?);
        }
    }
    let yardstick = all[1].rounds.clone();
    for took in &mut all {
        took.ratio = Spread::of_ratios(&took.rounds, &yardstick);
    }
    print(&all, options)?;
    Ok(all[2].ratio.is_some_and(|ratio| ratio.median <= MOST_RATIO))
}

fn print(all: &[Took], options: &Options) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    if options.json {
        serde_json::to_writer_pretty(&mut out, all)?;
        writeln!(out)?;
        return Ok(());
    }
    writeln!(
        out,
        "{} rounds of {} connections each, to the first byte of the server's greeting",
        options.rounds, options.connections
    )?;
    for took in all {
        let spread = Spread::of(took.rounds.iter().copied());
        let ratio = took.ratio.map(|ratio| ratio.to_string()).unwrap_or_default();
        writeln!(
            out,
            "{:8}  {spread} ms; in times of two plain proxies: {ratio}",
            took.way
        )?;
    }
    Ok(())
}

/// Greets everybody, and waits for them to leave.
fn greeter() -> anyhow::Result<SocketAddr> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).context("cannot listen")?;
    let address = listener.local_addr()?;
    std::thread::spawn(move || {
        for peer in listener.incoming() {
            let Ok(mut peer) = peer else { continue };
            // Whoever leaves early has measured already.
            let _ = peer.set_nodelay(true).and_then(|()| peer.write_all(GREETING));
            let _ = peer.set_read_timeout(Some(PATIENCE));
            let _ = peer.read(&mut [0]);
        }
    });
    Ok(address)
}

/// Two plain proxies, one behind the other; where the first one is.
fn relays(server: SocketAddr, folder: &Path) -> anyhow::Result<(Running, Running, SocketAddr)> {
    let start = |name: &str, to: SocketAddr| -> anyhow::Result<(Running, SocketAddr)> {
        let at = free_address()?;
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["relay", "--listen", &at.to_string(), "--to", &to.to_string()]);
        let mut running = Running::start(name, command, folder)?;
        running.listens(at)?;
        Ok((running, at))
    };
    let (far, at) = start("far", server)?;
    let (near, door) = start("near", at)?;
    Ok((near, far, door))
}

/// From before the connect to the first byte of the greeting.
fn greeted(at: SocketAddr) -> anyhow::Result<Duration> {
    let begun = Instant::now();
    let mut peer = TcpStream::connect_timeout(&at, PATIENCE)?;
    peer.set_read_timeout(Some(PATIENCE))?;
    let mut heard = [0; GREETING.len()];
    peer.read_exact(&mut heard[..1])?;
    let took = begun.elapsed();
    peer.read_exact(&mut heard[1..])?;
    ensure!(heard == *GREETING, "something else than the greeting came");
    // Ended as a client does that has said all: the way may be used again.
    peer.shutdown(std::net::Shutdown::Write)?;
    ensure!(peer.read(&mut heard)? == 0, "more than the greeting came");
    Ok(took)
}

/// Waits until there are certificates and rules.
fn comes_through(at: SocketAddr) -> anyhow::Result<()> {
    let begun = Instant::now();
    while let Err(error) = greeted(at) {
        ensure!(begun.elapsed() < PATIENCE, "nobody greets at {at}: {error:#}");
        std::thread::sleep(LOOK_AGAIN);
    }
    Ok(())
}

fn median(at: SocketAddr, connections: u32) -> anyhow::Result<f64> {
    let mut delays = (0..connections)
        .map(|_| greeted(at))
        .collect::<anyhow::Result<Vec<_>>>()?;
    Ok(percentile(&mut delays, 500))
}

const GREETING: &[u8] = b"220 mail.shop.local ready\r\n";
const DESCRIPTORS: u64 = 1024;
const PATIENCE: Duration = Duration::from_secs(20);
const LOOK_AGAIN: Duration = Duration::from_millis(200);

/// How much longer it may take than over two plain proxies.
const MOST_RATIO: f64 = 1.1;
