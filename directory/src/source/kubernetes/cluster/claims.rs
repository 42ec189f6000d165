//! Decides whose an address is when the objects of more than one pod name it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;

use crate::model::WorkloadKey;
use crate::source::kubernetes::pods::Pod;

/// Who says to live where. An object stays when its pod has ended, and when its node is lost; the address may be
/// somebody else's by then.
#[derive(Debug, Default)]
pub(super) struct Claims(HashMap<IpAddr, BTreeSet<WorkloadKey>>);

impl Claims {
    /// Notes the addresses of `pod`, and says who else has to be looked at again.
    pub(super) fn add(&mut self, pod: &Pod) -> Vec<WorkloadKey> {
        let mut others = Vec::new();
        for address in &pod.addresses {
            let claim = self.0.entry(*address).or_default();
            others.extend(claim.iter().cloned());
            claim.insert(pod.key.clone());
        }
        others
    }

    /// Forgets the addresses of `pod`, and says who else has to be looked at again.
    pub(super) fn remove(&mut self, pod: &Pod) -> Vec<WorkloadKey> {
        let mut others = Vec::new();
        for address in &pod.addresses {
            if let Some(claim) = self.0.get_mut(address) {
                claim.remove(&pod.key);
                others.extend(claim.iter().cloned());
                if claim.is_empty() {
                    self.0.remove(address);
                }
            }
        }
        others
    }

    /// Whether `pod` is told to live at `address`, which its object names.
    ///
    /// A pod that stays goes before one that has been told to go, whose address may have been given away. Of two that
    /// go, the later one has it. Where two of the mesh both stay, neither gives way: the address is contested, and nobody is
    /// expected there. A pod without a sidecar takes nothing from one with a sidecar that stays: what is said to an
    /// address that may be of the mesh is said in TLS.
    pub(super) fn keeps(&self, pod: &Pod, address: IpAddr, pods: &BTreeMap<WorkloadKey, Pod>) -> bool {
        if !pod.is_leaving {
            return true;
        }
        let mut others = self.others(pod, address).filter_map(|key| pods.get(key));
        others.all(|other| other.is_leaving && other.created <= pod.created)
    }

    /// The pods that live at `address`: those that stay, or else those that go.
    pub(super) fn at<'p>(
        &self,
        address: IpAddr,
        pods: &'p BTreeMap<WorkloadKey, Pod>,
    ) -> impl Iterator<Item = &'p Pod> {
        let claim = self.0.get(&address).into_iter().flatten();
        let claim: Vec<&Pod> = claim.filter_map(|key| pods.get(key)).collect();
        let mine: Vec<&Pod> = claim
            .into_iter()
            .filter(|pod| self.keeps(pod, address, pods))
            .collect();
        mine.into_iter()
    }

    fn others(&self, pod: &Pod, address: IpAddr) -> impl Iterator<Item = &WorkloadKey> {
        let claim = self.0.get(&address).into_iter().flatten();
        claim.filter(move |key| **key != pod.key)
    }
}
