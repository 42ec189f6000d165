//! Applications and rules that several tests run.

use std::time::{Duration, Instant};

use ferrule_tests::kubernetes::{Namespace, pod, pod_spec, service};
use ferrule_tests::netns::Process;
use ferrule_tests::wait::until;
use serde_json::{Value, json};
use tempfile::TempDir;

/// A service account, which is a part of the identity of its pods.
pub(super) fn account(namespace: &Namespace<'_>, name: &str) {
    namespace.apply(&json!({ "apiVersion": "v1", "kind": "ServiceAccount", "metadata": { "name": name } }));
}

/// A pod that waits to be told what to ask, under an account of its name; ready.
pub(super) fn client(namespace: &Namespace<'_>, name: &str) -> Value {
    account(namespace, name);
    let mut client = pod(name, &["pause"]);
    client["spec"]["serviceAccountName"] = json!(name);
    namespace.apply(&client);
    namespace.ready(name)
}

/// A pod that serves at port 8080 behind a service of its name, under an account of its name; ready.
pub(super) fn server(namespace: &Namespace<'_>, name: &str) -> Value {
    account(namespace, name);
    namespace.apply(&service(name, 8080));
    let mut server = pod(name, &["serve", name, "8080"]);
    server["spec"]["serviceAccountName"] = json!(name);
    namespace.apply(&server);
    namespace.ready(name)
}

/// As [`server`], in copies that a deployment keeps; not waited for.
pub(super) fn deployment(namespace: &Namespace<'_>, name: &str, replicas: u8) {
    account(namespace, name);
    namespace.apply(&service(name, 8080));
    let mut spec = pod_spec(&["serve", name, "8080"]);
    spec["serviceAccountName"] = json!(name);
    spec["containers"][0]["readinessProbe"] =
        json!({ "httpGet": { "path": "/ready", "port": 8080 }, "periodSeconds": 1 });
    namespace.apply(&json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": name },
        "spec": {
            "replicas": replicas, "selector": { "matchLabels": { "app": name } },
            "template": { "metadata": { "labels": { "app": name } }, "spec": spec },
        },
    }));
}

/// A rule by which these accounts, each with its namespace, may reach the workloads of that name.
pub(super) fn allow(name: &str, accounts: &[(&str, &str)]) -> Value {
    let identities: Vec<String> = accounts
        .iter()
        .map(|(account, namespace)| format!("spiffe://test.local/ns/{namespace}/sa/{account}"))
        .collect();
    rule(name, &json!([{ "identities": identities }]))
}

/// A rule by which these may reach the workloads of that name.
pub(super) fn rule(name: &str, from: &Value) -> Value {
    json!({
        "apiVersion": "ferrule.dev/v1alpha1", "kind": "AccessPolicy", "metadata": { "name": name },
        "spec": {
            "workloads": { "labels": { "app": name } }, "action": "allow",
            "rules": [{ "from": from, "ports": [8080] }],
        },
    })
}

/// Waits until a sidecar of these pods tells of a connection that this account was allowed, in mutual TLS.
pub(super) fn let_in_by_mutual_tls(namespace: &Namespace<'_>, app: &str, account: &str) {
    let name = format!(
        r#""src_id":"spiffe://test.local/ns/{}/sa/{account}""#,
        namespace.name()
    );
    let selector = format!("--selector=app={app}");
    let line = until("the server's sidecar tells of it", || {
        let log = namespace.kubectl(&["logs", &selector, "--container", "ferrule-proxy", "--tail=-1"]);
        log.lines().find(|line| line.contains(&name)).map(str::to_owned)
    });
    assert!(
        line.contains(r#""tls":"mutual""#) && line.contains(r#""verdict":"allow""#),
        "{line}"
    );
}

/// Waits until a job of many pods has come to an end, and returns it.
pub(super) fn ended(namespace: &Namespace<'_>, job: &str) -> Value {
    let limit = Instant::now() + Duration::from_secs(900);
    loop {
        let found = namespace.get(&format!("job/{job}")).unwrap();
        let conditions = found["status"]["conditions"].as_array();
        let mut conditions = conditions.into_iter().flatten();
        if conditions
            .any(|one| (one["type"] == "Complete" || one["type"] == "Failed") && one["status"] == "True")
        {
            return found;
        }
        assert!(Instant::now() < limit, "{:#}", found["status"]);
        std::thread::sleep(Duration::from_secs(1));
    }
}

/// A pod that asks again and again, and the times at which that began to be answered, or ended to.
pub(super) struct Watch {
    process: Process,
    _folder: TempDir,
}

impl Watch {
    /// Begins in a pod's application container.
    pub(super) fn start(namespace: &Namespace<'_>, pod: &str, target: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut command = namespace.cluster().command(&["--namespace", namespace.name()]);
        command.args([
            "exec",
            pod,
            "--container",
            "app",
            "--",
            "/bin/ferrule-test-app",
            "watch",
            target,
        ]);
        let process = Process::start(&format!("watch-{pod}"), &mut command, folder.path());
        Self {
            process,
            _folder: folder,
        }
    }

    /// Waits until it is answered, or is not, and says since when, in milliseconds of Unix time.
    pub(super) fn became(&self, answered: bool) -> u64 {
        until(&format!("answered becomes {answered}"), || {
            let said = self.process.said();
            let (when, word) = said.lines().last()?.split_once(' ')?;
            ((word == "yes") == answered).then(|| when.parse().unwrap())
        })
    }

    /// How often it has ceased to be answered.
    pub(super) fn gaps(&self) -> usize {
        self.process
            .said()
            .lines()
            .filter(|line| line.contains(" no "))
            .count()
    }
}
