//! Describes the command lines of `ferrule install`, `upgrade` and `uninstall`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use ferrule_identity::TrustDomain;

/// Print the manifests of an installation on Kubernetes
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  ferrule install --trust-domain shop.local | kubectl apply -f -
  ferrule install --trust-domain shop.local --image-prefix registry.example/mirror --digests digests.txt

Then label a namespace, and say who may reach what there:
  kubectl label namespace shop ferrule.dev/inject=enabled

It asks nobody: neither a cluster nor a network is needed. The Helm chart in deploy/chart makes the same.")]
pub(crate) struct Install {
    /// The mesh's name, which is a part of every identity in it
    #[arg(long, value_name = "NAME", value_parser = TrustDomain::parse)]
    pub(crate) trust_domain: TrustDomain,
    #[command(flatten)]
    pub(crate) choices: Choices,
}

/// Print the manifests that bring an installation to this version
#[derive(Debug, Args)]
#[command(after_long_help = "\
Example:
  ferrule upgrade --from 0.1.0 --trust-domain shop.local | kubectl apply -f -

Give the choices of the installation again. The control plane is replaced first; a sidecar, when its pod is made anew:
  kubectl -n shop rollout restart deployment

Programs one minor version apart work together; a jump over more is refused.")]
pub(crate) struct Upgrade {
    /// The version that is installed
    #[arg(long, value_name = "VERSION")]
    pub(crate) from: String,
    /// As at the installation
    #[command(flatten)]
    pub(crate) install: Install,
}

/// Print what to delete so that nothing of an installation is left
#[derive(Debug, Args)]
#[command(after_long_help = "\
Example:
  ferrule uninstall | kubectl delete --ignore-not-found -f -

This deletes the CA with its key, and every rule. Pods keep their sidecars until they are made anew; take the label
ferrule.dev/inject from their namespaces and restart them first.")]
pub(crate) struct Uninstall {
    /// The namespace of the control plane
    #[arg(long, value_name = "NAME", default_value = "ferrule-system")]
    pub(crate) namespace: String,
}

/// What an installation can choose.
#[derive(Debug, Args)]
pub(crate) struct Choices {
    /// The namespace of the control plane
    #[arg(long, value_name = "NAME", default_value = "ferrule-system")]
    pub(crate) namespace: String,
    /// How connections come to the sidecars
    #[arg(long, value_enum, default_value_t = Capture::Cni)]
    pub(crate) capture: Capture,
    /// Where all images come from
    #[arg(long, value_name = "PREFIX")]
    pub(crate) image_prefix: Option<String>,
    /// Which images [default: those of this version]
    #[arg(long, value_name = "TAG")]
    pub(crate) image_tag: Option<String>,
    /// A file that says what each image must be: lines of a name, such as ferrule-ca, and sha256:…
    #[arg(long, value_name = "FILE")]
    pub(crate) digests: Option<PathBuf>,
    /// Any other value of the chart; may be given several times
    #[arg(long = "set", value_name = "NAME=VALUE")]
    pub(crate) values: Vec<String>,
}

/// How connections come to the sidecars.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Capture {
    /// A CNI plugin on each node: pods need no capability
    Cni,
    /// An init container with NET_ADMIN in each pod
    Init,
    /// None: pods name their ways in annotations
    None,
}

impl Capture {
    /// The chart's word for it.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Cni => "cni",
            Self::Init => "init",
            Self::None => "none",
        }
    }
}
