//! Holds what every sidecar of an installation has in common.

use ferrule_identity::{SpiffeId, TrustDomain};

use crate::names::{IDENTITY_VOLUME, TOKEN_VOLUME, TRUST_VOLUME};
use crate::quantity::Quantity;

/// What every sidecar of an installation has in common.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The mesh's name.
    pub trust_domain: TrustDomain,
    /// The sidecar's image.
    pub image: String,
    /// The image of the container that puts the redirect in place; used where capture is `init`.
    pub redirect_image: String,
    /// `imagePullPolicy` of both.
    pub pull_policy: PullPolicy,
    /// How connections come to the sidecar.
    pub capture: Capture,
    /// Whether the cluster knows native sidecars (Kubernetes 1.29): init containers that go on beside the rest.
    pub native_sidecars: bool,
    /// Where the CA listens, each `HOST:PORT`.
    pub ca: Vec<String>,
    /// Where the directory listens, each `HOST:PORT`.
    pub directory: Vec<String>,
    /// Who must answer there; `None` means the directory of the namespace `ferrule-system`.
    pub directory_identity: Option<SpiffeId>,
    /// The addresses of pods and services.
    pub ranges: Vec<String>,
    /// DNS resolvers.
    pub resolvers: Vec<String>,
    /// The API server's addresses.
    pub api_server: Vec<String>,
    /// Processor and memory where a pod does not ask for others.
    pub resources: DefaultResources,
    /// The log filter where a pod does not ask for another.
    pub log_level: String,
}

impl Plan {
    /// The volumes that the sidecar brings along.
    pub const fn own_volumes(&self) -> [&'static str; 3] {
        [TOKEN_VOLUME, TRUST_VOLUME, IDENTITY_VOLUME]
    }
}

/// How connections come to the sidecar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Capture {
    /// By redirect, which a CNI plugin puts in place: the pod needs no capability.
    Cni,
    /// By redirect, which an init container with `NET_ADMIN` puts in place.
    Init,
    /// Not at all: explicit ways only.
    None,
}

impl Capture {
    /// The word for it in settings and annotations.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Cni => "cni",
            Self::Init => "init",
            Self::None => "none",
        }
    }
}

/// When the kubelet pulls an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PullPolicy {
    /// For each container.
    Always,
    /// When the node lacks it.
    IfNotPresent,
    /// Never: somebody else puts it there.
    Never,
}

impl PullPolicy {
    /// As Kubernetes writes it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Always => "Always",
            Self::IfNotPresent => "IfNotPresent",
            Self::Never => "Never",
        }
    }
}

/// Processor and memory of a sidecar.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DefaultResources {
    /// Processor time that is set aside.
    pub cpu: Quantity,
    /// Processor time at most.
    pub cpu_limit: Quantity,
    /// Memory that is set aside.
    pub memory: Quantity,
    /// Memory at most.
    pub memory_limit: Quantity,
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// The plan of the tests.
    pub(crate) fn plan() -> Plan {
        let quantity = |text: &str| text.parse().unwrap();
        Plan {
            trust_domain: TrustDomain::parse("shop.local").unwrap(),
            image: "registry.test/ferrule-proxy:1".to_owned(),
            redirect_image: "registry.test/ferrule-cni:1".to_owned(),
            pull_policy: PullPolicy::IfNotPresent,
            capture: Capture::Cni,
            native_sidecars: true,
            ca: vec!["ferrule-ca.ferrule-system.svc:15010".to_owned()],
            directory: vec!["ferrule-directory.ferrule-system.svc:15012".to_owned()],
            directory_identity: None,
            ranges: vec!["10.244.0.0/16".to_owned(), "10.96.0.0/16".to_owned()],
            resolvers: vec!["10.96.0.10".to_owned()],
            api_server: vec!["10.96.0.1:443".to_owned()],
            resources: DefaultResources {
                cpu: quantity("20m"),
                cpu_limit: quantity("1"),
                memory: quantity("32Mi"),
                memory_limit: quantity("256Mi"),
            },
            log_level: "info".to_owned(),
        }
    }
}
