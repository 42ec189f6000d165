//! Remembers until when the newest certificates last that proxies have shown.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use ferrule_identity::{SpiffeId, Timestamp};
use ferrule_policy::WorkloadDocument;

use super::WorkloadKey;
use crate::acks::Shown;

/// The latest end of each workload's certificates. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(super) struct Leaves(Arc<HashMap<WorkloadKey, (SpiffeId, Timestamp)>>);

impl Leaves {
    /// Takes in what was shown, forgets what has ended by `now`, and names the workloads whose end is later than it
    /// was. What has ended changes nothing by itself.
    pub(super) fn note(&mut self, shown: Vec<Shown>, now: Timestamp) -> BTreeSet<WorkloadKey> {
        let mut later = BTreeSet::new();
        if shown.is_empty() {
            return later;
        }
        let held = Arc::make_mut(&mut self.0);
        held.retain(|_, (_, end)| *end >= now);
        for Shown { id, name, not_after } in shown {
            let Some((namespace, name)) = name.split_once('/') else {
                continue;
            };
            // The namespace is proved; the name is believed of whoever has the workload's identity, in `end_of`.
            if id
                .namespace_and_account()
                .is_none_or(|(proved, _)| proved != namespace)
            {
                continue;
            }
            let key = (namespace.to_owned(), name.to_owned());
            let is_later = held
                .get(&key)
                .is_none_or(|(held_id, end)| *held_id != id || *end < not_after);
            if is_later && not_after >= now {
                later.insert(key.clone());
                held.insert(key, (id, not_after));
            }
        }
        later
    }

    /// When the newest certificate ends that the proxy of `workload` has shown.
    pub(super) fn end_of(&self, workload: &WorkloadDocument) -> Option<Timestamp> {
        let key = (workload.namespace.clone(), workload.name.clone());
        let (id, end) = self.0.get(&key)?;
        (*id == workload.id).then_some(*end)
    }
}
