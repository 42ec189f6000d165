//! How the webhook bears what an API server, or somebody else, does to it.

use ferrule_tests::kubernetes::{Cluster, Namespace, alone, pod, said, shared};
use ferrule_tests::wait::until;
use serde_json::{Value, json};

const SYSTEM: [&str; 2] = ["--namespace", "ferrule-system"];

// C12.
#[test]
#[ignore = "needs root and a Kubernetes: tests/run"]
fn a_webhook_that_does_not_answer_in_time_keeps_only_namespaces_of_the_mesh_waiting() {
    let cluster = alone();
    let (shop, plain) = (Namespace::meshed(&cluster), Namespace::plain(&cluster));
    let selector = "--selector=app.kubernetes.io/name=ferrule-injector";
    let found = cluster.get("pods", &[selector, SYSTEM[0], SYSTEM[1]]).unwrap();
    let each = |signal: &str| {
        for pod in found["items"].as_array().unwrap() {
            cluster
                .node_of(pod)
                .signal(&pod["status"]["containerStatuses"][0], signal);
        }
    };
    each("SIGSTOP");
    let why = shop.refusal(&pod("web", &["pause"]));
    let other = plain.try_apply(&pod("other", &["pause"]));
    each("SIGCONT");
    assert!(why.contains("pods.ferrule.dev"), "{why}");
    said(&["apply"], &other);
    until("it answers again", || {
        shop.try_apply(&pod("web", &["pause"]))
            .status
            .success()
            .then_some(())
    });
    shop.ready("web");
}

// C12.
#[test]
#[ignore = "needs root and a Kubernetes: tests/run"]
fn a_question_that_is_asked_again_gets_the_same_answer_and_changes_nothing() {
    let cluster = shared();
    let shop = Namespace::meshed(&cluster);
    let pods = || shop.get("pods").unwrap()["items"].clone();
    let before = pods();
    let question = pod("web", &["pause"]);
    let first = ask(&cluster, &shop, &question);
    assert_eq!(first["response"]["allowed"], true, "{first:#}");
    assert!(
        first["response"]["patch"]
            .as_str()
            .is_some_and(|patch| patch.len() > 100),
        "{first:#}"
    );
    assert_eq!(ask(&cluster, &shop, &question), first);
    assert_eq!(pods(), before, "an answer makes no pod");
}

/// Asks as the API server does, from elsewhere.
fn ask(cluster: &Cluster, shop: &Namespace<'_>, object: &Value) -> Value {
    let service = cluster.get("service/ferrule-injector", &SYSTEM).unwrap();
    let address = service["spec"]["clusterIP"].as_str().unwrap();
    let review = json!({
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
        "request": {
            "uid": "705ab4f5-6393-11e8-b7cc-42010a800002", "operation": "CREATE", "namespace": shop.name(),
            "kind": { "group": "", "version": "v1", "kind": "Pod" },
            "resource": { "group": "", "version": "v1", "resource": "pods" },
            "userInfo": { "username": "somebody" }, "object": object,
        },
    });
    let folder = tempfile::tempdir().unwrap();
    let body = folder.path().join("body");
    std::fs::write(&body, review.to_string()).unwrap();
    let mut curl = cluster.nodes()[0].command("curl");
    curl.args([
        "--silent",
        "--insecure",
        "--max-time",
        "20",
        "--header",
        "content-type: application/json",
    ]);
    curl.arg("--data-binary")
        .arg(format!("@{}", body.display()))
        .arg(format!("https://{address}/inject"));
    let answer = said(&["curl"], &curl.output().unwrap());
    serde_json::from_str(&answer).unwrap()
}
