//! Holds the checked settings of `ferrule-injector`.

mod read;

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use ferrule_daemon::settings::{Loaded, Settings};
use ferrule_daemon::stop::StopLimits;
use ferrule_document::Problems;
use ferrule_identity::{SpiffeId, TrustDomain};

use crate::plan::{Capture, DefaultResources, Plan, PullPolicy};

/// Everything that an operator can set, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The mesh's name.
    pub trust_domain: TrustDomain,
    /// Where the API server asks.
    pub listen: SocketAddr,
    /// Where readiness and metrics are served in clear; `None` turns them off.
    pub admin: Option<SocketAddr>,
    /// The names that the API server asks by.
    pub names: Vec<String>,
    /// The CA.
    pub ca: CaConfig,
    /// The webhook configurations whose `caBundle` is kept right; the mutating and the validating one have the same
    /// name.
    pub webhooks: Option<String>,
    /// The namespace of the control plane itself.
    pub namespace: String,
    /// What every sidecar has in common, but for what the cluster tells.
    pub sidecar: SidecarConfig,
    /// How a stop goes.
    pub stop: StopLimits,
    /// Which log lines are written.
    pub log: String,
}

/// Where the injector's own certificate comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CaConfig {
    /// Where the CA listens, each `HOST:PORT`.
    pub addresses: Vec<String>,
    /// The injector's service account, which is a part of its identity.
    pub account: String,
    /// The token for the CA.
    pub token: PathBuf,
    /// Whom to trust at the first contact.
    pub bundle: PathBuf,
}

/// What every sidecar has in common.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SidecarConfig {
    /// Its image.
    pub image: String,
    /// The image of the container that puts the redirect in place.
    pub redirect_image: String,
    /// When images are pulled.
    pub pull_policy: PullPolicy,
    /// How connections come to it.
    pub capture: Capture,
    /// Whether the cluster knows native sidecars; `None` asks the API server.
    pub native: Option<bool>,
    /// Where the CA listens.
    pub ca: Vec<String>,
    /// Where the directory listens.
    pub directory: Vec<String>,
    /// Who must answer there; `None` means the directory of the namespace `ferrule-system`.
    pub directory_identity: Option<SpiffeId>,
    /// The addresses of pods and services.
    pub ranges: Vec<String>,
    /// DNS resolvers.
    pub resolvers: Vec<String>,
    /// The API server's addresses.
    pub api_server: Vec<String>,
    /// Processor and memory.
    pub resources: DefaultResources,
    /// The log filter.
    pub log_level: String,
}

impl Config {
    /// The plan for a cluster that knows native sidecars, or does not.
    pub fn plan(&self, native_sidecars: bool) -> Plan {
        let sidecar = self.sidecar.clone();
        Plan {
            trust_domain: self.trust_domain.clone(),
            image: sidecar.image,
            redirect_image: sidecar.redirect_image,
            pull_policy: sidecar.pull_policy,
            capture: sidecar.capture,
            native_sidecars,
            ca: sidecar.ca,
            directory: sidecar.directory,
            directory_identity: sidecar.directory_identity,
            ranges: sidecar.ranges,
            resolvers: sidecar.resolvers,
            api_server: sidecar.api_server,
            resources: sidecar.resources,
            log_level: sidecar.log_level,
        }
    }
}

/// Reads the settings from `file`, where there is one, with `variables` laid over it.
///
/// # Errors
/// Every fault at once.
pub fn load<K, V>(
    file: Option<&Path>,
    variables: impl IntoIterator<Item = (K, V)>,
) -> Result<Loaded<Config>, Problems>
where
    K: Into<OsString>,
    V: Into<OsString>,
{
    Settings::of("ferrule-injector")
        .named("POD_NAMESPACE", &["namespace"])
        .load(file, variables, read::config)
}
