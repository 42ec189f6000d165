//! Tests which pods get a sidecar, which are left, which are refused.

use serde_json::{Value, json};

use super::*;
use crate::plan::Plan;

fn plan() -> Plan {
    crate::plan::tests::plan()
}

fn pod(spec: Value) -> Value {
    json!({ "metadata": { "name": "web" }, "spec": spec })
}

fn refusal(document: &Value, plan: &Plan) -> Refusal {
    match decide(Pod::new(document), plan) {
        Decision::Refuse(refusal) => refusal,
        other => panic!("{other:?}"),
    }
}

fn app(fields: Value) -> Value {
    let mut container = json!({ "name": "app", "image": "app:1" });
    container
        .as_object_mut()
        .unwrap()
        .extend(fields.as_object().unwrap().clone());
    container
}

#[test]
fn an_ordinary_pod_gets_a_sidecar() {
    let document = pod(json!({ "containers": [app(json!({}))] }));
    assert!(matches!(
        decide(Pod::new(&document), &plan()),
        Decision::Inject(_)
    ));
}

#[test]
fn a_pod_that_opted_out_is_left_even_where_it_would_be_refused() {
    let mut document = pod(json!({ "hostNetwork": true, "containers": [app(json!({}))] }));
    document["metadata"]["labels"] = json!({ "ferrule.dev/inject": "disabled" });
    assert_eq!(
        decide(Pod::new(&document), &plan()),
        Decision::Leave(Leave::OptedOut)
    );
}

#[test]
fn a_mirror_pod_is_left() {
    let mut document = pod(json!({ "containers": [app(json!({}))] }));
    document["metadata"]["annotations"] = json!({ "kubernetes.io/config.mirror": "x" });
    assert_eq!(
        decide(Pod::new(&document), &plan()),
        Decision::Leave(Leave::Mirror)
    );
}

#[test]
fn what_no_sidecar_can_stand_beside_is_refused_with_the_reason() {
    let cases = [
        (
            json!({ "hostNetwork": true, "containers": [app(json!({}))] }),
            "host_network",
        ),
        (
            json!({ "os": { "name": "windows" }, "containers": [app(json!({}))] }),
            "windows",
        ),
        (
            json!({ "containers": [app(json!({ "securityContext": { "runAsUser": 2150 } }))] }),
            "proxy_user",
        ),
        (
            json!({ "securityContext": { "runAsUser": 2150 }, "containers": [app(json!({}))] }),
            "proxy_user",
        ),
        (
            json!({
                "containers": [app(json!({}))],
                "initContainers": [{ "name": "set-up", "securityContext": { "runAsUser": 2150 } }],
            }),
            "proxy_user",
        ),
        (
            json!({ "containers": [app(json!({ "ports": [{ "containerPort": 15006 }] }))] }),
            "port",
        ),
        (
            json!({ "containers": [app(json!({ "volumeMounts": [{ "name": "ferrule-token", "mountPath": "/t" }] }))] }),
            "mount",
        ),
    ];
    for (spec, word) in cases {
        let found = refusal(&pod(spec.clone()), &plan());
        assert_eq!(found.word(), word, "{spec}: {found}");
    }
}

#[test]
fn a_container_may_leave_the_pods_own_user() {
    let context = json!({ "securityContext": { "runAsUser": 1000 } });
    let document = pod(json!({ "securityContext": { "runAsUser": 2150 }, "containers": [app(context)] }));
    assert!(matches!(
        decide(Pod::new(&document), &plan()),
        Decision::Inject(_)
    ));
}

#[test]
fn a_port_of_udp_is_nobodys_business() {
    let ports = json!({ "ports": [{ "containerPort": 15006, "protocol": "UDP" }] });
    let document = pod(json!({ "containers": [app(ports)] }));
    assert!(matches!(
        decide(Pod::new(&document), &plan()),
        Decision::Inject(_)
    ));
}

#[test]
fn explicit_ways_and_capture_exclude_each_other() {
    let document = pod(json!({ "containers": [app(json!({}))] }));
    let mut explicit = document.clone();
    explicit["metadata"]["annotations"] = json!({ "ferrule.dev/upstreams": "15101=api.shop:8080" });
    let without = Plan {
        capture: Capture::None,
        ..plan()
    };
    assert_eq!(refusal(&document, &without), Refusal::NothingToDo);
    assert_eq!(refusal(&explicit, &plan()), Refusal::Captured);
    assert!(matches!(
        decide(Pod::new(&explicit), &without),
        Decision::Inject(_)
    ));
}
