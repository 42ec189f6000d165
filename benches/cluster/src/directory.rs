//! Measures the program `ferrule-directory` before a real API server, with proxies of this process connected to it.

use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use ferrule_directory::config::default_id;
use ferrule_identity::TrustDomain;
use ferrule_measure::figures::percentile;
use ferrule_measure::follower::{Followers, files};
use ferrule_measure::process::{
    Memory, Running, allow_descriptors, cpu, free_address, http_get, load, memory,
};
use ferrule_measure::programs;
use ferrule_tests::kubernetes::Api as Server;
use ferrule_tests::pki::{Authority, Files};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use serde::Serialize;

use crate::pods::{Programs, client, make_pods, move_pod, namespace};

/// What to measure.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
A change is a pod's new address; it counts from before the request to the API server until a proxy has it.

Examples:
  ferrule-cluster-benches directory --programs ~/.cache/ferrule/kubernetes-VERSION
A quick look, whose figures are not worth noting:
  ferrule-cluster-benches directory --pods 300 --scope 100 --proxies 20 --changes 20")]
pub(crate) struct Options {
    /// Pods in the cluster
    #[arg(long, value_name = "NUMBER", default_value_t = 5_000)]
    pods: usize,
    /// How many of them each proxy may talk to
    #[arg(long, value_name = "NUMBER", default_value_t = 1_000)]
    scope: usize,
    /// Connected proxies
    #[arg(long, value_name = "NUMBER", default_value_t = 1_000)]
    proxies: usize,
    /// Changes that are measured, one after another
    #[arg(long, value_name = "NUMBER", default_value_t = 200)]
    changes: usize,
    /// The program to measure [default: ferrule-directory, built as it is shipped]
    #[arg(long, value_name = "FILE")]
    program: Option<PathBuf>,
    /// What the API server is started with.
    #[command(flatten)]
    programs: Programs,
    /// Prints JSON
    #[arg(long)]
    json: bool,
}

/// The figures. CPU time and memory are those of the directory's process alone.
#[derive(Debug, Serialize)]
struct Figures {
    load_before: f64,
    pods: usize,
    scope: usize,
    proxies: usize,
    changes: usize,
    /// From the start of the program until it knows the cluster.
    known_seconds: f64,
    known_cpu_seconds: f64,
    with_pods: Memory,
    /// From "connect" to the whole scope at every proxy.
    first_seconds: f64,
    first_cpu_seconds: f64,
    with_proxies: Memory,
    /// What the API server took to answer a change.
    api_ms_p50: f64,
    /// From before a change's request to a proxy that knows it.
    push_ms_p50: f64,
    push_ms_p99: f64,
    push_ms_max: f64,
    /// Until the last of all proxies knows it.
    last_ms_p50: f64,
    cpu_ms_per_change: f64,
    bytes_per_change: f64,
    at_end: Memory,
    load_after: f64,
}

/// Measures what `options` say and prints it; gives whether the target is met.
pub(crate) fn run(options: &Options) -> anyhow::Result<bool> {
    ensure!(
        options.scope <= options.pods && options.scope > 0,
        "the scope is a part of the pods"
    );
    ensure!(
        options.proxies > 0 && options.changes > 0,
        "there is nothing to measure"
    );
    allow_descriptors(options.proxies as u64 + 256)?;
    let program = match &options.program {
        Some(program) => program.clone(),
        None => programs::build("ferrule-directory")?,
    };
    let server = options.programs.start()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let figures = runtime.block_on(measure(options, &program, &server))?;
    let text = if options.json {
        serde_json::to_string_pretty(&figures)?
    } else {
        words(&figures)?
    };
    writeln!(std::io::stdout(), "{}", text.trim_end())?;
    Ok(figures.push_ms_p99 <= PUSH_TARGET_MS)
}

async fn measure(options: &Options, program: &Path, server: &Server) -> anyhow::Result<Figures> {
    describe(options, server)?;
    let client = client(server).await?;
    make_pods(&client, options.pods, |number| name(number / NAMESPACE)).await?;

    let domain = TrustDomain::parse("bench.test")?;
    let authority = Authority::new();
    let directory = default_id(&domain);
    let own = authority.files(server.folder(), "directory", directory.as_str(), LIFE);
    let web = authority.files(server.folder(), "web", "spiffe://bench.test/ns/shop/sa/web", LIFE);
    let load_before = load();
    let began = Instant::now();
    let (running, address) = known(options, program, server, &own).await?;
    let known_seconds = began.elapsed().as_secs_f64();
    let id = running.id();
    let known_cpu = cpu(id)?;
    let with_pods = memory(id)?;

    let began = Instant::now();
    let files = files(&domain, &web.chain, &web.key, &web.bundle);
    let mut proxies = Followers::connect(options.proxies, address, &directory, files)?;
    proxies.all().await?;
    let first_seconds = began.elapsed().as_secs_f64();
    let first_cpu = cpu(id)?;
    let with_proxies = memory(id)?;

    let (mut delays, mut last, mut answers, mut bytes) = (Vec::new(), Vec::new(), Vec::new(), 0);
    for change in 0..options.changes {
        let number = change % options.scope;
        let pods: Api<Pod> = Api::namespaced(client.clone(), &name(number / NAMESPACE));
        let asked = Instant::now();
        move_pod(&pods, number, change / options.scope + 1).await?;
        answers.push(asked.elapsed());
        let arrivals = proxies.all().await?;
        let took = arrivals.iter().map(|arrival| arrival.at.duration_since(asked));
        last.extend(took.clone().max());
        delays.extend(took);
        bytes += arrivals.iter().map(|arrival| arrival.bytes).sum::<usize>();
    }
    let changed_cpu = cpu(id)?;
    let changes = options.changes as f64;
    Ok(Figures {
        load_before,
        pods: options.pods,
        scope: options.scope,
        proxies: options.proxies,
        changes: options.changes,
        known_seconds,
        known_cpu_seconds: known_cpu.as_secs_f64(),
        with_pods,
        first_seconds,
        first_cpu_seconds: first_cpu.saturating_sub(known_cpu).as_secs_f64(),
        with_proxies,
        api_ms_p50: percentile(&mut answers, 500),
        push_ms_p50: percentile(&mut delays, 500),
        push_ms_p99: percentile(&mut delays, 990),
        push_ms_max: percentile(&mut delays, 1000),
        last_ms_p50: percentile(&mut last, 500),
        cpu_ms_per_change: changed_cpu.saturating_sub(first_cpu).as_secs_f64() * 1e3 / changes,
        bytes_per_change: bytes as f64 / changes / options.proxies as f64,
        at_end: memory(id)?,
        load_after: load(),
    })
}

/// Tells the API server of everything but pods: namespaces, each with a service, those in the scope with a rule.
fn describe(options: &Options, server: &Server) -> anyhow::Result<()> {
    let namespaces = options.pods.div_ceil(NAMESPACE);
    let mut text = DEFINITIONS.join("\n---\n");
    text.push('\n');
    for number in 0..namespaces {
        text.push_str(&namespace(&name(number), "enabled"));
    }
    server.apply(&text);
    server.kubectl(&[
        "wait",
        "--for=condition=Established",
        "--all",
        "--timeout=60s",
        "crd",
    ]);
    let mut text = String::new();
    for number in 0..namespaces {
        let namespace = name(number);
        if number < options.scope.div_ceil(NAMESPACE) {
            write!(
                text,
                "---\napiVersion: ferrule.dev/v1alpha1\nkind: AccessPolicy\n\
                 metadata: {{ namespace: {namespace}, name: all }}\n\
                 spec: {{ workloads: all, action: allow, rules: [{{ from: [{{ namespaces: [shop] }}] }}] }}\n"
            )?;
        }
        write!(
            text,
            "---\napiVersion: v1\nkind: Service\nmetadata: {{ namespace: {namespace}, name: app }}\n\
             spec: {{ selector: {{ app: app }}, ports: [{{ port: 80, targetPort: 8080 }}] }}\n"
        )?;
    }
    server.apply(&text);
    Ok(())
}

/// Starts the directory, and waits until it knows all pods; gives where it listens, too.
async fn known(
    options: &Options,
    program: &Path,
    server: &Server,
    own: &Files,
) -> anyhow::Result<(Running, SocketAddr)> {
    let home = server.folder();
    let (address, admin) = (free_address()?, free_address()?);
    let settings = home.join("directory.yaml");
    fs::write(
        &settings,
        format!(
            "trust_domain: bench.test\nlisten: \"{address}\"\nadmin: {{ listen: \"{admin}\" }}\n\
             credentials: {{ files: {{ chain: {chain}, key: {key}, bundle: {bundle} }} }}\n\
             source: {{ kubernetes: {{ kubeconfig: {kubeconfig} }} }}\nmesh: {{ ranges: [10.0.0.0/8] }}\n",
            chain = own.chain.display(),
            key = own.key.display(),
            bundle = own.bundle.display(),
            kubeconfig = server.kubeconfig().display(),
        ),
    )?;
    let mut command = Command::new(program);
    command.env_clear().arg("serve").arg("--config").arg(&settings);
    let began = Instant::now();
    let mut running = Running::start("directory", command, home)?;
    running.listens(admin).with_context(|| running.last_words(home))?;
    while metric(admin, "ferrule_directory_workloads ")? < options.pods as f64 {
        if let Some(status) = running.ended()? {
            anyhow::bail!("the directory has ended: {status}: {}", running.last_words(home));
        }
        ensure!(
            began.elapsed() < PATIENCE,
            "the directory does not know all pods: {}",
            running.last_words(home)
        );
        tokio::time::sleep(LOOK_AGAIN).await;
    }
    running
        .listens(address)
        .with_context(|| running.last_words(home))?;
    Ok((running, address))
}

/// The value of a metric that has no labels; 0 while it is not told.
fn metric(admin: SocketAddr, name: &str) -> anyhow::Result<f64> {
    let text = http_get(admin, "/metrics")?;
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    Ok(line.and_then(|line| line.trim().parse().ok()).unwrap_or(0.0))
}

fn words(figures: &Figures) -> anyhow::Result<String> {
    let mut text = String::new();
    let mut line = |name: &str, what: String| writeln!(text, "  {name:<29} {what}");
    let held = |memory: &Memory| format!("{:.1} MiB, {:.1} at most", memory.now, memory.peak);
    line(
        "load before, after",
        format!("{:.1}, {:.1}", figures.load_before, figures.load_after),
    )?;
    line(
        "pods are known after",
        format!(
            "{:.2} s, {:.2} s of CPU",
            figures.known_seconds, figures.known_cpu_seconds
        ),
    )?;
    line("memory with all pods", held(&figures.with_pods))?;
    line(
        "first state at all proxies",
        format!(
            "{:.2} s, {:.2} s of CPU",
            figures.first_seconds, figures.first_cpu_seconds
        ),
    )?;
    line("memory with all proxies", held(&figures.with_proxies))?;
    line(
        "a change at the API server",
        format!("{:.2} ms p50", figures.api_ms_p50),
    )?;
    line(
        "from its request to a proxy",
        format!(
            "{:.1} ms p50, {:.1} ms p99, {:.1} ms at most",
            figures.push_ms_p50, figures.push_ms_p99, figures.push_ms_max
        ),
    )?;
    line(
        "to the last of all proxies",
        format!("{:.1} ms p50", figures.last_ms_p50),
    )?;
    line(
        "for each change",
        format!(
            "{:.2} ms of CPU, {:.0} bytes for a proxy",
            figures.cpu_ms_per_change, figures.bytes_per_change
        ),
    )?;
    line("memory after all changes", held(&figures.at_end))?;
    let Figures {
        pods,
        scope,
        proxies,
        changes,
        ..
    } = figures;
    Ok(format!(
        "{pods} pods, {scope} of them in the scope of each of {proxies} proxies, {changes} changes\n{text}"
    ))
}

fn name(number: usize) -> String {
    format!("n{number}")
}

/// Pods in a namespace.
const NAMESPACE: usize = 100;

/// Of certificates: longer than anything here takes.
const LIFE: Duration = Duration::from_secs(80_000);

/// Until the directory knows all pods.
const PATIENCE: Duration = Duration::from_secs(120);
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// A change is to be everywhere within two seconds; a directory leaves most of that to others.
const PUSH_TARGET_MS: f64 = 500.0;

const DEFINITIONS: [&str; 3] = [
    include_str!("../../../deploy/chart/crds/accesspolicies.yaml"),
    include_str!("../../../deploy/chart/crds/egresspolicies.yaml"),
    include_str!("../../../deploy/chart/crds/meshpolicies.yaml"),
];
