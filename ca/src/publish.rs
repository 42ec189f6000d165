//! Keeps the trust bundle in a ConfigMap, from which a cluster learns whom to trust.

use std::sync::Arc;
use std::time::Duration;

use ferrule_daemon::backoff::{Backoff, Jitter};
use ferrule_daemon::clock::Clock;
use ferrule_daemon::logging::Chain;
use serde_json::json;
use tokio::sync::watch;

use crate::api::trust::Trust;
use crate::attest::kube_api::KubeApi;
use crate::config::ConfigMapName;

/// Writes the bundle at each change, and now and then without one, because somebody may have changed the ConfigMap.
pub async fn keep(api: KubeApi, place: ConfigMapName, mut trust: watch::Receiver<Arc<Trust>>, clock: Clock) {
    let backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(30));
    let mut failures = 0_u32;
    let mut published = None;
    loop {
        let current = trust.borrow_and_update().clone();
        let wait = match publish(&api, &place, &current).await {
            Ok(()) => {
                failures = 0;
                if published.replace(current.sequence) != Some(current.sequence) {
                    tracing::info!(
                        event = "bundle_published",
                        namespace = place.namespace,
                        name = place.name,
                        sequence = current.sequence,
                        "the ConfigMap has the trust bundle"
                    );
                }
                AGAIN
            }
            Err(error) => {
                failures = failures.saturating_add(1);
                tracing::warn!(
                    namespace = place.namespace, name = place.name, error = %Chain(&error),
                    "the ConfigMap of the trust bundle cannot be written"
                );
                backoff.delay(failures, Jitter::random()).max(LEAST_WAIT)
            }
        };
        tokio::select! {
            changed = trust.changed() => if changed.is_err() { return },
            () = clock.sleep(wait) => {}
        }
    }
}

async fn publish(
    api: &KubeApi,
    place: &ConfigMapName,
    trust: &Trust,
) -> Result<(), crate::attest::kube_api::KubeApiError> {
    let ConfigMapName { namespace, name } = place;
    let text = |body: &[u8]| String::from_utf8_lossy(body).into_owned();
    let map = json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": { "namespace": namespace, "name": name },
        "data": { "bundle.pem": text(&trust.pem.body), "bundle.json": text(&trust.jwks.body) },
    });
    let path = format!("/api/v1/namespaces/{namespace}/configmaps/{name}");
    api.apply(&path, map.to_string().into_bytes()).await
}

/// Between looks without a change.
const AGAIN: Duration = Duration::from_secs(60);
const LEAST_WAIT: Duration = Duration::from_millis(100);
