//! Finds who stands behind a service, and whether that is in the mesh.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::num::NonZeroU16;

use ferrule_policy::{Behind, ServiceDocument, ServicePort};

use super::Cluster;
use crate::source::kubernetes::pods::Pod;
use crate::source::kubernetes::services::{Endpoint, Port, Service, Slice};

/// Those behind a service, sorted.
#[derive(Debug, Default)]
struct Sorted {
    /// Workloads of the mesh that are to be given connections.
    ready: BTreeMap<String, BTreeSet<(u16, u16)>>,
    /// Those on their way out, which serve as long as there is nobody else.
    last: BTreeMap<String, BTreeSet<(u16, u16)>>,
    /// Whether anybody of the mesh is there, ready or not.
    is_meshed: bool,
    /// Whether somebody of the mesh is there who is not of the service's own namespace, so that nobody may be given
    /// connections in the service's name, and certainly not in clear.
    is_strange: bool,
    /// Whether anybody without a sidecar is there.
    is_plain: bool,
    /// Whether such a one is to be given connections.
    is_plain_ready: bool,
    /// Where pods without a sidecar live that are to be given connections.
    plain: BTreeSet<IpAddr>,
    /// The workloads' ports, where they do not depend on the service's.
    targets: BTreeSet<u16>,
}

/// The service as it is told.
pub(super) fn document(service: &Service, cluster: &Cluster) -> ServiceDocument {
    let slices: Vec<&Slice> = slices(service, cluster).collect();
    let sorted = sort(service, &slices, cluster);
    let is_in_mesh = sorted.is_in_mesh(service, cluster);
    let (addresses, ports) = if service.is_headless() && !is_in_mesh {
        let own = |port: &u16| ServicePort {
            port: *port,
            target_port: *port,
        };
        (
            sorted.plain.iter().copied().collect(),
            sorted.targets.iter().map(own).collect(),
        )
    } else {
        let ports = service.ports.iter();
        let ports = ports.map(|port| leads(port, target(port, &slices)));
        (service.addresses.clone(), ports.collect())
    };
    let behind = if is_in_mesh {
        let named = if sorted.ready.is_empty() {
            sorted.last
        } else {
            sorted.ready
        };
        Behind::Named(named.into_iter().map(listed).collect())
    } else {
        Behind::Outside
    };
    ServiceDocument {
        name: service.name.clone(),
        addresses,
        ports,
        behind,
    }
}

impl Sorted {
    /// Whether connections to the service are connections to the mesh.
    ///
    /// They are once anybody of the mesh is to be given some: from then on only those of the mesh are. While a service
    /// moves into the mesh, and only pods without a sidecar are ready, it is where they are. Where nobody is ready, it
    /// is where its namespace is, so that nothing is said in clear to a pod that has just come.
    fn is_in_mesh(&self, service: &Service, cluster: &Cluster) -> bool {
        if self.is_strange || !self.ready.is_empty() || !self.last.is_empty() {
            return true;
        }
        if self.is_plain_ready {
            return false;
        }
        let is_enabled = service.selects && cluster.enabled.contains(&*service.name.namespace);
        self.is_meshed || (is_enabled && !self.is_plain)
    }
}

fn slices<'c>(service: &'c Service, cluster: &'c Cluster) -> impl Iterator<Item = &'c Slice> {
    let namespace = service.name.namespace.to_string();
    let of_namespace = cluster
        .slices
        .range((namespace.clone(), String::new())..)
        .map(|(_, slice)| slice)
        .take_while(move |slice| slice.key.0 == namespace);
    of_namespace.filter(|slice| *slice.service == *service.name.name)
}

fn sort(service: &Service, slices: &[&Slice], cluster: &Cluster) -> Sorted {
    let mut sorted = Sorted::default();
    for slice in slices {
        let ports: BTreeSet<(u16, u16)> = service
            .ports
            .iter()
            .flat_map(|port| {
                let targets = slice.ports.iter().filter(|(name, _)| *name == port.name);
                targets.map(|(_, target)| (port.port.get(), target.get()))
            })
            .collect();
        for endpoint in &slice.endpoints {
            add(&mut sorted, service, slice, endpoint, &ports, cluster);
        }
        sorted
            .targets
            .extend(slice.ports.iter().map(|(_, target)| target.get()));
    }
    sorted
}

fn add(
    sorted: &mut Sorted,
    service: &Service,
    slice: &Slice,
    endpoint: &Endpoint,
    ports: &BTreeSet<(u16, u16)>,
    cluster: &Cluster,
) {
    let there: Vec<&Pod> = endpoint
        .addresses
        .iter()
        .flat_map(|address| cluster.claims.at(*address, &cluster.pods))
        .collect();
    let mut meshed = there.iter().filter(|pod| pod.is_meshed());
    let Some(first) = meshed.next() else {
        sorted.is_plain = true;
        sorted.is_plain_ready |= endpoint.is_ready;
        let near = there.iter().any(|pod| pod.key.0 == slice.key.0);
        if endpoint.is_ready && near {
            sorted.plain.extend(&endpoint.addresses);
        }
        return;
    };
    let is_alone = meshed.next().is_none() && there.len() == 1;
    // A slice may be older than the pod of that name that is there now.
    let is_meant = endpoint
        .pod
        .as_ref()
        .is_none_or(|(name, uid)| *name == first.key.1 && (uid.is_empty() || *uid == first.uid));
    if first.key.0 != slice.key.0 {
        sorted.is_strange = true;
        return;
    }
    sorted.is_meshed = true;
    if !is_alone || !is_meant {
        return;
    }
    if endpoint.is_ready && (service.takes_unready || !first.is_leaving) {
        let mine = sorted.ready.entry(first.key.1.clone()).or_default();
        mine.extend(ports);
    } else if endpoint.is_ready || endpoint.serves_last {
        let mine = sorted.last.entry(first.key.1.clone()).or_default();
        mine.extend(ports);
    }
}

/// The port of those behind, as far as it is the same for all: what is told of each of them counts.
fn target(port: &Port, slices: &[&Slice]) -> NonZeroU16 {
    let named = || {
        let all = slices.iter().flat_map(|slice| &slice.ports);
        let mut mine = all.filter(|(name, _)| *name == port.name);
        mine.next().map(|(_, target)| *target)
    };
    port.target.or_else(named).unwrap_or(port.port)
}

const fn leads(port: &Port, target: NonZeroU16) -> ServicePort {
    ServicePort {
        port: port.port.get(),
        target_port: target.get(),
    }
}

fn listed((name, ports): (String, BTreeSet<(u16, u16)>)) -> (String, Vec<ServicePort>) {
    let ports = ports.into_iter();
    let ports = ports.map(|(port, target_port)| ServicePort { port, target_port });
    (name, ports.collect())
}
