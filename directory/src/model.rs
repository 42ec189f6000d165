//! Holds the joined picture of the mesh: who lives where, behind which services, under which rules.
//!
//! A value that only [`Model::apply`] changes, with no clock and no socket. Each resource is written once, however many
//! proxies receive it.

mod leaves;
mod resource;
mod shared;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use ferrule_identity::{Timestamp, TrustDomain};
use ferrule_policy::{
    Cidr, Joined, JoinedService, PlaceDocument, ServiceDocument, ServiceName, Stack, WorkloadDocument,
    WrittenPolicy, join_workload,
};
use ferrule_wire::delta::{Name, Version};
use ferrule_wire::directory::{address, rule};

use crate::acks::Shown;
use crate::source::{Change, News};

use leaves::Leaves;
pub use resource::Resource;
pub use shared::SharedMap;

/// Namespace and name of a workload.
pub type WorkloadKey = (String, String);

/// The joined picture. A copy shares nearly all with it, also when one of them is changed then.
#[derive(Debug, Clone)]
pub struct Model {
    trust_domain: TrustDomain,
    ranges: Arc<[Cidr]>,
    workloads: SharedMap<WorkloadKey, Arc<WorkloadDocument>>,
    services: SharedMap<ServiceName, Arc<ServiceDocument>>,
    rules: SharedMap<Name, Rule>,
    /// The resources about addresses.
    addresses: SharedMap<Name, Address>,
    members: SharedMap<ServiceName, Arc<BTreeSet<WorkloadKey>>>,
    claims: SharedMap<IpAddr, Arc<BTreeSet<WorkloadKey>>>,
    service_claims: SharedMap<IpAddr, Arc<BTreeSet<ServiceName>>>,
    leaves: Leaves,
}

/// Somebody who lives somewhere, as a resource.
#[derive(Debug, Clone)]
pub struct Address {
    /// Who.
    pub joined: Arc<Joined>,
    /// The resource.
    pub resource: Arc<Resource>,
}

/// A rule document, as a resource.
#[derive(Debug, Clone)]
pub struct Rule {
    /// What is written.
    pub written: Arc<WrittenPolicy>,
    /// The resource.
    pub resource: Arc<Resource>,
}

/// What a change touched.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Touched {
    /// The resources about addresses that came, changed or went, and those whose subscribers may be others now.
    pub addresses: BTreeSet<Name>,
    /// The rules that came, changed or went.
    pub rules: BTreeSet<Name>,
    /// Workloads that came, changed or went.
    pub workloads: BTreeSet<WorkloadKey>,
}

impl Touched {
    /// Whether nothing was.
    pub fn is_empty(&self) -> bool {
        self.addresses.is_empty() && self.rules.is_empty() && self.workloads.is_empty()
    }

    /// Adds what another change touched.
    pub fn add(&mut self, other: Self) {
        self.addresses.extend(other.addresses);
        self.rules.extend(other.rules);
        self.workloads.extend(other.workloads);
    }
}

impl Model {
    /// A mesh without anybody in it.
    pub fn new(trust_domain: TrustDomain, ranges: &[Cidr]) -> Self {
        Self {
            trust_domain,
            ranges: ranges.into(),
            workloads: SharedMap::default(),
            services: SharedMap::default(),
            rules: SharedMap::default(),
            addresses: SharedMap::default(),
            members: SharedMap::default(),
            claims: SharedMap::default(),
            service_claims: SharedMap::default(),
            leaves: Leaves::default(),
        }
    }

    /// Takes news in, and says what they touched.
    pub fn apply(&mut self, news: News) -> Touched {
        let mut touched = Touched::default();
        let mut stale = Stale::default();
        let changes = match news {
            News::Changes(changes) => changes,
            News::Everything(stack) => self.difference(stack),
        };
        for change in changes {
            match change {
                Change::Workload(workload) => self.set_workload(workload, &mut stale, &mut touched),
                Change::NoWorkload(namespace, name) => {
                    self.remove_workload(&(namespace, name), &mut stale, &mut touched);
                }
                Change::Service(service) => self.set_service(service, &mut stale),
                Change::NoService(name) => self.remove_service(&name, &mut stale, &mut touched),
                Change::Rule(written) => self.set_rule(written, &mut touched),
                Change::NoRule(policy) => {
                    let name = Name::from(rule::name(&policy));
                    if self.rules.remove(&name).is_some() {
                        touched.rules.insert(name);
                    }
                }
            }
        }
        self.join(stale, &mut touched);
        touched
    }

    /// Takes in which certificates proxies have shown by `now`, and says which resources change by that.
    pub fn note_leaves(&mut self, shown: Vec<Shown>, now: Timestamp) -> Touched {
        let mut touched = Touched::default();
        let stale = Stale {
            workloads: self.leaves.note(shown, now),
            services: BTreeSet::new(),
        };
        self.join(stale, &mut touched);
        touched
    }

    /// The changes that lead from here to exactly what `stack` says.
    fn difference(&self, stack: Stack) -> Vec<Change> {
        let (mut workloads, mut services, mut rules) = (HashSet::new(), HashSet::new(), HashSet::new());
        let mut changes = Vec::new();
        for place in stack.places {
            match place {
                PlaceDocument::Workload(workload) => {
                    workloads.insert((workload.namespace.clone(), workload.name.clone()));
                    changes.push(Change::Workload(workload));
                }
                PlaceDocument::Service(service) => {
                    services.insert(service.name.clone());
                    changes.push(Change::Service(service));
                }
            }
        }
        for written in stack.policies {
            rules.insert(Name::from(rule::name(&written.policy)));
            changes.push(Change::Rule(written));
        }
        let gone = self.workloads.keys().filter(|key| !workloads.contains(*key));
        changes.extend(gone.map(|(namespace, name)| Change::NoWorkload(namespace.clone(), name.clone())));
        let gone = self.services.keys().filter(|name| !services.contains(*name));
        changes.extend(gone.map(|name| Change::NoService(name.clone())));
        let gone = self.rules.iter().filter(|(name, _)| !rules.contains(*name));
        changes.extend(gone.map(|(_, rule)| Change::NoRule(rule.written.policy.clone())));
        changes
    }

    fn set_workload(&mut self, workload: WorkloadDocument, stale: &mut Stale, touched: &mut Touched) {
        let key = (workload.namespace.clone(), workload.name.clone());
        if self.workloads.get(&key).is_some_and(|held| **held == workload) {
            return;
        }
        if let Some(old) = self.workloads.get(&key).cloned() {
            self.unclaim(&key, &old, stale);
        }
        for ip in &workload.addresses {
            let claim = Arc::make_mut(self.claims.or_default(*ip));
            claim.insert(key.clone());
            // Whoever else claims it lives there no more.
            stale.workloads.extend(claim.iter().cloned());
        }
        stale.workloads.insert(key.clone());
        self.workloads.insert(key.clone(), Arc::new(workload));
        touched.workloads.insert(key);
    }

    fn remove_workload(&mut self, key: &WorkloadKey, stale: &mut Stale, touched: &mut Touched) {
        let Some(old) = self.workloads.remove(key) else {
            return;
        };
        self.unclaim(key, &old, stale);
        self.stand_behind(key, &BTreeSet::new(), touched);
        touched.workloads.insert(key.clone());
        let name = Name::from(address::workload_name(&key.0, &key.1, &self.trust_domain));
        if self.addresses.remove(&name).is_some() {
            touched.addresses.insert(name);
        }
    }

    fn unclaim(&mut self, key: &WorkloadKey, old: &WorkloadDocument, stale: &mut Stale) {
        for ip in &old.addresses {
            let Some(claim) = self.claims.get_mut(ip) else {
                continue;
            };
            let claim = Arc::make_mut(claim);
            claim.remove(key);
            stale.workloads.extend(claim.iter().cloned());
            if claim.is_empty() {
                self.claims.remove(ip);
            }
        }
    }

    fn set_service(&mut self, service: ServiceDocument, stale: &mut Stale) {
        if self
            .services
            .get(&service.name)
            .is_some_and(|held| **held == service)
        {
            return;
        }
        let name = service.name.clone();
        if let Some(old) = self.services.get(&name).cloned() {
            self.unclaim_service(&old);
        }
        for ip in &service.addresses {
            Arc::make_mut(self.service_claims.or_default(*ip)).insert(name.clone());
        }
        stale.services.insert(name.clone());
        self.services.insert(name, Arc::new(service));
    }

    fn remove_service(&mut self, name: &ServiceName, stale: &mut Stale, touched: &mut Touched) {
        let Some(old) = self.services.remove(name) else {
            return;
        };
        self.unclaim_service(&old);
        let members = self.members.remove(name);
        stale
            .workloads
            .extend(members.iter().flat_map(|members| members.iter()).cloned());
        let name = Name::from(address::service_name(name));
        if self.addresses.remove(&name).is_some() {
            touched.addresses.insert(name);
        }
    }

    fn unclaim_service(&mut self, old: &ServiceDocument) {
        for ip in &old.addresses {
            if let Some(claim) = self.service_claims.get_mut(ip) {
                Arc::make_mut(claim).remove(&old.name);
                if claim.is_empty() {
                    self.service_claims.remove(ip);
                }
            }
        }
    }

    fn set_rule(&mut self, written: WrittenPolicy, touched: &mut Touched) {
        let name = Name::from(rule::name(&written.policy));
        let resource = Resource::new(rule::write(&written));
        let same = self
            .rules
            .get(&name)
            .is_some_and(|held| held.resource.version() == resource.version());
        if !same {
            let rule = Rule {
                written: Arc::new(written),
                resource: Arc::new(resource),
            };
            self.rules.insert(name.clone(), rule);
            touched.rules.insert(name);
        }
    }

    /// Joins anew what may be joined otherwise now.
    fn join(&mut self, mut stale: Stale, touched: &mut Touched) {
        for name in std::mem::take(&mut stale.services) {
            let Some(service) = self.services.get(&name).cloned() else {
                continue;
            };
            // Those who were behind it, and those who are now.
            if let Some(members) = self.members.get(&name) {
                stale.workloads.extend(members.iter().cloned());
            } else {
                self.members.insert(name, Arc::default());
            }
            let near = near(&self.workloads, &service.name.namespace);
            let behind = near.filter(|(_, workload)| !service.leads_to(workload).is_empty());
            stale.workloads.extend(behind.map(|(key, _)| key.clone()));
            // Whom it concerns depends on who is behind it, which the workloads say.
            self.put(Joined::Service(JoinedService::from(service.as_ref())), touched);
        }
        for key in &stale.workloads {
            let Some(workload) = self.workloads.get(key).cloned() else {
                continue;
            };
            let claimed = workload.addresses.iter();
            let contested = claimed.filter(|ip| self.claims.get(*ip).is_some_and(|claim| claim.len() > 1));
            let contested: HashSet<IpAddr> = contested.copied().collect();
            let services = services_of(&self.services, &key.0).map(|(_, service)| service.as_ref());
            let mut joined = join_workload(&workload, services, &contested);
            joined.leaf_end = self.leaves.end_of(&workload);
            let behind = joined.behind.iter().map(|(service, _)| service.clone());
            self.stand_behind(key, &behind.collect(), touched);
            self.put(Joined::Workload(joined), touched);
        }
    }

    /// Notes that a workload is behind these services and no others.
    fn stand_behind(&mut self, key: &WorkloadKey, behind: &BTreeSet<ServiceName>, touched: &mut Touched) {
        for (name, _) in services_of(&self.services, &key.0) {
            let was_behind = self
                .members
                .get(name)
                .is_some_and(|members| members.contains(key));
            if was_behind == behind.contains(name) {
                continue;
            }
            let members = Arc::make_mut(self.members.or_default(name.clone()));
            if !members.remove(key) {
                members.insert(key.clone());
            }
            // Whom it concerns depends on who is behind it.
            touched.addresses.insert(address::service_name(name).into());
        }
    }

    fn put(&mut self, joined: Joined, touched: &mut Touched) {
        let name = Name::from(address::name(&joined, &self.trust_domain));
        if self
            .addresses
            .get(&name)
            .is_some_and(|held| *held.joined == joined)
        {
            return;
        }
        let resource = Resource::new(address::write(&joined, &self.trust_domain));
        let address = Address {
            joined: Arc::new(joined),
            resource: Arc::new(resource),
        };
        self.addresses.insert(name.clone(), address);
        touched.addresses.insert(name);
    }

    /// The trust domain.
    pub const fn trust_domain(&self) -> &TrustDomain {
        &self.trust_domain
    }

    /// The ranges in which whoever is unknown has to be asked for.
    pub fn ranges(&self) -> &[Cidr] {
        &self.ranges
    }

    /// Everybody who lives somewhere, by the names of the resources.
    pub const fn addresses(&self) -> &SharedMap<Name, Address> {
        &self.addresses
    }

    /// The rules, by the names of the resources.
    pub const fn rules(&self) -> &SharedMap<Name, Rule> {
        &self.rules
    }

    /// The workload of that namespace and name.
    pub fn workload(&self, key: &WorkloadKey) -> Option<&Arc<WorkloadDocument>> {
        self.workloads.get(key)
    }

    /// The workloads behind a service.
    pub fn members(&self, service: &ServiceName) -> impl Iterator<Item = &Arc<WorkloadDocument>> {
        let members = self
            .members
            .get(service)
            .into_iter()
            .flat_map(|members| members.iter());
        members.filter_map(|key| self.workloads.get(key))
    }

    /// How many workloads, services and rules there are.
    pub fn counts(&self) -> (usize, usize, usize) {
        (self.workloads.len(), self.services.len(), self.rules.len())
    }

    /// What there is to know of whoever is called `name`: the resource of that name, or whoever lives at the address
    /// that it stands for; a service comes with the workloads behind it. Empty when nobody is known.
    pub fn find(&self, name: &str) -> Vec<(Name, Version)> {
        let mut found = BTreeMap::new();
        if let Some(ip) = address::asked_address(name) {
            let claims = self.claims.get(&ip).into_iter().flat_map(|claim| claim.iter());
            for (namespace, name) in claims {
                self.note(
                    &address::workload_name(namespace, name, &self.trust_domain),
                    &mut found,
                );
            }
            let services = self
                .service_claims
                .get(&ip)
                .into_iter()
                .flat_map(|claim| claim.iter());
            services.for_each(|service| self.note_service(service, &mut found));
        } else if let Some(address) = self.addresses.get(name) {
            match &*address.joined {
                Joined::Workload(_) => self.note(name, &mut found),
                Joined::Service(service) => self.note_service(&service.name, &mut found),
            }
        }
        found.into_iter().collect()
    }

    fn note_service(&self, service: &ServiceName, found: &mut BTreeMap<Name, Version>) {
        self.note(&address::service_name(service), found);
        for workload in self.members(service) {
            let name = address::workload_name(&workload.namespace, &workload.name, &self.trust_domain);
            self.note(&name, found);
        }
    }

    fn note(&self, name: &str, found: &mut BTreeMap<Name, Version>) {
        if let Some((name, address)) = self.addresses.get_key_value(name) {
            found.insert(name.clone(), address.resource.version());
        }
    }
}

/// What has to be joined anew.
#[derive(Debug, Default)]
struct Stale {
    workloads: BTreeSet<WorkloadKey>,
    services: BTreeSet<ServiceName>,
}

/// The workloads of a namespace.
fn near<'m>(
    workloads: &'m SharedMap<WorkloadKey, Arc<WorkloadDocument>>,
    namespace: &'m str,
) -> impl Iterator<Item = (&'m WorkloadKey, &'m Arc<WorkloadDocument>)> {
    workloads
        .from(&(namespace.to_owned(), String::new()))
        .take_while(move |(key, _)| key.0 == namespace)
}

/// The services of a namespace.
fn services_of<'m>(
    services: &'m SharedMap<ServiceName, Arc<ServiceDocument>>,
    namespace: &'m str,
) -> impl Iterator<Item = (&'m ServiceName, &'m Arc<ServiceDocument>)> {
    let first = ServiceName {
        namespace: namespace.into(),
        name: "".into(),
    };
    services
        .from(&first)
        .take_while(move |(name, _)| *name.namespace == *namespace)
}

#[cfg(test)]
mod tests;
