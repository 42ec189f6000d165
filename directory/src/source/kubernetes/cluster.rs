//! Joins what a cluster's objects say into workloads, services, rules: one cache for all of it, no clock, no socket.

mod behind;
mod claims;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;

use ferrule_policy::{PlaceDocument, ServiceName, Stack, WrittenPolicy};

use super::pods::Pod;
use super::policies::{RuleKey, Stored};
use super::services::{Service, Slice};
use crate::model::WorkloadKey;
use crate::source::Change;
use claims::Claims;

/// What was seen of one kind of objects.
#[derive(Debug, Clone, PartialEq)]
pub enum Seen<K, V> {
    /// An object as it is now; `None` where it is there and matters to nobody.
    Here(K, Option<V>),
    /// An object is gone.
    Gone(K),
    /// All objects that there are.
    All(Vec<(K, Option<V>)>),
}

/// What was seen.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// Pods.
    Pods(Seen<WorkloadKey, Pod>),
    /// Services.
    Services(Seen<ServiceName, Service>),
    /// Those behind services.
    Slices(Seen<(String, String), Slice>),
    /// Namespaces, each with whether it has opted in.
    Namespaces(Seen<String, bool>),
    /// Machines, each with its zone.
    Nodes(Seen<String, String>),
    /// Rules of the kind.
    Rules(&'static str, Seen<RuleKey, Stored>),
}

/// Everything that is known of a cluster.
#[derive(Debug)]
pub struct Cluster {
    pods: BTreeMap<WorkloadKey, Pod>,
    claims: Claims,
    services: BTreeMap<ServiceName, Service>,
    slices: BTreeMap<(String, String), Slice>,
    /// The slices that name an address.
    fronts: HashMap<IpAddr, BTreeSet<(String, String)>>,
    /// The namespaces that have opted in.
    enabled: BTreeSet<String>,
    zones: BTreeMap<String, String>,
    rules: BTreeMap<RuleKey, Rule>,
    /// The kinds that were not seen as a whole yet.
    missing: BTreeSet<&'static str>,
    touched: Touched,
}

/// A rule: the last that could be read, and what is wrong with the newest.
#[derive(Debug, Default)]
struct Rule {
    good: Option<WrittenPolicy>,
    fault: Option<String>,
}

/// What has to be told anew.
#[derive(Debug, Default)]
struct Touched {
    pods: BTreeSet<WorkloadKey>,
    /// Namespaces whose services do.
    namespaces: BTreeSet<String>,
    services: BTreeSet<ServiceName>,
    rules: Vec<Change>,
}

impl Cluster {
    /// Nothing yet; rules of `kinds` are waited for.
    pub fn new(kinds: impl IntoIterator<Item = &'static str>) -> Self {
        let others = ["pods", "services", "endpointslices", "namespaces", "nodes"];
        Self {
            pods: BTreeMap::new(),
            claims: Claims::default(),
            services: BTreeMap::new(),
            slices: BTreeMap::new(),
            fronts: HashMap::new(),
            enabled: BTreeSet::new(),
            zones: BTreeMap::new(),
            rules: BTreeMap::new(),
            missing: others.into_iter().chain(kinds).collect(),
            touched: Touched::default(),
        }
    }

    /// Whether all kinds were seen as a whole at least once: who is not known before that may only not be known yet.
    pub fn is_whole(&self) -> bool {
        self.missing.is_empty()
    }

    /// Takes in what was seen.
    pub fn take(&mut self, event: Event) {
        match event {
            Event::Pods(seen) => self.pods(seen),
            Event::Services(seen) => self.services(seen),
            Event::Slices(seen) => self.slices(seen),
            Event::Namespaces(seen) => self.namespaces(seen),
            Event::Nodes(seen) => self.nodes(seen),
            Event::Rules(kind, seen) => self.rules(kind, seen),
        }
    }

    fn pods(&mut self, seen: Seen<WorkloadKey, Pod>) {
        for (key, pod) in self.each("pods", seen, |cluster| cluster.pods.keys().cloned().collect()) {
            if self.pods.get(&key) == pod.as_ref() {
                continue;
            }
            if let Some(old) = self.pods.remove(&key) {
                self.touched.pods.extend(self.claims.remove(&old));
                self.touch_services_at(&old.addresses);
            }
            if let Some(pod) = pod {
                self.touched.pods.extend(self.claims.add(&pod));
                self.touch_services_at(&pod.addresses);
                self.pods.insert(key.clone(), pod);
            }
            self.touched.pods.insert(key);
        }
    }

    /// Notes that the services before these addresses have to be told anew.
    fn touch_services_at(&mut self, addresses: &[IpAddr]) {
        let slices = addresses
            .iter()
            .filter_map(|address| self.fronts.get(address))
            .flatten();
        let slices = slices.filter_map(|key| self.slices.get(key));
        self.touched.services.extend(slices.map(service_of));
    }

    fn services(&mut self, seen: Seen<ServiceName, Service>) {
        for (name, service) in self.each("services", seen, |cluster| {
            cluster.services.keys().cloned().collect()
        }) {
            if self.services.get(&name) == service.as_ref() {
                continue;
            }
            match service {
                Some(service) => self.services.insert(name.clone(), service),
                None => self.services.remove(&name),
            };
            self.touched.services.insert(name);
        }
    }

    fn slices(&mut self, seen: Seen<(String, String), Slice>) {
        for (key, slice) in self.each("endpointslices", seen, |cluster| {
            cluster.slices.keys().cloned().collect()
        }) {
            if self.slices.get(&key) == slice.as_ref() {
                continue;
            }
            if let Some(old) = self.slices.remove(&key) {
                for address in old.addresses() {
                    if let Some(keys) = self.fronts.get_mut(&address) {
                        keys.remove(&key);
                        if keys.is_empty() {
                            self.fronts.remove(&address);
                        }
                    }
                }
                self.touched.services.insert(service_of(&old));
            }
            if let Some(slice) = slice {
                for address in slice.addresses() {
                    self.fronts.entry(address).or_default().insert(key.clone());
                }
                self.touched.services.insert(service_of(&slice));
                self.slices.insert(key, slice);
            }
        }
    }

    fn namespaces(&mut self, seen: Seen<String, bool>) {
        for (name, enabled) in self.each("namespaces", seen, |cluster| {
            cluster.enabled.iter().cloned().collect()
        }) {
            let differs = match enabled {
                Some(true) => self.enabled.insert(name.clone()),
                _ => self.enabled.remove(&name),
            };
            if differs {
                self.touched.namespaces.insert(name);
            }
        }
    }

    fn nodes(&mut self, seen: Seen<String, String>) {
        for (name, zone) in self.each("nodes", seen, |cluster| cluster.zones.keys().cloned().collect()) {
            if self.zones.get(&name) == zone.as_ref() {
                continue;
            }
            match zone {
                Some(zone) => self.zones.insert(name.clone(), zone),
                None => self.zones.remove(&name),
            };
            let there = self.pods.values().filter(|pod| pod.node.as_ref() == Some(&name));
            self.touched.pods.extend(there.map(|pod| pod.key.clone()));
        }
    }

    fn rules(&mut self, kind: &'static str, seen: Seen<RuleKey, Stored>) {
        let held = |cluster: &Self| {
            let keys = cluster.rules.keys().filter(|key| key.0 == kind);
            keys.cloned().collect()
        };
        for (key, stored) in self.each(kind, seen, held) {
            let Some(stored) = stored else {
                if let Some(good) = self.rules.remove(&key).and_then(|rule| rule.good) {
                    self.touched.rules.push(Change::NoRule(good.policy));
                }
                continue;
            };
            let rule = self.rules.entry(key).or_default();
            match stored.said {
                Ok(written) => {
                    if rule.good.as_ref() != Some(&written) {
                        self.touched.rules.push(Change::Rule(written.clone()));
                    }
                    *rule = Rule {
                        good: Some(written),
                        fault: None,
                    };
                }
                // The last that could be read stays in force.
                Err(fault) => rule.fault = Some(fault),
            }
        }
    }

    /// What was seen, object by object; of all that there are also those of `held` that are not among them.
    fn each<K: Ord + Clone, V>(
        &mut self,
        kind: &'static str,
        seen: Seen<K, V>,
        held: impl FnOnce(&Self) -> Vec<K>,
    ) -> Vec<(K, Option<V>)> {
        match seen {
            Seen::Here(key, value) => vec![(key, value)],
            Seen::Gone(key) => vec![(key, None)],
            Seen::All(mut all) => {
                self.missing.remove(kind);
                let there: BTreeSet<K> = all.iter().map(|(key, _)| key.clone()).collect();
                let gone = held(self).into_iter().filter(|key| !there.contains(key));
                all.extend(gone.map(|key| (key, None)));
                all
            }
        }
    }

    /// What has to be told since this was last asked.
    pub fn changes(&mut self) -> Vec<Change> {
        let mut touched = std::mem::take(&mut self.touched);
        let near = self.services.keys();
        let near = near.filter(|name| touched.namespaces.contains(&*name.namespace));
        touched.services.extend(near.cloned());
        let mut changes: Vec<Change> = Vec::new();
        for key in touched.pods {
            changes.push(match self.workload(&key) {
                Some(workload) => Change::Workload(workload),
                None => Change::NoWorkload(key.0, key.1),
            });
        }
        for name in touched.services {
            changes.push(match self.service(&name) {
                Some(service) => Change::Service(service),
                None => Change::NoService(name),
            });
        }
        changes.extend(touched.rules);
        changes
    }

    /// Everything; nothing of it is a change any more.
    pub fn everything(&mut self) -> Stack {
        self.touched = Touched::default();
        let workloads = self.pods.keys().filter_map(|key| self.workload(key));
        let workloads = workloads.map(PlaceDocument::Workload);
        let services = self.services.keys().filter_map(|name| self.service(name));
        let places = workloads.chain(services.map(PlaceDocument::Service)).collect();
        let policies = self.rules.values().filter_map(|rule| rule.good.clone());
        Stack {
            policies: policies.collect(),
            places,
        }
    }

    fn workload(&self, key: &WorkloadKey) -> Option<ferrule_policy::WorkloadDocument> {
        let pod = self.pods.get(key)?;
        let mine = pod.addresses.iter().copied();
        let mine = mine.filter(|address| self.claims.keeps(pod, *address, &self.pods));
        let zone = pod.node.as_ref().and_then(|node| self.zones.get(node)).cloned();
        pod.workload(mine.collect(), zone)
    }

    fn service(&self, name: &ServiceName) -> Option<ferrule_policy::ServiceDocument> {
        self.services
            .get(name)
            .map(|service| behind::document(service, self))
    }

    /// What is wrong with the newest objects, a sentence for each.
    pub fn faults(&self) -> Vec<String> {
        let faults = self.rules.values().filter_map(|rule| {
            let fault = rule.fault.as_ref()?;
            let left = match rule.good {
                Some(_) => "the last good one stays in force",
                None => "nothing of it is in force",
            };
            Some(format!("{fault} ({left})"))
        });
        faults.collect()
    }
}

fn service_of(slice: &Slice) -> ServiceName {
    ServiceName {
        namespace: slice.key.0.as_str().into(),
        name: slice.service.as_str().into(),
    }
}

#[cfg(test)]
mod tests;
