//! Holds the checked settings of `ferrule-ca`.

mod read;

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ferrule_daemon::settings::Settings;
use ferrule_daemon::stop::StopLimits;
use ferrule_document::{Effective, Problems};
use ferrule_identity::{KeyAlgorithm, SpiffeId, TrustDomain};

use crate::crypto::CryptoProfile;

/// Everything that an operator can set, checked. `docs/operating.md` lists each field with its unit and default.
#[derive(Debug, Clone)]
pub struct Config {
    /// Whose identities are issued. `None` when only the data folder knows.
    pub trust_domain: Option<TrustDomain>,
    /// The data folder.
    pub data: PathBuf,
    /// Where the API listens; `None` means port 15010 on every address, IPv6 and IPv4.
    pub listen: Option<SocketAddr>,
    /// Where readiness and metrics are served in clear; `None` turns them off.
    pub admin: Option<SocketAddr>,
    /// How much is demanded of the keys' keeping.
    pub profile: Profile,
    /// Which algorithms are used.
    pub crypto: CryptoProfile,
    /// The lives of leaves.
    pub leaf: LeafConfig,
    /// Signing certificates.
    pub signing: SigningConfig,
    /// Roots that are our own.
    pub root: RootConfig,
    /// The names in the API's own certificate, the first one for people to use.
    pub serving: Vec<ServingName>,
    /// How often clients should look for a new trust bundle.
    pub bundle_refresh_hint: Duration,
    /// How long a revocation list is valid; a new one is signed at half of it.
    pub crl_lifetime: Duration,
    /// Who may revoke and read the status over HTTPS.
    pub admins: Vec<SpiffeId>,
    /// Parts of the control plane elsewhere that get serving certificates, for these names.
    pub servers: Vec<(SpiffeId, Vec<ServingName>)>,
    /// Where service-account tokens are reviewed; `None` when they are not taken.
    pub kubernetes: Option<KubernetesConfig>,
    /// The directory that knows which proxies hold which bundle; `None` where there is none.
    pub directory: Option<DirectoryConfig>,
    /// The file that holds the passphrase of the keys; `None` means the `kek` file of the data folder.
    pub passphrase_file: Option<PathBuf>,
    /// What one caller, one address and one connection may use up.
    pub limits: LimitsConfig,
    /// How a stop goes.
    pub stop: StopLimits,
    /// Which log lines are written: a filter such as `info` or `ferrule_ca=debug,info`.
    pub log: String,
}

/// How much is demanded of the keys' keeping.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Profile {
    /// Starts with a root of its own that is online, and a key-encryption key beside it; says so.
    Standard,
    /// Refuses a self-signed root that is online, and a key-encryption key that lies beside the keys.
    Production,
}

/// The lives of leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeafConfig {
    /// Where a request names none.
    pub default_lifetime: Duration,
    /// The shortest that is issued.
    pub min_lifetime: Duration,
    /// The longest that is issued.
    pub max_lifetime: Duration,
}

/// Signing certificates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SigningConfig {
    /// The kind of their keys.
    pub algorithm: KeyAlgorithm,
    /// Their life.
    pub lifetime: Duration,
    /// The share of the life, in per cent, after which the next one is made.
    pub rotate_at_percent: u8,
}

/// Roots that are our own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RootConfig {
    /// The kind of their keys.
    pub algorithm: KeyAlgorithm,
    /// Their life.
    pub lifetime: Duration,
}

/// A name that the CA is reached by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ServingName {
    /// A host name.
    Dns(String),
    /// An address.
    Ip(IpAddr),
}

impl fmt::Display for ServingName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dns(name) => f.write_str(name),
            Self::Ip(address) => write!(f, "{address}"),
        }
    }
}

/// Where service-account tokens are reviewed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KubernetesConfig {
    /// The API server's host, to connect to and to find in its certificate.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// The certificates that its certificate may chain to, in PEM; read again for each call.
    pub ca_file: PathBuf,
    /// The token that the CA itself shows; read again for each call.
    pub token_file: PathBuf,
    /// The audience that tokens must be for.
    pub audience: String,
    /// The ConfigMap that the trust bundle is kept in, for whoever has nothing else to begin from.
    pub publish: Option<ConfigMapName>,
}

/// Which ConfigMap.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigMapName {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

/// The directory that knows which proxies hold which bundle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirectoryConfig {
    /// Where it listens, each `HOST:PORT`; all of them are asked.
    pub addresses: Vec<String>,
    /// Who must answer there; `None` means `spiffe://DOMAIN/ns/ferrule-system/sa/ferrule-directory`.
    pub id: Option<SpiffeId>,
}

/// What one caller, one address and one connection may use up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LimitsConfig {
    /// Certificates a second that one caller gets, in the long run.
    pub issues_per_caller: NonZeroU32,
    /// Certificates that one caller gets at once.
    pub issue_burst: NonZeroU32,
    /// Anonymous requests and refused evidence a second from one address, in the long run.
    pub requests_per_address: NonZeroU32,
    /// Anonymous requests and refused evidence from one address at once.
    pub request_burst: NonZeroU32,
    /// Callers and addresses that are remembered, each.
    pub remembered: usize,
    /// Host statements that are remembered.
    pub statements: usize,
    /// Open connections.
    pub connections: usize,
    /// The longest body of a request, in bytes.
    pub body: usize,
    /// How long a request may take, waits for a change not counted.
    pub request_time: Duration,
    /// The longest wait for a change.
    pub wait: Duration,
    /// Service-account tokens that are under review at once.
    pub reviews: usize,
}

/// Settings that were read without a fault, with the text that `--check` prints.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The settings.
    pub config: Config,
    /// What is in force, value by value with its origin.
    pub effective: Effective,
}

/// Reads the settings from `file`, where there is one, with `variables` laid over it.
///
/// # Errors
/// Every fault at once.
pub fn load<K, V>(
    file: Option<&Path>,
    variables: impl IntoIterator<Item = (K, V)>,
) -> Result<Loaded, Problems>
where
    K: Into<std::ffi::OsString>,
    V: Into<std::ffi::OsString>,
{
    let loaded = Settings::of("ferrule-ca").load(file, variables, read::config)?;
    Ok(Loaded {
        config: loaded.config,
        effective: loaded.effective,
    })
}

#[cfg(test)]
mod tests;
