//! Measures what the way through Ferrule costs, beside no proxy, a plain one, and those of others, in one run.

mod alone;
mod growth;
mod machine;
mod measure;
mod page;
mod peers;
mod pki;
mod place;
mod relay;
mod report;
mod rounds;
mod space;
mod subject;
mod table;

use std::collections::BTreeMap;
use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use ferrule_load::server::Server;

use alone::Alone;
use growth::{Growth, found, unfit};
use machine::Machine;
use measure::Times;
use peers::{BEYOND, DIRECT, FERRULE, NAMES, Named, PLAIN, beyond};
use pki::Certificates;
use place::Place;
pub(crate) use relay::{Relay, run as relay};
use report::{Absent, Report, Samples, Settings};
use rounds::Rounds;
use space::Space;
use subject::Subject;

use crate::programs::build;

/// What to measure, and how long.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  ferrule-benches overhead --json overhead.json --html overhead.html
  ferrule-benches overhead --peers haproxy,nginx --program envoy=/opt/envoy
  ferrule-benches overhead --only connections --rounds 9
  ferrule-benches overhead --passthrough
A quick look, whose figures are not worth noting:
  ferrule-benches overhead --quick

As root, or where anybody may have namespaces, it runs in a network of its own and leaves nothing behind.")]
pub(crate) struct Options {
    /// Who is measured beside no proxy, a plain one and Ferrule [default: all that are found]
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    peers: Option<Vec<String>>,
    /// A program that is not where a shell would find it; that of `ferrule` is built where it is not named
    #[arg(long = "program", value_name = "NAME=FILE", value_parser = named)]
    programs: Vec<(String, PathBuf)>,
    /// Which loads are put on everybody, by the names of the JSON; memory and start are left out then [default: all]
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    only: Vec<String>,
    /// How often each measurement is taken, in turn with the others [default: 5, 1 if quick]
    #[arg(long, value_name = "NUMBER")]
    rounds: Option<usize>,
    /// How long each goes on [default: 0.8, 0.25 if quick]
    #[arg(long, value_name = "SECONDS")]
    seconds: Option<f64>,
    /// Congestion controls: the first for everything, the others for bulk [default: the machine's, then reno]
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    congestion: Option<Vec<String>>,
    /// Requests a second of the measurement at a fixed rate
    #[arg(long, value_name = "NUMBER", default_value_t = 2000.0)]
    rate: f64,
    /// How many connections are held idle [default: 1000,10000, or 500 if quick, as far as
    /// there may be open files]
    #[arg(long, value_name = "NUMBERS", value_delimiter = ',')]
    idle: Option<Vec<usize>>,
    /// How cost and memory grow instead: the same amount over 1, 8, 64, 256 and 1,000 connections
    #[arg(long, conflicts_with_all = ["passthrough", "seconds", "idle"])]
    growth: bool,
    /// What is sent in all over each number of connections, in MB [default: 512, 32 if quick]
    #[arg(long, value_name = "NUMBER", requires = "growth")]
    megabytes: Option<u32>,
    /// The way beyond the mesh instead: connections that are captured, judged and passed on as they are, beside one
    /// plain proxy and two
    #[arg(long, conflicts_with = "peers")]
    passthrough: bool,
    /// One short round
    #[arg(long)]
    quick: bool,
    /// Write everything that was found to this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write a page to show to others to this file
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

/// Measures what `options` say and prints it; gives whether nothing failed; what is more than a peer holds is no failure.
pub(crate) fn run(options: &Options) -> anyhow::Result<bool> {
    let mut named: Named = options.programs.iter().cloned().collect::<BTreeMap<_, _>>();
    if !named.contains_key(FERRULE) {
        named.insert(FERRULE.to_owned(), build("ferrule-proxy")?);
    }
    let own_congestion = Machine::own_congestion()?;
    // Before any thread is there, so that all of them are in it.
    let space = Space::enter()?;
    let machine = Machine::look(own_congestion.clone(), &space);
    let settings = settings(options, &space, &own_congestion)?;
    let report = measure(options, settings, machine, &space, &named)?;
    let text = table::render(&report);
    write!(std::io::stdout(), "{text}").context("cannot write to standard output")?;
    if let Some(path) = &options.json {
        write(path, &serde_json::to_string_pretty(&report)?)?;
    }
    if let Some(path) = &options.html {
        write(path, &page::render(&report))?;
    }
    Ok(report.faults.iter().all(|fault| fault.is_limit))
}

fn settings(options: &Options, space: &Space, own_congestion: &str) -> anyhow::Result<Settings> {
    let quick = options.quick;
    let rounds = options.rounds.unwrap_or(if quick { 1 } else { 5 });
    let seconds = options.seconds.unwrap_or(if quick { 0.25 } else { 0.8 });
    ensure!(rounds > 0, "--rounds has to be at least 1");
    ensure!(
        (0.05..=600.0).contains(&seconds),
        "--seconds has to be from 0.05 to 600"
    );
    ensure!(
        options.rate > 0.0 && options.rate <= 1e6,
        "--rate has to be above 0, up to 1000000"
    );
    let mut congestion = vec![own_congestion.to_owned()];
    match &options.congestion {
        Some(wanted) => congestion.clone_from(wanted),
        None if options.growth => {}
        None if space.shared.is_none() && own_congestion != "reno" => congestion.push("reno".to_owned()),
        None => {}
    }
    // A proxy has two open files for each, and so has this program, which is both ends.
    let most = usize::try_from(space.files / 2)
        .unwrap_or(usize::MAX)
        .saturating_sub(200);
    let mut idle = match &options.idle {
        Some(wanted) => wanted.clone(),
        None if quick => vec![500.min(most)],
        None => vec![1_000.min(most), 10_000.min(most)],
    };
    idle.sort_unstable();
    if let Some(count) = idle.iter().find(|count| **count > most) {
        bail!(
            "{count} idle connections need more open files than a program may have here; --idle takes {most}"
        );
    }
    let megabytes = options.megabytes.unwrap_or(if quick { 32 } else { 512 });
    ensure!(
        (1..=4_000).contains(&megabytes),
        "--megabytes has to be from 1 to 4000"
    );
    Ok(Settings {
        rounds,
        seconds,
        warm_up_seconds: seconds / 4.0,
        congestion,
        rate: options.rate,
        idle_connections: idle,
        starts: if quick { 2 } else { 10 },
        growth_bytes: options.growth.then_some(megabytes * 1_000_000),
        quick,
    })
}

fn measure(
    options: &Options,
    settings: Settings,
    machine: Machine,
    space: &Space,
    named: &Named,
) -> anyhow::Result<Report> {
    let folder = tempfile::Builder::new().prefix("ferrule-benches-").tempdir()?;
    let folder = folder.path();
    // Beyond the mesh it has to answer at another address, too; nobody else is in that network.
    let ip = if options.passthrough {
        beyond::open(space)?;
        Ipv4Addr::UNSPECIFIED
    } else {
        Ipv4Addr::LOCALHOST
    };
    let listener = TcpListener::bind((ip, SERVER_PORT)).context("cannot open the far end")?;
    let _server = Server::start(listener)?;
    let server = SocketAddr::from((Ipv4Addr::LOCALHOST, SERVER_PORT));
    let certificates = Certificates::make(folder)?;
    let (subjects, absent) = subjects(options, server, &certificates, folder, named)?;
    let names: Vec<&'static str> = subjects.iter().map(|subject| subject.name).collect();
    let mut samples = Samples::default();
    if let Some(bytes) = settings.growth_bytes {
        let growth = Growth {
            steps: &chosen(growth::STEPS.iter(), &options.only, |step| step.measure)?,
            subjects: &subjects,
            congestion: &settings.congestion,
            rounds: settings.rounds,
            bytes,
            folder,
        };
        growth.take(space, &mut samples, tell)?;
    } else {
        take(options, &settings, space, &subjects, folder, &mut samples)?;
    }
    let (results, faults) = samples.finish(&names);
    Ok(Report {
        benchmark: "overhead",
        version: env!("CARGO_PKG_VERSION"),
        machine: machine.done(),
        settings,
        subjects,
        absent,
        faults,
        growth: found::grown(&results),
        results,
    })
}

/// What each subject takes alone, and the loads in rounds.
fn take(
    options: &Options,
    settings: &Settings,
    space: &Space,
    subjects: &[Subject],
    folder: &Path,
    samples: &mut Samples,
) -> anyhow::Result<()> {
    let all = measure::all(settings.rate).into_iter();
    let measures = chosen(all, &options.only, |measure| measure.name)?;
    let alone = Alone {
        starts: settings.starts,
        idle: &settings.idle_connections,
        folder,
    };
    // What a program takes alone is asked of ways with two of them.
    let alike =
        |subject: &&Subject| !subject.parts.is_empty() && !options.passthrough && options.only.is_empty();
    for subject in subjects.iter().filter(alike) {
        tell(&format!("{} alone …", subject.title));
        if let Err(error) = alone.take(subject, samples) {
            samples.fail(subject.name, "alone", &error);
        }
    }
    let time = Duration::from_secs_f64(settings.seconds);
    let rounds = Rounds {
        subjects,
        measures: &measures,
        congestion: &settings.congestion,
        count: settings.rounds,
        times: Times {
            warm_up: time / 4,
            time,
        },
    };
    rounds.take(space, folder, samples, tell)
}

/// Those of `all` whose names are `wanted`; all of them where none is.
fn chosen<T>(
    all: impl Iterator<Item = T>,
    wanted: &[String],
    name: impl Fn(&T) -> &'static str,
) -> anyhow::Result<Vec<T>> {
    let mut all: Vec<T> = all.collect();
    let names: Vec<&str> = all.iter().map(&name).collect();
    if let Some(unknown) = wanted.iter().find(|wanted| !names.contains(&wanted.as_str())) {
        bail!("there is no load {unknown}, but {}", names.join(", "));
    }
    all.retain(|one| wanted.is_empty() || wanted.iter().any(|wanted| wanted == name(one)));
    Ok(all)
}

fn subjects(
    options: &Options,
    server: SocketAddr,
    certificates: &Certificates,
    folder: &Path,
    named: &Named,
) -> anyhow::Result<(Vec<Subject>, Vec<Absent>)> {
    let mut names: Vec<&str> = vec![DIRECT, PLAIN, FERRULE];
    match &options.peers {
        None if options.passthrough => names = BEYOND.to_vec(),
        None => names = NAMES.to_vec(),
        Some(peers) => names.extend(peers.iter().map(String::as_str).filter(|peer| !peer.is_empty())),
    }
    let (mut subjects, mut absent) = (Vec::new(), Vec::new());
    for (at, name) in names.into_iter().enumerate() {
        // Who names a peer wants to see it.
        let unfit = unfit(name).filter(|_| options.growth && options.peers.is_none());
        if let Some(why) = unfit {
            absent.push(Absent {
                name: name.to_owned(),
                why: why.to_owned(),
            });
            continue;
        }
        let place = Place::new(u16::try_from(at)?, server, certificates, folder)?;
        match peers::prepare(name, &place, named)? {
            Ok(subject) => subjects.push(subject),
            Err(why) if options.peers.is_some() => bail!("{why}"),
            Err(why) => absent.push(Absent {
                name: name.to_owned(),
                why,
            }),
        }
    }
    Ok((subjects, absent))
}

fn named(text: &str) -> Result<(String, PathBuf), String> {
    match text.split_once('=') {
        Some((name, file)) if !name.is_empty() && Path::new(file).is_file() => {
            Ok((name.to_owned(), file.into()))
        }
        Some((_, file)) => Err(format!("{file} is no file")),
        None => Err("is not NAME=FILE".to_owned()),
    }
}

fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

/// Tells people how far the measurement is.
fn tell(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// The far end's.
const SERVER_PORT: u16 = 20_999;
