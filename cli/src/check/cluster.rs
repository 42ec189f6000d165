//! Looks at a Kubernetes cluster through `kubectl`: pods without a sidecar, what sidecars tell of themselves, webhook, modes.

use std::collections::BTreeSet;

use ferrule_daemon::logging::Chain;
use ferrule_identity::Timestamp;
use serde_json::Value;

use super::Limits;
use super::finding::{Finding, Kind, Looked};
use super::sidecar::{clock_fault, ending};
use crate::cluster::{Cluster, SIDECAR, entries, text};

/// Looks at all of it.
pub(super) fn look(cluster: &Cluster, limits: &Limits, looked: &mut Looked) {
    let look = Look { cluster };
    look.webhook(looked);
    look.control_plane(looked);
    look.modes(looked);
    let Some(namespaces) = look.items(&["namespaces"], looked) else {
        return;
    };
    let is_meant =
        |namespace: &&str| cluster.namespaces().is_empty() || cluster.namespaces().contains(*namespace);
    let enabled: BTreeSet<&str> = namespaces
        .iter()
        .filter(|namespace| namespace["metadata"]["labels"][INJECT] == "enabled")
        .map(|namespace| text(&namespace["metadata"]["name"]))
        .filter(is_meant)
        .collect();
    if enabled.is_empty() {
        let which = if cluster.namespaces().is_empty() {
            "no namespace has the label ferrule.dev/inject=enabled"
        } else {
            "none of these namespaces has the label ferrule.dev/inject=enabled"
        };
        looked.unseen("the mesh", which);
    }
    let mut held = Vec::new();
    for namespace in enabled {
        if let Some(pods) = look.items(&["pods", "--namespace", namespace], looked) {
            for pod in &pods {
                held.extend(look.pod(namespace, pod, limits, looked));
            }
        }
    }
    bundles(&held, looked);
}

/// A look at a cluster.
struct Look<'c> {
    cluster: &'c Cluster,
}

impl Look<'_> {
    /// Looks at a pod; gives the number of the bundle that its sidecar holds.
    fn pod(
        &self,
        namespace: &str,
        pod: &Value,
        limits: &Limits,
        looked: &mut Looked,
    ) -> Option<(String, i64)> {
        let name = text(&pod["metadata"]["name"]);
        let place = format!("{name}.{namespace}");
        if ["Succeeded", "Failed"].contains(&text(&pod["status"]["phase"])) {
            return None;
        }
        let finding = |kind, what: String, next: &str| Finding {
            kind,
            place: place.clone(),
            what,
            next: next.to_owned(),
        };
        let Some(state) = sidecar(pod) else {
            let has_opted_out = pod["metadata"]["labels"][INJECT] == "disabled";
            let (what, next) = if has_opted_out {
                (
                    "it has no sidecar, because its label ferrule.dev/inject says disabled",
                    "take the label away and make it anew, when it can be in the mesh",
                )
            } else {
                (
                    "it has no sidecar, though its namespace is in the mesh: it was made before the label",
                    "make it anew: kubectl rollout restart, for whatever it belongs to",
                )
            };
            looked.check(Some(finding(Kind::Unmeshed, what.to_owned(), next)));
            return None;
        };
        let is_waiting = state["ready"] != true && state["started"] != true;
        looked.check(is_waiting.then(|| {
            finding(
                Kind::NotReady,
                "its sidecar is not ready, so its application is not started".to_owned(),
                &format!("kubectl logs --namespace {namespace} {name} --container ferrule-proxy"),
            )
        }));
        if is_waiting {
            return None;
        }
        // Through the API server, which reaches every pod: nothing has to be opened for whoever looks.
        let path = format!("/api/v1/namespaces/{namespace}/pods/{name}:15020/proxy/metrics");
        match self.cluster.kubectl().run(&["get", "--raw", &path]) {
            Ok(metrics) => {
                told(&metrics, &place, limits, looked);
                let (_, held) = series(&metrics, "ferrule_bundle_generation").next()?;
                Some((place, seconds(held)?))
            }
            Err(error) => {
                looked.unseen(&place, &Chain(&error).to_string());
                None
            }
        }
    }

    fn webhook(&self, looked: &mut Looked) {
        let finding = |what: &str| {
            Some(Finding {
                kind: Kind::Webhook,
                place: "mutatingwebhookconfiguration/ferrule-injector".to_owned(),
                what: what.to_owned(),
                next: "put it there again: ferrule install … | kubectl apply -f -".to_owned(),
            })
        };
        let found = self.cluster.kubectl().items(&[
            "mutatingwebhookconfigurations",
            "--field-selector=metadata.name=ferrule-injector",
        ]);
        let found = match found {
            Ok(found) => found,
            Err(error) => return looked.unseen("the webhook", &Chain(&error).to_string()),
        };
        let Some(webhook) = found.first().map(|found| &found["webhooks"][0]) else {
            return looked.check(finding("it is gone: new pods of the mesh get no sidecar"));
        };
        looked.check(if webhook["failurePolicy"] == "Fail" {
            None
        } else {
            finding("its failurePolicy is not Fail: pods get no sidecar while the injector is away")
        });
        let expressions = webhook["namespaceSelector"]["matchExpressions"].as_array();
        let selects = expressions.into_iter().flatten().any(|expression| {
            expression["key"] == INJECT
                && expression["values"]
                    .as_array()
                    .is_some_and(|all| all.iter().any(|value| value == "enabled"))
        });
        looked.check(if selects {
            None
        } else {
            finding("it is not asked about namespaces with the label ferrule.dev/inject=enabled")
        });
        looked.check(if text(&webhook["clientConfig"]["caBundle"]).is_empty() {
            finding("it has no caBundle, so that the API server trusts nobody there")
        } else {
            None
        });
    }

    fn control_plane(&self, looked: &mut Looked) {
        for kind in ["deployments", "statefulsets"] {
            let system = self.cluster.system();
            let Some(all) = self.items(&[kind, "--namespace", system], looked) else {
                continue;
            };
            for one in &all {
                let has = one["status"]["readyReplicas"].as_u64().unwrap_or(0);
                let wants = one["spec"]["replicas"].as_u64().unwrap_or(1);
                let name = text(&one["metadata"]["name"]);
                looked.check((has < wants).then(|| Finding {
                    kind: Kind::NotReady,
                    place: format!("{name}.{system}"),
                    what: format!("{has} of {wants} replicas are ready"),
                    next: format!("kubectl describe pods --namespace {system}"),
                }));
            }
        }
    }

    fn modes(&self, looked: &mut Looked) {
        let all = match self.cluster.list("meshpolicies.ferrule.dev") {
            Ok(all) => all,
            Err(error) => return looked.unseen("the MeshPolicies", &Chain(&error).to_string()),
        };
        for policy in &all {
            let spec = &policy["spec"];
            let mut ports = entries(&spec["ports"]);
            let is_permissive =
                spec["mode"] == "permissive" || ports.any(|port| port["mode"] == "permissive");
            looked.check(is_permissive.then(|| Finding {
                kind: Kind::Permissive,
                place: format!(
                    "MeshPolicy {}.{}",
                    text(&policy["metadata"]["name"]),
                    text(&policy["metadata"]["namespace"])
                ),
                what: "its mode is permissive: what it is about takes or sends in clear".to_owned(),
                next: "when everybody who calls is in the mesh, set mode: strict".to_owned(),
            }));
        }
    }

    /// What `kubectl` says of some objects; what cannot be seen is noted.
    fn items(&self, words: &[&str], looked: &mut Looked) -> Option<Vec<Value>> {
        match self.cluster.kubectl().items(words) {
            Ok(items) => Some(items),
            Err(error) => {
                looked.unseen(
                    words.first().copied().unwrap_or_default(),
                    &Chain(&error).to_string(),
                );
                None
            }
        }
    }
}

/// The status of the sidecar's container, where there is one.
fn sidecar(pod: &Value) -> Option<&Value> {
    let of = |field: &str| pod["status"][field].as_array().into_iter().flatten();
    let is_there = |field: &str| {
        let mut all = pod["spec"][field].as_array().into_iter().flatten();
        all.any(|container| container["name"] == SIDECAR)
    };
    let is_there = is_there("initContainers") || is_there("containers");
    let mut states = of("initContainerStatuses").chain(of("containerStatuses"));
    is_there.then(|| {
        states
            .find(|state| state["name"] == SIDECAR)
            .unwrap_or(&Value::Null)
    })
}

/// What a sidecar's metrics tell.
fn told(metrics: &str, place: &str, limits: &Limits, looked: &mut Looked) {
    for (labels, value) in series(metrics, "ferrule_clock_skew_seconds") {
        if labels.is_empty()
            && let Ok(skew) = value.parse()
        {
            looked.check(clock_fault(place, skew));
        }
    }
    for (labels, value) in series(metrics, "ferrule_certificate_not_after_timestamp_seconds") {
        let Some(ends) = seconds(value) else { continue };
        let ends = Timestamp::from_unix(ends);
        let left = ends.since(limits.now);
        // When it began is not told: a leaf that is renewed in time never has so little left.
        let (what, is_fault) = if labels.contains("\"leaf\"") {
            ("the workload's certificate", left.is_zero())
        } else if labels.contains("\"root\"") {
            ("a root", left < limits.asked.unwrap_or(super::DEFAULT_NEAR))
        } else {
            ("a signing certificate", left < limits.asked.unwrap_or_default())
        };
        looked.check(is_fault.then(|| ending(place, what, ends, limits.now)));
    }
    let in_clear: u64 = series(metrics, "ferrule_connections_total")
        .filter(|(labels, _)| {
            let has = |label: &str| labels.contains(label);
            has("direction=\"inbound\"") && has("tls=\"plaintext\"") && !has("verdict=\"deny\"")
        })
        .filter_map(|(_, value)| value.parse::<u64>().ok())
        .sum();
    looked.check((in_clear > 0).then(|| Finding {
        kind: Kind::PlaintextListener,
        place: place.to_owned(),
        what: format!("it has taken {in_clear} connections in clear since its start"),
        next: "its log names who called; set mode: strict when all of them are in the mesh".to_owned(),
    }));
}

/// Holds the bundles of all sidecars against the newest that one of them has.
fn bundles(held: &[(String, i64)], looked: &mut Looked) {
    let newest = held.iter().map(|(_, number)| *number).max();
    for (place, number) in held {
        let newest = newest.unwrap_or(*number);
        looked.check((*number < newest).then(|| {
            Finding {
                kind: Kind::StaleBundle,
                place: place.clone(),
                what: format!("it holds bundle {number}, and another sidecar has {newest}"),
                next: "a new root is not used before it follows; its log tells why it cannot reach the CA"
                    .to_owned(),
            }
        }));
    }
}

/// The series of a metric: labels and value.
fn series<'t>(text: &'t str, name: &'t str) -> impl Iterator<Item = (&'t str, &'t str)> {
    text.lines().filter_map(move |line| {
        let rest = line.strip_prefix(name)?;
        let (labels, value) = match rest.strip_prefix('{') {
            Some(rest) => rest.rsplit_once('}')?,
            None => ("", rest.strip_prefix(' ').map(|_| rest)?),
        };
        Some((labels, value.trim()))
    })
}

/// Seconds, which may be written with a fraction or an exponent.
fn seconds(value: &str) -> Option<i64> {
    value
        .parse()
        .ok()
        .or_else(|| value.split('.').next()?.parse().ok())
}

const INJECT: &str = "ferrule.dev/inject";
