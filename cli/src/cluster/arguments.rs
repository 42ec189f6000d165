//! Describes how a command line names a cluster.

use std::path::PathBuf;

use clap::Args;

/// Which cluster to look at, where not at a mesh that runs here.
#[derive(Debug, Args)]
pub(crate) struct OfCluster {
    /// Look at the Kubernetes cluster that kubectl means, instead of at a mesh that runs here
    #[arg(long, conflicts_with = "mesh")]
    pub(crate) cluster: bool,
    /// Only this namespace of the cluster; may be given several times [default: all]
    #[arg(long = "namespace", value_name = "NAME", requires = "cluster")]
    pub(crate) namespaces: Vec<String>,
    /// The context of the kubeconfig [default: the current one]
    #[arg(long = "context", value_name = "NAME", requires = "cluster")]
    pub(crate) kubectl_context: Option<String>,
    /// The program that asks the cluster
    #[arg(long, value_name = "PROGRAM", default_value = "kubectl")]
    pub(crate) kubectl: PathBuf,
    /// The namespace of the control plane
    #[arg(long, value_name = "NAME", default_value = "ferrule-system")]
    pub(crate) system: String,
}
