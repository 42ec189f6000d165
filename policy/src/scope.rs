//! Finds what is said of a workload by its namespace and labels, without looking at the rest.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::ask::Workload;
use crate::maps::QuickMap;
use crate::pattern::Workloads;

/// Groups of rules, one for each selector of each namespace.
///
/// A selector with labels is filed under one of its labels, the one that the fewest other selectors of the
/// namespace share; a workload then looks under each of its own labels.
#[derive(Debug)]
pub(crate) struct Scoped<G> {
    namespaces: QuickMap<Arc<str>, Namespace<G>>,
}

#[derive(Debug)]
struct Namespace<G> {
    all: Option<G>,
    labelled: Vec<(Workloads, G)>,
    /// Name and value of a label, and the places in `labelled` that are filed under it.
    filed: QuickMap<String, QuickMap<String, Vec<usize>>>,
}

impl<G> Scoped<G> {
    pub(crate) fn new(groups: BTreeMap<(Arc<str>, Workloads), G>) -> Self {
        let mut namespaces: QuickMap<Arc<str>, Namespace<G>> = QuickMap::default();
        for ((namespace, workloads), group) in groups {
            let found = namespaces.entry(namespace).or_insert_with(|| Namespace {
                all: None,
                labelled: Vec::new(),
                filed: QuickMap::default(),
            });
            match workloads {
                Workloads::AllOfNamespace => found.all = Some(group),
                labelled @ Workloads::Labelled(_) => found.labelled.push((labelled, group)),
            }
        }
        namespaces.values_mut().for_each(Namespace::file);
        Self { namespaces }
    }

    /// The groups about `workload`: first the one about the whole namespace, then those by labels.
    pub(crate) fn about<'s>(&'s self, workload: &Workload<'s>) -> impl Iterator<Item = &'s G> {
        let (all, labelled) = self.split(workload);
        all.into_iter().chain(labelled)
    }

    /// The group about the whole namespace, and those about `workload` by its labels.
    pub(crate) fn split<'s>(
        &'s self,
        workload: &Workload<'s>,
    ) -> (Option<&'s G>, impl Iterator<Item = &'s G>) {
        let labels = workload.labels;
        let namespace = self.namespaces.get(workload.namespace);
        let all = namespace.and_then(|namespace| namespace.all.as_ref());
        let labelled = namespace.into_iter().flat_map(move |namespace| {
            let filed = labels
                .iter()
                .filter_map(|(name, value)| namespace.filed.get(name)?.get(value));
            filed
                .flatten()
                .filter_map(|at| namespace.labelled.get(*at))
                .filter(move |(workloads, _)| workloads.select(labels))
                .map(|(_, group)| group)
        });
        (all, labelled)
    }
}

impl<G> Namespace<G> {
    fn file(&mut self) {
        let mut sharing: QuickMap<(String, String), usize> = QuickMap::default();
        for label in self
            .labelled
            .iter()
            .flat_map(|(workloads, _)| labels_of(workloads))
        {
            *sharing.entry(label).or_default() += 1;
        }
        for (at, (workloads, _)) in self.labelled.iter().enumerate() {
            let rarest = labels_of(workloads).min_by_key(|label| sharing.get(label).copied());
            if let Some((name, value)) = rarest {
                self.filed
                    .entry(name)
                    .or_default()
                    .entry(value)
                    .or_default()
                    .push(at);
            }
        }
    }
}

fn labels_of(workloads: &Workloads) -> impl Iterator<Item = (String, String)> {
    let labels = match workloads {
        Workloads::AllOfNamespace => None,
        Workloads::Labelled(labels) => Some(labels),
    };
    labels
        .into_iter()
        .flatten()
        .map(|(name, value)| (name.clone(), value.clone()))
}
