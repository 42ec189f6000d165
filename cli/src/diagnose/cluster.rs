//! Packs what a cluster tells: its check, its control plane, its rules, its sidecars.

use ferrule_daemon::logging::Chain;
use serde_json::{Value, json};

use super::{ASKED, LOG_BYTES, Packing};
use crate::check;
use crate::cluster::kubectl::KubectlError;
use crate::cluster::{Cluster, RULES, SIDECAR, entries, text, written};
use crate::failure::Failure;
use crate::meant::Replica;
use crate::sidecars::at_once;

impl Packing {
    /// What there is of a cluster. Objects are never taken whole: what a pod is told in its environment, and Secrets, stay
    /// out.
    pub(super) async fn fill_from(&mut self, cluster: &Cluster, now: i64) -> Result<(), Failure> {
        let kubectl = cluster.kubectl();
        let versions = kubectl.run(&["version", "--output=json"]);
        let versions = versions.map(|text| serde_json::from_str(&text).unwrap_or(Value::Null));
        let versions = self.seen("versions", versions);
        let nodes = self.seen("nodes", kubectl.items(&["nodes"])).unwrap_or_default();
        let nodes: Vec<Value> = nodes.iter().map(node).collect();
        let about = json!({
            "version": env!("CARGO_PKG_VERSION"), "taken": now, "kubernetes": versions, "nodes": nodes,
        });
        self.add("about.json", &format!("{about:#}\n"))?;
        self.add("check.json", &format!("{:#}\n", check::report(cluster)))?;
        self.control_plane(cluster)?;
        let rules = self.seen("rules", cluster.list(RULES)).unwrap_or_default();
        for object in &rules {
            let (_, rule) = written(object);
            let part = |name: &str| last(text(&object["metadata"][name])).to_owned();
            let name = format!(
                "rules/{}/{}-{}.json",
                part("namespace"),
                text(&object["kind"]),
                part("name")
            );
            self.add(&name, &format!("{rule:#}\n"))?;
        }
        let pods = self.seen("pods", cluster.list("pods")).unwrap_or_default();
        let pods: Vec<Value> = pods.iter().map(pod).collect();
        self.add("pods.json", &format!("{:#}\n", Value::from(pods)))?;
        match cluster.replicas() {
            Ok(replicas) => self.sidecars(cluster, &replicas).await,
            Err(failure) => {
                self.unseen.push(format!("sidecars: {}", Chain(&failure)));
                Ok(())
            }
        }
    }

    fn control_plane(&mut self, cluster: &Cluster) -> Result<(), Failure> {
        let kubectl = cluster.kubectl();
        let webhooks = kubectl.items(&[
            "mutatingwebhookconfigurations,validatingwebhookconfigurations",
            "--field-selector=metadata.name=ferrule-injector",
        ]);
        let webhooks = self.seen("webhooks", webhooks).unwrap_or_default();
        let webhooks: Vec<Value> = webhooks
            .iter()
            .map(|one| json!({ "kind": one["kind"], "webhooks": one["webhooks"] }))
            .collect();
        self.add(
            "control-plane/webhooks.json",
            &format!("{:#}\n", Value::from(webhooks)),
        )?;
        let maps = kubectl.items(&["configmaps", "--namespace", cluster.system()]);
        for map in self.seen("configmaps", maps).unwrap_or_default() {
            let name = text(&map["metadata"]["name"]);
            let settings = map["data"].as_object().into_iter().flatten();
            for (file, settings) in settings.filter(|_| name.starts_with("ferrule-")) {
                let name = format!("control-plane/{}/{}", last(name), last(file));
                self.add(&name, text(settings))?;
            }
        }
        let parts = kubectl.items(&[
            "pods",
            "--all-namespaces",
            "--selector=app.kubernetes.io/part-of=ferrule",
        ]);
        let parts = self.seen("control plane", parts).unwrap_or_default();
        let told: Vec<Value> = parts.iter().map(pod).collect();
        self.add("control-plane/pods.json", &format!("{:#}\n", Value::from(told)))?;
        for part in &parts {
            let (namespace, name) = (
                text(&part["metadata"]["namespace"]),
                text(&part["metadata"]["name"]),
            );
            let log = kubectl.run(&log_of(namespace, name, "--all-containers"));
            if let Some(log) = self.seen(&format!("log of {name}.{namespace}"), log) {
                self.add(&format!("control-plane/logs/{}.log", last(name)), &log)?;
            }
        }
        Ok(())
    }

    async fn sidecars(&mut self, cluster: &Cluster, replicas: &[Replica]) -> Result<(), Failure> {
        let taken = replicas.get(..MOST_SIDECARS).unwrap_or(replicas);
        if taken.len() < replicas.len() {
            self.unseen.push(format!(
                "{} sidecars beyond the first {MOST_SIDECARS}; say which with --namespace",
                replicas.len() - taken.len()
            ));
        }
        let folder = |replica: &Replica| {
            let (namespace, pod) = (&replica.member.namespace, &replica.pod);
            format!("sidecars/{namespace}/{}", last(pod))
        };
        for (name, path) in ASKED {
            let answers = at_once(taken.iter().map(|replica| replica.socket.text(path))).await;
            for (replica, answer) in taken.iter().zip(answers) {
                self.answer(&replica.title, &format!("{}/{name}", folder(replica)), answer)?;
            }
        }
        for replica in taken {
            let container = format!("--container={SIDECAR}");
            let log = cluster
                .kubectl()
                .run(&log_of(&replica.member.namespace, &replica.pod, &container));
            if let Some(log) = self.seen(&format!("log of {}", replica.title), log) {
                self.add(&format!("{}/proxy.log", folder(replica)), &log)?;
            }
        }
        Ok(())
    }

    /// What the cluster said; what it did not say is noted.
    fn seen<T>(&mut self, what: &str, said: Result<T, KubectlError>) -> Option<T> {
        match said {
            Ok(said) => Some(said),
            Err(error) => {
                self.unseen.push(format!("{what}: {}", Chain(&error)));
                None
            }
        }
    }
}

fn log_of<'w>(namespace: &'w str, pod: &'w str, container: &'w str) -> [&'w str; 7] {
    const { assert!(LOG_BYTES == 1_048_576, "as --limit-bytes says") };
    [
        "logs",
        "--namespace",
        namespace,
        pod,
        container,
        "--tail=5000",
        "--limit-bytes=1048576",
    ]
}

/// What a node says of its programs.
fn node(node: &Value) -> Value {
    let (labels, info) = (&node["metadata"]["labels"], &node["status"]["nodeInfo"]);
    json!({
        "name": node["metadata"]["name"], "zone": labels["topology.kubernetes.io/zone"],
        "kernel": info["kernelVersion"], "system": info["osImage"], "architecture": info["architecture"],
        "kubelet": info["kubeletVersion"], "runtime": info["containerRuntimeVersion"],
    })
}

/// What a pod is and how it is, without what it is told.
fn pod(pod: &Value) -> Value {
    let (meta, spec, status) = (&pod["metadata"], &pod["spec"], &pod["status"]);
    let states = ["initContainerStatuses", "containerStatuses"];
    let containers = states.iter().flat_map(|states| entries(&status[*states])).map(|one| {
        json!({
            "name": one["name"], "image": one["image"], "id": one["imageID"], "ready": one["ready"],
            "started": one["started"], "restarts": one["restartCount"], "state": one["state"], "last": one["lastState"],
        })
    });
    let conditions = entries(&status["conditions"]).map(|one| {
        json!({ "type": one["type"], "status": one["status"], "reason": one["reason"], "message": one["message"] })
    });
    json!({
        "namespace": meta["namespace"], "name": meta["name"], "labels": meta["labels"], "created": meta["creationTimestamp"],
        "injected": meta["annotations"]["ferrule.dev/status"], "account": spec["serviceAccountName"],
        "node": spec["nodeName"], "phase": status["phase"], "addresses": status["podIPs"],
        "containers": containers.collect::<Vec<_>>(), "conditions": conditions.collect::<Vec<_>>(),
    })
}

/// As much of a name as fits into an archive; what tells copies apart is at its end.
fn last(name: &str) -> &str {
    name.get(name.len().saturating_sub(MOST_NAME)..).unwrap_or(name)
}

/// More than this, and it would take long, and be read by nobody.
const MOST_SIDECARS: usize = 100;

/// How much of a name fits, beside a namespace.
const MOST_NAME: usize = 70;
