//! Measures the directory: from a change to the last proxy that knows it, bytes, memory.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use ferrule_credentials::files::Files;
use ferrule_credentials::source;
use ferrule_daemon::clock::Clock;
use ferrule_daemon::logging::{Format as LogFormat, LogConfig};
use ferrule_daemon::metrics::Metrics;
use ferrule_daemon::signals::Signals;
use ferrule_daemon::stop::StopLimits;
use ferrule_directory::app::{Served, Surroundings};
use ferrule_directory::config::{Config, LimitsConfig, SourceConfig, default_id};
use ferrule_directory::model::Model;
use ferrule_directory::source::{News, Source, Teller};
use ferrule_identity::TrustDomain;
use ferrule_measure::figures::percentile;
use ferrule_measure::follower::{Followers, files};
use ferrule_policy::Stack;
use ferrule_tests::pki::Authority;
use serde::Serialize;
use tokio::sync::mpsc;

/// What to measure.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Example:
  ferrule-benches directory
A quick look, whose figures are not worth noting:
  ferrule-benches directory --workloads 1000 --proxies 20 --changes 20")]
pub(crate) struct Options {
    /// Workloads in the mesh
    #[arg(long, value_name = "NUMBER", default_value_t = 10_000)]
    workloads: usize,
    /// How many of them each proxy may talk to
    #[arg(long, value_name = "NUMBER", default_value_t = 1_000)]
    scope: usize,
    /// Connected proxies
    #[arg(long, value_name = "NUMBER", default_value_t = 200)]
    proxies: usize,
    /// Changes that are measured, one after another
    #[arg(long, value_name = "NUMBER", default_value_t = 200)]
    changes: usize,
    /// Prints JSON
    #[arg(long)]
    json: bool,
}

/// The figures.
#[derive(Debug, Serialize)]
struct Figures {
    workloads: usize,
    scope: usize,
    proxies: usize,
    changes: usize,
    /// From "connect" to the whole scope at every proxy.
    first_seconds: f64,
    /// From a change to a proxy that knows it.
    push_ms_p50: f64,
    push_ms_p99: f64,
    push_ms_max: f64,
    /// Of messages, for one change at one proxy.
    bytes_per_change: f64,
    /// Of this process, which is the directory and all the proxies.
    kib_per_proxy: f64,
    /// Of a processor, for the next picture of the mesh with one workload elsewhere: the copy, the change, and the end
    /// of the picture before.
    picture_us_p50: f64,
}

/// Tells what it is told.
struct Scripted(mpsc::Receiver<News>);

impl Source for Scripted {
    async fn run(mut self, teller: Teller) -> Infallible {
        while let Some(news) = self.0.recv().await {
            teller.tell(news).await;
        }
        std::future::pending().await
    }
}

/// Measures what `options` say and prints it; gives whether every target is met.
pub(crate) fn run(options: &Options) -> anyhow::Result<bool> {
    ensure!(
        options.scope <= options.workloads && options.scope > 0,
        "the scope is a part of the workloads"
    );
    ensure!(
        options.proxies > 0 && options.changes > 0,
        "there is nothing to measure"
    );
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let figures = runtime.block_on(measure(options))?;
    let mut text = String::new();
    if options.json {
        text = serde_json::to_string_pretty(&figures)?;
    } else {
        let Figures {
            workloads,
            scope,
            proxies,
            changes,
            ..
        } = figures;
        writeln!(
            text,
            "{workloads} workloads, {scope} of them in the scope of each of {proxies} proxies, {changes} changes"
        )?;
        writeln!(
            text,
            "  first state at all proxies  {:.2} s",
            figures.first_seconds
        )?;
        writeln!(
            text,
            "  push                        {:.2} ms p50, {:.2} ms p99, {:.2} ms at most",
            figures.push_ms_p50, figures.push_ms_p99, figures.push_ms_max
        )?;
        writeln!(
            text,
            "  bytes per change            {:.0}",
            figures.bytes_per_change
        )?;
        writeln!(
            text,
            "  memory per proxy, both ends {:.1} KiB",
            figures.kib_per_proxy
        )?;
        write!(
            text,
            "  the next picture            {:.0} µs p50",
            figures.picture_us_p50
        )?;
    }
    writeln!(std::io::stdout(), "{text}")?;
    Ok(figures.push_ms_p99 <= PUSH_TARGET_MS)
}

async fn measure(options: &Options) -> anyhow::Result<Figures> {
    let home = tempfile::tempdir()?;
    let domain = TrustDomain::parse("bench.test")?;
    let authority = Authority::new();
    let directory = default_id(&domain);
    let day = Duration::from_secs(80_000);
    let own = authority.files(home.path(), "directory", directory.as_str(), day);
    let web = authority.files(home.path(), "web", "spiffe://bench.test/ns/shop/sa/web", day);
    let (tell, told) = mpsc::channel(1);
    let mut signals = Signals::without_system();
    let clock = Clock::system();
    let metrics = Metrics::new();
    let surroundings = Surroundings {
        metrics: metrics.clone(),
        levels: None,
        clock: clock.clone(),
        effective: String::new(),
        asking: signals.asking(),
    };
    let config = config(&domain, files(&domain, &own.chain, &own.key, &own.bundle))?;
    let served = Served::start_with(config, Scripted(told), surroundings)?;
    let address = served.address();
    tell.send(News::Everything(mesh(options, &domain)?)).await?;
    served.readiness().ready().await;
    let measuring = async {
        let before = resident_kib()?;
        let began = Instant::now();
        let files = files(&domain, &web.chain, &web.key, &web.bundle);
        let mut proxies = Followers::connect(options.proxies, address, &directory, files)?;
        proxies.all().await?;
        let first_seconds = began.elapsed().as_secs_f64();
        let after = resident_kib()?;
        let (mut delays, mut bytes) = (Vec::new(), 0);
        for change in 0..options.changes {
            let news = mesh_change(options, &domain, change)?;
            let told = Instant::now();
            tell.send(news).await?;
            for arrival in proxies.all().await? {
                delays.push(arrival.at.duration_since(told).as_secs_f64() * 1e3);
                bytes += arrival.bytes;
            }
        }
        delays.sort_by(f64::total_cmp);
        let at = |share: usize| delays[(delays.len() * share / 100).min(delays.len() - 1)];
        let each = (options.changes * options.proxies) as f64;
        anyhow::Ok(Figures {
            workloads: options.workloads,
            scope: options.scope,
            proxies: options.proxies,
            changes: options.changes,
            first_seconds,
            push_ms_p50: at(50),
            push_ms_p99: at(99),
            push_ms_max: at(100),
            bytes_per_change: bytes as f64 / each,
            kib_per_proxy: (after - before) / options.proxies as f64,
            picture_us_p50: next_picture_us(options, &domain)?,
        })
    };
    tokio::select! {
        figures = measuring => figures,
        ended = served.run(&mut signals) => anyhow::bail!("the directory ended: {ended:?}"),
    }
}

/// What the next picture takes after one change, without anybody who looks at it.
fn next_picture_us(options: &Options, domain: &TrustDomain) -> anyhow::Result<f64> {
    let ranges: Vec<_> = ["10.0.0.0/8".parse()].into_iter().flatten().collect();
    let mut model = Model::new(domain.clone(), &ranges);
    model.apply(News::Everything(mesh(options, domain)?));
    let mut took = Vec::new();
    for change in 0..options.changes {
        let news = mesh_change(options, domain, change)?;
        let began = Instant::now();
        let mut next = model.clone();
        let touched = next.apply(news);
        // Whoever looks at the one before ends at some time.
        drop(std::mem::replace(&mut model, next));
        took.push(began.elapsed());
        ensure!(touched.workloads.len() == 1, "one workload has changed");
    }
    Ok(percentile(&mut took, 500) * 1e3)
}

/// Namespaces of a hundred workloads; each proxy may talk to those of the first few.
fn mesh(options: &Options, domain: &TrustDomain) -> anyhow::Result<Stack> {
    let mut text = String::new();
    for number in 0..options.workloads {
        text.push_str(&workload(number, 0));
    }
    for namespace in 0..options.scope.div_ceil(NAMESPACE) {
        write!(
            text,
            "---\napiVersion: ferrule.dev/v1alpha1\nkind: AccessPolicy\n\
             metadata: {{ namespace: n{namespace}, name: all }}\n\
             spec: {{ workloads: all, action: allow, rules: [{{ from: [{{ namespaces: [shop] }}] }}] }}\n"
        )?;
    }
    read(&text, domain)
}

fn mesh_change(options: &Options, domain: &TrustDomain, change: usize) -> anyhow::Result<News> {
    let mut stack = read(&workload(change % options.scope, change + 1), domain)?;
    let changes = stack.places.drain(..).filter_map(|place| match place {
        ferrule_policy::PlaceDocument::Workload(workload) => {
            Some(ferrule_directory::source::Change::Workload(workload))
        }
        ferrule_policy::PlaceDocument::Service(_) => None,
    });
    Ok(News::Changes(changes.collect()))
}

/// A workload that moves to another machine with each `turn`.
fn workload(number: usize, turn: usize) -> String {
    let (namespace, high, low) = (number / NAMESPACE, number / 256, number % 256);
    format!(
        "---\napiVersion: ferrule.dev/v1alpha1\nkind: Workload\n\
         metadata: {{ namespace: n{namespace}, name: w{number}, labels: {{ app: a{namespace} }} }}\n\
         spec: {{ serviceAccount: a{namespace}, addresses: [10.0.{high}.{low}], node: node-{turn} }}\n"
    )
}

fn read(text: &str, domain: &TrustDomain) -> anyhow::Result<Stack> {
    // A text may be so long and no longer.
    let mut whole = Stack::default();
    let documents: Vec<&str> = text.split("---\n").filter(|text| !text.is_empty()).collect();
    for some in documents.chunks(500) {
        let joined = some.join("---\n");
        let stack = Stack::read([("mesh", joined.as_bytes())], domain);
        let stack = stack.map_err(|problems| anyhow::anyhow!("{problems}"))?;
        whole.policies.extend(stack.policies);
        whole.places.extend(stack.places);
    }
    Ok(whole)
}

fn config(domain: &TrustDomain, files: Files) -> anyhow::Result<Config> {
    Ok(Config {
        trust_domain: domain.clone(),
        id: default_id(domain),
        credentials: source::Source::Files(files),
        source: SourceConfig::Files(Vec::new()),
        announced: None,
        ranges: ["10.0.0.0/8".parse()].into_iter().flatten().collect(),
        readers: BTreeSet::new(),
        listen: Some(([127, 0, 0, 1], 0).into()),
        admin: None,
        socket: None,
        limits: LimitsConfig::default(),
        stop: StopLimits::default(),
        log: LogConfig {
            format: LogFormat::Json,
            filter: "off".parse()?,
        },
    })
}

/// What this process has in memory.
fn resident_kib() -> anyhow::Result<f64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let number = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    number.context("the system does not tell the memory in use")
}

const NAMESPACE: usize = 100;

/// A change is to be everywhere within two seconds; a directory leaves most of that to others.
const PUSH_TARGET_MS: f64 = 500.0;
