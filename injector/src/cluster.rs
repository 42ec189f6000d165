//! Writes to the cluster: the `caBundle` of our webhooks, and the trust bundle in every namespace of the mesh.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::time::Duration;

use ferrule_daemon::clock::Clock;
use ferrule_daemon::logging::Chain;
use k8s_openapi::api::admissionregistration::v1::{
    MutatingWebhookConfiguration, ValidatingWebhookConfiguration,
};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use kube::api::{ListParams, Patch, PatchParams};
use kube::{Api, Client, Resource as _};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::sync::watch;
use tracing::{info, warn};

use crate::names::{BUNDLE_FILE, INJECT, TRUST_CONFIG_MAP};
use crate::serving::Served;

/// Keeps both for ever. What fails is tried again.
pub struct Cluster {
    /// The API server.
    pub client: Client,
    /// The webhook configurations.
    pub webhooks: Option<String>,
    /// The namespace of the control plane, whose own copy the CA keeps.
    pub namespace: String,
    /// The time.
    pub clock: Clock,
}

impl Cluster {
    /// Writes at each change of the bundle, and looks at what is there every few seconds.
    pub async fn run(self, mut served: watch::Receiver<Served>) -> Infallible {
        let mut said = None;
        loop {
            let bundle = served.borrow_and_update().bundle.clone();
            if !bundle.is_empty() {
                let done = self
                    .write(&bundle)
                    .await
                    .map_err(|error| Chain(&error).to_string());
                if let Err(error) = &done
                    && said.as_ref() != Some(error)
                {
                    warn!(error, "the cluster does not have the newest bundle");
                }
                said = done.err();
            }
            tokio::select! {
                changed = served.changed() => if changed.is_err() {
                    return std::future::pending().await;
                },
                () = self.clock.sleep(LOOK_AGAIN) => {}
            }
        }
    }

    async fn write(&self, bundle: &str) -> Result<(), ClusterError> {
        if let Some(name) = &self.webhooks {
            self.ca_bundle::<MutatingWebhookConfiguration>(name, bundle)
                .await?;
            self.ca_bundle::<ValidatingWebhookConfiguration>(name, bundle)
                .await?;
        }
        let owner = self.owner().await?;
        for namespace in self.meshed().await? {
            self.trust_map(&namespace, bundle, owner.as_ref()).await?;
        }
        Ok(())
    }

    /// Sets `caBundle` where it differs; the rest of the configuration is the operator's.
    async fn ca_bundle<K>(&self, name: &str, bundle: &str) -> Result<(), ClusterError>
    where
        K: kube::Resource<DynamicType = (), Scope = kube::core::ClusterResourceScope>
            + DeserializeOwned
            + serde::Serialize
            + Clone
            + std::fmt::Debug,
    {
        use base64::Engine as _;

        let what = K::kind(&()).into_owned();
        let failed = |source| ClusterError::Webhook {
            what: what.clone(),
            name: name.to_owned(),
            source: Box::new(source),
        };
        let api: Api<K> = Api::all(self.client.clone());
        let found = api.get(name).await.map_err(failed)?;
        let found = serde_json::to_value(&found).map_err(|source| failed(kube::Error::SerdeError(source)))?;
        let wanted = json!(base64::engine::general_purpose::STANDARD.encode(bundle));
        let webhooks = found["webhooks"].as_array().cloned().unwrap_or_default();
        let ours: Vec<Value> = webhooks
            .iter()
            .map(|webhook| json!({ "name": webhook["name"], "clientConfig": { "caBundle": wanted } }))
            .collect();
        if webhooks
            .iter()
            .all(|webhook| webhook["clientConfig"]["caBundle"] == wanted)
        {
            return Ok(());
        }
        // Server-side apply merges by the webhook's name: nothing but the bundle becomes ours.
        let patch = json!({
            "apiVersion": K::api_version(&()),
            "kind": what,
            "metadata": { "name": name },
            "webhooks": ours,
        });
        let how = PatchParams::apply("ferrule-injector").force();
        api.patch(name, &how, &Patch::Apply(patch))
            .await
            .map_err(failed)?;
        info!(
            event = "ca_bundle",
            kind = what,
            name,
            "the webhook's caBundle is the newest trust bundle"
        );
        Ok(())
    }

    /// The namespaces that opted in, but for our own.
    async fn meshed(&self) -> Result<BTreeSet<String>, ClusterError> {
        let api: Api<Namespace> = Api::all(self.client.clone());
        let selected = ListParams::default().labels(&format!("{INJECT}=enabled"));
        let found = api
            .list_metadata(&selected)
            .await
            .map_err(|source| ClusterError::Namespaces {
                source: Box::new(source),
            })?;
        let names = found
            .items
            .into_iter()
            .filter(|found| found.metadata.deletion_timestamp.is_none());
        Ok(names
            .filter_map(|found| found.metadata.name)
            .filter(|name| *name != self.namespace)
            .collect())
    }

    /// What the copies of the bundle belong to: with our webhook they go, too, whoever deletes it.
    async fn owner(&self) -> Result<Option<Value>, ClusterError> {
        let Some(name) = &self.webhooks else {
            return Ok(None);
        };
        let api: Api<MutatingWebhookConfiguration> = Api::all(self.client.clone());
        let found = api.get(name).await.map_err(|source| ClusterError::Webhook {
            what: MutatingWebhookConfiguration::kind(&()).into_owned(),
            name: name.clone(),
            source: Box::new(source),
        })?;
        Ok(Some(json!({
            "apiVersion": MutatingWebhookConfiguration::api_version(&()),
            "kind": MutatingWebhookConfiguration::kind(&()),
            "name": name,
            "uid": found.metadata.uid,
        })))
    }

    async fn trust_map(
        &self,
        namespace: &str,
        bundle: &str,
        owner: Option<&Value>,
    ) -> Result<(), ClusterError> {
        let failed = |source| ClusterError::Trust {
            namespace: namespace.to_owned(),
            source: Box::new(source),
        };
        let api: Api<ConfigMap> = Api::namespaced(self.client.clone(), namespace);
        let found = api.get_opt(TRUST_CONFIG_MAP).await.map_err(failed)?;
        let has = found
            .and_then(|map| map.data)
            .and_then(|mut data| data.remove(BUNDLE_FILE));
        if has.as_deref() == Some(bundle) {
            return Ok(());
        }
        let map = json!({
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {
                "name": TRUST_CONFIG_MAP,
                "labels": { "app.kubernetes.io/managed-by": "ferrule" },
                "ownerReferences": owner.map(|owner| [owner]),
            },
            "data": { BUNDLE_FILE: bundle },
        });
        let how = PatchParams::apply("ferrule-injector").force();
        api.patch(TRUST_CONFIG_MAP, &how, &Patch::Apply(map))
            .await
            .map_err(failed)?;
        info!(
            event = "trust",
            namespace, "the namespace has the newest trust bundle"
        );
        Ok(())
    }
}

/// Whether the cluster knows native sidecars: Kubernetes 1.29 and later.
///
/// # Errors
/// When the API server does not say its version.
pub async fn knows_native_sidecars(client: &Client) -> Result<bool, ClusterError> {
    let version = client
        .apiserver_version()
        .await
        .map_err(|source| ClusterError::Version {
            source: Box::new(source),
        })?;
    // Some distributions write 29+.
    let number = |text: &str| {
        text.trim_end_matches(|c: char| !c.is_ascii_digit())
            .parse::<u32>()
            .unwrap_or(0)
    };
    Ok((number(&version.major), number(&version.minor)) >= (1, 29))
}

/// Between looks without a change of the bundle: a namespace that opted in waits no longer for it.
const LOOK_AGAIN: Duration = Duration::from_secs(2);

/// What could not be written, or read.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// A webhook configuration.
    #[error("cannot keep the caBundle of {what} {name}")]
    Webhook {
        /// Its kind.
        what: String,
        /// Its name.
        name: String,
        /// Why.
        source: Box<kube::Error>,
    },
    /// The namespaces that opted in.
    #[error("cannot list the namespaces of the mesh")]
    Namespaces {
        /// Why.
        source: Box<kube::Error>,
    },
    /// The trust bundle of a namespace.
    #[error("cannot write the ConfigMap {TRUST_CONFIG_MAP} in {namespace}")]
    Trust {
        /// The namespace.
        namespace: String,
        /// Why.
        source: Box<kube::Error>,
    },
    /// The API server's version.
    #[error("the API server does not say its version")]
    Version {
        /// Why.
        source: Box<kube::Error>,
    },
}
