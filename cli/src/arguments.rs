//! Describes the command line.

use std::ffi::OsString;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use ferrule_document::parse_duration;
use ferrule_identity::{SpiffeId, TrustDomain};
use ferrule_shop::Target;

use crate::bench::arguments::Bench;
use crate::cluster::arguments::OfCluster;
use crate::install::arguments::{Install, Uninstall, Upgrade};
use crate::policy::arguments::{Policy, RuleFiles};
use crate::print::Format;
use crate::up::arguments::Up;

/// Mutual TLS, a verified identity on both sides, and a rule for every connection between workloads.
#[derive(Debug, Parser)]
#[command(
    name = "ferrule",
    version,
    after_long_help = "\
Example:
  ferrule policy check policies/

Ends with 0 when all is well, 1 when something was found wrong, 2 when it could not be looked at or done, 64 for bad \
usage or settings."
)]
pub(crate) struct Cli {
    /// What every command takes.
    #[command(flatten)]
    pub(crate) common: Common,
    /// What is to be done.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What every command takes.
#[derive(Debug, Args)]
pub(crate) struct Common {
    /// How to print what was found
    #[arg(long, value_enum, default_value_t, global = true)]
    pub(crate) output: Format,
    /// Which running mesh: its trust domain or its state folder [default: the only one]
    #[arg(long, value_name = "NAME|FOLDER", global = true)]
    pub(crate) mesh: Option<PathBuf>,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a whole mesh on this machine: CA, directory, each workload behind its own sidecar
    Up(Up),
    Check(Check),
    Edges(Watched),
    Tap(Tap),
    Verify(Verify),
    Explain(Explain),
    Run(Run),
    Join(Join),
    Diagnose(Diagnose),
    Install(Install),
    Upgrade(Upgrade),
    Uninstall(Uninstall),
    #[command(subcommand)]
    Bench(Bench),
    /// Examine rules, and write those that traffic needs
    #[command(subcommand)]
    Policy(Policy),
    /// Steer the certificate authority: status, rotate, revoke, token, audit, backup, restore
    #[command(
        disable_help_flag = true,
        after_long_help = "Example:\n  ferrule ca status\n  ferrule ca rotate --help"
    )]
    Ca(Ca),
    /// Run a sidecar, or steer its redirect
    #[command(
        disable_help_flag = true,
        hide = true,
        after_long_help = "Example:\n  ferrule proxy run --config proxy.yaml"
    )]
    Proxy(Ca),
    /// Run one of the programs of the example that `ferrule up` shows
    #[command(subcommand, hide = true)]
    Example(Example),
}

/// Find what makes a mesh unsafe now, or will make it fail soon
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  ferrule check
  ferrule check --fail-before 30d --guidance
  ferrule check --cluster --guidance
  ferrule check --control /run/ferrule/proxy.sock --ca https://ca.shop.local:15010 --bundle bundle.pem \\
    --trust-domain shop.local

It finds ports that another workload reaches in clear, a redirect that is missing, certificates that end (of the \
workloads, the CA, the root), clocks that are off, workloads in permissive mode, bundles that are stale; of a cluster also \
pods without a sidecar, and a webhook that is gone or changed.
Ends with 0 when there is nothing, 1 when there is something, 2 when not all could be looked at.")]
pub(crate) struct Check {
    /// Report roots and signing certificates that end sooner [default: 30d, or a fifth of a shorter life]
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    pub(crate) fail_before: Option<Duration>,
    /// Hold what is found against the controls of the hardening guidance
    #[arg(long)]
    pub(crate) guidance: bool,
    /// Which cluster.
    #[command(flatten)]
    pub(crate) cluster: OfCluster,
    /// The debug socket of a sidecar; may be given several times [default: all of the running mesh]
    #[arg(long, value_name = "SOCKET", conflicts_with = "cluster")]
    pub(crate) control: Vec<PathBuf>,
    /// The CA's address, with --control
    #[arg(long, value_name = "URL", requires_all = ["control", "bundle", "trust_domain"])]
    pub(crate) ca: Option<String>,
    /// Whom to believe to be that CA (PEM)
    #[arg(long, value_name = "FILE", requires = "ca")]
    pub(crate) bundle: Option<PathBuf>,
    /// The trust domain of that CA
    #[arg(long, value_name = "NAME", requires = "ca", value_parser = TrustDomain::parse)]
    pub(crate) trust_domain: Option<TrustDomain>,
}

/// Show who talks to whom since the start, with TLS, verdict, rule and bytes
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  ferrule edges
  ferrule edges --cluster --namespace shop
  ferrule edges --control /run/ferrule/proxy.sock --output json")]
pub(crate) struct Watched {
    /// The debug socket of a sidecar; may be given several times [default: all of the running mesh]
    #[arg(long, value_name = "SOCKET", conflicts_with = "cluster")]
    pub(crate) control: Vec<PathBuf>,
    /// Which cluster.
    #[command(flatten)]
    pub(crate) cluster: OfCluster,
    /// Show what the caller's side has seen, too
    #[arg(long)]
    pub(crate) all: bool,
}

/// Show connections as they end, and those that have been open for a minute
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  ferrule tap
  ferrule tap --denied --count 1 --output json
  ferrule tap --cluster --namespace shop")]
pub(crate) struct Tap {
    /// Which sidecars.
    #[command(flatten)]
    pub(crate) watched: Watched,
    /// Only what was denied
    #[arg(long)]
    pub(crate) denied: bool,
    /// End after so many
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) count: Option<u64>,
}

/// Prove how one workload reaches another: a real handshake, what both sides show, and that nothing passes in clear
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  ferrule verify web api
  ferrule verify web api --port 8080 --output json
  ferrule verify --cluster web.shop deploy/api.shop
  ferrule verify --control /run/ferrule/proxy.sock --address 10.1.0.3:8080 --expect spiffe://shop.local/ns/shop/sa/api

Ends with 0 when the connection is mutual TLS, is let through, and nothing passes in clear; with 1 when not.")]
pub(crate) struct Verify {
    /// The workload that calls
    #[arg(value_name = "A", required_unless_present = "control", requires = "to")]
    pub(crate) from: Option<String>,
    /// The workload that is called, each copy of it
    #[arg(value_name = "B")]
    pub(crate) to: Option<String>,
    /// The port of B [default: all that it names]
    #[arg(long)]
    pub(crate) port: Option<u16>,
    /// The debug socket of the sidecar that calls, where it is of no running mesh
    #[arg(long, value_name = "SOCKET", requires_all = ["address", "expect"], conflicts_with_all = ["from", "cluster"])]
    pub(crate) control: Option<PathBuf>,
    /// What it calls
    #[arg(long, value_name = "ADDRESS:PORT", requires = "control")]
    pub(crate) address: Option<SocketAddr>,
    /// Who has to answer there
    #[arg(long, value_name = "SPIFFE-ID", requires = "control", value_parser = SpiffeId::parse)]
    pub(crate) expect: Option<SpiffeId>,
    /// Which cluster.
    #[command(flatten)]
    pub(crate) cluster: OfCluster,
}

/// Say whether a connection would be let through, by which rule, and what would change that
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  ferrule explain --from web --to api --port 8080
  ferrule explain --from spiffe://shop.local/ns/shop/sa/intruder --to store.shop --port 9000
  ferrule explain --from api --to www.example.com --port 443
  ferrule explain --rules policies/ --trust-domain shop.local --from 192.0.2.7 --to api --port 8080
  ferrule explain --cluster --from deploy/web.shop --to api.shop --port 8080

Ends with 0 when it would be let through, 1 when not.")]
pub(crate) struct Explain {
    /// Who calls: a workload, a SPIFFE ID, or an address that calls in clear
    #[arg(long, value_name = "WHO")]
    pub(crate) from: String,
    /// Who is called: a workload, or an address or the name of a host beyond the mesh
    #[arg(long, value_name = "WHOM")]
    pub(crate) to: String,
    /// The port of the workload that is called, not that of a service in front of it
    #[arg(long)]
    pub(crate) port: u16,
    /// The address of a host that is called by its name [default: what the resolver says]
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) address: Option<IpAddr>,
    /// Which rules, where not those of a running mesh.
    #[command(flatten)]
    pub(crate) files: RuleFiles,
    /// Which cluster.
    #[command(flatten)]
    pub(crate) cluster: OfCluster,
}

/// Run one program with a sidecar beside it
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples, on a host that has joined:
  ferrule run --identity spiffe://shop.local/ns/shop/sa/web \\
    --upstream 127.0.0.1:8080=192.0.2.7:9443=spiffe://shop.local/ns/shop/sa/api -- ./web
  ferrule run --identity spiffe://shop.local/ns/shop/sa/api --serve 0.0.0.0:9443=127.0.0.1:8080 \\
    --rules policies/ -- ./api

With --capture transparent the program cannot pass its sidecar by: what no --upstream leads to needs an EgressPolicy. It \
then listens at every address, not at loopback alone; of the second part of --serve the port counts.

Ends as the program ends; when the sidecar ends first, the program is ended, too.")]
pub(crate) struct Run {
    /// Who the program is
    #[arg(long, value_name = "SPIFFE-ID", value_parser = SpiffeId::parse)]
    pub(crate) identity: SpiffeId,
    /// A port of loopback that leads to a service, or to an address where exactly this identity must answer
    #[arg(long = "upstream", value_name = "LISTEN=TARGET[=SPIFFE-ID]")]
    pub(crate) upstreams: Vec<String>,
    /// Where peers call, and where the program listens
    #[arg(long = "serve", value_name = "LISTEN=PROGRAM")]
    pub(crate) serves: Vec<String>,
    /// The folder of rules, and of who lives where; without one nobody may call
    #[arg(long, value_name = "FOLDER")]
    pub(crate) rules: Option<PathBuf>,
    /// The folder with this host's key [default: where ferrule join puts it]
    #[arg(long, value_name = "FOLDER", conflicts_with = "chain")]
    pub(crate) host: Option<PathBuf>,
    /// Take certificates from files that somebody else keeps: the chain (PEM)
    #[arg(long, value_name = "FILE", requires_all = ["key", "bundle"])]
    pub(crate) chain: Option<PathBuf>,
    /// The key of --chain (PEM)
    #[arg(long, value_name = "FILE", requires = "chain")]
    pub(crate) key: Option<PathBuf>,
    /// Whom to trust, with --chain (PEM)
    #[arg(long, value_name = "FILE", requires = "chain")]
    pub(crate) bundle: Option<PathBuf>,
    /// The name in log lines [default: the service account]
    #[arg(long)]
    pub(crate) name: Option<String>,
    /// A label that rules select by, beside app=SERVICE-ACCOUNT; may be given several times
    #[arg(long = "label", value_name = "NAME=VALUE")]
    pub(crate) labels: Vec<String>,
    /// transparent: the program in a network of its own, where it reaches nobody but through its sidecar
    #[arg(long, value_enum, default_value_t, value_name = "WAY")]
    pub(crate) capture: RunWay,
    /// Where the sidecar's lines go [default: standard error]
    #[arg(long, value_name = "FILE")]
    pub(crate) log: Option<PathBuf>,
    /// The program with its arguments
    #[arg(last = true, required = true, value_name = "PROGRAM")]
    pub(crate) program: Vec<OsString>,
}

/// How connections come to the sidecar of `ferrule run`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum RunWay {
    /// The program and its peers call listeners of the sidecar
    #[default]
    Explicit,
    /// The program runs in a network of its own, where the kernel redirects its connections
    Transparent,
}

/// Enter a mesh: enrol this host with a token, once
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples, on the CA's machine and then on the new host:
  ferrule ca token create web-1 --id 'spiffe://shop.local/ns/shop/*' --address ca.shop.local:15010 > token
  ferrule join token")]
pub(crate) struct Join {
    /// The token's file, - for standard input, or the token itself, which every user of the machine can then see
    #[arg(value_name = "TOKEN")]
    pub(crate) token: String,
    /// Where to keep the host's key [default: in the state folder]
    #[arg(long, value_name = "FOLDER")]
    pub(crate) host: Option<PathBuf>,
}

/// Pack what helps to understand a fault, without secrets, into an archive for a bug report
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  ferrule diagnose ferrule-report.tar.gz
  ferrule diagnose --cluster --namespace shop")]
pub(crate) struct Diagnose {
    /// The archive to make
    #[arg(value_name = "FILE", default_value = "ferrule-report.tar.gz")]
    pub(crate) file: PathBuf,
    /// Which cluster.
    #[command(flatten)]
    pub(crate) cluster: OfCluster,
}

/// `ferrule ca`: the words of `ferrule-ca`, for the CA of a running mesh.
#[derive(Debug, Args)]
pub(crate) struct Ca {
    /// What ferrule-ca takes
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "COMMAND")]
    pub(crate) arguments: Vec<OsString>,
}

/// `ferrule example`: settings come from the environment, as `ferrule up` gives them.
#[derive(Debug, Subcommand)]
#[command(after_long_help = "Example:\n  ferrule example store")]
pub(crate) enum Example {
    /// The goods
    #[command(after_long_help = "Example:\n  ferrule example store")]
    Store {
        /// Where to listen.
        #[command(flatten)]
        listen: Listen<9000>,
    },
    /// Between the page and the goods
    #[command(after_long_help = "Example:\n  STORE=http://127.0.0.1:9000 ferrule example api")]
    Api {
        /// Where to listen.
        #[command(flatten)]
        listen: Listen<8080>,
        /// Where the store is
        #[arg(long, env = "STORE", value_name = "URL")]
        store: Target,
    },
    /// The page
    #[command(after_long_help = "Example:\n  API=http://127.0.0.1:8080 ferrule example web")]
    Web {
        /// Where to listen.
        #[command(flatten)]
        listen: Listen<8000>,
        /// Where the api is
        #[arg(long, env = "API", value_name = "URL")]
        api: Target,
        /// The file that says who speaks with whom; `ferrule up` names it to workloads with `view: true`
        #[arg(long, env = "FERRULE_VIEW", value_name = "FILE")]
        view: Option<PathBuf>,
    },
    /// Somebody who tries what it may not
    #[command(
        after_long_help = "Example:\n  SHOP=http://127.0.0.1:8000 ferrule example intruder http://127.0.0.1:9000/items"
    )]
    Intruder {
        /// Where the page is, which is told of every attempt
        #[arg(long, env = "SHOP", value_name = "URL")]
        shop: Target,
        /// What to try
        #[arg(env = "TARGETS", value_delimiter = ' ', required = true, value_name = "URL")]
        targets: Vec<Target>,
        /// Between two rounds
        #[arg(long, default_value = "2s", value_parser = parse_duration)]
        pause: Duration,
    },
}

/// Where a program of the example listens.
#[derive(Debug, Args)]
pub(crate) struct Listen<const PORT: u16> {
    /// The address [default: all]
    #[arg(long, env = "HOST", value_name = "ADDRESS")]
    pub(crate) host: Option<IpAddr>,
    /// The port [default: that of the example in the help]
    // No default of clap's own: it keeps one for all values of the parameter.
    #[arg(long, env = "PORT")]
    port: Option<u16>,
}

impl<const PORT: u16> Listen<PORT> {
    pub(crate) fn port(&self) -> u16 {
        self.port.unwrap_or(PORT)
    }
}
