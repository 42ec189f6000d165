//! Tests what depends on the cluster and on the times of a pod; the rest is in the golden files.

use serde_json::json;

use super::*;

#[test]
fn an_old_cluster_is_told_so() {
    let plan = Plan {
        native_sidecars: false,
        ..crate::plan::tests::plan()
    };
    let pod = json!({ "metadata": { "name": "web" }, "spec": { "containers": [{ "name": "app" }] } });
    let Answer::Change { patch, warnings } = answer(&pod, &plan) else {
        panic!("refused");
    };
    assert!(warnings[0].contains("1.29"), "{warnings:?}");
    let added = patch
        .iter()
        .any(|operation| operation["path"] == "/spec/containers/0");
    assert!(added, "{patch:?}");
}

#[test]
fn a_drain_never_outlasts_the_pods_grace() {
    let plan = crate::plan::tests::plan();
    for (grace, asked, wanted) in [(30, "5s", "5s"), (30, "10m", "28s"), (1, "5s", "0ms")] {
        let pod = json!({
            "metadata": { "name": "web", "annotations": { "ferrule.dev/drain": asked } },
            "spec": { "containers": [{ "name": "app" }], "terminationGracePeriodSeconds": grace },
        });
        let Answer::Change { patch, .. } = answer(&pod, &plan) else {
            panic!("refused");
        };
        let sidecar = patch
            .iter()
            .find(|operation| operation["path"] == "/spec/initContainers")
            .unwrap();
        let settings: Value = serde_json::from_str(sidecar["value"][0]["args"][2].as_str().unwrap()).unwrap();
        assert_eq!(settings["drain"]["deadline"], wanted, "{grace} {asked}");
    }
}
