//! What flows between meshed pods, and what does not.

use std::time::{Duration, Instant};

use ferrule_tests::kubernetes::{Namespace, pod, shared};
use ferrule_tests::wait::{once_below, unix_milliseconds, until};
use serde_json::json;

use super::apps::{Watch, allow, client, deployment, let_in_by_mutual_tls, rule, server};
use super::wire::{Wire, in_clear};

#[test]
#[ignore = "needs root and a Kubernetes: tests/run"]
fn a_label_and_one_rule_bring_mutual_tls_within_a_minute_and_no_clear_byte() {
    let cluster = shared();
    let shop = Namespace::plain(&cluster);
    let wire = Wire::start(&cluster);
    let began = Instant::now();
    cluster.kubectl(&["label", "namespace", shop.name(), "ferrule.dev/inject=enabled"]);
    shop.apply(&allow("web", &[("client", shop.name())]));
    deployment(&shop, "web", 3);
    client(&shop, "client");
    let marker = "marker-of-the-meshed";
    let answer = until("an answer", || {
        shop.ask("client", &format!("web:8080/{marker}")).ok()
    });
    let took = began.elapsed();
    assert!(answer.contains(marker), "{answer}");
    println!("from the label to the first answer: {took:?}");
    assert!(took < Duration::from_secs(60), "{took:?}");

    let clear = "marker-of-the-others";
    in_clear(&cluster, clear);
    let wire = wire.stop(clear);
    assert!(wire.holds(clear), "the record, whole, is one of these pods");
    assert!(!wire.holds(marker), "no clear byte of meshed pods");

    let_in_by_mutual_tls(&shop, "web", "client");
}

#[test]
#[ignore = "needs root and a Kubernetes: tests/run"]
fn an_unmeshed_pod_is_refused_and_another_account_until_a_rule_lets_it_in_within_two_seconds() {
    let cluster = shared();
    let (shop, stranger) = (Namespace::meshed(&cluster), Namespace::plain(&cluster));
    shop.apply(&allow("web", &[("client", shop.name())]));
    server(&shop, "web");
    client(&shop, "client");
    client(&shop, "other");
    client(&stranger, "client");
    until("the right one is let in", || shop.ask("client", "web:8080/").ok());
    let target = format!("web.{}:8080/", shop.name());
    assert!(!stranger.ask("client", &target).unwrap_err().contains("HTTP"));
    assert!(shop.ask("other", "web:8080/").is_err(), "another account");

    let (client, other) = (
        Watch::start(&shop, "client", "web:8080/"),
        Watch::start(&shop, "other", "web:8080/"),
    );
    once_below(&2000, 3, |at| {
        shop.apply(&allow("web", &[("client", shop.name())]));
        client.became(true);
        other.became(false);
        shop.apply(&allow("web", &[("client", shop.name()), ("other", shop.name())]));
        let applied = unix_milliseconds();
        let in_force = other.became(true).saturating_sub(applied);
        println!("from the rule to the first answer: {in_force} ms");
        assert_eq!(client.gaps(), at, "nothing changes for the other");

        shop.kubectl(&["delete", "accesspolicy", "web", "--wait=true"]);
        let deleted = unix_milliseconds();
        let over = [&client, &other].map(|watch| watch.became(false).saturating_sub(deleted));
        println!("from the end of the rule to the first refusal: {over:?} ms");
        over.into_iter().fold(in_force, u64::max)
    });
}

#[test]
#[ignore = "needs root and a Kubernetes: tests/run"]
fn a_pod_calls_its_own_address_and_its_own_service() {
    let cluster = shared();
    let shop = Namespace::meshed(&cluster);
    shop.apply(&allow("web", &[("web", shop.name())]));
    let web = server(&shop, "web");
    let address = web["status"]["podIP"].as_str().unwrap();
    for target in [
        format!("{address}:8080/own"),
        "web:8080/service".to_owned(),
        "127.0.0.1:8080/lo".to_owned(),
    ] {
        let answer = until(&target, || shop.ask("web", &target).ok());
        assert!(answer.starts_with("web /"), "{answer}");
    }
}

#[test]
#[ignore = "needs root and a Kubernetes: tests/run"]
fn an_init_container_behind_the_sidecar_reaches_a_meshed_service() {
    let cluster = shared();
    let shop = Namespace::meshed(&cluster);
    shop.apply(&rule("web", &json!([{ "namespaces": [shop.name()] }])));
    server(&shop, "web");
    let mut late = pod("late", &["pause"]);
    late["spec"]["initContainers"] = json!([ferrule_tests::kubernetes::container(
        "ask",
        &["ask", "web:8080/init"]
    )]);
    late["spec"]["restartPolicy"] = json!("Never");
    shop.apply(&late);
    shop.ready("late");
    assert!(shop.log("late", "ask").starts_with("web /init"));
}

#[test]
#[ignore = "needs root and a Kubernetes: tests/run"]
fn the_members_of_a_stateful_set_reach_each_other_by_name() {
    let cluster = shared();
    let shop = Namespace::meshed(&cluster);
    shop.apply(&rule("ring", &json!([{ "namespaces": [shop.name()] }])));
    shop.apply(&json!({
        "apiVersion": "v1", "kind": "Service", "metadata": { "name": "ring" },
        "spec": { "clusterIP": "None", "selector": { "app": "ring" }, "ports": [{ "port": 8080 }] },
    }));
    shop.apply(&json!({
        "apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": { "name": "ring" },
        "spec": {
            "serviceName": "ring", "replicas": 3, "podManagementPolicy": "Parallel",
            "selector": { "matchLabels": { "app": "ring" } },
            "template": {
                "metadata": { "labels": { "app": "ring" } },
                "spec": ferrule_tests::kubernetes::pod_spec(&["serve", "ring", "8080"]),
            },
        },
    }));
    for member in 0..3 {
        shop.ready(&format!("ring-{member}"));
    }
    for member in 0..3 {
        let next = (member + 1) % 3;
        let target = format!("ring-{next}.ring:8080/{member}");
        let answer = until(&target, || shop.ask(&format!("ring-{member}"), &target).ok());
        assert!(answer.starts_with(&format!("ring /{member}")), "{answer}");
    }
}

#[test]
#[ignore = "needs root and a Kubernetes: tests/run"]
fn what_is_sent_in_the_first_millisecond_arrives_a_hundred_times_of_a_hundred() {
    let cluster = shared();
    let shop = Namespace::meshed(&cluster);
    shop.apply(&rule("web", &json!([{ "namespaces": [shop.name()] }])));
    server(&shop, "web");
    client(&shop, "client");
    until("the rule is in force", || shop.ask("client", "web:8080/").ok());
    let mut spec = ferrule_tests::kubernetes::pod_spec(&["ask", "web:8080/first"]);
    spec["restartPolicy"] = json!("Never");
    // Nothing is repeated here but questions for the name, which a loaded machine may lose: they are datagrams.
    spec["dnsConfig"] = json!({ "options": [{ "name": "attempts", "value": "5" }] });
    shop.apply(&json!({
        "apiVersion": "batch/v1", "kind": "Job", "metadata": { "name": "hasty" },
        "spec": {
            "completions": 100, "parallelism": 5, "backoffLimit": 0,
            "template": { "metadata": { "labels": { "app": "hasty" } }, "spec": spec },
        },
    }));
    let job = super::apps::ended(&shop, "hasty");
    assert_eq!(job["status"]["succeeded"], 100, "{:#}", job["status"]);
    assert_eq!(job["status"].get("failed"), None, "{:#}", job["status"]);
}
