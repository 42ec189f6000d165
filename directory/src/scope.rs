//! Decides what one proxy may need: its own rules, and whom it may talk to.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use ferrule_identity::SpiffeId;
use ferrule_policy::{
    AccessPolicy, Action, Joined, JoinedService, MeshPolicy, Mode, PolicyDocument, ServiceName,
    SourcePattern, TargetPattern, WorkloadDocument, Workloads,
};
use ferrule_wire::directory::report::Told;

use crate::model::{Model, WorkloadKey};

/// The proxy that asks, as far as it has proved who it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subject {
    /// Its identity: proved.
    pub id: SpiffeId,
    /// The namespace in its identity.
    pub namespace: String,
    /// Its workload, when it named one of its own namespace.
    pub workload: Option<WorkloadKey>,
    /// The labels that it says it has. They choose among the rules of its own namespace, and lead to nothing else.
    /// `None` where it leaves the choice to the directory.
    pub labels: Option<BTreeMap<String, String>>,
}

/// What one proxy may need.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scope {
    subject: Subject,
    /// The labels by which rules select it, as the directory and as the proxy itself knows them.
    known: Option<Arc<WorkloadDocument>>,
    /// Whom it may reach, by namespace.
    reached: HashMap<Arc<str>, BTreeSet<Workloads>>,
    /// Services beyond the mesh that its rules name.
    outside: BTreeSet<ServiceName>,
    /// Whether it may be called in clear, so that it has to know who must not.
    is_permissive: bool,
    /// The `from` of its own rules, where it has to know its callers.
    callers: BTreeSet<SourcePattern>,
}

impl Subject {
    /// The proxy with this identity that tells this of itself.
    ///
    /// # Errors
    /// When the identity is not one of a namespace and an account, or it names a workload of another namespace.
    pub fn new(id: SpiffeId, told: Told) -> Result<Self, SubjectError> {
        let Some((namespace, _)) = id.namespace_and_account() else {
            return Err(SubjectError::Identity { id });
        };
        let namespace = namespace.to_owned();
        let workload = match told.name.split_once('/') {
            Some((of, name)) if of == namespace => Some((of.to_owned(), name.to_owned())),
            Some(_) => {
                let name = told.name;
                return Err(SubjectError::Elsewhere { id, name });
            }
            None => None,
        };
        Ok(Self {
            id,
            namespace,
            workload,
            labels: told.labels,
        })
    }
}

impl Scope {
    /// What `subject` may need of `model`.
    pub fn of(subject: Subject, model: &Model) -> Self {
        let known = subject.workload.as_ref().and_then(|key| model.workload(key));
        // A name is only believed of whoever has the identity of the workload of that name.
        let known = known.filter(|workload| workload.id == subject.id).cloned();
        let mut scope = Self {
            subject,
            known,
            reached: HashMap::new(),
            outside: BTreeSet::new(),
            is_permissive: false,
            callers: BTreeSet::new(),
        };
        for rule in model.rules().values() {
            scope.learn(&rule.written.policy, model);
        }
        if !scope.is_permissive {
            scope.callers.clear();
        }
        scope
    }

    fn learn(&mut self, policy: &PolicyDocument, model: &Model) {
        let is_own = self.selects(policy);
        match policy {
            PolicyDocument::Access(access) => {
                if allows(access, &self.subject.id, model) {
                    self.reach(&access.meta.namespace, &access.workloads);
                }
                if is_own && access.action == Action::Allow {
                    let from = access.rules.iter().flat_map(|rule| rule.from.iter().cloned());
                    self.callers.extend(from);
                }
            }
            PolicyDocument::Egress(egress) if is_own => {
                let targets = egress.allow.iter().flat_map(|rule| &rule.to);
                let services = targets.filter_map(|target| match target {
                    TargetPattern::Service(service) => Some(service.clone()),
                    TargetPattern::Host(_) | TargetPattern::Cidr(_) => None,
                });
                self.outside.extend(services);
            }
            PolicyDocument::Egress(_) => {}
            PolicyDocument::Mesh(mode) => {
                if is_permissive(mode) {
                    // A missing allow is audited there: anybody may come.
                    self.reach(&mode.meta.namespace, &mode.workloads);
                    self.is_permissive |= is_own;
                }
            }
        }
    }

    fn reach(&mut self, namespace: &Arc<str>, workloads: &Workloads) {
        self.reached
            .entry(namespace.clone())
            .or_default()
            .insert(workloads.clone());
    }

    /// Whether it can be said which rules are about the proxy's own workload. A proxy that does not know its labels has
    /// to wait until somebody does: a rule that it lacks may be the one that denies.
    pub const fn can_select(&self) -> bool {
        self.known.is_some() || self.subject.labels.is_some()
    }

    /// Whether a rule document is about the proxy's own workload.
    pub fn selects(&self, policy: &PolicyDocument) -> bool {
        if *policy.meta().namespace != *self.subject.namespace {
            return false;
        }
        let workloads = match policy {
            PolicyDocument::Access(policy) => &policy.workloads,
            PolicyDocument::Egress(policy) => &policy.workloads,
            PolicyDocument::Mesh(policy) => &policy.workloads,
        };
        // Both views of its labels count: a rule too many is harmless, since a proxy that knows its labels selects
        // again by them.
        let by_directory = self
            .known
            .as_ref()
            .is_some_and(|known| workloads.select(&known.labels));
        let by_proxy = self
            .subject
            .labels
            .as_ref()
            .is_some_and(|labels| workloads.select(labels));
        by_directory || by_proxy
    }

    /// Whether the proxy may need to know `joined` without having asked for it.
    pub fn covers(&self, joined: &Joined, model: &Model) -> bool {
        match joined {
            Joined::Workload(joined) => self.covers_workload(&joined.workload, model),
            Joined::Service(service) => self.covers_service(service, model),
        }
    }

    fn covers_workload(&self, workload: &WorkloadDocument, model: &Model) -> bool {
        let is_own = self.known.as_ref().is_some_and(|own| **own == *workload);
        let may_reach = self
            .reached
            .get(workload.namespace.as_str())
            .is_some_and(|selectors| selectors.iter().any(|selector| selector.select(&workload.labels)));
        let may_come = self.is_permissive
            && self
                .callers
                .iter()
                .any(|from| from.matches_identity(&workload.id, model.trust_domain()));
        is_own || may_reach || may_come || must_be_known(&workload.addresses, model)
    }

    fn covers_service(&self, service: &JoinedService, model: &Model) -> bool {
        if must_be_known(&service.addresses, model) || self.outside.contains(&service.name) {
            return true;
        }
        let mut members = model.members(&service.name).peekable();
        if service.is_in_mesh && members.peek().is_none() {
            // Nobody is behind it now: whoever may reach anybody near it may be waiting for them.
            return self.reached.contains_key(&service.name.namespace);
        }
        members.any(|workload| self.covers_workload(workload, model))
    }

    /// Who it is about.
    pub const fn subject(&self) -> &Subject {
        &self.subject
    }
}

/// Whether somebody lives at an address that nobody would ask about: then everybody has to know it is of the mesh, lest
/// somebody speak to it in clear.
fn must_be_known(addresses: &[IpAddr], model: &Model) -> bool {
    let asked_about = |address: &IpAddr| model.ranges().iter().any(|range| range.contains(*address));
    !addresses.iter().all(asked_about)
}

fn allows(policy: &AccessPolicy, id: &SpiffeId, model: &Model) -> bool {
    policy.action == Action::Allow
        && policy
            .rules
            .iter()
            .flat_map(|rule| &rule.from)
            .any(|from| from.matches_identity(id, model.trust_domain()))
}

fn is_permissive(policy: &MeshPolicy) -> bool {
    policy.mode == Mode::Permissive || policy.ports.values().any(|mode| *mode == Mode::Permissive)
}

/// Why a proxy is not served.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SubjectError {
    /// An identity of another form.
    #[error("{id} is not of the form spiffe://DOMAIN/ns/NAMESPACE/sa/ACCOUNT, so no rules are its own")]
    Identity {
        /// The identity.
        id: SpiffeId,
    },
    /// A name in another namespace than the identity's.
    #[error("{id} calls itself {name:?}, which is of another namespace")]
    Elsewhere {
        /// The identity.
        id: SpiffeId,
        /// The name.
        name: String,
    },
}

#[cfg(test)]
mod tests;
