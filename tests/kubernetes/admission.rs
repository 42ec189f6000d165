//! What the API server admits, with our webhooks at its side.

use std::fs;
use std::process::Command;

use ferrule_tests::kubernetes::{Namespace, container, pod, program, shared};
use serde_json::{Value, json};

#[test]
#[ignore = "needs root and a Kubernetes: tests/run"]
fn a_restricted_namespace_admits_a_pod_with_its_sidecar_and_it_runs() {
    let cluster = shared();
    let shop = Namespace::meshed(&cluster);
    let pod = shop.run("web", &["serve", "web", "8080"]);
    let sidecars = pod["status"]["initContainerStatuses"].as_array().unwrap();
    assert_eq!(sidecars.len(), 1, "no container but the sidecar: {pod:#}");
    assert_eq!(sidecars[0]["name"], "ferrule-proxy");
    assert_eq!(sidecars[0]["ready"], true);
    assert_eq!(pod["spec"]["containers"].as_array().unwrap().len(), 1);
    let added = &pod["spec"]["initContainers"][0]["securityContext"]["capabilities"];
    assert_eq!(added, &json!({ "drop": ["ALL"] }), "no capability anywhere");
}

#[test]
#[ignore = "needs root and a Kubernetes: tests/run"]
fn a_pod_on_the_nodes_network_is_refused_with_the_reason() {
    let cluster = shared();
    let shop = Namespace::labelled(&cluster, &json!({ "ferrule.dev/inject": "enabled" }));
    let mut host = pod("host", &["pause"]);
    host["spec"]["hostNetwork"] = json!(true);
    let why = shop.refusal(&host);
    assert!(
        why.contains("hostNetwork") && why.contains("ferrule.dev/inject=disabled"),
        "{why}"
    );
    host["metadata"]["labels"]["ferrule.dev/inject"] = json!("disabled");
    shop.apply(&host);
}

#[test]
#[ignore = "needs root and a Kubernetes: tests/run"]
fn a_pod_that_runs_as_the_sidecars_user_is_refused_with_the_reason() {
    let cluster = shared();
    let shop = Namespace::meshed(&cluster);
    let mut impostor = pod("impostor", &["pause"]);
    impostor["spec"]["containers"][0]["securityContext"]["runAsUser"] = json!(2150);
    let why = shop.refusal(&impostor);
    assert!(why.contains("container app runs as user 2150"), "{why}");
}

#[test]
#[ignore = "needs root and a Kubernetes: tests/run"]
fn a_bad_rule_is_refused_in_the_words_of_policy_check() {
    let cluster = shared();
    let shop = Namespace::plain(&cluster);
    let rule = |more: Option<&str>| {
        let mut spec = json!({
            "workloads": { "labels": { "app": "api" } },
            "action": "allow",
            "rules": [{ "from": [{ "namespaces": ["web"] }], "ports": [8080] }],
        });
        if let Some(more) = more {
            // Faults that the schema of the definition does not see.
            spec[more] = json!("enforce");
            spec["rules"][0]["from"] = json!([{ "identities": ["web"] }]);
        }
        json!({
            "apiVersion": "ferrule.dev/v1alpha1",
            "kind": "AccessPolicy",
            "metadata": { "name": "api", "namespace": shop.name() },
            "spec": spec,
        })
    };
    let bad = rule(Some("enforcment"));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("api.yaml");
    fs::write(&file, format!("{bad:#}")).unwrap();
    let checked = Command::new(program("ferrule"))
        .args(["policy", "check"])
        .arg(&file)
        .output()
        .unwrap();
    let words = String::from_utf8(checked.stdout).unwrap();
    // Lines are counted as the API server writes the document, so the places differ; field and words do not.
    let words: Vec<&str> = words
        .lines()
        .filter_map(|line| Some(line.split_once(": ")?.1))
        .collect();
    assert_eq!(words.len(), 2, "{words:?}");
    let judged = |why: &str| {
        for word in &words {
            assert!(
                why.contains(word),
                "policy check says {word}, the webhook:\n{why}"
            );
        }
    };

    judged(&shop.refusal(&bad));
    assert!(shop.get("accesspolicies/api").is_none());
    shop.apply(&rule(None));
    let stored = shop.get("accesspolicies/api").unwrap();
    assert_eq!(stored["spec"]["rules"][0]["ports"], json!([8080]));
    // A change is judged, too.
    judged(&shop.refusal(&bad));
}

// C11.
#[test]
#[ignore = "needs root and a Kubernetes: tests/run"]
fn no_annotation_opens_a_way_past_the_sidecar() {
    let cluster = shared();
    let shop = Namespace::meshed(&cluster);
    for (name, value) in [
        ("ferrule.dev/exclude-ports", "8080"),
        ("ferrule.dev/exclude-outbound-cidrs", "0.0.0.0/0"),
        ("ferrule.dev/mode", "permissive"),
        ("ferrule.dev/capture", "none"),
        (
            "ferrule.dev/proxy-cpu",
            "1m\"}},{\"op\":\"remove\",\"path\":\"/spec/initContainers/0",
        ),
        ("ferrule.dev/drain", "a week"),
    ] {
        let mut pod = pod("sly", &["pause"]);
        pod["metadata"]["annotations"][name] = json!(value);
        let why = shop.refusal(&pod);
        assert!(why.contains(name), "{name}: {why}");
    }
}

// C11.
#[test]
#[ignore = "needs root and a Kubernetes: tests/run"]
fn nothing_that_a_pod_brings_along_changes_its_sidecar() {
    let cluster = shared();
    let shop = Namespace::meshed(&cluster);
    let honest = shop.run("honest", &["pause"]);
    let sidecar = |pod: &Value| {
        let mut first = pod["spec"]["initContainers"][0].clone();
        // The token of a pod that asks for one is mounted by the API server, under a name of its own each time.
        let mounts = first["volumeMounts"].as_array_mut().unwrap();
        mounts.retain(|mount| !mount["name"].as_str().unwrap().starts_with("kube-api-access"));
        first
    };

    let escape = r#""}},{"op":"remove","path":"/spec/initContainers/0"},{"op":"add","value":{"x":""#;
    let mut sly = pod("sly", &["pause"]);
    sly["metadata"]["annotations"] =
        json!({ "example.com/note": escape, "ferrule.dev/status": "{\"injected\":true}" });
    sly["metadata"]["labels"]["sidecar.istio.io/inject"] = json!("false");
    sly["spec"]["containers"][0]["env"] =
        json!([{ "name": "A_B", "value": escape }, { "name": "PATCH", "value": "~1~0" }]);
    let mut forged = container("ferrule-proxy", &["pause"]);
    forged["restartPolicy"] = json!("Always");
    forged["env"] = json!([{ "name": "POD_NAMESPACE", "value": "kube-system" }]);
    sly["spec"]["initContainers"] = json!([container("first", &["done"]), forged]);
    shop.apply(&sly);
    let sly = shop.ready("sly");
    assert_eq!(sidecar(&sly), sidecar(&honest));
    assert_eq!(sly["spec"]["initContainers"].as_array().unwrap().len(), 2);
    assert_eq!(sly["spec"]["containers"][0]["env"][0]["value"], escape);
    assert_eq!(sly["metadata"]["annotations"]["example.com/note"], escape);
}
