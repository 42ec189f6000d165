//! Reads of a Pod what matters to others: who it is, where it lives, whether it has a sidecar.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ferrule_identity::{SpiffeId, TrustDomain};
use ferrule_policy::WorkloadDocument;
use k8s_openapi::api::core::v1;

use crate::model::WorkloadKey;

/// A pod that has not ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pod {
    /// Namespace and name.
    pub key: WorkloadKey,
    /// What tells it from another pod of the same name.
    pub uid: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Who it is, where it has a sidecar; a pod without one has no identity that anybody could check.
    pub id: Option<SpiffeId>,
    /// Its addresses; none where it uses those of its node.
    pub addresses: Vec<IpAddr>,
    /// The machine that it runs on.
    pub node: Option<String>,
    /// When it was made, Unix seconds.
    pub created: i64,
    /// Whether it has been told to go.
    pub is_leaving: bool,
}

impl Pod {
    /// What there is to know of `pod`; `None` once all of its containers have ended for good: then nobody lives there,
    /// whatever the object still says of addresses.
    pub fn read(pod: v1::Pod, trust_domain: &TrustDomain) -> Option<Self> {
        let key = key(&pod)?;
        let spec = pod.spec.as_ref();
        let status = pod.status.as_ref();
        let phase = status.and_then(|status| status.phase.as_deref());
        if matches!(phase, Some("Succeeded" | "Failed")) {
            return None;
        }
        let is_of_node = spec.and_then(|spec| spec.host_network) == Some(true);
        let account = spec
            .and_then(|spec| spec.service_account_name.as_deref())
            .filter(|account| !account.is_empty());
        // An identity that does not exist is nobody's: such a pod is taken for one without a sidecar.
        let id = (!is_of_node && has_sidecar(&pod))
            .then(|| SpiffeId::workload(trust_domain, &key.0, account.unwrap_or("default")).ok())
            .flatten();
        let addresses = if is_of_node { Vec::new() } else { addresses(&pod) };
        let node = spec.and_then(|spec| spec.node_name.clone());
        let meta = pod.metadata;
        let created = meta.creation_timestamp.map_or(0, |time| time.0.as_second());
        Some(Self {
            uid: meta.uid.unwrap_or_default(),
            labels: meta.labels.unwrap_or_default(),
            id,
            addresses,
            node,
            created,
            is_leaving: meta.deletion_timestamp.is_some(),
            key,
        })
    }

    /// Whether it has a sidecar.
    pub const fn is_meshed(&self) -> bool {
        self.id.is_some()
    }

    /// The workload that it is, living at `addresses`, on a machine in `zone`; `None` without a sidecar.
    pub fn workload(&self, addresses: Vec<IpAddr>, zone: Option<String>) -> Option<WorkloadDocument> {
        Some(WorkloadDocument {
            namespace: self.key.0.clone(),
            name: self.key.1.clone(),
            labels: self.labels.clone(),
            id: self.id.clone()?,
            addresses,
            // Its addresses are those of the whole cluster.
            published: Vec::new(),
            node: self.node.clone(),
            zone,
        })
    }
}

/// Namespace and name.
pub fn key(pod: &v1::Pod) -> Option<WorkloadKey> {
    Some((pod.metadata.namespace.clone()?, pod.metadata.name.clone()?))
}

/// Whether the injector's note says so and the sidecar is there: a note without one would keep everybody from the pod,
/// a sidecar without a note was put there by somebody else, for something else.
fn has_sidecar(pod: &v1::Pod) -> bool {
    let annotations = pod.metadata.annotations.as_ref();
    let note = annotations.and_then(|annotations| annotations.get(STATUS));
    let note = note.and_then(|note| serde_json::from_str::<serde_json::Value>(note).ok());
    let is_noted = note.is_some_and(|note| matches!(note["capture"].as_str(), Some("cni" | "init" | "none")));
    let is_there = pod.spec.as_ref().is_some_and(|spec| {
        let init = spec.init_containers.iter().flatten();
        init.chain(&spec.containers)
            .any(|container| container.name == SIDECAR)
    });
    is_noted && is_there
}

fn addresses(pod: &v1::Pod) -> Vec<IpAddr> {
    let Some(status) = &pod.status else {
        return Vec::new();
    };
    let all = status.pod_ips.iter().flatten().map(|ip| ip.ip.as_str());
    let mut addresses: Vec<IpAddr> = all.filter_map(somebodys).collect();
    if let Some(first) = status.pod_ip.as_deref().and_then(somebodys)
        && !addresses.contains(&first)
    {
        addresses.insert(0, first);
    }
    addresses
}

/// The address in `text`, when it can be somebody's.
pub(super) fn somebodys(text: &str) -> Option<IpAddr> {
    let address = text.parse::<IpAddr>().ok()?.to_canonical();
    let is_nobodys = address.is_unspecified() || address.is_multicast() || address.is_loopback();
    (!is_nobodys).then_some(address)
}

/// The annotation by which the injector says what it injected.
const STATUS: &str = "ferrule.dev/status";

/// The sidecar's container.
const SIDECAR: &str = "ferrule-proxy";
