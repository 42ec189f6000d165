//! Draws pods that PodSecurity `restricted` admits, and shows that it admits them with a sidecar too.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

mod common;

use common::{applied, plan};
use ferrule_injector::patch::{Answer, answer};
use proptest::prelude::*;
use serde_json::{Value, json};

/// The first rule of PodSecurity `restricted` (Kubernetes 1.34, `latest`) that the pod breaks.
fn broken(pod: &Value) -> Option<String> {
    let spec = &pod["spec"];
    for field in ["hostNetwork", "hostPID", "hostIPC"] {
        if spec[field] == json!(true) {
            return Some(field.to_owned());
        }
    }
    let allowed = [
        "configMap",
        "csi",
        "downwardAPI",
        "emptyDir",
        "ephemeral",
        "persistentVolumeClaim",
        "projected",
        "secret",
    ];
    for volume in list(&spec["volumes"]) {
        let kinds = volume.as_object().unwrap().keys().filter(|key| *key != "name");
        if let Some(kind) = kinds.into_iter().find(|kind| !allowed.contains(&kind.as_str())) {
            return Some(format!("volume {kind}"));
        }
    }
    let all = ["initContainers", "containers"]
        .into_iter()
        .flat_map(|field| list(&spec[field]));
    for container in all {
        let name = container["name"].as_str().unwrap();
        let own = &container["securityContext"];
        let either = |field: &str| {
            if own[field].is_null() {
                &spec["securityContext"][field]
            } else {
                &own[field]
            }
        };
        let added = list(&own["capabilities"]["add"]);
        let seccomp = either("seccompProfile")["type"].as_str().unwrap_or_default();
        let fine = [
            ("privileged", own["privileged"] != json!(true)),
            ("escalation", own["allowPrivilegeEscalation"] == json!(false)),
            ("drop", list(&own["capabilities"]["drop"]).contains(&json!("ALL"))),
            ("add", added.iter().all(|one| one == "NET_BIND_SERVICE")),
            ("non-root", either("runAsNonRoot") == &json!(true)),
            ("user", either("runAsUser") != &json!(0)),
            ("seccomp", ["RuntimeDefault", "Localhost"].contains(&seccomp)),
            (
                "proc",
                own["procMount"].is_null() || own["procMount"] == "Default",
            ),
            (
                "host port",
                list(&container["ports"])
                    .iter()
                    .all(|port| port["hostPort"].is_null()),
            ),
        ];
        if let Some((rule, _)) = fine.iter().find(|(_, fine)| !fine) {
            return Some(format!("{name}: {rule}"));
        }
    }
    None
}

fn list(value: &Value) -> Vec<Value> {
    value.as_array().cloned().unwrap_or_default()
}

fn probe() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        (1_u16..15_000, "/[a-z/]{0,8}")
            .prop_map(|(port, path)| json!({ "httpGet": { "port": port, "path": path } })),
        (1_u16..15_000).prop_map(|port| json!({ "tcpSocket": { "port": port }, "timeoutSeconds": 4 })),
        (1_u16..15_000).prop_map(|port| json!({ "grpc": { "port": port } })),
        Just(json!({ "exec": { "command": ["true"] } })),
    ]
}

fn container(name: String) -> impl Strategy<Value = Value> {
    (probe(), probe(), any::<bool>(), 1_i64..2000).prop_map(move |(ready, live, by_pod, user)| {
        let mut context = json!({ "allowPrivilegeEscalation": false, "capabilities": { "drop": ["ALL"] } });
        if !by_pod {
            context["runAsUser"] = json!(user);
            context["runAsNonRoot"] = json!(true);
            context["seccompProfile"] = json!({ "type": "RuntimeDefault" });
        }
        let mut container = json!({ "name": name, "image": "a:1", "securityContext": context });
        if !ready.is_null() {
            container["readinessProbe"] = ready;
        }
        if !live.is_null() {
            container["livenessProbe"] = live;
        }
        container
    })
}

fn containers(prefix: &'static str, least: usize) -> impl Strategy<Value = Vec<Value>> {
    (least..4_usize).prop_flat_map(move |count| {
        (0..count)
            .map(|at| container(format!("{prefix}{at}")))
            .collect::<Vec<_>>()
    })
}

fn pod() -> impl Strategy<Value = Value> {
    (containers("app", 1), containers("init", 0), any::<bool>(), any::<bool>()).prop_map(
        |(main, init, trust, data)| {
            let mut pod = json!({
                "metadata": { "name": "web" },
                "spec": {
                    "containers": main,
                    "securityContext": {
                        "runAsNonRoot": true, "runAsUser": 1000, "seccompProfile": { "type": "RuntimeDefault" },
                    },
                },
            });
            if !init.is_empty() {
                pod["spec"]["initContainers"] = json!(init);
            }
            if trust {
                pod["metadata"]["annotations"] = json!({ "ferrule.dev/trust": "mount" });
            }
            if data {
                pod["spec"]["volumes"] = json!([{ "name": "data", "emptyDir": {} }]);
            }
            pod
        },
    )
}

proptest! {
    #[test]
    fn a_restricted_pod_stays_restricted_and_a_second_look_changes_nothing(pod in pod()) {
        prop_assert_eq!(broken(&pod), None);
        for native in [true, false] {
            let plan = plan(&json!("cni"), &json!(native));
            let Answer::Change { patch, .. } = answer(&pod, &plan) else {
                return Err(TestCaseError::fail("refused"));
            };
            let patched = applied(&pod, &patch);
            prop_assert_eq!(broken(&patched), None);
            let Answer::Change { patch, .. } = answer(&patched, &plan) else {
                return Err(TestCaseError::fail("refused at a second look"));
            };
            prop_assert!(patch.is_empty(), "{:?}", patch);
            let first = if native { &patched["spec"]["initContainers"][0] } else { &patched["spec"]["containers"][0] };
            prop_assert_eq!(&first["name"], "ferrule-proxy");
        }
    }

    /// Whatever a probe was, what is asked is what was declared, and the kubelet asks nobody else over the network.
    #[test]
    fn every_probe_by_network_goes_to_the_sidecar(pod in pod()) {
        let plan = plan(&json!("cni"), &json!(true));
        let Answer::Change { patch, .. } = answer(&pod, &plan) else {
            return Err(TestCaseError::fail("refused"));
        };
        let patched = applied(&pod, &patch);
        let sidecar = &patched["spec"]["initContainers"][0];
        let settings: Value = serde_json::from_str(sidecar["args"][2].as_str().unwrap()).unwrap();
        let mut seen = 0;
        for (field, ours) in [("initContainers", 1), ("containers", 0)] {
            for container in list(&patched["spec"][field]).iter().skip(ours) {
                for kind in ["readinessProbe", "livenessProbe"] {
                    let probe = &container[kind];
                    if probe.is_null() || probe.get("exec").is_some() {
                        continue;
                    }
                    prop_assert_eq!(&probe["httpGet"]["port"], &json!(15021));
                    prop_assert!(probe.get("tcpSocket").is_none() && probe.get("grpc").is_none());
                    seen += 1;
                }
            }
        }
        prop_assert_eq!(list(&settings["probes"]["declared"]).len(), seen);
    }
}
