//! A namespace of one test's own, and what runs in it.

use std::process::Output;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use serde_json::{Value, json};

use super::build::prefix;
use super::cluster::{Cluster, finish, is_ready, said};
use crate::wait::until;

/// A namespace that is deleted when this is dropped.
pub struct Namespace<'a> {
    cluster: &'a Cluster,
    name: String,
}

impl<'a> Namespace<'a> {
    /// One whose pods are in the mesh and meet PodSecurity `restricted`.
    pub fn meshed(cluster: &'a Cluster) -> Self {
        let labels =
            json!({ "ferrule.dev/inject": "enabled", "pod-security.kubernetes.io/enforce": "restricted" });
        Self::labelled(cluster, &labels)
    }

    /// One that has nothing to do with the mesh.
    pub fn plain(cluster: &'a Cluster) -> Self {
        Self::labelled(cluster, &json!({}))
    }

    /// One with these labels.
    pub fn labelled(cluster: &'a Cluster, labels: &Value) -> Self {
        static LAST: AtomicU32 = AtomicU32::new(0);
        let number = LAST.fetch_add(1, Ordering::Relaxed);
        let namespace = Self {
            cluster,
            name: format!("test-{}-{number}", std::process::id()),
        };
        let metadata = json!({ "name": namespace.name, "labels": labels });
        cluster.apply(&json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": metadata }).to_string());
        until("the namespace's account is there", || {
            namespace.get("serviceaccount/default")
        });
        namespace
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The cluster that it is in.
    pub fn cluster(&self) -> &'a Cluster {
        self.cluster
    }

    /// Runs `kubectl` for this namespace, and returns what it says.
    ///
    /// # Panics
    /// When it fails.
    pub fn kubectl(&self, arguments: &[&str]) -> String {
        said(arguments, &self.try_kubectl(arguments))
    }

    /// Runs `kubectl` for this namespace to its end, however it ends.
    pub fn try_kubectl(&self, arguments: &[&str]) -> Output {
        let mut command = self.cluster.command(&["--namespace", &self.name]);
        finish(command.args(arguments), "")
    }

    /// Applies an object to this namespace.
    ///
    /// # Panics
    /// When the API server refuses it.
    pub fn apply(&self, object: &Value) {
        said(&["apply"], &self.try_apply(object));
    }

    /// Applies an object to this namespace, which may be refused.
    pub fn try_apply(&self, object: &Value) -> Output {
        self.cluster
            .try_apply(&["--namespace", &self.name], &object.to_string())
    }

    /// What the API server says why it refuses an object.
    ///
    /// # Panics
    /// When it does not refuse it.
    pub fn refusal(&self, object: &Value) -> String {
        let done = self.try_apply(object);
        let said = String::from_utf8_lossy(&done.stderr).into_owned();
        assert!(
            !done.status.success(),
            "it was not refused: {}",
            String::from_utf8_lossy(&done.stdout)
        );
        said
    }

    /// One object of this namespace, when it is there.
    pub fn get(&self, what: &str) -> Option<Value> {
        self.cluster.get(what, &["--namespace", &self.name])
    }

    /// Starts an application, and waits until it is ready.
    pub fn run(&self, name: &str, arguments: &[&str]) -> Value {
        self.apply(&pod(name, arguments));
        self.ready(name)
    }

    /// Waits until a pod is ready, and returns it.
    pub fn ready(&self, name: &str) -> Value {
        until(&format!("{name} is ready"), || {
            self.get(&format!("pod/{name}")).filter(is_ready)
        })
    }

    /// Waits until a pod or a job has this at this place.
    pub fn has(&self, what: &str, pointer: &str, wanted: &Value) -> Value {
        until(&format!("{what} has {wanted} at {pointer}"), || {
            self.get(what)
                .filter(|object| object.pointer(pointer) == Some(wanted))
        })
    }

    /// Runs the test application once more in a pod's application container.
    pub fn app(&self, pod: &str, arguments: &[&str]) -> Output {
        let mut all = vec!["exec", pod, "--container", "app", "--", "/bin/ferrule-test-app"];
        all.extend(arguments);
        self.try_kubectl(&all)
    }

    /// Asks over HTTP from a pod's application container: the answer, or why there is none.
    ///
    /// # Errors
    /// What the application says when it gets no answer.
    pub fn ask(&self, pod: &str, target: &str) -> Result<String, String> {
        let done = self.app(pod, &["ask", target]);
        if done.status.success() {
            Ok(String::from_utf8_lossy(&done.stdout).into_owned())
        } else {
            Err(String::from_utf8_lossy(&done.stderr).into_owned())
        }
    }

    /// What a container has written.
    pub fn log(&self, pod: &str, container: &str) -> String {
        self.kubectl(&["logs", pod, "--container", container])
    }

    fn explain(&self) {
        for arguments in [
            &["get", "all,configmaps,accesspolicies", "--output", "wide"][..],
            &["get", "events", "--sort-by=.lastTimestamp"],
            &["describe", "pods"],
            &[
                "logs",
                "--selector=app",
                "--all-containers",
                "--prefix",
                "--tail=30",
                "--ignore-errors",
            ],
        ] {
            let done = self.try_kubectl(arguments);
            let said = [done.stdout, done.stderr].concat();
            eprintln!(
                "--- kubectl {}\n{}",
                arguments.join(" "),
                String::from_utf8_lossy(&said)
            );
        }
    }
}

impl Drop for Namespace<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.explain();
        }
        self.try_kubectl(&["delete", "namespace", &self.name, "--wait=false"]);
    }
}

/// An application's pod that meets PodSecurity `restricted`; its label `app` is its name.
pub fn pod(name: &str, arguments: &[&str]) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": { "name": name, "labels": { "app": name } },
        "spec": pod_spec(arguments),
    })
}

/// What is in such a pod.
pub fn pod_spec(arguments: &[&str]) -> Value {
    json!({
        "terminationGracePeriodSeconds": 10,
        "automountServiceAccountToken": false,
        "securityContext": { "runAsNonRoot": true, "seccompProfile": { "type": "RuntimeDefault" } },
        "containers": [container("app", arguments)],
    })
}

/// A container of the test application.
pub fn container(name: &str, arguments: &[&str]) -> Value {
    json!({
        "name": name,
        "image": format!("{}/ferrule-test-app:1", prefix()),
        "imagePullPolicy": "IfNotPresent",
        "args": arguments,
        "securityContext": { "allowPrivilegeEscalation": false, "capabilities": { "drop": ["ALL"] } },
    })
}

/// A service of the pods whose label `app` is its name.
pub fn service(name: &str, port: u16) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": { "name": name },
        "spec": { "selector": { "app": name }, "ports": [{ "port": port }] },
    })
}
