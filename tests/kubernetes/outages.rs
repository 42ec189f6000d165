//! What goes on, and what waits, while a part of the control plane is away.

use ferrule_tests::kubernetes::{Cluster, Namespace, alone, pod};
use ferrule_tests::wait::until;

use serde_json::json;

use super::apps::{Watch, allow, client, server};

const SYSTEM: [&str; 2] = ["--namespace", "ferrule-system"];

/// Takes a part of the control plane away until what is returned is dropped.
struct Away<'a>(&'a Cluster, &'static str, &'static str);

fn away<'a>(cluster: &'a Cluster, what: &'static str, replicas: &'static str) -> Away<'a> {
    cluster.kubectl(&["scale", what, "--replicas=0", SYSTEM[0], SYSTEM[1]]);
    let name = what.split('/').nth(1).unwrap();
    let selector = format!("--selector=app.kubernetes.io/name={name}");
    cluster.kubectl(&[
        "wait",
        "--for=delete",
        "pod",
        &selector,
        "--timeout=120s",
        SYSTEM[0],
        SYSTEM[1],
    ]);
    Away(cluster, what, replicas)
}

impl Drop for Away<'_> {
    fn drop(&mut self) {
        let Self(cluster, what, replicas) = self;
        cluster.kubectl(&["scale", what, replicas, SYSTEM[0], SYSTEM[1]]);
        cluster.installed();
    }
}

/// A server, and a client that has been let in.
fn pair<'a>(cluster: &'a Cluster) -> Namespace<'a> {
    let shop = Namespace::meshed(cluster);
    shop.apply(&allow("web", &[("client", shop.name())]));
    server(&shop, "web");
    client(&shop, "client");
    until("an answer", || shop.ask("client", "web:8080/").ok());
    shop
}

#[test]
#[ignore = "needs root and a Kubernetes: tests/run"]
fn without_the_ca_what_runs_goes_on_and_what_is_new_waits() {
    let cluster = alone();
    let shop = pair(&cluster);
    let watch = Watch::start(&shop, "client", "web:8080/");
    let ca = away(&cluster, "statefulset/ferrule-ca", "--replicas=1");
    shop.apply(&pod("new", &["pause"]));
    until("the new one misses the CA", || {
        let done = shop.try_kubectl(&["logs", "new", "--container", "ferrule-proxy"]);
        let log = String::from_utf8_lossy(&done.stdout).into_owned();
        log.contains("certificate not renewed").then_some(())
    });
    let new = shop.get("pod/new").unwrap();
    let started = &new["status"]["containerStatuses"][0]["started"];
    assert_eq!(started, &json!(false), "it waits: {:#}", new["status"]);
    watch.became(true);
    assert_eq!(watch.gaps(), 0, "nobody noticed");
    drop(ca);
    shop.ready("new");
}

#[test]
#[ignore = "needs root and a Kubernetes: tests/run"]
fn without_the_directory_what_runs_goes_on_and_what_is_new_waits() {
    let cluster = alone();
    let shop = pair(&cluster);
    let watch = Watch::start(&shop, "client", "web:8080/");
    let directory = away(&cluster, "deployment/ferrule-directory", "--replicas=2");
    let mut new = pod("new", &["watch", "web:8080/"]);
    new["spec"]["serviceAccountName"] = json!("client");
    shop.apply(&new);
    until("the new one has its certificate", || {
        let done = shop.try_kubectl(&["logs", "new", "--container", "ferrule-proxy"]);
        let log = String::from_utf8_lossy(&done.stdout).into_owned();
        log.contains("certificate").then_some(())
    });
    let new = shop.get("pod/new").unwrap();
    let started = &new["status"]["containerStatuses"][0]["started"];
    assert_eq!(started, &json!(false), "it waits: {:#}", new["status"]);
    watch.became(true);
    assert_eq!(watch.gaps(), 0, "nobody noticed");
    drop(directory);
    shop.ready("new");
    until("the new one is answered", || {
        shop.log("new", "app").ends_with("yes\n").then_some(())
    });
}

#[test]
#[ignore = "needs root and a Kubernetes: tests/run"]
fn without_the_api_server_what_runs_goes_on() {
    let cluster = alone();
    let shop = pair(&cluster);
    let mut load = pod("load", &["load", "web:8080", "20"]);
    load["spec"]["serviceAccountName"] = json!("client");
    shop.apply(&load);
    let node = cluster.node_of(&shop.ready("load"));
    // Where the kubelet lets the runtime write it; the API server need not be there to read it.
    let log = format!("cat /var/log/pods/{}_load_*/app/*.log", shop.name());
    let good = || {
        let log = String::from_utf8(node.inside("sh").args(["-c", &log]).output().unwrap().stdout).unwrap();
        let (good, failed) = log
            .lines()
            .rfind(|line| line.contains("good="))?
            .split_once("good=")?
            .1
            .split_once(" failed=")?;
        assert_eq!(failed, "0", "{log}");
        good.parse::<u32>().ok()
    };
    let before = until("the load has begun", good);
    let held = cluster.hold("kube-apiserver");
    assert!(
        !cluster.try_kubectl(&["get", "--raw", "/readyz"]).status.success(),
        "it is away"
    );
    until("two hundred more answers", || {
        good().filter(|good| *good >= before + 200)
    });
    assert!(
        !cluster.try_kubectl(&["get", "--raw", "/readyz"]).status.success(),
        "it is still away"
    );
    drop(held);
    until("the API server is back", || {
        cluster
            .try_kubectl(&["get", "--raw", "/readyz"])
            .status
            .success()
            .then_some(())
    });
    cluster.installed();
    let back = until("the log is read", good);
    until("the load goes on", || good().filter(|good| *good > back + 20));
    // News come through again.
    shop.kubectl(&["delete", "accesspolicy", "web", "--wait=true"]);
    until("the rule's end is felt", || shop.ask("client", "web:8080/").err());
}
