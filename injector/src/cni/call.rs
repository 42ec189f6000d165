//! Reads what a container runtime asks of a chained CNI plugin (specification 1.0.0), writes the answers.

use serde_json::{Value, json};

use crate::names::STATUS;

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Call {
    /// Which versions of the specification are spoken.
    Version,
    /// A pod has got its network, or is checked again.
    Pod {
        /// Whether it is only checked.
        check: bool,
        /// The path of its network namespace.
        netns: String,
        /// Whether it has a sidecar that takes redirected connections.
        meshed: bool,
        /// What the plugins before said, to be passed on.
        previous: Value,
    },
    /// A pod is going: its network namespace, and the rules in it, go with it.
    Delete,
}

impl Call {
    /// Reads the command and the namespace from the environment's values, the rest from standard input.
    ///
    /// # Errors
    /// When the command is unknown, or the configuration is not one for a chained plugin.
    pub fn read(command: &str, netns: Option<String>, input: &[u8]) -> Result<Self, CallError> {
        let check = match command {
            "VERSION" => return Ok(Self::Version),
            "DEL" | "GC" | "STATUS" => return Ok(Self::Delete),
            "ADD" => false,
            "CHECK" => true,
            other => {
                return Err(CallError::Command {
                    command: other.chars().take(32).collect(),
                });
            }
        };
        let config: Value = serde_json::from_slice(input).map_err(|source| CallError::Json { source })?;
        let netns = netns.filter(|netns| !netns.is_empty()).ok_or(CallError::Netns)?;
        let previous = config["prevResult"].clone();
        if previous.is_null() {
            return Err(CallError::First);
        }
        Ok(Self::Pod {
            check,
            netns,
            meshed: is_meshed(&config)?,
            previous,
        })
    }
}

/// Whether the pod's annotations, which the runtime passes on (`capabilities`), name a sidecar with capture.
fn is_meshed(config: &Value) -> Result<bool, CallError> {
    let annotations = &config["runtimeConfig"][ANNOTATIONS];
    if annotations.is_null() {
        // A runtime that does not pass them leaves nothing to go by; a sidecar then never sees its redirect proved,
        // and its pod is never ready.
        return Ok(false);
    }
    let Some(status) = annotations[STATUS].as_str() else {
        return Ok(false);
    };
    let status: Value = serde_json::from_str(status).map_err(|source| CallError::Json { source })?;
    Ok(status["capture"] == "cni")
}

/// The answer to `VERSION`.
pub fn versions() -> Value {
    json!({ "cniVersion": "1.0.0", "supportedVersions": ["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"] })
}

/// An answer that says no.
pub fn refusal(message: &str) -> Value {
    json!({ "cniVersion": "1.0.0", "code": 100, "msg": message })
}

/// The capability by which a runtime passes a pod's annotations, and their key in `runtimeConfig`.
pub const ANNOTATIONS: &str = "io.kubernetes.cri.pod-annotations";

/// Why a call cannot be followed.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// Another command than the specification's.
    #[error("the command {command:?} is none of CNI's")]
    Command {
        /// The command, cut short.
        command: String,
    },
    /// Not JSON.
    #[error("the configuration is no JSON")]
    Json {
        /// Why.
        source: serde_json::Error,
    },
    /// No network namespace.
    #[error("CNI_NETNS is not set")]
    Netns,
    /// Nobody before it.
    #[error("ferrule-cni is a chained plugin: it has to stand after one that makes the pod's network")]
    First,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(annotations: &Value) -> Vec<u8> {
        json!({
            "cniVersion": "1.0.0", "name": "lab", "type": "ferrule-cni",
            "prevResult": { "ips": [{ "address": "10.244.1.2/24" }] },
            "runtimeConfig": { ANNOTATIONS: annotations },
        })
        .to_string()
        .into_bytes()
    }

    fn read(input: &[u8]) -> Result<Call, CallError> {
        Call::read("ADD", Some("/run/netns/x".to_owned()), input)
    }

    #[test]
    fn a_pod_with_a_sidecar_is_told_from_others() {
        let meshed = |annotations: &Value| match read(&config(annotations)).unwrap() {
            Call::Pod { meshed, previous, .. } => {
                assert_eq!(previous["ips"][0]["address"], "10.244.1.2/24");
                meshed
            }
            other => panic!("{other:?}"),
        };
        assert!(meshed(&json!({ "ferrule.dev/status": "{\"capture\":\"cni\"}" })));
        assert!(!meshed(
            &json!({ "ferrule.dev/status": "{\"capture\":\"init\"}" })
        ));
        assert!(!meshed(&json!({ "team": "shop" })));
        assert!(!meshed(&Value::Null));
    }

    #[test]
    fn what_cannot_be_followed_is_refused() {
        assert!(read(b"{").is_err());
        assert!(matches!(read(b"{}"), Err(CallError::First)));
        assert!(matches!(
            Call::read("ADD", None, &config(&Value::Null)),
            Err(CallError::Netns)
        ));
        assert!(Call::read("MAKE", None, b"{}").is_err());
        let broken = json!({ "ferrule.dev/status": "{" });
        assert!(matches!(read(&config(&broken)), Err(CallError::Json { .. })));
    }

    #[test]
    fn what_goes_needs_nothing() {
        assert_eq!(Call::read("DEL", None, b"").unwrap(), Call::Delete);
        assert_eq!(Call::read("VERSION", None, b"").unwrap(), Call::Version);
    }
}
