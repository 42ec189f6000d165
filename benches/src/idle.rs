//! Measures what idle connections cost two sidecars in memory, and what is left of it when they are gone.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use ferrule_tests::pki::Authority;
use serde::Serialize;

use crate::figures::short;
use crate::process::{Running, allow_descriptors, free_address, memory};

/// What to measure.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Needs two descriptors for each connection in each sidecar and here.

Examples:
  ferrule-benches idle
  ferrule-benches idle --connections 1000 --output json")]
pub(crate) struct Options {
    /// Idle connections at once
    #[arg(long, value_name = "NUMBER", default_value_t = 10_000)]
    connections: u32,
    /// How often they are opened and closed again
    #[arg(long, value_name = "NUMBER", default_value_t = 3)]
    rounds: u32,
    /// Threads of each sidecar that carry connections
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    workers: u16,
    /// The program to measure [default: ferrule-proxy beside this program]
    #[arg(long, value_name = "FILE")]
    program: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What one sidecar held, in KiB.
#[derive(Debug, Serialize)]
struct Held {
    /// Which sidecar: the one that opens connections, or the one that takes them.
    side: &'static str,
    /// In all, before the first connection.
    before: f64,
    /// For each idle connection, in each round.
    per_connection: Vec<f64>,
    /// In all after the connections of each round were gone.
    after: Vec<f64>,
}

/// A sidecar at work, and where it listens.
pub(crate) struct Sidecar {
    running: Running,
    pub(crate) door: SocketAddr,
}

/// Measures what `options` say and prints it; gives whether the targets are met.
pub(crate) fn run(options: &Options) -> anyhow::Result<bool> {
    let descriptors = u64::from(options.connections) * 2 + 256;
    allow_descriptors(descriptors)?;
    let program = match &options.program {
        Some(program) => program.clone(),
        None => std::env::current_exe()?.with_file_name("ferrule-proxy"),
    };
    let folder = tempfile::tempdir().context("cannot make a folder")?;
    let (accepted, application) = application()?;
    let stage = Stage::new(folder.path(), program, descriptors, options.workers)?;
    let api = stage.start("api", |door| {
        format!("serves: [{{ listen: \"{door}\", to: \"{application}\" }}]")
    })?;
    let web = stage.start("web", |door| {
        let to = api.door;
        format!("upstreams: [{{ listen: \"{door}\", address: \"{to}\", identity: \"{API}\" }}]")
    })?;
    // The first connection makes what is made once.
    first(web.door, &accepted)?;
    let sidecars = [("outbound", &web), ("inbound", &api)];
    let mut held = Vec::new();
    for (side, sidecar) in sidecars {
        sidecar.settles()?;
        held.push(Held {
            side,
            before: sidecar.kib()?,
            per_connection: Vec::new(),
            after: Vec::new(),
        });
    }
    for _ in 0..options.rounds {
        let before: Vec<f64> = sidecars
            .iter()
            .map(|(_, sidecar)| sidecar.kib())
            .collect::<Result<_, _>>()?;
        let connections = open(web.door, options.connections, &accepted, PATIENCE)?;
        for ((held, (_, sidecar)), before) in held.iter_mut().zip(sidecars).zip(before) {
            let more = sidecar.kib()? - before;
            held.per_connection.push(more / f64::from(options.connections));
        }
        drop(connections);
        for (held, (_, sidecar)) in held.iter_mut().zip(sidecars) {
            sidecar.settles()?;
            held.after.push(sidecar.kib()?);
        }
    }
    print(&held, options)?;
    Ok(held.iter().all(|held| is_met(held, options.connections)))
}

/// Whether a connection took no more than [`TARGET_KIB`], and most of what all took was given back.
fn is_met(held: &Held, connections: u32) -> bool {
    let first = held.per_connection.first().copied().unwrap_or(f64::INFINITY);
    let left = held.after.last().copied().unwrap_or(f64::INFINITY) - held.before;
    first <= TARGET_KIB && left <= first * f64::from(connections) * TARGET_LEFT
}

fn print(held: &[Held], options: &Options) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    if options.json {
        serde_json::to_writer_pretty(&mut out, held)?;
        writeln!(out)?;
        return Ok(());
    }
    writeln!(
        out,
        "{} idle connections through two sidecars",
        options.connections
    )?;
    for held in held {
        let list = |numbers: &[f64]| {
            numbers
                .iter()
                .map(|kib| short(*kib))
                .collect::<Vec<_>>()
                .join(", ")
        };
        writeln!(
            out,
            "{:8}  {} KiB before; KiB for each connection: {}; KiB when all were gone: {}",
            held.side,
            short(held.before),
            list(&held.per_connection),
            list(&held.after),
        )?;
    }
    Ok(())
}

/// Accepts whatever comes, and hands it over.
fn application() -> anyhow::Result<(Receiver<TcpStream>, SocketAddr)> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).context("cannot listen")?;
    let address = listener.local_addr()?;
    let (sender, accepted) = sync_channel(1);
    std::thread::spawn(move || {
        while let Ok((stream, _)) = listener.accept() {
            if sender.send(stream).is_err() {
                return;
            }
        }
    });
    Ok((accepted, address))
}

/// Brings one connection through, as soon as both sidecars have certificates and rules.
fn first(door: SocketAddr, accepted: &Receiver<TcpStream>) -> anyhow::Result<()> {
    let begun = Instant::now();
    while let Err(error) = open(door, 1, accepted, LOOK_AGAIN) {
        // What came of this try, late, is not taken for the next one's.
        std::thread::sleep(LOOK_AGAIN);
        while accepted.try_recv().is_ok() {}
        ensure!(begun.elapsed() < PATIENCE, "the sidecars do not carry: {error:#}");
    }
    Ok(())
}

/// Opens connections, and moves a few bytes both ways on each before it is left alone.
fn open(
    door: SocketAddr,
    count: u32,
    accepted: &Receiver<TcpStream>,
    patience: Duration,
) -> anyhow::Result<Vec<(TcpStream, TcpStream)>> {
    let mut all = Vec::new();
    for number in 0..count {
        let mut client = TcpStream::connect(door).context("cannot reach the sidecar")?;
        client.set_read_timeout(Some(patience))?;
        let server = accepted.recv_timeout(patience);
        let mut server = server.with_context(|| format!("connection {number} did not come through"))?;
        server.set_read_timeout(Some(patience))?;
        let mut heard = [0; 512];
        client.write_all(&heard)?;
        server.read_exact(&mut heard)?;
        server.write_all(&heard)?;
        client.read_exact(&mut heard)?;
        all.push((client, server));
    }
    Ok(all)
}

/// What both sidecars have in common.
pub(crate) struct Stage<'f> {
    folder: &'f Path,
    authority: Authority,
    program: PathBuf,
    descriptors: u64,
    workers: u16,
}

impl<'f> Stage<'f> {
    pub(crate) fn new(
        folder: &'f Path,
        program: PathBuf,
        descriptors: u64,
        workers: u16,
    ) -> anyhow::Result<Self> {
        let rules = folder.join("rules");
        fs::create_dir(&rules)?;
        fs::write(rules.join("all.yaml"), RULES)?;
        Ok(Self {
            folder,
            authority: Authority::new(),
            program,
            descriptors,
            workers,
        })
    }

    pub(crate) fn start(
        &self,
        name: &str,
        ways: impl FnOnce(SocketAddr) -> String,
    ) -> anyhow::Result<Sidecar> {
        let door = free_address()?;
        let id = format!("spiffe://shop.local/ns/shop/sa/{name}");
        let files = self.authority.files(self.folder, name, &id, DAY);
        let settings = format!(
            "trust_domain: shop.local\n\
             workload: {{ namespace: shop, name: {name}, service_account: {name} }}\n\
             credentials: {{ files: {{ chain: {}, key: {}, bundle: {} }} }}\n\
             rules: {{ folder: {} }}\nadmin: {{ enabled: false }}\nlog: {{ level: warn }}\nworkers: {}\n{}\n",
            files.chain.display(),
            files.key.display(),
            files.bundle.display(),
            self.folder.join("rules").display(),
            self.workers,
            ways(door),
        );
        let path = self.folder.join(format!("{name}.yaml"));
        fs::write(&path, settings)?;
        let mut command = Command::new("sh");
        command
            .args([
                "-c",
                &format!(
                    "ulimit -n {} && exec \"$0\" run --config \"$1\"",
                    self.descriptors
                ),
            ])
            .arg(&self.program)
            .arg(&path);
        let mut running = Running::start(name, command, self.folder)?;
        running.listens(door)?;
        Ok(Sidecar { running, door })
    }
}

impl Sidecar {
    /// What it holds in memory, in KiB.
    fn kib(&self) -> anyhow::Result<f64> {
        Ok(memory(self.running.id())?.now * 1024.0)
    }

    /// Waits until its connections are gone, and what goes with them.
    fn settles(&self) -> anyhow::Result<()> {
        let folder = format!("/proc/{}/fd", self.running.id());
        let begun = Instant::now();
        while fs::read_dir(&folder)?.count() > FEW_DESCRIPTORS {
            if begun.elapsed() > PATIENCE {
                bail!("the sidecar still has connections after {PATIENCE:?}");
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        // Memory is given back by the clock of whoever keeps it.
        std::thread::sleep(SETTLING);
        Ok(())
    }
}

pub(crate) const API: &str = "spiffe://shop.local/ns/shop/sa/api";
const RULES: &str = "apiVersion: ferrule.dev/v1alpha1\nkind: AccessPolicy\nmetadata: { namespace: shop, name: all }\n\
                     spec: { workloads: all, action: allow, rules: [{ from: [{ namespaces: [shop] }] }] }\n";
const DAY: Duration = Duration::from_secs(80_000);
/// Longer than a connection is kept with nothing on it, 30 s.
const PATIENCE: Duration = Duration::from_secs(60);
const LOOK_AGAIN: Duration = Duration::from_millis(500);
const SETTLING: Duration = Duration::from_secs(3);
const FEW_DESCRIPTORS: usize = 64;

/// What one idle connection may cost.
const TARGET_KIB: f64 = 8.0;
/// What share of it may be left when connections are gone.
const TARGET_LEFT: f64 = 0.25;
