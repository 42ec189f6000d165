//! What is safe when somebody deletes a label or an account, and when an address changes hands.

use std::net::Ipv4Addr;

use ferrule_tests::kubernetes::{Namespace, alone, pod, said, shared};
use ferrule_tests::wait::until;
use serde_json::json;

use super::apps::{Watch, account, allow, client, server};
use super::tokens::{Ca, token_of};

#[test]
#[ignore = "needs root and a Kubernetes: tests/run"]
fn without_its_label_a_namespace_keeps_what_it_has_and_new_pods_stay_outside() {
    let cluster = shared();
    let shop = Namespace::meshed(&cluster);
    shop.apply(&allow("web", &[("client", shop.name())]));
    server(&shop, "web");
    client(&shop, "client");
    until("an answer", || shop.ask("client", "web:8080/").ok());
    cluster.kubectl(&["label", "namespace", shop.name(), "ferrule.dev/inject-"]);
    let outside = client(&shop, "outside");
    assert_eq!(outside["spec"].get("initContainers"), None, "it has no sidecar");
    assert!(
        shop.ask("outside", "web:8080/").is_err(),
        "what is in the mesh is not opened to it"
    );
    shop.ask("client", "web:8080/").unwrap();
}

#[test]
#[ignore = "needs root and a Kubernetes: tests/run"]
fn without_its_account_a_pod_goes_on_until_it_needs_a_certificate_and_gets_none() {
    let cluster = shared();
    let shop = Namespace::meshed(&cluster);
    shop.apply(&allow("web", &[("client", shop.name())]));
    server(&shop, "web");
    let pod_before = client(&shop, "client");
    until("an answer", || shop.ask("client", "web:8080/").ok());
    let ca = Ca::of(&cluster);
    let token = token_of(&shop, &pod_before);
    ca.issues(&token);
    shop.kubectl(&["delete", "serviceaccount", "client", "--wait=true"]);
    let mut late = pod("late", &["pause"]);
    late["spec"]["serviceAccountName"] = json!("client");
    let why = shop.refusal(&late);
    assert!(why.contains("client"), "{why}");
    ca.comes_to_refuse(&token, "token_not_authenticated");
    // The pod's certificate is good until it ends, or is revoked.
    shop.ask("client", "web:8080/").unwrap();

    // A sidecar that begins anew asks as each renewal does: with the pod's token, which is nobody's now.
    let sidecar = &pod_before["status"]["initContainerStatuses"][0];
    cluster.node_of(&pod_before).signal(sidecar, "KILL");
    until("the CA refuses its token", || {
        let done = shop.try_kubectl(&["logs", "client", "--container", "ferrule-proxy"]);
        let log = String::from_utf8_lossy(&done.stdout).into_owned();
        let mut lines = log.lines();
        lines
            .any(|line| line.contains("certificate not renewed") && line.contains("token_not_authenticated"))
            .then_some(())
    });
    let why = shop.ask("client", "web:8080/").unwrap_err();
    assert!(!why.contains("HTTP"), "{why}");
    until("it is not ready any more", || {
        let pod = shop.get("pod/client")?;
        (pod["status"]["initContainerStatuses"][0]["ready"] == false).then_some(())
    });
}

#[test]
#[ignore = "needs root and a Kubernetes: tests/run"]
fn an_address_that_changes_hands_is_not_taken_for_who_had_it() {
    let cluster = alone();
    let shop = Namespace::meshed(&cluster);
    shop.apply(&allow("web", &[("client", shop.name())]));
    let web = server(&shop, "web");
    client(&shop, "client");
    let address = web["status"]["podIP"].as_str().unwrap().to_owned();
    let target = format!("{address}:8080/");
    let answer = until("an answer", || shop.ask("client", &target).ok());
    assert!(answer.starts_with("web /"), "{answer}");
    shop.kubectl(&["delete", "pod", "web", "--now", "--wait=true"]);

    let node = cluster.node_of(&web);
    // The first answers whoever asks in clear, the second has another identity than the client expects there.
    for (heir, inject) in [("outsider", "disabled"), ("insider", "enabled")] {
        // The node hands out its addresses in turn; told that the one before was the last, it comes to this one.
        let parsed: Ipv4Addr = address.parse().unwrap();
        let before = Ipv4Addr::from_bits(parsed.to_bits() - 1);
        let told = format!("printf {before} >/var/lib/cni/networks/pods/last_reserved_ip.0");
        said(&["sh"], &node.inside("sh").args(["-c", &told]).output().unwrap());
        account(&shop, heir);
        let watch = Watch::start(&shop, "client", &target);
        let mut pod = pod(heir, &["serve", heir, "8080"]);
        pod["metadata"]["labels"]["ferrule.dev/inject"] = json!(inject);
        pod["spec"]["nodeName"] = json!(node.name);
        pod["spec"]["serviceAccountName"] = json!(heir);
        shop.apply(&allow(heir, &[("other", shop.name())]));
        shop.apply(&pod);
        let pod = shop.ready(heir);
        assert_eq!(
            pod["status"]["podIP"],
            json!(address),
            "the address is handed out again"
        );
        let answer = shop.ask("client", &target);
        assert!(answer.is_err(), "{answer:?}");
        watch.became(false);
        assert_eq!(watch.gaps(), 1, "never answered");
        shop.kubectl(&["delete", "pod", heir, "--now", "--wait=true"]);
    }
}
