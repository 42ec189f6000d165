//! Compares what is answered about two dozen pods with files that people have read.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use common::{applied, plan};
use ferrule_injector::patch::{Answer, answer};
use serde_json::{Value, json};

/// An answer as the golden files have it.
fn shown(answer: &Answer) -> Value {
    match answer {
        Answer::Change { patch, warnings } => json!({ "patch": patch, "warnings": warnings }),
        Answer::Leave(leave) => json!({ "leave": leave.word() }),
        Answer::Refuse(refusal) => json!({ "refuse": refusal.word(), "message": refusal.to_string() }),
    }
}

fn cases() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let mut files: Vec<PathBuf> = fs::read_dir(folder)
        .unwrap()
        .map(|file| file.unwrap().path())
        .collect();
    files.sort();
    assert!(files.len() >= 20, "{}", files.len());
    files
}

#[test]
fn every_answer_is_the_one_in_its_file() {
    let mut wrong = Vec::new();
    for file in cases() {
        let mut case: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
        let plan = plan(&case["capture"], &case["native_sidecars"]);
        let found = shown(&answer(&case["pod"], &plan));
        if case["answer"] != found {
            case["answer"] = found;
            let name = file.file_name().unwrap();
            let beside = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
            fs::write(&beside, format!("{case:#}\n")).unwrap();
            wrong.push(format!("{} is now {}", file.display(), beside.display()));
        }
    }
    assert!(
        wrong.is_empty(),
        "read the differences; where they are meant, copy the new files:\n{}",
        wrong.join("\n")
    );
}

#[test]
fn a_second_look_at_a_patched_pod_changes_nothing() {
    let mut patched = 0;
    for file in cases() {
        let case: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
        let plan = plan(&case["capture"], &case["native_sidecars"]);
        let Answer::Change { patch, .. } = answer(&case["pod"], &plan) else {
            continue;
        };
        let pod = applied(&case["pod"], &patch);
        let Answer::Change { patch, .. } = answer(&pod, &plan) else {
            panic!("{} is refused at a second look", file.display());
        };
        assert_eq!(patch, Vec::<Value>::new(), "{}", file.display());
        patched += 1;
    }
    assert!(patched >= 15, "{patched}");
}

#[test]
fn what_another_webhook_did_in_between_does_not_undo_ours() {
    let plan = plan(&json!("init"), &json!(true));
    let pod = json!({ "metadata": { "name": "web" }, "spec": { "containers": [{
        "name": "app", "readinessProbe": { "httpGet": { "path": "/healthz", "port": 8080 } },
    }] } });
    let Answer::Change { patch, .. } = answer(&pod, &plan) else {
        panic!("refused");
    };
    let mut between = applied(&pod, &patch);
    let first = json!({ "name": "another", "image": "another:1" });
    let init = between["spec"]["initContainers"].as_array_mut().unwrap();
    init.insert(0, first);
    init[2]["volumeMounts"].as_array_mut().unwrap().push(
        json!({ "name": "kube-api-access-x", "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount" }),
    );
    let Answer::Change { patch: second, .. } = answer(&between, &plan) else {
        panic!("refused");
    };
    let end = applied(&between, &second);
    let names: Vec<&str> = end["spec"]["initContainers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|container| container["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["ferrule-redirect", "ferrule-proxy", "another"]);
    assert_eq!(
        end["spec"]["initContainers"][1],
        applied(&pod, &patch)["spec"]["initContainers"][1],
        "the sidecar is as it was sent"
    );
    assert_eq!(
        end["spec"]["containers"],
        applied(&pod, &patch)["spec"]["containers"]
    );
}
