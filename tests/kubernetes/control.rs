//! What happens when parts of the control plane are away, wrong, or begin from nothing.

use std::process::Command;

use ferrule_tests::kubernetes::{Cluster, Namespace, alone, pod, shared};
use ferrule_tests::wait::until;
use serde_json::json;

const SYSTEM: [&str; 2] = ["--namespace", "ferrule-system"];

/// Makes the injector run so often; returns once none is there where that is 0.
pub(super) fn scale(cluster: &Cluster, replicas: u8) {
    let replicas = format!("--replicas={replicas}");
    cluster.kubectl(&[
        "scale",
        "deployment/ferrule-injector",
        &replicas,
        SYSTEM[0],
        SYSTEM[1],
    ]);
    if replicas.ends_with("=0") {
        cluster.kubectl(&[
            "wait",
            "--for=delete",
            "pod",
            "--selector=app.kubernetes.io/name=ferrule-injector",
            "--timeout=120s",
            SYSTEM[0],
            SYSTEM[1],
        ]);
    }
}

// C12.
#[test]
#[ignore = "needs root and a Kubernetes: tests/run"]
fn without_the_injector_only_namespaces_of_the_mesh_wait_and_it_begins_from_nothing() {
    let cluster = alone();
    let (shop, plain) = (Namespace::meshed(&cluster), Namespace::plain(&cluster));
    scale(&cluster, 0);
    let why = shop.refusal(&pod("web", &["pause"]));
    assert!(why.contains("pods.ferrule.dev"), "{why}");
    plain.run("other", &["pause"]);
    let mut out = pod("out", &["pause"]);
    out["metadata"]["labels"]["ferrule.dev/inject"] = json!("disabled");
    shop.apply(&out);
    shop.ready("out");

    // All of the control plane is gone at once; nothing in it waits for its own webhook.
    cluster.kubectl(&["delete", "pods", "--all", "--wait=true", SYSTEM[0], SYSTEM[1]]);
    scale(&cluster, 2);
    cluster.installed();
    shop.run("web", &["pause"]);
}

// C12.
#[test]
#[ignore = "needs root and a Kubernetes: tests/run"]
fn a_wrong_ca_bundle_of_the_webhook_lets_nothing_through_and_is_mended() {
    let cluster = alone();
    let shop = Namespace::meshed(&cluster);
    let bundle = || {
        let found = cluster.get("mutatingwebhookconfiguration/ferrule-injector", &[])?;
        found["webhooks"][0]["clientConfig"]["caBundle"]
            .as_str()
            .map(str::to_owned)
    };
    let right = bundle().unwrap();
    let other = ferrule_tests::pki::Authority::new().pem();
    use base64::Engine as _;
    let wrong = base64::engine::general_purpose::STANDARD.encode(other);
    let patch =
        json!([{ "op": "replace", "path": "/webhooks/0/clientConfig/caBundle", "value": wrong }]).to_string();
    let spoil = || {
        cluster.kubectl(&[
            "patch",
            "mutatingwebhookconfiguration/ferrule-injector",
            "--type=json",
            "--patch",
            &patch,
        ]);
    };
    spoil();
    until("the bundle is the right one again", || {
        (bundle()? == right).then_some(())
    });
    shop.run("web", &["pause"]);

    // With nobody there to mend it, it stays closed.
    scale(&cluster, 0);
    spoil();
    let why = shop.refusal(&pod("other", &["pause"]));
    assert!(why.contains("pods.ferrule.dev"), "{why}");
    scale(&cluster, 2);
    cluster.installed();
    until("the bundle is the right one again", || {
        (bundle()? == right).then_some(())
    });
    shop.run("other", &["pause"]);
}

// C12.
#[test]
#[ignore = "needs root and a Kubernetes: tests/run"]
fn the_webhook_refuses_a_body_that_is_too_large_and_goes_on() {
    let cluster = shared();
    let node = &cluster.nodes()[0];
    let service = cluster.get("service/ferrule-injector", &SYSTEM).unwrap();
    let address = service["spec"]["clusterIP"].as_str().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let body = folder.path().join("body");
    std::fs::write(&body, vec![b'x'; 4 * 1024 * 1024]).unwrap();
    let ask = |file: &str| {
        let mut command: Command = node.command("curl");
        // Whoever reaches the port may ask; the certificate is looked at elsewhere.
        command.args([
            "--silent",
            "--insecure",
            "--max-time",
            "20",
            "--output",
            "/dev/null",
            "--write-out",
            "%{http_code}",
        ]);
        command.args([
            "--header",
            "content-type: application/json",
            "--data-binary",
            file,
        ]);
        command.arg(format!("https://{address}/inject"));
        let done = command.output().unwrap();
        String::from_utf8(done.stdout).unwrap()
    };
    let large = ask(&format!("@{}", body.display()));
    assert!(large == "413" || large == "000", "{large}");
    let code: u16 = ask("{}").parse().unwrap();
    assert!((400..500).contains(&code), "no question, no answer: {code}");
    let shop = Namespace::meshed(&cluster);
    shop.run("web", &["pause"]);
}

// C6.
#[test]
#[ignore = "needs root and a Kubernetes: tests/run"]
fn a_pod_that_started_without_the_redirect_is_never_ready() {
    let cluster = alone();
    let shop = Namespace::meshed(&cluster);
    let set = "daemonset/ferrule-cni";
    let away =
        json!({ "spec": { "template": { "spec": { "nodeSelector": { "no": "node" } } } } }).to_string();
    cluster.kubectl(&["patch", set, "--namespace", "ferrule-cni", "--patch", &away]);
    cluster.kubectl(&[
        "wait",
        "--for=delete",
        "pod",
        "--all",
        "--namespace",
        "ferrule-cni",
        "--timeout=120s",
    ]);
    shop.apply(&pod("naked", &["serve", "naked", "8080"]));
    // Its sidecar says so, again and again; the application is not even started.
    let why = until("the sidecar misses the redirect", || {
        let done = shop.try_kubectl(&["logs", "naked", "--container", "ferrule-proxy"]);
        let log = String::from_utf8_lossy(&done.stdout).into_owned();
        (log.contains("redirect") && log.lines().count() > 5).then_some(log)
    });
    let pod = shop.get("pod/naked").unwrap();
    let started = &pod["status"]["containerStatuses"][0]["started"];
    assert_eq!(started, &json!(false), "{why}");
    let back = json!({ "spec": { "template": { "spec": { "nodeSelector": null } } } }).to_string();
    cluster.kubectl(&["patch", set, "--namespace", "ferrule-cni", "--patch", &back]);
    cluster.installed();
    shop.run("dressed", &["pause"]);
}
