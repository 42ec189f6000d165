//! Makes pods before a real API server that no kubelet and no controller looks at.

use std::path::PathBuf;

use anyhow::Context as _;
use ferrule_tests::kubernetes::Api as Server;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};
use serde_json::{Value, json};
use tokio::task::JoinSet;

/// Which programs an API server is started with.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Programs {
    /// The folder of Kubernetes's programs, as `tests/run --prepare` builds them
    #[arg(long = "programs", value_name = "FOLDER", env = "FERRULE_KUBERNETES")]
    pub(crate) folder: Option<PathBuf>,
}

impl Programs {
    /// Starts an API server.
    pub(crate) fn start(&self) -> anyhow::Result<Server> {
        let folder = self.folder.as_ref();
        let folder =
            folder.context("where are Kubernetes's programs? name their folder with FERRULE_KUBERNETES")?;
        Ok(Server::start(folder))
    }
}

/// Somebody who may do everything there, and whose requests are not tried again: each is to be measured.
pub(crate) async fn client(server: &Server) -> anyhow::Result<Client> {
    let read = Kubeconfig::read_from(server.kubeconfig())?;
    let mut config = Config::from_custom_kubeconfig(read, &KubeConfigOptions::default()).await?;
    config.default_retry = false;
    Ok(Client::try_from(config)?)
}

/// A namespace with a service account, which a controller would make; the label is the value of
/// `ferrule.dev/inject`.
pub(crate) fn namespace(name: &str, label: &str) -> String {
    format!(
        "---\napiVersion: v1\nkind: Namespace\nmetadata: {{ name: {name}, labels: {{ ferrule.dev/inject: {label} }} }}\n\
         ---\napiVersion: v1\nkind: ServiceAccount\nmetadata: {{ name: default, namespace: {name} }}\n"
    )
}

/// Makes pods with a sidecar and an address, as many at once as an API server takes well.
pub(crate) async fn make_pods(client: &Client, count: usize, of: fn(usize) -> String) -> anyhow::Result<()> {
    let mut making = JoinSet::new();
    for number in 0..count {
        if making.len() >= AT_ONCE {
            making.join_next().await.context("somebody is making")???;
        }
        making.spawn(make(Api::namespaced(client.clone(), &of(number)), number));
    }
    while let Some(made) = making.join_next().await {
        made??;
    }
    Ok(())
}

async fn make(pods: Api<Pod>, number: usize) -> anyhow::Result<()> {
    // No scheduler of that name gives it a machine.
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": pod_name(number), "labels": { "app": "app" },
            "annotations": { "ferrule.dev/status": "{\"capture\":\"cni\"}" },
        },
        "spec": {
            "schedulerName": "nobody", "automountServiceAccountToken": false,
            "initContainers": [{ "name": "ferrule-proxy", "image": "none", "restartPolicy": "Always" }],
            "containers": [{ "name": "app", "image": "none" }],
        },
    });
    let how = PostParams::default();
    pods.create(&how, &serde_json::from_value(pod)?).await?;
    move_pod(&pods, number, 0).await
}

/// Gives a pod another address, as a kubelet would.
pub(crate) async fn move_pod(pods: &Api<Pod>, number: usize, turn: usize) -> anyhow::Result<()> {
    let status = status(number, turn);
    let how = PatchParams::default();
    pods.patch_status(&pod_name(number), &how, &Patch::Merge(status))
        .await?;
    Ok(())
}

fn status(number: usize, turn: usize) -> Value {
    let ip = format!("10.{}.{}.{}", turn % 250, number / 256, number % 256);
    json!({ "status": { "phase": "Running", "podIP": ip, "podIPs": [{ "ip": ip }] } })
}

fn pod_name(number: usize) -> String {
    format!("w{number}")
}

/// Requests that are under way at once while pods are made.
const AT_ONCE: usize = 16;
