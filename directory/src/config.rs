//! Holds the checked settings of a directory.

mod document;

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use ferrule_credentials::source;
use ferrule_daemon::logging::LogConfig;
use ferrule_daemon::settings::Settings;
use ferrule_daemon::stop::StopLimits;
use ferrule_document::Problems;
use ferrule_identity::{SpiffeId, TrustDomain};
use ferrule_policy::Cidr;

pub use ferrule_daemon::settings::Loaded;

/// Everything that a directory is told at its start.
#[derive(Debug, Clone)]
pub struct Config {
    /// The mesh's name.
    pub trust_domain: TrustDomain,
    /// Who the directory is; its certificate must say the same.
    pub id: SpiffeId,
    /// Where its certificate comes from, and whom it trusts.
    pub credentials: source::Source,
    /// Where it knows from who lives where and what the rules are.
    pub source: SourceConfig,
    /// The folder that keeps what other hosts say about their workloads; none where nobody is listened to.
    pub announced: Option<PathBuf>,
    /// The addresses of the mesh: whoever is unknown there is asked for. Workloads elsewhere are told to everybody.
    pub ranges: Vec<Cidr>,
    /// Who may list the proxies.
    pub readers: BTreeSet<SpiffeId>,
    /// Where proxies come; `None` means port 15012 on every address, IPv6 and IPv4.
    pub listen: Option<SocketAddr>,
    /// Where readiness and metrics are served in clear.
    pub admin: Option<SocketAddr>,
    /// The control socket.
    pub socket: Option<PathBuf>,
    /// What may be used up.
    pub limits: LimitsConfig,
    /// How the program stops.
    pub stop: StopLimits,
    /// Which log lines are written, and how they look.
    pub log: LogConfig,
}

/// Where a directory knows from who lives where and what the rules are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SourceConfig {
    /// Files, and folders of files, in YAML.
    Files(Vec<PathBuf>),
    /// A Kubernetes cluster: that of this pod, or that of a kubeconfig file.
    Kubernetes {
        /// The file.
        kubeconfig: Option<PathBuf>,
    },
}

/// What may be used up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LimitsConfig {
    /// Open connections.
    pub connections: usize,
    /// TLS handshakes at once.
    pub handshakes: usize,
}

impl Default for LimitsConfig {
    fn default() -> Self {
        Self {
            connections: 16_384,
            handshakes: 256,
        }
    }
}

/// The identity that a directory of `trust_domain` has unless it is given another:
/// `spiffe://DOMAIN/ns/ferrule-system/sa/ferrule-directory`.
///
/// # Panics
/// Never: the parts are known to make an identity.
pub fn default_id(trust_domain: &TrustDomain) -> SpiffeId {
    SpiffeId::workload(trust_domain, SYSTEM, "ferrule-directory").expect("fixed words make an identity")
}

/// The identity by which a CA of `trust_domain` asks who holds which bundle, unless it is given another:
/// `spiffe://DOMAIN/ns/ferrule-system/sa/ferrule-ca`.
///
/// # Panics
/// Never: the parts are known to make an identity.
pub fn default_reader(trust_domain: &TrustDomain) -> SpiffeId {
    SpiffeId::workload(trust_domain, SYSTEM, "ferrule-ca").expect("fixed words make an identity")
}

/// Reads `file` with `variables` laid over it.
///
/// # Errors
/// All faults together.
pub fn load<K, V>(
    file: Option<&Path>,
    variables: impl IntoIterator<Item = (K, V)>,
) -> Result<Loaded<Config>, Problems>
where
    K: Into<OsString>,
    V: Into<OsString>,
{
    Settings::of("ferrule-directory").load(file, variables, document::config)
}

/// The namespace of the mesh's own programs.
const SYSTEM: &str = "ferrule-system";

#[cfg(test)]
mod tests;
