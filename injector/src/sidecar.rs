//! Writes the containers and volumes that a meshed pod gets.
//!
//! Fields that the API server would fill in are written out, so that what comes back from it for a second look is
//! what was sent.

use std::time::Duration;

use ferrule_document::print_duration;
use serde_json::{Value, json};

use crate::names::{
    ADMIN_PORT, APP_PROBES_PORT, BUNDLE_FILE, IDENTITY_FOLDER, IDENTITY_VOLUME, PROBE_PORT, PROXY_USER,
    REDIRECT, SIDECAR, TOKEN_AUDIENCE, TOKEN_FILE, TOKEN_FOLDER, TOKEN_VOLUME, TRUST_CONFIG_MAP,
    TRUST_FOLDER, TRUST_VOLUME,
};
use crate::options::Options;
use crate::plan::{Capture, Plan};
use crate::probes::Declared;

/// The sidecar.
pub fn proxy(plan: &Plan, options: &Options, probes: &[Declared], grace: Duration) -> Value {
    let settings = settings(plan, options, probes, grace).to_string();
    let resources = &options.resources;
    let defaults = &plan.resources;
    let cpu = resources.cpu.as_ref().unwrap_or(&defaults.cpu);
    let memory = resources.memory.as_ref().unwrap_or(&defaults.memory);
    // A request above the mesh's own limit raises that limit with it.
    let cpu_limit = resources
        .cpu_limit
        .as_ref()
        .unwrap_or(&defaults.cpu_limit)
        .max(cpu);
    let memory_limit = resources
        .memory_limit
        .as_ref()
        .unwrap_or(&defaults.memory_limit)
        .max(memory);
    let mut container = json!({
        "name": SIDECAR,
        "image": plan.image,
        "imagePullPolicy": plan.pull_policy.as_str(),
        "args": ["run", "--settings", settings],
        "env": [
            field("POD_NAME", "metadata.name"),
            field("POD_NAMESPACE", "metadata.namespace"),
            field("POD_IPS", "status.podIPs"),
            field("NODE_NAME", "spec.nodeName"),
            field("SERVICE_ACCOUNT", "spec.serviceAccountName"),
        ],
        "ports": ports(plan),
        "resources": {
            "limits": { "cpu": cpu_limit.as_str(), "memory": memory_limit.as_str() },
            "requests": { "cpu": cpu.as_str(), "memory": memory.as_str() },
        },
        "securityContext": restricted(),
        "startupProbe": ready(plan, 1, 60),
        "readinessProbe": ready(plan, 5, 2),
        "terminationMessagePath": "/dev/termination-log",
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [
            { "name": TOKEN_VOLUME, "mountPath": TOKEN_FOLDER, "readOnly": true },
            { "name": TRUST_VOLUME, "mountPath": TRUST_FOLDER, "readOnly": true },
            { "name": IDENTITY_VOLUME, "mountPath": IDENTITY_FOLDER },
        ],
    });
    if plan.native_sidecars {
        container["restartPolicy"] = json!("Always");
    }
    container
}

/// The container that puts the redirect in place, before the sidecar, where capture is `init`.
pub fn redirect(plan: &Plan) -> Value {
    json!({
        "name": REDIRECT,
        "image": plan.redirect_image,
        "imagePullPolicy": plan.pull_policy.as_str(),
        "args": ["redirect", "install"],
        "resources": {
            "limits": { "cpu": "100m", "memory": "32Mi" },
            "requests": { "cpu": "10m", "memory": "16Mi" },
        },
        // nft has to be run by root to use the capability; it has no other one, and nothing to write to.
        "securityContext": {
            "allowPrivilegeEscalation": false,
            "capabilities": { "add": ["NET_ADMIN"], "drop": ["ALL"] },
            "privileged": false,
            "readOnlyRootFilesystem": true,
            "runAsGroup": 0,
            "runAsNonRoot": false,
            "runAsUser": 0,
            "seccompProfile": { "type": "RuntimeDefault" },
        },
        "terminationMessagePath": "/dev/termination-log",
        "terminationMessagePolicy": "FallbackToLogsOnError",
    })
}

/// The volumes of the sidecar.
pub fn volumes() -> [Value; 3] {
    let token = json!({ "serviceAccountToken": {
        "audience": TOKEN_AUDIENCE, "expirationSeconds": 3600, "path": TOKEN_FILE,
    } });
    [
        json!({ "name": TOKEN_VOLUME, "projected": { "defaultMode": 420, "sources": [token] } }),
        json!({ "name": TRUST_VOLUME, "configMap": { "defaultMode": 420, "name": TRUST_CONFIG_MAP } }),
        json!({ "name": IDENTITY_VOLUME, "emptyDir": { "medium": "Memory", "sizeLimit": "1Mi" } }),
    ]
}

/// The mount that shows the trust bundle to an application.
pub fn trust_mount() -> Value {
    json!({ "name": TRUST_VOLUME, "mountPath": TRUST_FOLDER, "readOnly": true })
}

/// The variables that make a runtime trust the bundle beside what it trusts already. Variables that would replace a
/// trust store (`SSL_CERT_FILE`, `REQUESTS_CA_BUNDLE` …) are none of these.
pub fn trust_variables() -> [Value; 2] {
    let bundle = format!("{TRUST_FOLDER}/{BUNDLE_FILE}");
    ["NODE_EXTRA_CA_CERTS", "DENO_CERT"].map(|name| json!({ "name": name, "value": bundle }))
}

/// The sidecar's settings document.
fn settings(plan: &Plan, options: &Options, probes: &[Declared], grace: Duration) -> Value {
    let mut settings = json!({
        "trust_domain": plan.trust_domain.as_str(),
        "credentials": { "ca": {
            "addresses": plan.ca,
            "evidence": { "kubernetes": {
                "token": format!("{TOKEN_FOLDER}/{TOKEN_FILE}"),
                "bundle": format!("{TRUST_FOLDER}/{BUNDLE_FILE}"),
            } },
        } },
        "mesh": {
            "ranges": plan.ranges,
            "resolvers": plan.resolvers,
            "api_server": plan.api_server,
        },
        "admin": { "socket": format!("{IDENTITY_FOLDER}/proxy.sock") },
        "drain": drain(plan, options, grace),
        "log": { "level": options.log_level.as_deref().unwrap_or(&plan.log_level) },
    });
    if !plan.directory.is_empty() {
        // The API server knows a pod's labels of today, the sidecar at best those of its start.
        let mut directory = json!({ "addresses": plan.directory, "selects": true });
        if let Some(identity) = &plan.directory_identity {
            directory["identity"] = json!(identity.as_str());
        }
        settings["directory"] = directory;
    }
    if plan.capture == Capture::None {
        settings["upstreams"] = options
            .upstreams
            .iter()
            .map(|way| json!({ "listen": format!("127.0.0.1:{}", way.listen), "service": way.service }))
            .collect();
        settings["serves"] = options
            .serves
            .iter()
            .map(|way| json!({ "listen": format!("0.0.0.0:{}", way.listen), "to": format!("127.0.0.1:{}", way.to) }))
            .collect();
    } else {
        settings["capture"] = json!({});
        settings["probes"] = json!({
            "listen": format!("0.0.0.0:{APP_PROBES_PORT}"),
            "declared": probes.iter().map(|probe| &probe.settings).collect::<Vec<_>>(),
        });
    }
    settings
}

/// A native sidecar is told to stop when the application is gone, so nothing has to leave first. An ordinary
/// container is told at the same time, and waits for those who still send.
fn drain(plan: &Plan, options: &Options, grace: Duration) -> Value {
    let leave = if plan.native_sidecars {
        Duration::ZERO
    } else {
        LEAVE.min(grace / 2)
    };
    let longest = grace.saturating_sub(leave).saturating_sub(SPARE);
    let deadline = options.drain.unwrap_or(longest).min(longest);
    json!({ "leave": print_duration(leave), "deadline": print_duration(deadline) })
}

fn field(name: &str, path: &str) -> Value {
    json!({ "name": name, "valueFrom": { "fieldRef": { "apiVersion": "v1", "fieldPath": path } } })
}

fn ports(plan: &Plan) -> Value {
    let metrics = json!({ "containerPort": ADMIN_PORT, "name": "ferrule-metrics", "protocol": "TCP" });
    if plan.capture == Capture::None {
        return json!([metrics]);
    }
    json!([
        metrics,
        { "containerPort": APP_PROBES_PORT, "name": "ferrule-probes", "protocol": "TCP" },
    ])
}

/// Asks through the redirect, so that a pod without one is never ready.
fn ready(plan: &Plan, period: u64, failures: u64) -> Value {
    let (path, port) = match plan.capture {
        Capture::Cni | Capture::Init => ("/", PROBE_PORT),
        Capture::None => ("/ready", ADMIN_PORT),
    };
    json!({
        "httpGet": { "path": path, "port": port, "scheme": "HTTP" },
        "periodSeconds": period,
        "failureThreshold": failures,
        "successThreshold": 1,
        "timeoutSeconds": 3,
    })
}

/// What PodSecurity `restricted` demands, and a root filesystem that nobody writes to.
fn restricted() -> Value {
    json!({
        "allowPrivilegeEscalation": false,
        "capabilities": { "drop": ["ALL"] },
        "privileged": false,
        "readOnlyRootFilesystem": true,
        "runAsGroup": PROXY_USER,
        "runAsNonRoot": true,
        "runAsUser": PROXY_USER,
        "seccompProfile": { "type": "RuntimeDefault" },
    })
}

/// How long those who send are given to learn that the pod leaves.
const LEAVE: Duration = Duration::from_secs(5);

/// What is kept of the pod's grace for the end itself.
const SPARE: Duration = Duration::from_secs(2);
