//! Leads the kubelet's probes to the sidecar, which asks the application in their place.
//!
//! Under strict mode a probe from the node is a stranger in clear. The sidecar answers, on a port of its own, for
//! exactly the probes that the pod declares, each under the name of its container and kind; nothing else is opened.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::names::{APP_PROBES_PORT, PROBES};
use crate::pod::{Container, List, Pod};

/// A probe that the sidecar asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Declared {
    /// Container and kind, such as `app/readiness`.
    pub name: String,
    /// What is asked, and how long an answer may take, in the words of the sidecar's settings.
    pub settings: Value,
    /// What the pod declared, for the annotation that keeps it.
    pub original: Value,
    /// Where the probe stands in the pod, as a JSON pointer.
    pub pointer: String,
    /// What stands there from now on.
    pub rewritten: Value,
}

/// Every probe of `pod` that the kubelet would ask by network. Probes that run a program in the container stay as
/// they are, and so do those to another host.
///
/// # Errors
/// When a probe points at the sidecar's port and nobody knows what it was before, or its port cannot be read.
pub fn declared(pod: Pod<'_>) -> Result<Vec<Declared>, ProbeError> {
    let kept: Map<String, Value> = pod
        .annotation(PROBES)
        .and_then(|text| serde_json::from_str(text).ok())
        .unwrap_or_default();
    let mut all = Vec::new();
    for list in [List::Init, List::Main] {
        for container in pod
            .list(list)
            .filter(|container| !crate::decide::is_ours(*container))
        {
            for (field, kind) in KINDS {
                let handler = &container.value()[field];
                all.extend(one(container, &format!("/{field}"), kind, handler, &kept)?);
            }
            for (field, kind) in HOOKS {
                let handler = &container.value()["lifecycle"][field];
                all.extend(one(
                    container,
                    &format!("/lifecycle/{field}"),
                    kind,
                    handler,
                    &kept,
                )?);
            }
        }
    }
    Ok(all)
}

/// The annotation that keeps what the pod declared; `None` when there is nothing to keep.
pub fn annotation(declared: &[Declared]) -> Option<String> {
    let kept: BTreeMap<&str, &Value> = declared
        .iter()
        .map(|probe| (probe.name.as_str(), &probe.original))
        .collect();
    (!kept.is_empty()).then(|| json!(kept).to_string())
}

fn one(
    container: Container<'_>,
    field: &str,
    kind: &str,
    probe: &Value,
    kept: &Map<String, Value>,
) -> Result<Option<Declared>, ProbeError> {
    let name = format!("{}/{kind}", container.name());
    let Some(probe) = probe.as_object() else {
        return Ok(None);
    };
    let original = match rewritten_path(probe) {
        None => handler(probe),
        Some(path) => {
            let known = (path == path_of(&name))
                .then(|| kept.get(&name).cloned())
                .flatten();
            Some(known.ok_or(ProbeError::Unknown { probe: name.clone() })?)
        }
    };
    let Some(original) = original else {
        return Ok(None);
    };
    let Some(ask) = ask(container, &original, &name)? else {
        return Ok(None);
    };
    // The kubelet's own default is one second; a hook has no limit of its own.
    let seconds = match probe.get("timeoutSeconds").and_then(Value::as_u64) {
        Some(seconds) if seconds > 0 => seconds.min(LONGEST_ANSWER),
        _ if HOOKS.iter().any(|(_, hook)| *hook == kind) => HOOK_ANSWER,
        _ => 1,
    };
    let mut rewritten = probe.clone();
    for way in WAYS {
        rewritten.remove(way);
    }
    let get = json!({ "path": path_of(&name), "port": APP_PROBES_PORT, "scheme": "HTTP" });
    rewritten.insert("httpGet".to_owned(), get);
    Ok(Some(Declared {
        settings: json!({ "name": &name, "timeout": format!("{seconds}s"), "ask": ask }),
        original,
        pointer: format!("{}{field}", container.pointer()),
        rewritten: Value::Object(rewritten),
        name,
    }))
}

/// The path of a probe that points at the sidecar's port.
fn rewritten_path(probe: &Map<String, Value>) -> Option<&str> {
    let get = probe.get("httpGet")?;
    (get["port"].as_u64() == Some(u64::from(APP_PROBES_PORT)))
        .then(|| get["path"].as_str().unwrap_or_default())
}

fn path_of(name: &str) -> String {
    format!("/probe/{name}")
}

/// The part of a probe that says how it is asked.
fn handler(probe: &Map<String, Value>) -> Option<Value> {
    WAYS.iter()
        .find_map(|way| Some(json!({ *way: probe.get(*way)? })))
}

/// What the sidecar asks; `None` for a probe that stays as it is.
fn ask(container: Container<'_>, handler: &Value, name: &str) -> Result<Option<Value>, ProbeError> {
    let unreadable = || ProbeError::Port {
        probe: name.to_owned(),
    };
    let port_of = |port: &Value| port_number(container, port).ok_or_else(unreadable);
    if let Some(get) = handler.get("httpGet") {
        // To another host the kubelet goes by itself.
        if get["host"].as_str().is_some_and(|host| !host.is_empty()) {
            return Ok(None);
        }
        let scheme = match get["scheme"].as_str() {
            Some("HTTPS") => "https",
            _ => "http",
        };
        let path = get["path"]
            .as_str()
            .filter(|path| !path.is_empty())
            .unwrap_or("/");
        let headers = get["httpHeaders"].as_array().cloned().unwrap_or_default();
        let headers: Vec<Value> = headers
            .iter()
            .map(|header| json!({ "name": header["name"], "value": header["value"].as_str().unwrap_or_default() }))
            .collect();
        let port = port_of(&get["port"])?;
        return Ok(Some(
            json!({ "http": { "port": port, "path": path, "scheme": scheme, "headers": headers } }),
        ));
    }
    if let Some(socket) = handler.get("tcpSocket") {
        if socket["host"].as_str().is_some_and(|host| !host.is_empty()) {
            return Ok(None);
        }
        return Ok(Some(json!({ "tcp": { "port": port_of(&socket["port"])? } })));
    }
    let grpc = &handler["grpc"];
    let service = grpc["service"].as_str().unwrap_or_default();
    Ok(Some(
        json!({ "grpc": { "port": port_of(&grpc["port"])?, "service": service } }),
    ))
}

/// A port by its number, or by the name that the container gives it.
fn port_number(container: Container<'_>, port: &Value) -> Option<u16> {
    if let Some(number) = port.as_u64() {
        return u16::try_from(number).ok().filter(|number| *number != 0);
    }
    let name = port.as_str()?;
    let by_name = container
        .ports()
        .find(|port| port.name == Some(name))
        .map(|port| port.number);
    by_name.or_else(|| name.parse().ok().filter(|number| *number != 0))
}

const KINDS: [(&str, &str); 3] = [
    ("startupProbe", "startup"),
    ("readinessProbe", "readiness"),
    ("livenessProbe", "liveness"),
];

const HOOKS: [(&str, &str); 2] = [("postStart", "post-start"), ("preStop", "pre-stop")];

/// The ways of asking that go over the network.
const WAYS: [&str; 3] = ["httpGet", "tcpSocket", "grpc"];

const LONGEST_ANSWER: u64 = 300;
const HOOK_ANSWER: u64 = 30;

/// Why a pod's probes cannot be led to the sidecar.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProbeError {
    /// It points at the sidecar, and nobody knows at what it pointed before.
    #[error(
        "the probe {probe} points at port {APP_PROBES_PORT}, which is the sidecar's; name the application's port"
    )]
    Unknown {
        /// The probe.
        probe: String,
    },
    /// A port that is neither a number nor a name of the container's ports.
    #[error("the probe {probe} names a port that its container does not declare")]
    Port {
        /// The probe.
        probe: String,
    },
}
