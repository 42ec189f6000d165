//! Measures the webhook before a real API server: what injection adds to making a pod, memory, CPU time.

mod stage;

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::api::PostParams;
use kube::{Api, Client};
use serde::Serialize;
use serde_json::json;
use tokio::task::JoinSet;

use crate::pods::{Programs, client, namespace};
use ferrule_measure::figures::{Spread, percentile};
use ferrule_measure::process::{Memory, cpu, load, memory};
use stage::Stage;

/// What to measure.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Pods are made at a fixed rate, whatever the answers do, in a namespace that has opted in and in one that has not, in
turn; a delay counts from when the pod was due to the API server's answer. The injector and the CA are the programs as
they are shipped, the API server is a real one, no kubelet runs the pods.

Examples:
  ferrule-benches webhook --programs ~/.cache/ferrule/kubernetes-VERSION
A quick look, whose figures are not worth noting:
  ferrule-benches webhook --rounds 1 --seconds 2")]
pub(crate) struct Options {
    /// Pods a second
    #[arg(long, value_name = "NUMBER", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
    rate: u32,
    /// How long pods are made in each namespace in a round
    #[arg(long, value_name = "NUMBER", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    seconds: u32,
    /// How often both are measured
    #[arg(long, value_name = "NUMBER", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Where ferrule-injector and ferrule-ca lie [default: built as they are shipped]
    #[arg(long, value_name = "FOLDER")]
    ours: Option<PathBuf>,
    /// What the API server is started with.
    #[command(flatten)]
    programs: Programs,
    /// Prints JSON
    #[arg(long)]
    json: bool,
}

/// What making pods took in one round, in milliseconds.
#[derive(Debug, Clone, Copy, Serialize)]
struct Took {
    p50: f64,
    p99: f64,
    max: f64,
}

/// The figures.
#[derive(Debug, Serialize)]
struct Figures {
    load_before: f64,
    rate: u32,
    pods_of_each: u32,
    /// With a sidecar put in.
    injected: Vec<Took>,
    /// Without one.
    plain: Vec<Took>,
    /// What the webhook itself took by its own account, from a question's last byte to its answer.
    own_ms: Option<f64>,
    /// Of the injector.
    cpu_ms_per_pod: f64,
    idle: Memory,
    at_end: Memory,
    load_after: f64,
}

/// Measures and prints; gives whether the targets are met.
pub(crate) fn run(options: &Options) -> anyhow::Result<bool> {
    let stage = Stage::start(&options.programs, options.ours.as_deref())?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let figures = runtime.block_on(measure(options, &stage))?;
    let text = if options.json {
        serde_json::to_string_pretty(&figures)?
    } else {
        words(&figures)?
    };
    writeln!(std::io::stdout(), "{}", text.trim_end())?;
    let added = added(&figures, |took| took.p99);
    Ok(added.median <= ADDED_TARGET_MS && figures.at_end.peak <= MEMORY_TARGET_MIB)
}

async fn measure(options: &Options, stage: &Stage) -> anyhow::Result<Figures> {
    let client = client(&stage.server).await?;
    stage
        .server
        .apply(&(namespace(MESHED, "enabled") + &namespace(PLAIN, "disabled")));
    let made = Making {
        client,
        rate: options.rate,
        seconds: options.seconds,
    };
    // The first ones find connections closed and pages unread.
    made.some(MESHED, "warm", 2 * options.rate).await?;
    made.some(PLAIN, "warm", 2 * options.rate).await?;
    stage.has_injected(MESHED)?;
    let injector = stage.injector.id();
    let idle = memory(injector)?;
    let (load_before, before) = (load(), cpu(injector)?);
    let of_each = options.rate * options.seconds;
    let (mut injected, mut plain) = (Vec::new(), Vec::new());
    for round in 0..options.rounds {
        injected.push(made.some(MESHED, &format!("r{round}"), of_each).await?);
        plain.push(made.some(PLAIN, &format!("r{round}"), of_each).await?);
    }
    let used = cpu(injector)?.saturating_sub(before);
    let pods_of_each = of_each * options.rounds;
    Ok(Figures {
        load_before,
        rate: options.rate,
        pods_of_each,
        injected,
        plain,
        own_ms: stage.own_mean_ms()?,
        cpu_ms_per_pod: used.as_secs_f64() * 1e3 / f64::from(pods_of_each),
        idle,
        at_end: memory(injector)?,
        load_after: load(),
    })
}

struct Making {
    client: Client,
    rate: u32,
    seconds: u32,
}

impl Making {
    /// Makes `count` pods, each when it is due.
    async fn some(&self, namespace: &str, names: &str, count: u32) -> anyhow::Result<Took> {
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), namespace);
        let gap = Duration::from_secs(1) / self.rate;
        let begin = tokio::time::Instant::now() + gap;
        let mut making = JoinSet::new();
        for at in 0..count {
            let due = begin + gap * at;
            tokio::time::sleep_until(due).await;
            let (pods, name) = (pods.clone(), format!("{names}-{at}"));
            making.spawn(async move {
                let pod = serde_json::from_value(pod(&name))?;
                pods.create(&PostParams::default(), &pod).await?;
                anyhow::Ok(Instant::now().duration_since(due.into_std()))
            });
        }
        let mut delays = Vec::new();
        let limit = PATIENCE + Duration::from_secs(u64::from(self.seconds));
        while let Some(made) = tokio::time::timeout(limit, making.join_next())
            .await
            .context("the API server does not answer in time")?
        {
            delays.push(made??);
        }
        ensure!(delays.len() == count as usize, "every pod was made");
        Ok(Took {
            p50: percentile(&mut delays, 500),
            p99: percentile(&mut delays, 990),
            max: percentile(&mut delays, 1000),
        })
    }
}

/// A pod as many are: two containers with probes, settings, a volume.
fn pod(name: &str) -> serde_json::Value {
    let container = |name: &str, port: u16| {
        json!({
            "name": name, "image": "none",
            "ports": [{ "name": name, "containerPort": port }],
            "env": [{ "name": "MODE", "value": "production" }, { "name": "PEERS", "value": "a,b,c" }],
            "readinessProbe": { "httpGet": { "path": "/ready", "port": name } },
            "livenessProbe": { "tcpSocket": { "port": port } },
            "resources": { "requests": { "cpu": "100m", "memory": "64Mi" }, "limits": { "memory": "64Mi" } },
            "volumeMounts": [{ "name": "scratch", "mountPath": "/scratch" }],
        })
    };
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": { "name": name, "labels": { "app": "app" } },
        "spec": {
            // No scheduler of that name gives it a machine.
            "schedulerName": "nobody", "automountServiceAccountToken": false,
            "containers": [container("app", 8080), container("aside", 9090)],
            "volumes": [{ "name": "scratch", "emptyDir": {} }],
        },
    })
}

/// What injection added, round by round.
fn added(figures: &Figures, of: impl Fn(&Took) -> f64) -> Spread {
    let rounds = figures.injected.iter().zip(&figures.plain);
    Spread::of(rounds.map(|(injected, plain)| of(injected) - of(plain)))
}

fn words(figures: &Figures) -> anyhow::Result<String> {
    let mut text = String::new();
    writeln!(
        text,
        "{} pods with a sidecar and as many without, {} a second, {} rounds; load {:.1} before, {:.1} after",
        figures.pods_of_each,
        figures.rate,
        figures.injected.len(),
        figures.load_before,
        figures.load_after
    )?;
    let mut line = |name: &str, what: String| writeln!(text, "  {name:<27} {what}");
    for (name, all) in [("with a sidecar", &figures.injected), ("without", &figures.plain)] {
        let of = |of: fn(&Took) -> f64| Spread::of(all.iter().map(of));
        line(
            name,
            format!(
                "{} ms p50, {} ms p99, {} ms at most",
                of(|took| took.p50),
                of(|took| took.p99),
                of(|took| took.max)
            ),
        )?;
    }
    line(
        "added",
        format!(
            "{} ms p50, {} ms p99",
            added(figures, |took| took.p50),
            added(figures, |took| took.p99)
        ),
    )?;
    if let Some(own) = figures.own_ms {
        line("the webhook's own part", format!("{own:.3} ms on average"))?;
    }
    line(
        "CPU of the injector",
        format!("{:.3} ms for a pod", figures.cpu_ms_per_pod),
    )?;
    line(
        "memory of the injector",
        format!(
            "{:.1} MiB before, {:.1} after, {:.1} at most",
            figures.idle.now, figures.at_end.now, figures.at_end.peak
        ),
    )?;
    Ok(text)
}

const MESHED: &str = "meshed";
const PLAIN: &str = "plain";

/// For one pod.
const PATIENCE: Duration = Duration::from_secs(30);

/// At p99, beside a pod that nobody injects: an API server is not to feel it.
const ADDED_TARGET_MS: f64 = 20.0;

/// Of the injector's limit of 128 MiB.
const MEMORY_TARGET_MIB: f64 = 64.0;
