//! How pods live with their sidecars: probes, jobs, the end.

use std::net::IpAddr;

use ferrule_tests::kubernetes::{Namespace, container, pod_spec, service, shared};
use ferrule_tests::wait::{once_below, until};
use serde_json::{Value, json};

#[test]
#[ignore = "needs root and a Kubernetes: tests/run"]
fn probes_of_every_kind_work_on_every_container_under_default_deny_and_nothing_else_does() {
    let cluster = shared();
    let shop = Namespace::meshed(&cluster);
    let stranger = Namespace::plain(&cluster);
    stranger.run("stranger", &["pause"]);

    let mut spec = pod_spec(&["serve", "first", "8080"]);
    let each = |action: Value| {
        let mut probe = action;
        probe["periodSeconds"] = json!(1);
        probe
    };
    let first = &mut spec["containers"][0];
    first["ports"] = json!([{ "name": "web", "containerPort": 8080 }]);
    first["startupProbe"] = each(json!({ "exec": { "command": ["/bin/ferrule-test-app", "done"] } }));
    first["readinessProbe"] = each(json!({ "httpGet": { "path": "/ready", "port": "web" } }));
    first["livenessProbe"] = each(json!({ "tcpSocket": { "port": 8080 } }));
    let mut second = container("second", &["grpc", "9090"]);
    second["startupProbe"] = each(json!({ "tcpSocket": { "port": 9090 } }));
    second["readinessProbe"] = each(json!({ "grpc": { "port": 9090 } }));
    second["livenessProbe"] = each(json!({ "grpc": { "port": 9090 } }));
    let mut third = container("third", &["serve", "third", "8081"]);
    third["readinessProbe"] =
        each(json!({ "exec": { "command": ["/bin/ferrule-test-app", "ask", "127.0.0.1:8081"] } }));
    third["livenessProbe"] = each(json!({ "httpGet": { "path": "/live", "port": 8081 } }));
    spec["containers"].as_array_mut().unwrap().extend([second, third]);
    shop.apply(&json!({ "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "all" }, "spec": spec }));
    let pod = shop.ready("all");
    let statuses = pod["status"]["containerStatuses"].as_array().unwrap();
    assert_eq!(
        statuses.iter().filter(|status| status["ready"] == true).count(),
        3
    );

    let address: IpAddr = pod["status"]["podIP"].as_str().unwrap().parse().unwrap();
    for (path, wanted) in [("admin", "404"), ("ready", "404"), ("", "404")] {
        let why = stranger
            .ask("stranger", &format!("{address}:15021/{path}"))
            .unwrap_err();
        assert!(why.contains(wanted), "/{path}: {why}");
    }
    for port in [8080, 8081, 9090] {
        let why = stranger
            .ask("stranger", &format!("{address}:{port}/ready"))
            .unwrap_err();
        assert!(!why.contains("HTTP"), "no application answers: {why}");
    }
    // What the kubelet does is answered where it was declared, and goes on being so.
    until("ten seconds of probes", || {
        let pod = shop.get("pod/all")?;
        let since = pod["status"]["containerStatuses"]
            .as_array()?
            .iter()
            .all(|one| one["restartCount"] == 0);
        assert!(since, "a liveness probe failed: {pod:#}");
        let log = shop.log("all", "ferrule-proxy");
        assert!(!log.contains("panicked"), "{log}");
        Some(())
    });
}

#[test]
#[ignore = "needs root and a Kubernetes: tests/run"]
fn a_probe_that_fails_is_seen_through_the_sidecar() {
    let cluster = shared();
    let shop = Namespace::meshed(&cluster);
    let mut spec = pod_spec(&["serve", "app", "8080"]);
    spec["containers"][0]["readinessProbe"] =
        json!({ "httpGet": { "path": "/ready", "port": 8081 }, "periodSeconds": 1 });
    shop.apply(&json!({ "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "deaf" }, "spec": spec }));
    until("the kubelet tells of the failure", || {
        let events = shop.get("events")?;
        let mut events = events["items"].as_array()?.iter();
        events
            .any(|event| {
                event["message"]
                    .as_str()
                    .is_some_and(|text| text.contains("Readiness probe failed"))
            })
            .then_some(())
    });
    let pod = shop.get("pod/deaf").unwrap();
    assert_eq!(pod["status"]["containerStatuses"][0]["ready"], false);
}

#[test]
#[ignore = "needs root and a Kubernetes: tests/run"]
fn a_job_is_complete_within_five_seconds_of_its_work() {
    let cluster = shared();
    let shop = Namespace::meshed(&cluster);
    // Whole seconds, of which the sixth is too late; a sidecar that had to be killed would take 30 each time.
    once_below(&6, 5, |at| complete_after(&shop, &format!("work-{at}")));
}

/// Runs a job, and says how many seconds after the end of its work it was complete.
fn complete_after(shop: &Namespace<'_>, name: &str) -> i64 {
    let mut spec = pod_spec(&["done"]);
    spec["restartPolicy"] = json!("Never");
    let job = json!({
        "apiVersion": "batch/v1", "kind": "Job", "metadata": { "name": name },
        "spec": { "backoffLimit": 0, "template": { "metadata": { "labels": { "app": name } }, "spec": spec } },
    });
    shop.apply(&job);
    let job = shop.has(&format!("job/{name}"), "/status/succeeded", &json!(1));
    let pods = shop.get("pods").unwrap();
    let mut pods = pods["items"].as_array().unwrap().iter();
    let pod = pods.find(|pod| pod["metadata"]["labels"]["app"] == name).unwrap();
    assert_eq!(pod["spec"]["initContainers"][0]["name"], "ferrule-proxy");
    let sidecar = &pod["status"]["initContainerStatuses"][0]["state"]["terminated"];
    assert_eq!(sidecar["exitCode"], 0, "the sidecar ended well: {pod:#}");
    let worked = seconds(&pod["status"]["containerStatuses"][0]["state"]["terminated"]["finishedAt"]);
    seconds(&job["status"]["completionTime"]) - worked
}

/// A time as the API server writes it, in seconds.
fn seconds(text: &Value) -> i64 {
    let text = text.as_str().unwrap();
    time::OffsetDateTime::parse(text, &time::format_description::well_known::Rfc3339)
        .unwrap()
        .unix_timestamp()
}

#[test]
#[ignore = "needs root and a Kubernetes: tests/run"]
fn an_unmeshed_pod_gets_no_word_of_a_meshed_ones_service() {
    let cluster = shared();
    let (shop, stranger) = (Namespace::meshed(&cluster), Namespace::plain(&cluster));
    shop.run("web", &["serve", "web", "8080"]);
    shop.apply(&service("web", 8080));
    stranger.run("stranger", &["pause"]);
    let target = format!("web.{}:8080", shop.name());
    // The name is known and the port is open: it is the sidecar that refuses.
    let why = stranger.ask("stranger", &target).unwrap_err();
    assert!(!why.contains("lookup") && !why.contains("HTTP"), "{why}");
}
