//! Maps addresses to who lives there.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use ferrule_identity::{SpiffeId, Timestamp};
use ferrule_policy::{Joined, JoinedService, JoinedWorkload, ServiceName, ServicePort, WorkloadDocument};

use crate::maps::{QuickMap, QuickSet};
use crate::net::address::{OriginalDst, UpstreamAddr};

/// Who lives where, at one time. A value.
#[derive(Debug, Default)]
pub struct Map {
    /// The machine from which it is seen.
    node: Arc<str>,
    workloads: QuickMap<IpAddr, Arc<WorkloadDocument>>,
    /// Addresses that more than one workload claims.
    contested: QuickSet<IpAddr>,
    services: QuickMap<(IpAddr, u16), Arc<Standing>>,
    by_name: BTreeMap<(ServiceName, u16), Arc<Standing>>,
    /// Addresses of services, whatever the port.
    service_addresses: QuickMap<IpAddr, ServiceName>,
    /// Ends of the newest certificates that workloads are known to have.
    leaf_ends: HashMap<IpAddr, (SpiffeId, Timestamp)>,
}

/// What stands behind one port of a service.
#[derive(Debug, PartialEq, Eq)]
struct Standing {
    name: ServiceName,
    /// None where what is behind is not in the mesh.
    endpoints: Option<Vec<Endpoint>>,
}

/// A workload to dial, and who it has to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Where.
    pub address: UpstreamAddr,
    /// Who.
    pub id: SpiffeId,
    /// On which machine, where that is known.
    pub node: Option<Arc<str>>,
    /// In which zone, where that is known.
    pub zone: Option<Arc<str>>,
}

impl Endpoint {
    /// A workload of which nothing else is known.
    pub const fn at(address: UpstreamAddr, id: SpiffeId) -> Self {
        Self {
            address,
            id,
            node: None,
            zone: None,
        }
    }

    fn of(workload: &WorkloadDocument, address: UpstreamAddr) -> Self {
        Self {
            node: workload.node.as_deref().map(Arc::from),
            zone: workload.zone.as_deref().map(Arc::from),
            ..Self::at(address, workload.id.clone())
        }
    }
}

/// Who is expected at a destination.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// Workloads of the mesh: one, or those behind a service. None of them may be alive.
    Mesh {
        /// The service that was called, where one was.
        service: Option<ServiceName>,
        /// Whom to dial, each as good as the others.
        endpoints: Vec<Endpoint>,
    },
    /// A service that is known not to be in the mesh.
    Unmeshed {
        /// The service.
        service: ServiceName,
    },
    /// An address of a service, at a port that the service does not have.
    NoSuchPort {
        /// The service.
        service: ServiceName,
    },
    /// Nothing is known of the address.
    Unknown,
}

impl Map {
    /// Arranges who is known, for somebody of whose machine nothing is known. Where two workloads claim one address,
    /// nobody is expected there.
    pub fn new<'j>(joined: impl IntoIterator<Item = &'j Joined>) -> Self {
        Self::seen_from("", joined)
    }

    /// The same for somebody on the machine `node`: workloads of other machines are reached where those publish them.
    pub fn seen_from<'j>(node: &str, joined: impl IntoIterator<Item = &'j Joined>) -> Self {
        let mut map = Self {
            node: node.into(),
            ..Self::default()
        };
        let mut services = Vec::new();
        let mut behind: HashMap<&ServiceName, Vec<(ServicePort, &JoinedWorkload)>> = HashMap::new();
        for one in joined {
            match one {
                Joined::Workload(workload) => {
                    map.add_workload(workload);
                    for (service, port) in &workload.behind {
                        behind.entry(service).or_default().push((*port, workload));
                    }
                }
                Joined::Service(service) => services.push(service),
            }
        }
        for service in services {
            map.add_service(service, behind.get(&service.name).map_or(&[], Vec::as_slice));
        }
        map
    }

    /// The same, with what is reported of certificates: that the workload at an address, of that identity, holds one
    /// that lasts until then.
    #[must_use]
    pub fn reporting(mut self, leaves: impl IntoIterator<Item = (IpAddr, SpiffeId, Timestamp)>) -> Self {
        self.leaf_ends = leaves
            .into_iter()
            .map(|(address, id, end)| (address, (id, end)))
            .collect();
        self
    }

    /// When the newest certificate ends that the workload `id` at `address` is known to have.
    pub fn leaf_ends(&self, address: IpAddr, id: &SpiffeId) -> Option<Timestamp> {
        let (holder, end) = self.leaf_ends.get(&address)?;
        (holder == id).then_some(*end)
    }

    fn add_workload(&mut self, joined: &JoinedWorkload) {
        for address in &joined.contested {
            self.contested.insert(*address);
            self.workloads.remove(address);
        }
        for address in joined.own_addresses() {
            let taken = self.contested.contains(&address);
            if !taken
                && self
                    .workloads
                    .insert(address, Arc::clone(&joined.workload))
                    .is_some()
            {
                // Whoever joined them has not seen both.
                self.contested.insert(address);
                self.workloads.remove(&address);
            }
        }
    }

    fn add_service(&mut self, service: &JoinedService, behind: &[(ServicePort, &JoinedWorkload)]) {
        for address in &service.addresses {
            self.service_addresses.insert(*address, service.name.clone());
        }
        for port in &service.ports {
            let standing = |called: Option<IpAddr>| {
                let endpoints = service.is_in_mesh.then(|| {
                    let behind = behind.iter().filter(|(leads, _)| leads.port == port.port);
                    let alive = behind.flat_map(|(leads, joined)| {
                        let known = self.reached_by(called, joined).into_iter();
                        let mut known: Vec<_> = known
                            .filter_map(|address| {
                                self.endpoint(&joined.workload, (address, leads.target_port).into())
                            })
                            .collect();
                        // What another machine publishes is one place for all addresses.
                        known.dedup();
                        known
                    });
                    alive.collect()
                });
                let name = service.name.clone();
                Arc::new(Standing { name, endpoints })
            };
            let mine = service.addresses.iter();
            // Whoever says that a workload's own address is a service beyond the mesh says it in vain.
            let mine = mine.filter(|address| {
                let is_workload = self.workloads.contains_key(*address) || self.contested.contains(*address);
                service.is_in_mesh || !is_workload
            });
            let standings: Vec<_> = mine
                .map(|address| ((*address, port.port), standing(Some(*address))))
                .collect();
            let by_name = standing(None);
            self.services.extend(standings);
            self.by_name.insert((service.name.clone(), port.port), by_name);
        }
    }

    /// A workload at one of its addresses, as it is reached from here; none where its machine does not publish the port.
    fn endpoint(&self, workload: &WorkloadDocument, own: SocketAddr) -> Option<Endpoint> {
        let at = if workload.is_elsewhere(&self.node) {
            workload.published_at(own.port())?
        } else {
            own
        };
        Some(Endpoint::of(workload, UpstreamAddr::new(at)))
    }

    /// Where whoever called a service at `called`, or by its name, reaches a workload behind it: at its addresses of
    /// the same family, where it has some, otherwise at its first. An application may listen in one family alone,
    /// and its clients call it there.
    fn reached_by(&self, called: Option<IpAddr>, joined: &JoinedWorkload) -> Vec<IpAddr> {
        let known = joined.own_addresses();
        let known: Vec<IpAddr> = known
            .filter(|address| self.workloads.contains_key(address))
            .collect();
        let same = |address: &IpAddr| called.is_some_and(|called| called.is_ipv4() == address.is_ipv4());
        let of_family: Vec<IpAddr> = known.iter().copied().filter(same).collect();
        if of_family.is_empty() {
            known.into_iter().take(1).collect()
        } else {
            of_family
        }
    }

    /// Who is expected where the application dialled.
    pub fn at(&self, original: OriginalDst) -> Place {
        let (ip, port) = (original.ip(), original.port());
        if let Some(standing) = self.services.get(&(ip, port)) {
            return standing.place();
        }
        if let Some(workload) = self.workloads.get(&ip) {
            return Place::Mesh {
                service: None,
                endpoints: self.endpoint(workload, original.socket()).into_iter().collect(),
            };
        }
        if self.contested.contains(&ip) {
            return Place::Mesh {
                service: None,
                endpoints: Vec::new(),
            };
        }
        match self.service_addresses.get(&ip) {
            Some(service) => Place::NoSuchPort {
                service: service.clone(),
            },
            None => Place::Unknown,
        }
    }

    /// Who is expected behind a port of a service that is called by its name.
    pub fn behind(&self, service: &ServiceName, port: u16) -> Place {
        match self.by_name.get(&(service.clone(), port)) {
            Some(standing) => standing.place(),
            None => Place::Unknown,
        }
    }

    /// The workload that lives at `address`, to tell whether a caller must come in TLS; a proof of nothing.
    pub fn workload(&self, address: IpAddr) -> Option<&WorkloadDocument> {
        self.workloads.get(&address).map(AsRef::as_ref)
    }

    /// How many workloads and ports of services are known.
    pub fn counts(&self) -> (usize, usize) {
        (self.workloads.len(), self.by_name.len())
    }
}

impl Standing {
    fn place(&self) -> Place {
        match &self.endpoints {
            Some(endpoints) => Place::Mesh {
                service: Some(self.name.clone()),
                endpoints: endpoints.clone(),
            },
            None => Place::Unmeshed {
                service: self.name.clone(),
            },
        }
    }
}

#[cfg(test)]
mod tests;
