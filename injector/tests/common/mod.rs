//! Makes plans and applies patches for the tests.

use ferrule_identity::TrustDomain;
use ferrule_injector::plan::{Capture, DefaultResources, Plan, PullPolicy};
use serde_json::Value;

/// A plan with the given capture and age of cluster.
pub(crate) fn plan(capture: &Value, native_sidecars: &Value) -> Plan {
    let quantity = |text: &str| text.parse().unwrap();
    Plan {
        trust_domain: TrustDomain::parse("shop.local").unwrap(),
        image: "registry.test/ferrule-proxy:1".to_owned(),
        redirect_image: "registry.test/ferrule-cni:1".to_owned(),
        pull_policy: PullPolicy::IfNotPresent,
        capture: match capture.as_str().unwrap() {
            "cni" => Capture::Cni,
            "init" => Capture::Init,
            "none" => Capture::None,
            other => panic!("{other}"),
        },
        native_sidecars: native_sidecars.as_bool().unwrap(),
        ca: vec!["ferrule-ca.ferrule-system.svc:15010".to_owned()],
        directory: vec!["ferrule-directory.ferrule-system.svc:15012".to_owned()],
        directory_identity: None,
        ranges: vec!["10.244.0.0/16".to_owned(), "10.96.0.0/16".to_owned()],
        resolvers: vec!["10.96.0.10".to_owned()],
        api_server: vec!["10.96.0.1:443".to_owned()],
        resources: DefaultResources {
            cpu: quantity("20m"),
            cpu_limit: quantity("1"),
            memory: quantity("32Mi"),
            memory_limit: quantity("256Mi"),
        },
        log_level: "info".to_owned(),
    }
}

/// `pod` with `patch` applied, by a library that is not ours.
pub(crate) fn applied(pod: &Value, patch: &[Value]) -> Value {
    let mut pod = pod.clone();
    let patch: json_patch::Patch = serde_json::from_value(Value::Array(patch.to_vec())).unwrap();
    json_patch::patch(&mut pod, &patch).unwrap();
    pod
}
