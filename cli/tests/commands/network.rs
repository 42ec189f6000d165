//! `ferrule policy network` writes what a cluster's network can hold of rules.

use std::fs;

use crate::ferrule::{ferrule, run};

const RULES: &str = "\
apiVersion: ferrule.dev/v1alpha1
kind: AccessPolicy
metadata: { namespace: shop, name: api }
spec:
  workloads: { labels: { app: api } }
  action: allow
  rules:
  - from:
    - identities: [spiffe://shop.local/ns/web/sa/web]
    - namespaces: [batch]
    ports: [8080, 8081]
  - from: [{ identities: [\"spiffe://shop.local/*\"] }]
    ports: [9000]
  - from: [{ cidrs: [192.0.2.0/24] }]
---
apiVersion: ferrule.dev/v1alpha1
kind: AccessPolicy
metadata: { namespace: shop, name: never }
spec:
  workloads: all
  action: deny
  rules: [{ from: [{ namespaces: [old] }] }]
";

#[test]
fn rules_become_network_policies_that_open_no_less_and_shut_the_rest() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("rules.yaml");
    fs::write(&file, RULES).unwrap();
    let path = file.to_str().unwrap();
    let arguments = ["policy", "network", "--trust-domain", "shop.local"];
    let written = run(&mut ferrule(
        &[&arguments[..], &["--namespace", "quiet", path]].concat(),
    ));
    assert_eq!((written.code, written.err.as_str()), (0, ""), "{}", written.out);
    let golden = include_str!("network.golden.yaml");
    assert_eq!(
        written.out, golden,
        "if that is what it is to say: cli/tests/commands/network.golden.yaml"
    );

    fs::write(&file, RULES.replace("8080", "80800")).unwrap();
    let faulty = run(&mut ferrule(&[&arguments[..], &[path]].concat()));
    assert_eq!(faulty.code, 1);
    assert!(faulty.out.contains("rules.yaml:11:13: "), "{}", faulty.out);
    let none = run(&mut ferrule(
        &[&arguments[..], &[folder.path().to_str().unwrap()]].concat(),
    ));
    assert_eq!(none.code, 1, "{}", none.out);
}
