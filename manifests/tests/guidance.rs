//! Walks the rendered manifests through the controls of the NSA's and CISA's hardening guidance, each by the name that
//! kubescape gives it. What is excepted is listed with its reason, and an exception that nothing needs is a fault.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

use std::collections::BTreeSet;

use ferrule_manifests::{Values, render};
use serde_json::Value;

fn manifests(capture: &str) -> Vec<Value> {
    let mut values = Values::new("ferrule-system").unwrap();
    for (name, value) in [
        ("trustDomain", "shop.local"),
        ("capture", capture),
        ("namespaces", "create"),
        ("image.prefix", "registry.test/mirror"),
    ] {
        values.set(name, value).unwrap();
    }
    let text = render(&values).unwrap();
    text.split("\n---\n")
        .map(|document| {
            serde_saphyr::from_str(document).unwrap_or_else(|error| panic!("{error}\n{document}"))
        })
        .collect()
}

/// A pod that the manifests make, with the name of what makes it.
struct Made<'a> {
    by: String,
    namespace: &'a str,
    pod: &'a Value,
}

fn pods(manifests: &[Value]) -> Vec<Made<'_>> {
    let makers = ["Deployment", "StatefulSet", "DaemonSet", "Job"];
    manifests
        .iter()
        .filter(|manifest| makers.contains(&text(&manifest["kind"])))
        .map(|manifest| Made {
            by: format!(
                "{}/{}",
                text(&manifest["kind"]),
                text(&manifest["metadata"]["name"])
            ),
            namespace: text(&manifest["metadata"]["namespace"]),
            pod: &manifest["spec"]["template"]["spec"],
        })
        .collect()
}

fn containers(pod: &Value) -> Vec<&Value> {
    let of = |field: &str| pod[field].as_array().into_iter().flatten();
    of("initContainers").chain(of("containers")).collect()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn either<'a>(pod: &'a Value, container: &'a Value, field: &str) -> &'a Value {
    let own = &container["securityContext"][field];
    if own.is_null() {
        &pod["securityContext"][field]
    } else {
        own
    }
}

type Holds = fn(&Value, &Value) -> bool;

/// Each control: its number and name in kubescape's framework, and what it asks of every container.
const CONTROLS: &[(&str, &str, Holds)] = &[
    ("C-0012", "no credentials in configuration", |_, container| {
        let env = container["env"].as_array().cloned().unwrap_or_default();
        let secret = |name: &str| {
            ["KEY", "TOKEN", "PASSWORD", "SECRET"]
                .iter()
                .any(|word| name.contains(word))
        };
        !env.iter()
            .any(|one| one.get("value").is_some() && secret(text(&one["name"])))
    }),
    ("C-0013", "non-root containers", |pod, container| {
        either(pod, container, "runAsNonRoot") == &Value::Bool(true)
            && either(pod, container, "runAsUser")
                .as_u64()
                .is_some_and(|user| user > 0)
            && either(pod, container, "runAsGroup")
                .as_u64()
                .is_some_and(|group| group > 0)
    }),
    ("C-0016", "no privilege escalation", |_, container| {
        container["securityContext"]["allowPrivilegeEscalation"] == Value::Bool(false)
    }),
    ("C-0017", "immutable container filesystem", |_, container| {
        container["securityContext"]["readOnlyRootFilesystem"] == Value::Bool(true)
    }),
    (
        "C-0034",
        "no automatic mapping of the service account",
        |pod, _| pod["automountServiceAccountToken"] == Value::Bool(false),
    ),
    ("C-0038", "no host PID and IPC", |pod, _| {
        pod["hostPID"] != Value::Bool(true) && pod["hostIPC"] != Value::Bool(true)
    }),
    ("C-0041", "no host network", |pod, _| {
        pod["hostNetwork"] != Value::Bool(true)
    }),
    ("C-0044", "no host ports", |_, container| {
        let ports = container["ports"].as_array().cloned().unwrap_or_default();
        ports.iter().all(|port| port.get("hostPort").is_none())
    }),
    ("C-0046", "no insecure capabilities", |_, container| {
        let capabilities = &container["securityContext"]["capabilities"];
        capabilities["drop"] == serde_json::json!(["ALL"]) && capabilities.get("add").is_none()
    }),
    ("C-0055", "Linux hardening", |pod, container| {
        text(&either(pod, container, "seccompProfile")["type"]) == "RuntimeDefault"
    }),
    ("C-0057", "no privileged container", |_, container| {
        container["securityContext"]["privileged"] != Value::Bool(true)
    }),
    ("C-0270", "CPU limits", |_, container| {
        !container["resources"]["limits"]["cpu"].is_null()
            && !container["resources"]["requests"]["cpu"].is_null()
    }),
    ("C-0271", "memory limits", |_, container| {
        let resources = &container["resources"];
        !resources["limits"]["memory"].is_null() && !resources["requests"]["memory"].is_null()
    }),
    ("C-0048", "no host paths", |pod, _| {
        let volumes = pod["volumes"].as_array().cloned().unwrap_or_default();
        volumes.iter().all(|volume| volume.get("hostPath").is_none())
    }),
];

/// Where a control does not hold, and why.
const EXCEPTIONS: &[(&str, &str, &str)] = &[
    (
        "DaemonSet/ferrule-cni",
        "C-0013",
        "the node's CNI folders belong to root, and a root without any capability writes to them",
    ),
    (
        "DaemonSet/ferrule-cni",
        "C-0048",
        "a CNI plugin is installed by writing to two folders of the node; they are all that is mounted",
    ),
];

#[test]
fn every_control_holds_but_for_the_listed_exceptions() {
    let mut found = BTreeSet::new();
    let mut seen = 0;
    for capture in ["cni", "init", "none"] {
        let manifests = manifests(capture);
        for made in pods(&manifests) {
            for container in containers(made.pod) {
                seen += 1;
                for (number, name, holds) in CONTROLS {
                    if !holds(made.pod, container) {
                        let excepted = EXCEPTIONS
                            .iter()
                            .any(|(by, control, _)| *by == made.by && control == number);
                        assert!(excepted, "{} {number} ({name}): {container:#}", made.by);
                        found.insert((made.by.clone(), *number));
                    }
                }
            }
        }
    }
    assert!(seen >= 7, "{seen}");
    for (by, control, reason) in EXCEPTIONS {
        assert!(
            found.contains(&((*by).to_owned(), *control)),
            "nothing needs the exception {by} {control}: {reason}"
        );
    }
}

/// C-0030, C-0054: ingress and egress blocked; what is open is named.
#[test]
fn every_namespace_of_ours_denies_what_is_not_named() {
    for capture in ["cni", "init"] {
        let manifests = manifests(capture);
        let namespaces: BTreeSet<&str> = pods(&manifests).iter().map(|made| made.namespace).collect();
        for namespace in namespaces {
            let deny = manifests.iter().any(|manifest| {
                text(&manifest["kind"]) == "NetworkPolicy"
                    && text(&manifest["metadata"]["namespace"]) == namespace
                    && manifest["spec"]["podSelector"] == serde_json::json!({})
                    && manifest["spec"]["policyTypes"] == serde_json::json!(["Ingress", "Egress"])
                    && manifest["spec"].get("ingress").is_none()
                    && manifest["spec"].get("egress").is_none()
            });
            assert!(deny, "{namespace} has no policy that denies all");
        }
    }
}

/// C-0002, C-0035, C-0058 and the like: rights are few, named, and none reaches a secret.
#[test]
fn no_right_is_wide() {
    let manifests = manifests("cni");
    let mut rules = 0;
    for role in manifests
        .iter()
        .filter(|manifest| text(&manifest["kind"]).ends_with("Role"))
    {
        for rule in role["rules"].as_array().unwrap() {
            rules += 1;
            for field in ["apiGroups", "resources", "verbs"] {
                let words: Vec<&str> = rule[field].as_array().unwrap().iter().map(text).collect();
                assert!(!words.contains(&"*"), "{rule}");
            }
            let words = |field: &str| -> BTreeSet<&str> {
                rule[field].as_array().into_iter().flatten().map(text).collect()
            };
            let resources = words("resources");
            for forbidden in [
                "secrets",
                "pods/exec",
                "pods/attach",
                "nodes/proxy",
                "serviceaccounts/token",
            ] {
                assert!(!resources.contains(forbidden), "{rule}");
            }
            for forbidden in ["escalate", "bind", "impersonate", "deletecollection"] {
                assert!(!words("verbs").contains(forbidden), "{rule}");
            }
            let changes = ["update", "patch", "delete"]
                .iter()
                .any(|verb| words("verbs").contains(verb));
            assert!(
                !changes || !rule["resourceNames"].is_null(),
                "may change whatever its name: {rule}"
            );
        }
    }
    assert!(rules >= 5, "{rules}");
    let bound: Vec<&str> = manifests
        .iter()
        .filter(|manifest| text(&manifest["kind"]).ends_with("RoleBinding"))
        .map(|manifest| text(&manifest["roleRef"]["name"]))
        .collect();
    assert!(bound.iter().all(|role| role.starts_with("ferrule-")), "{bound:?}");
}

#[test]
fn webhooks_fail_closed_and_reach_no_further_than_the_mesh() {
    let manifests = manifests("cni");
    let of = |kind: &str| {
        let found = manifests
            .iter()
            .find(|manifest| text(&manifest["kind"]) == kind)
            .unwrap();
        found["webhooks"][0].clone()
    };
    let mutating = of("MutatingWebhookConfiguration");
    assert_eq!(mutating["failurePolicy"], "Fail");
    let selector = mutating["namespaceSelector"].to_string();
    assert!(
        selector.contains(r#""key":"ferrule.dev/inject","operator":"In","values":["enabled"]"#),
        "{selector}"
    );
    for apart in ["ferrule-system", "ferrule-cni", "kube-system"] {
        assert!(selector.contains(apart), "{selector}");
    }
    assert!(mutating["objectSelector"].to_string().contains("disabled"));
    let validating = of("ValidatingWebhookConfiguration");
    assert_eq!(validating["failurePolicy"], "Fail");
    assert_eq!(
        validating["rules"][0]["apiGroups"],
        serde_json::json!(["ferrule.dev"])
    );
}

/// G-SEC-1, and the air-gapped installation: one prefix for every image, and no key or token in a manifest.
#[test]
fn every_image_has_the_prefix_and_nothing_is_secret() {
    let manifests = manifests("init");
    for made in pods(&manifests) {
        for container in containers(made.pod) {
            let image = text(&container["image"]);
            assert!(image.starts_with("registry.test/mirror/ferrule-"), "{image}");
        }
    }
    assert!(
        !manifests
            .iter()
            .any(|manifest| text(&manifest["kind"]) == "Secret")
    );
    let all = format!("{manifests:?}");
    assert!(!all.contains("PRIVATE KEY") && !all.contains("eyJ"));
}

#[test]
fn what_is_no_installation_is_refused() {
    let mut values = Values::new("ferrule-system").unwrap();
    assert!(render(&values).unwrap_err().to_string().contains("trust domain"));
    values.set("trustDomain", "shop.local").unwrap();
    assert!(render(&values).is_ok());
    assert!(values.set("image.perfix", "x").is_err());
    assert!(values.set("image.prefix", "x\nkind: Secret").is_err());
    values.set("capture", "magic").unwrap();
    assert!(render(&values).unwrap_err().to_string().contains("magic"));
}
