//! Tests of reading: the documents of the manual, and what is refused with which complaint.

use super::*;

/// The documents that the manual shows.
pub(super) const SAMPLE: &str = "\
apiVersion: ferrule.dev/v1alpha1
kind: AccessPolicy
metadata: { namespace: shop, name: api }
spec:
  workloads: { labels: { app: api } }
  action: allow
  enforcement: enforce
  rules:
  - from:
    - identities: [spiffe://shop.local/ns/shop/sa/web]
    - namespaces: [monitoring]
    - cidrs: [10.1.0.0/16]
    ports: [8080]
---
apiVersion: ferrule.dev/v1alpha1
kind: EgressPolicy
metadata: { namespace: shop, name: api-out }
spec:
  workloads: { labels: { app: api } }
  enforcement: enforce
  allow:
  - { hosts: [\"*.example.com\"], ports: [443] }
  - { cidrs: [192.0.2.0/24], ports: [5432] }
  - { services: [{ namespace: legacy, name: ldap }] }
---
apiVersion: ferrule.dev/v1alpha1
kind: MeshPolicy
metadata: { namespace: shop, name: metrics-in-clear }
spec:
  workloads: all
  mode: strict
  ports: [{ port: 9090, mode: permissive }]
";

fn read(text: &str) -> Result<Vec<PolicyDocument>, String> {
    PolicyDocument::read_all("rules.yaml", text.as_bytes(), Limits::default())
        .map_err(|problems| problems.to_string())
}

/// The complaints about the sample with one text in it replaced.
fn complaint(from: &str, to: &str) -> String {
    assert!(SAMPLE.contains(from), "{from}");
    read(&SAMPLE.replacen(from, to, 1)).unwrap_err()
}

#[test]
fn the_documents_of_the_manual_are_read() {
    let documents = read(SAMPLE).unwrap();
    let [
        PolicyDocument::Access(access),
        PolicyDocument::Egress(egress),
        PolicyDocument::Mesh(mesh),
    ] = documents.as_slice()
    else {
        panic!("{documents:?}");
    };
    assert_eq!(access.rules[0].from.len(), 3);
    assert_eq!(access.rules[0].ports, Ports::Only([8080].into()));
    assert_eq!(access.meta.place.line(), Some(1));
    assert_eq!(egress.allow.len(), 3);
    assert_eq!(egress.allow[2].ports, Ports::All);
    assert_eq!(mesh.workloads, Workloads::AllOfNamespace);
    assert_eq!(mesh.ports, BTreeMap::from([(9090, Mode::Permissive)]));
}

#[test]
fn enforcement_is_the_default_and_metadata_may_say_more() {
    let text = SAMPLE.replace("  enforcement: enforce\n", "").replace(
        "name: api }",
        "name: api, labels: { a: \"\" }, annotations: { b: \"two\\nlines\" } }",
    );
    let documents = read(&text).unwrap();
    let PolicyDocument::Access(access) = &documents[0] else {
        panic!("{documents:?}")
    };
    assert_eq!(access.enforcement, Enforcement::Enforce);
}

#[test]
fn what_is_unknown_is_refused_with_its_place() {
    // D2
    for (from, to, wanted) in [
        (
            "    ports: [8080]",
            "    port: [8080]",
            "rules.yaml:13:5: spec.rules[0].port: unknown field `port`; did you mean `ports`?",
        ),
        (
            "ferrule.dev/v1alpha1",
            "ferrule.dev/v1",
            "rules.yaml:1:13: apiVersion: expected `ferrule.dev/v1alpha1`, found the text `ferrule.dev/v1`",
        ),
        (
            "AccessPolicy",
            "AccesPolicy",
            "rules.yaml:2:7: kind: expected one of AccessPolicy, EgressPolicy, MeshPolicy, found the text \
             `AccesPolicy`; did you mean `AccessPolicy`?",
        ),
        (
            "action: allow",
            "action: Allow",
            "rules.yaml:6:11: spec.action: expected one of allow, deny, found the text `Allow`; did you mean \
             `allow`?",
        ),
        (
            "workloads: { labels: { app: api } }",
            "workloads: any",
            "rules.yaml:5:14: spec.workloads: expected `all`, found the text `any`",
        ),
        (
            "- cidrs: [10.1.0.0/16]",
            "- { cidrs: [10.1.0.0/16], paths: [/] }",
            "rules.yaml:12:7: spec.rules[0].from[2]: expected exactly one of the fields identities, \
             namespaces, cidrs\n\
             rules.yaml:12:31: spec.rules[0].from[2].paths: unknown field `paths`; known are identities, \
             namespaces, cidrs",
        ),
    ] {
        assert_eq!(complaint(from, to), wanted);
    }
}

#[test]
fn emptiness_never_means_everything() {
    // D2
    let empty_list = "the list is empty; name at least one item, or leave the field out";
    for (from, to, wanted) in [
        (
            "ports: [8080]",
            "ports: []",
            format!("rules.yaml:13:12: spec.rules[0].ports: {empty_list}"),
        ),
        (
            "namespaces: [monitoring]",
            "namespaces: []",
            format!("rules.yaml:11:19: spec.rules[0].from[1].namespaces: {empty_list}"),
        ),
        (
            "{ app: api }",
            "{}",
            "rules.yaml:5:24: spec.workloads.labels: the map is empty; name at least one field".to_owned(),
        ),
        (
            "{ labels: { app: api } }",
            "{}",
            "rules.yaml:5:14: spec.workloads: the field `labels` is missing".to_owned(),
        ),
        (
            "ports: [8080]",
            "ports:",
            "rules.yaml:13:10: spec.rules[0].ports: expected a list, found nothing".to_owned(),
        ),
        (
            "{ hosts: [\"*.example.com\"], ports: [443] }",
            "{ ports: [443] }",
            "rules.yaml:22:5: spec.allow[0]: expected exactly one of the fields hosts, cidrs, services"
                .to_owned(),
        ),
    ] {
        assert_eq!(complaint(from, to), wanted);
    }
    let no_rules = complaint(
        SAMPLE
            .split_once("  rules:\n")
            .unwrap()
            .1
            .split_once("---")
            .unwrap()
            .0,
        "",
    );
    assert_eq!(
        no_rules,
        "rules.yaml:8:8: spec.rules: expected a list, found nothing"
    );
}

#[test]
fn a_value_that_means_nothing_is_refused() {
    for (from, to, wanted) in [
        (
            "sa/web]",
            "sa/web*]",
            "rules.yaml:10:20: spec.rules[0].from[0].identities[0]: `spiffe://shop.local/ns/shop/sa/web*`: '*' \
             at byte 34 is not allowed in a path, only a-z, A-Z, 0-9, '.', '-' and '_'",
        ),
        (
            "10.1.0.0/16",
            "10.1.0.1/16",
            "rules.yaml:12:15: spec.rules[0].from[2].cidrs[0]: `10.1.0.1/16`: the address has bits beyond the \
             length; did you mean 10.1.0.0/16?",
        ),
        (
            "[8080]",
            "[0]",
            "rules.yaml:13:13: spec.rules[0].ports[0]: expected an integer from 1 to 65535, found `0`",
        ),
        (
            "[monitoring]",
            "[\"*\"]",
            "rules.yaml:11:20: spec.rules[0].from[1].namespaces[0]: `*`: expected at most 63 of a-z, 0-9 and \
             '-', '-' not at the ends",
        ),
        (
            "{ port: 9090, mode: permissive }",
            "{ port: 9090, mode: permissive }, { port: 9090, mode: strict }",
            "rules.yaml:32:53: spec.ports[1].port: the port 9090 is named twice",
        ),
    ] {
        assert_eq!(complaint(from, to), wanted);
    }
}

#[test]
fn the_faults_of_all_documents_come_at_once() {
    let text = SAMPLE.replace("ports: [", "prots: [");
    assert_eq!(read(&text).unwrap_err().lines().count(), 4);
}
