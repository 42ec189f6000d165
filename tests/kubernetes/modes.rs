//! The other two ways of capture, and the end of an installation.

use std::fs;
use std::panic::catch_unwind;
use std::process::Command;

use ferrule_tests::kubernetes::{Cluster, Namespace, alone, pod, program, said, service};
use ferrule_tests::wait::until;
use serde_json::json;

use super::apps::{account, allow, client, let_in_by_mutual_tls, server};

/// Installs as all other tests want it, when this test has ended.
struct Usual<'a>(&'a Cluster);

impl Drop for Usual<'_> {
    fn drop(&mut self) {
        // A test that has failed already has told more than this will.
        let done = catch_unwind(std::panic::AssertUnwindSafe(|| {
            uninstall(self.0);
            self.0.install(&[]);
        }));
        assert!(
            done.is_ok() || std::thread::panicking(),
            "the usual installation is back"
        );
    }
}

fn uninstall(cluster: &Cluster) {
    let what = said(
        &["uninstall"],
        &Command::new(program("ferrule"))
            .arg("uninstall")
            .output()
            .unwrap(),
    );
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("remains.yaml");
    fs::write(&file, what).unwrap();
    cluster.kubectl(&[
        "delete",
        "--ignore-not-found",
        "--timeout=120s",
        "-f",
        file.to_str().unwrap(),
    ]);
}

/// All objects whose names tell of the mesh.
fn objects(cluster: &Cluster) -> Vec<String> {
    let kinds = "customresourcedefinitions,mutatingwebhookconfigurations,validatingwebhookconfigurations,clusterroles,\
                 clusterrolebindings,roles,rolebindings,namespaces,configmaps,secrets,persistentvolumeclaims,services";
    let all = cluster.kubectl(&["get", kinds, "--all-namespaces", "--output", "name"]);
    all.lines()
        .filter(|line| line.contains("ferrule"))
        .map(str::to_owned)
        .collect()
}

fn nodes_with_plugin(cluster: &Cluster) -> usize {
    let nodes = cluster.nodes().iter();
    let with = nodes.filter(|node| {
        let mut grep = node.inside("sh");
        grep.args(["-c", "grep -q ferrule-cni /etc/cni/net.d/*"])
            .status()
            .unwrap()
            .success()
    });
    with.count()
}

#[test]
#[ignore = "needs root and a Kubernetes: tests/run"]
fn uninstall_leaves_nothing_and_the_other_ways_of_capture_work() {
    let cluster = alone();
    let usual = Usual(&cluster);
    let before = Namespace::meshed(&cluster);
    until("the bundle is in the namespace", || {
        before.get("configmap/ferrule-trust")
    });
    assert!(objects(&cluster).len() > 10 && nodes_with_plugin(&cluster) == 2);
    uninstall(&cluster);
    let left = || Some(objects(&cluster)).filter(|left| !left.is_empty());
    until("no object is left", || left().is_none().then_some(()));
    assert_eq!(nodes_with_plugin(&cluster), 0);
    // The label is a word like any other now.
    before.run("plain", &["pause"]);

    cluster.install(&["capture=init"]);
    by_init_container(&cluster);
    uninstall(&cluster);
    cluster.install(&["capture=none"]);
    by_explicit_ways(&cluster);
    drop(usual);
}

fn by_init_container(cluster: &Cluster) {
    let shop = Namespace::labelled(cluster, &json!({ "ferrule.dev/inject": "enabled" }));
    let stranger = Namespace::plain(cluster);
    shop.apply(&allow("web", &[("client", shop.name())]));
    let web = server(&shop, "web");
    client(&shop, "client");
    client(&stranger, "client");
    let first = web["spec"]["initContainers"].as_array().unwrap();
    let names: Vec<&str> = first.iter().map(|one| one["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["ferrule-redirect", "ferrule-proxy"]);
    assert_eq!(
        first[0]["securityContext"]["capabilities"],
        json!({ "add": ["NET_ADMIN"], "drop": ["ALL"] })
    );
    until("an answer", || shop.ask("client", "web:8080/").ok());
    let_in_by_mutual_tls(&shop, "web", "client");
    let why = stranger
        .ask("client", &format!("web.{}:8080/", shop.name()))
        .unwrap_err();
    assert!(!why.contains("HTTP"), "{why}");
}

fn by_explicit_ways(cluster: &Cluster) {
    let shop = Namespace::meshed(cluster);
    // The application's port is what rules speak of; its sidecar's is where the service leads.
    shop.apply(&allow("web", &[("client", shop.name())]));
    let mut front = service("web", 8080);
    front["spec"]["ports"][0]["targetPort"] = json!(18080);
    shop.apply(&front);
    let upstream = format!("15101=web.{}:8080", shop.name());
    for (name, arguments, annotation, value) in [
        (
            "web",
            &["serve", "web", "8080"][..],
            "ferrule.dev/serves",
            "18080=8080",
        ),
        ("client", &["pause"], "ferrule.dev/upstreams", &upstream),
    ] {
        account(&shop, name);
        let mut pod = pod(name, arguments);
        pod["metadata"]["annotations"] = json!({ annotation: value });
        pod["spec"]["serviceAccountName"] = json!(name);
        shop.apply(&pod);
    }
    for name in ["web", "client"] {
        let pod = shop.ready(name);
        assert_eq!(pod["spec"]["initContainers"].as_array().unwrap().len(), 1);
    }
    until("an answer", || shop.ask("client", "127.0.0.1:15101/").ok());
    let_in_by_mutual_tls(&shop, "web", "client");
    assert!(
        shop.ask("client", "web:8080/").is_err(),
        "what does not come from a sidecar is refused"
    );
}
