//! Decides whether a pod gets a sidecar, and says why.

use serde_json::Value;

use crate::names::{INJECT, OWN_PORTS, PROXY_USER, REDIRECT, SIDECAR};
use crate::options::{OptionError, Options};
use crate::plan::{Capture, Plan};
use crate::pod::{Container, Pod};
use crate::probes::ProbeError;

/// What is to happen to a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// It gets a sidecar, adjusted so.
    Inject(Box<Options>),
    /// It is left as it is.
    Leave(Leave),
    /// It must not start.
    Refuse(Refusal),
}

/// Why a pod is left as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leave {
    /// Its label says so.
    OptedOut,
    /// It stands for a pod that the kubelet runs from a file; nothing can be added to that.
    Mirror,
}

impl Leave {
    /// The word for it in the log and as a metric's label.
    pub const fn word(self) -> &'static str {
        match self {
            Self::OptedOut => "opted_out",
            Self::Mirror => "mirror",
        }
    }
}

/// Decides about `pod`, which is to be created in a namespace that opted in.
pub fn decide(pod: Pod<'_>, plan: &Plan) -> Decision {
    if pod.label(INJECT) == Some("disabled") {
        return Decision::Leave(Leave::OptedOut);
    }
    if pod.annotation("kubernetes.io/config.mirror").is_some() {
        return Decision::Leave(Leave::Mirror);
    }
    match examine(pod, plan) {
        Ok(options) => Decision::Inject(Box::new(options)),
        Err(refusal) => Decision::Refuse(refusal),
    }
}

/// The first reason why the pod cannot have a sidecar.
fn examine(pod: Pod<'_>, plan: &Plan) -> Result<Options, Refusal> {
    if pod.spec("hostNetwork") == &Value::Bool(true) {
        return Err(Refusal::HostNetwork);
    }
    if pod.spec("os")["name"] == "windows" {
        return Err(Refusal::Windows);
    }
    let user = |context: &Value| context["runAsUser"].as_i64();
    let pods_user = user(pod.spec("securityContext"));
    for container in pod.containers().filter(|container| !is_ours(*container)) {
        let name = || container.name().to_owned();
        let own = user(&container.value()["securityContext"]);
        if own.or(pods_user) == Some(PROXY_USER) {
            return Err(Refusal::ProxyUser { container: name() });
        }
        if let Some(port) = container
            .ports()
            .find(|port| port.is_tcp && OWN_PORTS.contains(&port.number))
        {
            return Err(Refusal::Port {
                container: name(),
                port: port.number,
            });
        }
        if let Some(volume) = mounts(container).find(|volume| plan.own_volumes().contains(volume)) {
            // The bundle may be shown to anybody; the rest is the sidecar's alone.
            if volume != crate::names::TRUST_VOLUME {
                return Err(Refusal::Mount {
                    container: name(),
                    volume: volume.to_owned(),
                });
            }
        }
    }
    let options = Options::read(pod).map_err(|source| Refusal::Options { source })?;
    let explicit = !options.upstreams.is_empty() || !options.serves.is_empty();
    match (plan.capture, explicit) {
        (Capture::None, false) => Err(Refusal::NothingToDo),
        (Capture::Cni | Capture::Init, true) => Err(Refusal::Captured),
        _ => Ok(options),
    }
}

/// Whether a container is one that we put there, to be put there again as it should be.
pub(crate) fn is_ours(container: Container<'_>) -> bool {
    [SIDECAR, REDIRECT].contains(&container.name())
}

fn mounts(container: Container<'_>) -> impl Iterator<Item = &str> {
    let mounts = container.value()["volumeMounts"].as_array();
    mounts
        .into_iter()
        .flatten()
        .filter_map(|mount| mount["name"].as_str())
}

/// Why a pod must not start. The text is what the person who creates it reads.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Its connections are the node's; nobody could tell them apart.
    #[error(
        "the pod uses the node's network (hostNetwork), where no sidecar can tell its connections from the \
         node's; label it {INJECT}=disabled to run it outside the mesh"
    )]
    HostNetwork,
    /// No sidecar for that system.
    #[error("the pod is for Windows nodes, for which there is no sidecar; label it {INJECT}=disabled")]
    Windows,
    /// What it sends would pass for the sidecar's own.
    #[error(
        "container {container} runs as user {PROXY_USER}, which is the sidecar's: its connections would pass \
         the mesh by; choose another runAsUser"
    )]
    ProxyUser {
        /// The container.
        container: String,
    },
    /// The sidecar listens there.
    #[error("container {container} declares port {port}, which the sidecar needs; choose another port")]
    Port {
        /// The container.
        container: String,
        /// The port.
        port: u16,
    },
    /// It would see what is the sidecar's alone.
    #[error("container {container} mounts the volume {volume}, which is the sidecar's alone")]
    Mount {
        /// The container.
        container: String,
        /// The volume.
        volume: String,
    },
    /// Its annotations.
    #[error("{source}")]
    Options {
        /// What is wrong with them.
        source: OptionError,
    },
    /// Its probes.
    #[error("{source}")]
    Probes {
        /// What is wrong with them.
        source: ProbeError,
    },
    /// Nothing is captured, and nothing explicit is asked for.
    #[error(
        "this mesh captures nothing (capture: none), and the pod names no explicit ways: give the annotations \
         ferrule.dev/upstreams or ferrule.dev/serves, or label it {INJECT}=disabled"
    )]
    NothingToDo,
    /// Explicit ways are for where nothing is captured.
    #[error("the annotations ferrule.dev/upstreams and ferrule.dev/serves are for a mesh without capture")]
    Captured,
}

impl Refusal {
    /// The word for it in the log and as a metric's label.
    pub const fn word(&self) -> &'static str {
        match self {
            Self::HostNetwork => "host_network",
            Self::Windows => "windows",
            Self::ProxyUser { .. } => "proxy_user",
            Self::Port { .. } => "port",
            Self::Mount { .. } => "mount",
            Self::Options { .. } => "options",
            Self::Probes { .. } => "probes",
            Self::NothingToDo => "nothing_to_do",
            Self::Captured => "captured",
        }
    }
}

#[cfg(test)]
mod tests;
