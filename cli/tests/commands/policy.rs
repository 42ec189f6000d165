//! `ferrule policy check` finds what a sidecar would refuse.

use std::fs;

use serde_json::Value;

use crate::ferrule::{ferrule, run};

const GOOD: &str = "\
apiVersion: ferrule.dev/v1alpha1
kind: AccessPolicy
metadata: { namespace: shop, name: api }
spec:
  workloads: { labels: { app: api } }
  action: allow
  rules:
  - from:
    - identities: [spiffe://shop.local/ns/shop/sa/web]
    ports: [8080]
";

#[test]
fn rules_without_fault_end_with_0_and_faults_with_1() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("api.yaml");
    fs::write(&file, GOOD).unwrap();
    fs::write(folder.path().join("notes.txt"), "not: rules").unwrap();
    let path = folder.path().to_str().unwrap();
    let fine = run(&mut ferrule(&["policy", "check", path]));
    assert_eq!(
        (fine.code, fine.out.as_str()),
        (0, "1 document and 1 rule in 1 file: no fault\n")
    );

    fs::write(&file, GOOD.replace("8080", "80800").replace("allow", "alow")).unwrap();
    let faulty = run(&mut ferrule(&["policy", "check", path, "--output", "json"]));
    assert_eq!(faulty.code, 1);
    let told: Value = serde_json::from_str(&faulty.out).unwrap();
    let places: Vec<_> = told["problems"]
        .as_array()
        .unwrap()
        .iter()
        .map(|problem| {
            (
                problem["line"].as_u64().unwrap(),
                problem["field"].as_str().unwrap(),
            )
        })
        .collect();
    assert_eq!(
        places,
        [(6, "spec.action"), (10, "spec.rules[0].ports[0]")],
        "{told}"
    );
}

#[test]
fn the_mesh_files_of_the_examples_have_no_fault() {
    for (name, rules) in [
        ("shop", "3 documents and 3 rules"),
        ("postgres", "2 documents and 2 rules"),
    ] {
        let file = format!("{}/../examples/{name}/mesh.yaml", env!("CARGO_MANIFEST_DIR"));
        let fine = run(&mut ferrule(&["policy", "check", &file]));
        let told = format!("{rules} in 1 file: no fault\n");
        assert_eq!((fine.code, fine.out), (0, told), "{name}");
    }
}

#[test]
fn a_path_that_is_not_there_ends_with_2() {
    let missing = run(&mut ferrule(&["policy", "check", "no-such-file.yaml"]));
    assert_eq!(missing.code, 2);
    assert_eq!(
        missing.err,
        "ferrule: cannot read no-such-file.yaml: No such file or directory (os error 2)\n"
    );
}
