//! Joins workloads with the services before them, and finds the addresses that more than one claims.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use ferrule_identity::Timestamp;

use crate::pattern::ServiceName;
use crate::places::{Behind, PlaceDocument, ServiceDocument, ServicePort, WorkloadDocument};

/// Somebody who lives at addresses, with what others say of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Joined {
    /// A workload of the mesh.
    Workload(JoinedWorkload),
    /// A service.
    Service(JoinedService),
}

/// A workload of the mesh, and the services before it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinedWorkload {
    /// The workload, all of its addresses included.
    pub workload: Arc<WorkloadDocument>,
    /// Those of its addresses that others claim, too: nobody is expected there, since an identity must not depend on
    /// the order of documents, and they are of the mesh all the same.
    pub contested: Vec<IpAddr>,
    /// The ports of services that lead to it, each with its own port.
    pub behind: Vec<(ServiceName, ServicePort)>,
    /// When the newest certificate ends that its sidecar is known to hold.
    pub leaf_end: Option<Timestamp>,
}

/// A service, and whether workloads of the mesh are behind it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinedService {
    /// Its name.
    pub name: ServiceName,
    /// Its own addresses.
    pub addresses: Vec<IpAddr>,
    /// Its ports.
    pub ports: Vec<ServicePort>,
    /// Whether what is behind it is in the mesh; there may be nothing now.
    pub is_in_mesh: bool,
}

impl JoinedWorkload {
    /// The addresses at which it, and nobody else, is expected.
    pub fn own_addresses(&self) -> impl Iterator<Item = IpAddr> {
        let claimed = self.workload.addresses.iter().copied();
        claimed.filter(|address| !self.contested.contains(address))
    }
}

impl From<&ServiceDocument> for JoinedService {
    fn from(service: &ServiceDocument) -> Self {
        Self {
            name: service.name.clone(),
            addresses: service.addresses.clone(),
            ports: service.ports.clone(),
            is_in_mesh: service.behind != Behind::Outside,
        }
    }
}

/// A workload with those of `services` that are before it; `contested` are all addresses that are claimed twice.
pub fn join_workload<'s>(
    workload: &Arc<WorkloadDocument>,
    services: impl IntoIterator<Item = &'s ServiceDocument>,
    contested: &HashSet<IpAddr>,
) -> JoinedWorkload {
    let behind = services.into_iter().flat_map(|service| {
        let ports = service.leads_to(workload).iter();
        ports.map(|port| (service.name.clone(), *port))
    });
    let claimed = workload.addresses.iter().copied();
    JoinedWorkload {
        contested: claimed.filter(|address| contested.contains(address)).collect(),
        behind: behind.collect(),
        workload: Arc::clone(workload),
        leaf_end: None,
    }
}

/// The addresses that more than one of `workloads` claims.
pub fn contested<'w>(workloads: impl IntoIterator<Item = &'w WorkloadDocument>) -> HashSet<IpAddr> {
    let mut claims: HashMap<IpAddr, &WorkloadDocument> = HashMap::new();
    let mut contested = HashSet::new();
    for workload in workloads {
        for address in &workload.addresses {
            let first = *claims.entry(*address).or_insert(workload);
            if !std::ptr::eq(first, workload) {
                contested.insert(*address);
            }
        }
    }
    contested
}

/// Joins all documents.
pub fn join(places: &[PlaceDocument]) -> Vec<Joined> {
    let mut services: BTreeMap<&str, Vec<&ServiceDocument>> = BTreeMap::new();
    let mut workloads = Vec::new();
    for place in places {
        match place {
            PlaceDocument::Workload(workload) => workloads.push(Arc::new(workload.clone())),
            PlaceDocument::Service(service) => {
                services.entry(&service.name.namespace).or_default().push(service);
            }
        }
    }
    let contested = contested(workloads.iter().map(AsRef::as_ref));
    let joined = workloads.iter().map(|workload| {
        let near = services
            .get(workload.namespace.as_str())
            .into_iter()
            .flatten()
            .copied();
        Joined::Workload(join_workload(workload, near, &contested))
    });
    let joined: Vec<Joined> = joined.collect();
    let services = services.values().flatten();
    joined
        .into_iter()
        .chain(services.map(|service| Joined::Service((*service).into())))
        .collect()
}
