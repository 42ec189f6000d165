//! `ferrule check --cluster` finds what is wrong in a cluster that `kubectl` tells of.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::ferrule::{Ended, ferrule, run};

/// What a small cluster tells, by the words that `kubectl` is asked with.
struct Told {
    folder: tempfile::TempDir,
}

impl Told {
    fn new() -> Self {
        let told = Self {
            folder: tempfile::tempdir().unwrap(),
        };
        let script = "#!/bin/sh\nshift\ncase \"$*\" in\n  *webhook*) file=webhook ;;\n  *deployments*) file=deployments ;;\n  \
            *statefulsets*) file=statefulsets ;;\n  *meshpolicies*) file=meshpolicies ;;\n  *'get namespaces'*) file=namespaces ;;\n  \
            *'get pods'*) file=pods ;;\n  *good:15020*) file=metrics ;;\n  *behind:15020*) file=behind ;;\n  *) echo \"no $*\" >&2; exit 1 ;;\nesac\n\
            exec cat \"$(dirname \"$0\")/$file\"\n";
        fs::write(told.program(), script).unwrap();
        fs::set_permissions(told.program(), fs::Permissions::from_mode(0o755)).unwrap();
        let webhook = json!({
            "failurePolicy": "Fail", "clientConfig": { "caBundle": "AAAA" },
            "namespaceSelector": { "matchExpressions": [{ "key": "ferrule.dev/inject", "values": ["enabled"] }] },
        });
        told.tell("webhook", &json!([{ "webhooks": [webhook] }]));
        let ready = |name: &str| json!([{ "metadata": { "name": name }, "spec": { "replicas": 1 }, "status": { "readyReplicas": 1 } }]);
        told.tell("deployments", &ready("ferrule-injector"));
        told.tell("statefulsets", &ready("ferrule-ca"));
        told.tell("meshpolicies", &json!([]));
        told.tell(
            "namespaces",
            &json!([
                { "metadata": { "name": "shop", "labels": { "ferrule.dev/inject": "enabled" } } },
                { "metadata": { "name": "other" } },
            ]),
        );
        told.tell("pods", &json!([pod("good", true)]));
        told.metrics("ferrule_clock_skew_seconds 0\n");
        told
    }

    fn program(&self) -> PathBuf {
        self.folder.path().join("kubectl")
    }

    fn tell(&self, what: &str, items: &Value) {
        fs::write(self.path(what), json!({ "items": items }).to_string()).unwrap();
    }

    fn metrics(&self, more: &str) {
        let text = format!(
            "ferrule_certificate_not_after_timestamp_seconds{{kind=\"leaf\"}} 4102444800\n\
             ferrule_connections_total{{direction=\"inbound\",tls=\"mutual\",verdict=\"allow\",reason=\"finished\"}} 7\n{more}"
        );
        fs::write(self.path("metrics"), text).unwrap();
    }

    fn path(&self, what: &str) -> PathBuf {
        Path::join(self.folder.path(), what)
    }

    fn check(&self) -> (Ended, Vec<(String, String)>) {
        let program = self.program();
        let arguments = [
            "check",
            "--cluster",
            "--guidance",
            "--output",
            "json",
            "--kubectl",
        ];
        let mut command = ferrule(&arguments);
        command.arg(program).env("PATH", "/usr/bin:/bin");
        let ended = run(&mut command);
        let told: Value = serde_json::from_str(&ended.out).unwrap_or_else(|_| panic!("{ended:?}"));
        let word = |value: &Value| value.as_str().unwrap().to_owned();
        let findings = told["findings"].as_array().unwrap().iter();
        let findings = findings.map(|finding| (word(&finding["kind"]), word(&finding["place"])));
        let findings = findings.collect();
        (ended, findings)
    }
}

fn pod(name: &str, is_meshed: bool) -> Value {
    let sidecars = if is_meshed {
        json!([{ "name": "ferrule-proxy" }])
    } else {
        json!([])
    };
    json!({
        "metadata": { "name": name },
        "spec": { "initContainers": sidecars, "containers": [{ "name": "app" }] },
        "status": { "phase": "Running", "initContainerStatuses": [{ "name": "ferrule-proxy", "ready": true, "started": true }] },
    })
}

fn found(kind: &str, place: &str) -> (String, String) {
    (kind.to_owned(), place.to_owned())
}

#[test]
fn a_cluster_as_it_should_be_has_no_finding_and_meets_the_guidance() {
    let (ended, findings) = Told::new().check();
    assert_eq!((ended.code, findings.len()), (0, 0), "{ended:?}");
    let told: Value = serde_json::from_str(&ended.out).unwrap();
    let controls = told["guidance"].as_array().unwrap();
    assert!(
        !controls.is_empty() && controls.iter().all(|control| control["state"] == "met"),
        "{told:#}"
    );
}

#[test]
fn each_fault_of_a_cluster_is_found() {
    let told = Told::new();
    let mut late = pod("late", true);
    late["status"]["initContainerStatuses"][0] =
        json!({ "name": "ferrule-proxy", "ready": false, "started": false });
    told.tell("pods", &json!([pod("good", true), pod("naked", false), late]));
    told.metrics(
        "ferrule_clock_skew_seconds 900\n\
         ferrule_connections_total{direction=\"inbound\",tls=\"plaintext\",verdict=\"audit\",reason=\"finished\"} 3\n\
         ferrule_connections_total{direction=\"inbound\",tls=\"plaintext\",verdict=\"deny\",reason=\"plaintext\"} 9\n",
    );
    let spec = json!({ "mode": "strict", "ports": [{ "port": 9000, "mode": "permissive" }] });
    told.tell(
        "meshpolicies",
        &json!([{ "metadata": { "name": "all", "namespace": "shop" }, "spec": spec }]),
    );
    let down = json!([{ "metadata": { "name": "ferrule-ca" }, "spec": { "replicas": 1 }, "status": {} }]);
    told.tell("statefulsets", &down);
    told.tell("webhook", &json!([]));
    let (ended, findings) = told.check();
    assert_eq!(ended.code, 1);
    let webhook = "mutatingwebhookconfiguration/ferrule-injector";
    assert_eq!(
        findings,
        [
            found("webhook", webhook),
            found("not-ready", "ferrule-ca.ferrule-system"),
            found("permissive", "MeshPolicy all.shop"),
            found("clock", "good.shop"),
            found("plaintext-listener", "good.shop"),
            found("unmeshed", "naked.shop"),
            found("not-ready", "late.shop"),
        ]
    );
    assert!(
        ended.out.contains("taken 3 connections in clear"),
        "{}",
        ended.out
    );
}

#[test]
fn a_sidecar_with_an_older_bundle_is_found() {
    let told = Told::new();
    told.tell("pods", &json!([pod("good", true), pod("behind", true)]));
    told.metrics("ferrule_bundle_generation 4\n");
    fs::write(told.path("behind"), "ferrule_bundle_generation 3\n").unwrap();
    let (ended, findings) = told.check();
    assert_eq!(
        (ended.code, findings),
        (1, vec![found("stale-bundle", "behind.shop")])
    );
}

#[test]
fn what_cannot_be_seen_is_not_fine() {
    let told = Told::new();
    told.tell("pods", &json!([pod("hidden", true)]));
    let (ended, findings) = told.check();
    assert_eq!((ended.code, findings.len()), (2, 0), "{ended:?}");
    assert!(ended.out.contains("hidden.shop"), "{}", ended.out);
}

/// What `tap` says of a cluster with so many sidecars, none of which answers; with how often `kubectl` was to reach one.
fn tapped(sidecars: usize) -> (Ended, usize) {
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("kubectl");
    let script = "#!/bin/sh\ncase \"$*\" in\n  *exec*) echo >>\"$(dirname \"$0\")/reached\"; exit 1 ;;\nesac\n\
        exec cat \"$(dirname \"$0\")/all\"\n";
    fs::write(&program, script).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let settings = json!({ "trust_domain": "shop.local" }).to_string();
    let pods = (0..sidecars).map(|number| {
        json!({
            "kind": "Pod",
            "metadata": {
                "namespace": "shop", "name": format!("web-{number}"),
                "annotations": { "ferrule.dev/status": json!({ "capture": "init" }).to_string() },
            },
            "spec": { "initContainers": [{ "name": "ferrule-proxy", "args": ["run", "--settings", settings] }] },
            "status": {
                "phase": "Running", "podIPs": [{ "ip": "10.0.0.1" }],
                "initContainerStatuses": [{ "name": "ferrule-proxy", "started": true }],
            },
        })
    });
    let items = json!({ "items": pods.collect::<Vec<_>>() });
    fs::write(folder.path().join("all"), items.to_string()).unwrap();
    let mut command = ferrule(&["tap", "--cluster", "--kubectl"]);
    let ended = run(command.arg(&program).env("PATH", "/usr/bin:/bin"));
    let reached = fs::read_to_string(folder.path().join("reached")).unwrap_or_default();
    (ended, reached.lines().count())
}

#[test]
fn more_sidecars_than_kubectl_may_tap_at_once_are_refused_before_any_is_reached() {
    let (ended, reached) = tapped(40);
    assert_eq!(reached, 40, "{ended:?}");
    assert!(ended.err.contains("web-39.shop"), "{ended:?}");
    let (ended, reached) = tapped(41);
    assert_eq!((ended.code, reached), (64, 0), "{ended:?}");
    let told = "to tap 41 sidecars, kubectl would run 41 times at once, and 40 is the most; say which with --namespace";
    assert!(ended.err.contains(told), "{ended:?}");
}
