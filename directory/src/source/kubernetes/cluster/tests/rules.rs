//! Shows rules, whole and broken, and looks at which are in force.

use super::*;

fn rule(ports: Value) -> Value {
    json!({
        "apiVersion": "ferrule.dev/v1alpha1", "kind": "AccessPolicy",
        "metadata": { "namespace": "shop", "name": "api", "uid": "1", "generation": 2, "labels": { "team": "shop" } },
        "spec": { "workloads": "all", "action": "allow", "rules": [{ "from": [{ "namespaces": ["shop"] }], "ports": ports }] },
    })
}

fn see_rule(cluster: &mut Cluster, rule: Value) {
    let object = serde_json::from_value(rule).unwrap();
    let stored = Stored::read("AccessPolicy", &object, &domain()).unwrap();
    cluster.take(Event::Rules(
        "AccessPolicy",
        Seen::Here(stored.key.clone(), Some(stored)),
    ));
}

#[test]
fn a_broken_rule_is_reported_and_changes_nothing() {
    let mut cluster = empty();
    cluster.changes();
    see_rule(&mut cluster, rule(json!([8080])));
    assert!(matches!(&cluster.changes()[..], [Change::Rule(_)]));
    see_rule(&mut cluster, rule(json!([])));
    assert!(cluster.changes().is_empty());
    let faults = cluster.faults();
    assert!(
        faults[0].contains("AccessPolicy shop/api") && faults[0].contains("spec.rules[0].ports"),
        "{faults:?}"
    );
    assert!(faults[0].contains("stays in force"), "{faults:?}");
    assert_eq!(cluster.everything().policies.len(), 1);
    see_rule(&mut cluster, rule(json!([8081])));
    assert!(matches!(&cluster.changes()[..], [Change::Rule(_)]));
    assert!(cluster.faults().is_empty());
    let key = ("AccessPolicy".to_owned(), "shop".to_owned(), "api".to_owned());
    cluster.take(Event::Rules("AccessPolicy", Seen::Gone(key)));
    assert!(matches!(&cluster.changes()[..], [Change::NoRule(_)]));
    assert!(cluster.everything().policies.is_empty());
}

#[test]
fn all_rules_of_one_kind_say_nothing_of_another_kind() {
    let mut cluster = empty();
    see_rule(&mut cluster, rule(json!([8080])));
    cluster.take(Event::Rules("MeshPolicy", Seen::All(Vec::new())));
    assert_eq!(cluster.everything().policies.len(), 1);
    cluster.take(Event::Rules("AccessPolicy", Seen::All(Vec::new())));
    assert!(cluster.everything().policies.is_empty());
}
