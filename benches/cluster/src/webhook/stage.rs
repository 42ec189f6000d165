//! An API server, a CA and an injector, as an installation has them.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use ferrule_tests::kubernetes::Api as Server;
use serde_json::Value;

use crate::pods::{Programs, namespace};
use ferrule_measure::process::{Running, free_address, http_get};
use ferrule_measure::programs;

/// All of it; it ends when this is dropped.
pub(super) struct Stage {
    pub(super) injector: Running,
    /// Where the injector tells its metrics.
    admin: std::net::SocketAddr,
    _ca: Running,
    pub(super) server: Server,
}

impl Stage {
    /// Starts it, and waits until pods are injected.
    pub(super) fn start(kubernetes: &Programs, ours: Option<&Path>) -> anyhow::Result<Self> {
        let program = |name: &str| match ours {
            Some(folder) => Ok(folder.join(name)),
            None => programs::build(name),
        };
        let (ca_program, injector_program) = (program("ferrule-ca")?, program("ferrule-injector")?);
        let server = kubernetes.start()?;
        let home = server.folder().to_owned();
        let at = |name: &str| home.join(name);
        server.apply(&(namespace(SYSTEM, "disabled") + ACCOUNTS));
        let ca_token = server.kubectl(&["create", "token", "ferrule-ca", "--namespace", SYSTEM]);
        fs::write(at("ca.token"), ca_token.trim())?;
        fs::write(at("injector.token"), token(&server)?)?;

        let (ca_address, webhook, admin) = (free_address()?, free_address()?, free_address()?);
        let api = server.address();
        fs::write(
            at("ca.yaml"),
            format!(
                "trust_domain: bench.test\ndata: {data}\nlisten: \"{ca_address}\"\nadmin: {{ enabled: false }}\n\
                 kubernetes: {{ api: \"https://{api}\", ca_file: {authority}, token_file: {token} }}\n\
                 servers: [{{ identity: \"spiffe://bench.test/ns/{SYSTEM}/sa/ferrule-injector\", names: [localhost] }}]\n",
                data = at("ca").display(),
                authority = server.authority().display(),
                token = at("ca.token").display(),
            ),
        )?;
        let prepared = |words: &[&str]| {
            let mut command = Command::new(&ca_program);
            command.env_clear().args(words).arg("--config").arg(at("ca.yaml"));
            command
        };
        done(prepared(&["init"]))?;
        let mut issue = prepared(&["issue", "spiffe://bench.test/ns/bench/sa/bench"]);
        issue.arg("--out").arg(at("issued"));
        done(issue)?;
        let mut ca = Running::start("ca", prepared(&["serve"]), &home)?;
        ca.listens(ca_address).with_context(|| ca.last_words(&home))?;

        fs::write(
            at("injector.yaml"),
            format!(
                "trust_domain: bench.test\nlisten: \"{webhook}\"\nadmin: {{ listen: \"{admin}\" }}\nnames: [localhost]\n\
                 webhooks: ferrule-injector\nca: {{ addresses: [\"{ca_address}\"], token: {token}, bundle: {bundle} }}\n\
                 sidecar: {{ image: ferrule-proxy, redirect_image: ferrule-cni, ranges: [10.0.0.0/8] }}\n",
                token = at("injector.token").display(),
                bundle = at("issued/bundle.pem").display(),
            ),
        )?;
        let mut command = Command::new(&injector_program);
        command
            .env_clear()
            .env("KUBECONFIG", server.kubeconfig())
            .args(["webhook", "--config"])
            .arg(at("injector.yaml"));
        server.apply(&webhooks(webhook.port()));
        let mut injector = Running::start("injector", command, &home)?;
        injector
            .listens(webhook)
            .with_context(|| injector.last_words(&home))?;
        let stage = Self {
            injector,
            admin,
            _ca: ca,
            server,
        };
        stage
            .is_trusted()
            .with_context(|| stage.injector.last_words(&home))?;
        Ok(stage)
    }

    /// Waits until the injector has told the API server whom to trust.
    fn is_trusted(&self) -> anyhow::Result<()> {
        let begun = Instant::now();
        loop {
            let bundle = self.server.kubectl(&[
                "get",
                "mutatingwebhookconfiguration/ferrule-injector",
                "--output",
                "jsonpath={.webhooks[0].clientConfig.caBundle}",
            ]);
            if !bundle.is_empty() {
                return Ok(());
            }
            ensure!(begun.elapsed() < PATIENCE, "the webhook has no caBundle");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Makes sure that the pods of a namespace have a sidecar: what does not happen is fast.
    pub(super) fn has_injected(&self, namespace: &str) -> anyhow::Result<()> {
        let pods = self
            .server
            .kubectl(&["get", "pods", "--namespace", namespace, "--output", "json"]);
        let pods: Value = serde_json::from_str(&pods)?;
        let pods = pods["items"].as_array().context("there are pods")?;
        let has = |pod: &&Value| pod["spec"]["initContainers"][0]["name"] == "ferrule-proxy";
        let injected = pods.iter().filter(has).count();
        ensure!(
            injected == pods.len() && injected > 0,
            "{injected} of {} pods have a sidecar",
            pods.len()
        );
        Ok(())
    }

    /// What the webhook's own histogram says, from a question's last byte to its answer.
    pub(super) fn own_mean_ms(&self) -> anyhow::Result<Option<f64>> {
        let text = http_get(self.admin, "/metrics")?;
        let value = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name))?;
            line.trim().parse::<f64>().ok()
        };
        let sum = value("ferrule_injector_answer_duration_seconds_sum");
        let count = value("ferrule_injector_answer_duration_seconds_count");
        Ok(sum.zip(count).map(|(sum, count)| sum * 1e3 / count))
    }
}

/// A token for the CA, bound to a pod, as a kubelet mounts it.
fn token(server: &Server) -> anyhow::Result<String> {
    let pod = server.kubectl(&["get", "pod/injector", "--namespace", SYSTEM, "--output", "json"]);
    let pod: Value = serde_json::from_str(&pod)?;
    let uid = pod["metadata"]["uid"].as_str().context("the pod is there")?;
    let token = server.kubectl(&[
        "create",
        "token",
        "ferrule-injector",
        "--namespace",
        SYSTEM,
        "--audience",
        "ferrule-ca",
        "--bound-object-kind",
        "Pod",
        "--bound-object-name",
        "injector",
        "--bound-object-uid",
        uid,
    ]);
    Ok(token.trim().to_owned())
}

fn done(mut command: Command) -> anyhow::Result<()> {
    let output = command.output().context("cannot run ferrule-ca")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?}: {said}");
    Ok(())
}

/// The chart's, but for where the webhook listens: nobody here routes to a Service.
fn webhooks(port: u16) -> String {
    let webhook = |kind: &str, name: &str, path: &str, group: &str, version: &str, resources: &str| {
        format!(
            "---\napiVersion: admissionregistration.k8s.io/v1\nkind: {kind}\nmetadata: {{ name: ferrule-injector }}\n\
             webhooks:\n- name: {name}\n  clientConfig: {{ url: \"https://localhost:{port}/{path}\" }}\n  \
             rules: [{{ operations: [CREATE], apiGroups: [\"{group}\"], apiVersions: [{version}], resources: [{resources}], scope: Namespaced }}]\n  \
             namespaceSelector: {{ matchExpressions: [{{ key: ferrule.dev/inject, operator: In, values: [enabled] }}] }}\n  \
             sideEffects: None\n  admissionReviewVersions: [v1]\n  failurePolicy: Fail\n  timeoutSeconds: 5\n"
        )
    };
    webhook(
        "MutatingWebhookConfiguration",
        "pods.ferrule.dev",
        "inject",
        "",
        "v1",
        "pods",
    ) + &webhook(
        "ValidatingWebhookConfiguration",
        "rules.ferrule.dev",
        "validate",
        "ferrule.dev",
        "v1alpha1",
        "accesspolicies",
    )
}

const SYSTEM: &str = "ferrule-system";

const ACCOUNTS: &str = "\
---
apiVersion: v1
kind: ServiceAccount
metadata: { name: ferrule-ca, namespace: ferrule-system }
---
apiVersion: v1
kind: ServiceAccount
metadata: { name: ferrule-injector, namespace: ferrule-system }
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: { name: ferrule-ca }
roleRef: { apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: system:auth-delegator }
subjects: [{ kind: ServiceAccount, name: ferrule-ca, namespace: ferrule-system }]
---
apiVersion: v1
kind: Pod
metadata: { name: injector, namespace: ferrule-system }
spec:
  schedulerName: nobody
  serviceAccountName: ferrule-injector
  automountServiceAccountToken: false
  containers: [{ name: injector, image: none }]
";

const PATIENCE: Duration = Duration::from_secs(60);
