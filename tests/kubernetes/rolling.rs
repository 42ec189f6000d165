//! Restarts of both sides under load.

use ferrule_tests::kubernetes::{Namespace, alone, pod_spec};
use ferrule_tests::netns::Process;
use ferrule_tests::wait::until;
use serde_json::json;

use super::apps::{account, allow, deployment};

#[test]
#[ignore = "needs root and a Kubernetes: tests/run"]
fn a_rolling_restart_of_both_sides_under_two_hundred_requests_a_second_loses_none() {
    // Not beside tests that start pods by the dozen: what is counted here is lost by the mesh, not by a starved node.
    let cluster = alone();
    let shop = Namespace::meshed(&cluster);
    shop.apply(&allow("web", &[("load", shop.name())]));
    deployment(&shop, "web", 3);
    shop.kubectl(&["rollout", "status", "deployment/web", "--timeout=120s"]);
    account(&shop, "load");
    let mut spec = pod_spec(&["load", "web:8080", "200"]);
    spec["serviceAccountName"] = json!("load");
    shop.apply(&json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": "load" },
        "spec": {
            "replicas": 1, "selector": { "matchLabels": { "app": "load" } },
            "template": { "metadata": { "labels": { "app": "load" } }, "spec": spec },
        },
    }));
    shop.kubectl(&["rollout", "status", "deployment/load", "--timeout=120s"]);
    let folder = tempfile::tempdir().unwrap();
    let follow = |number: &str| {
        let pods = shop.get("pods").unwrap();
        let mut pods = pods["items"].as_array().unwrap().iter();
        let newest = pods.find(|pod| {
            pod["metadata"]["labels"]["app"] == "load" && pod["metadata"].get("deletionTimestamp").is_none()
        });
        let name = newest.unwrap()["metadata"]["name"].as_str().unwrap().to_owned();
        let mut command =
            cluster.command(&["--namespace", shop.name(), "logs", "--follow", "--all-containers"]);
        let log = Process::start(number, command.arg(name), folder.path());
        until("the load goes", || log.said().contains("good=").then_some(()));
        log
    };
    let mut first = follow("first");
    shop.kubectl(&["rollout", "restart", "deployment/web"]);
    shop.kubectl(&["rollout", "status", "deployment/web", "--timeout=180s"]);
    shop.kubectl(&["rollout", "restart", "deployment/load"]);
    shop.kubectl(&["rollout", "status", "deployment/load", "--timeout=120s"]);
    let mut second = follow("second");
    shop.kubectl(&["rollout", "restart", "deployment/web"]);
    shop.kubectl(&["rollout", "status", "deployment/web", "--timeout=180s"]);
    shop.kubectl(&["delete", "deployment", "load", "--wait=true"]);
    for log in [&mut first, &mut second] {
        until("the load has ended", || {
            log.said().contains("ended").then_some(())
        });
        log.kill();
        let said = log.said();
        let last = said.lines().rfind(|line| line.starts_with("good=")).unwrap();
        println!("{last}");
        // What the application and its sidecar say of those that went wrong.
        let wrong = said.lines().filter(|line| {
            line.starts_with("failed")
                || line.contains(r#""event":"close""#) && !line.contains(r#""reason":"finished""#)
        });
        let wrong: Vec<&str> = wrong.take(40).collect();
        assert!(last.ends_with(" failed=0"), "{}", wrong.join("\n"));
        let good: u32 = last
            .strip_prefix("good=")
            .unwrap()
            .split(' ')
            .next()
            .unwrap()
            .parse()
            .unwrap();
        assert!(good > 1000, "{last}");
    }
}
