//! What becomes of connections when a sidecar dies.

use ferrule_tests::kubernetes::{Namespace, pod, shared};
use ferrule_tests::wait::until;
use serde_json::json;

use super::apps::{Watch, allow, client, server};
use super::wire::{Wire, in_clear};

// C6.
#[test]
#[ignore = "needs root and a Kubernetes: tests/run"]
fn a_sidecar_that_is_killed_lets_no_byte_out_and_comes_back() {
    let cluster = shared();
    let shop = Namespace::meshed(&cluster);
    shop.apply(&allow("web", &[("client", shop.name())]));
    server(&shop, "web");
    client(&shop, "client");
    let wire = Wire::start(&cluster);
    let marker = "marker-around-a-crash";
    let watch = Watch::start(&shop, "client", &format!("web:8080/{marker}"));
    watch.became(true);
    for (killed, name) in ["client", "web"].into_iter().enumerate() {
        let pod = shop.get(&format!("pod/{name}")).unwrap();
        let sidecar = &pod["status"]["initContainerStatuses"][0];
        cluster.node_of(&pod).signal(sidecar, "KILL");
        until("its end is felt", || (watch.gaps() > killed).then_some(()));
        watch.became(true);
        let pod = shop.ready(name);
        assert_eq!(pod["status"]["initContainerStatuses"][0]["restartCount"], 1);
        assert_eq!(
            pod["status"]["containerStatuses"][0]["restartCount"], 0,
            "the application goes on"
        );
    }
    let clear = "marker-beside-a-crash";
    in_clear(&cluster, clear);
    let wire = wire.stop(clear);
    assert!(wire.holds(clear), "the record, whole, is one of these pods");
    assert!(!wire.holds(marker), "no clear byte, whatever dies");
}

// C6.
#[test]
#[ignore = "needs root and a Kubernetes: tests/run"]
fn an_application_whose_sidecar_has_too_little_memory_is_not_started() {
    let cluster = shared();
    let shop = Namespace::meshed(&cluster);
    let mut small = pod("small", &["pause"]);
    small["metadata"]["annotations"] =
        json!({ "ferrule.dev/proxy-memory": "1Mi", "ferrule.dev/proxy-memory-limit": "1Mi" });
    shop.apply(&small);
    let small = until("the kernel ends the sidecar", || {
        let pod = shop.get("pod/small")?;
        let sidecar = &pod["status"]["initContainerStatuses"][0];
        // The runtime's own first steps in the container may already be too much.
        let ended = |state: &str| {
            let reason = &sidecar[state]["terminated"]["reason"];
            reason == "OOMKilled" || reason == "StartError"
        };
        (ended("state") || ended("lastState")).then_some(pod)
    });
    assert_eq!(
        small["status"]["containerStatuses"][0]["started"], false,
        "{small:#}"
    );
}
