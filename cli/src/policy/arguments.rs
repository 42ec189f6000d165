//! Describes the command lines of `ferrule policy`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use ferrule_identity::TrustDomain;

use crate::cluster::arguments::OfCluster;

/// Rules that no running mesh tells of.
#[derive(Debug, Args)]
pub(crate) struct RuleFiles {
    /// Rules and documents of kind Workload, in files and folders, instead of those of a running mesh
    #[arg(
        long,
        value_name = "FILE|FOLDER",
        requires = "trust_domain",
        conflicts_with = "cluster"
    )]
    pub(crate) rules: Vec<PathBuf>,
    /// The trust domain of --rules
    #[arg(long, value_name = "NAME", requires = "rules")]
    pub(crate) trust_domain: Option<String>,
}

/// `ferrule policy`.
#[derive(Debug, Subcommand)]
#[command(after_long_help = "Example:\n  ferrule policy check policies/")]
pub(crate) enum Policy {
    /// Read rules as a sidecar would, and report every fault with its line and column
    #[command(after_long_help = "\
Examples:
  ferrule policy check policies/ mesh.yaml
  ferrule policy check --output json policies/")]
    Check {
        /// Files, and folders of files that end in .yaml or .yml
        #[arg(required = true, value_name = "FILE|FOLDER")]
        paths: Vec<PathBuf>,
    },
    /// Write Kubernetes NetworkPolicies that leave open between pods what rules allow, and no more
    Network(Network),
    /// Write the rules that the traffic of a trial lacks
    #[command(after_long_help = "\
Examples, after some days with `enforcement: audit` in the policies:
  ferrule policy suggest > policies/suggested.yaml
  ferrule policy suggest --cluster --namespace shop
  ferrule policy suggest --log web.proxy.log --rules policies/ --trust-domain shop.local")]
    Suggest {
        /// Which traffic.
        #[command(flatten)]
        traffic: Traffic,
        /// Take what was denied for wanted, too
        #[arg(long)]
        denied: bool,
    },
    /// Show what each rule did, and who was refused
    #[command(
        after_long_help = "Examples:\n  ferrule policy report --output json\n  ferrule policy report --cluster"
    )]
    Report {
        /// Which traffic.
        #[command(flatten)]
        traffic: Traffic,
    },
}

/// `ferrule policy network`.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  ferrule policy network --trust-domain shop.local policies/ | kubectl apply -f -
  ferrule policy network --trust-domain shop.local --namespace batch policies/

Beside the mesh, not in its place: a network knows namespaces, addresses and ports, not who somebody is, so that each \
opens at least what its rule allows, and the sidecars refuse the rest. What workloads reach beyond the mesh needs \
policies of your own. Write them anew when rules change.")]
pub(crate) struct Network {
    /// Rules, in files and folders
    #[arg(required = true, value_name = "FILE|FOLDER")]
    pub(crate) paths: Vec<PathBuf>,
    /// The mesh's name
    #[arg(long, value_name = "NAME", value_parser = TrustDomain::parse)]
    pub(crate) trust_domain: TrustDomain,
    /// A meshed namespace that has no rules; may be given several times
    #[arg(long = "namespace", value_name = "NAME")]
    pub(crate) namespaces: Vec<String>,
    /// The namespace of the control plane
    #[arg(long, value_name = "NAME", default_value = "ferrule-system")]
    pub(crate) system: String,
}

/// Traffic that sidecars have logged.
#[derive(Debug, Args)]
pub(crate) struct Traffic {
    /// A sidecar's log, lines of JSON; - for standard input [default: those of the running mesh; in a cluster, what
    /// sidecars tell of since their start]
    #[arg(long = "log", value_name = "FILE")]
    pub(crate) logs: Vec<PathBuf>,
    /// Which rules, where not those of a running mesh.
    #[command(flatten)]
    pub(crate) files: RuleFiles,
    /// Which cluster.
    #[command(flatten)]
    pub(crate) cluster: OfCluster,
}
