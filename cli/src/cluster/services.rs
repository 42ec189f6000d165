//! Reads of Services and EndpointSlices who stands behind them, and whether that is in the mesh.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ferrule_policy::ServiceName;
use serde_json::Value;

use super::{entries, text};
use crate::picture::Service;

/// The services of some objects, as they look where sidecars live at `meshed`; and the ports by which services lead to
/// each address.
pub(super) fn read(
    objects: &[Value],
    meshed: &BTreeSet<IpAddr>,
) -> (Vec<Service>, BTreeMap<IpAddr, BTreeSet<u16>>) {
    let mut behind: BTreeMap<(&str, &str), Vec<Endpoint>> = BTreeMap::new();
    for slice in objects.iter().filter(|object| object["kind"] == "EndpointSlice") {
        let service = text(&slice["metadata"]["labels"][SERVICE]);
        let key = (text(&slice["metadata"]["namespace"]), service);
        let ports: BTreeSet<u16> = tcp(&slice["ports"])
            .filter_map(|port| number(&port["port"]))
            .collect();
        let all = entries(&slice["endpoints"]).flat_map(|endpoint| entries(&endpoint["addresses"]));
        let all = all.filter_map(|address| text(address).parse().ok());
        behind
            .entry(key)
            .or_default()
            .extend(all.map(|address| (address, ports.clone())));
    }
    let mut leading: BTreeMap<IpAddr, BTreeSet<u16>> = BTreeMap::new();
    for (address, ports) in behind.values().flatten() {
        leading.entry(*address).or_default().extend(ports);
    }
    let services = objects.iter().filter(|object| object["kind"] == "Service");
    let services = services.filter_map(|object| {
        let (meta, spec) = (&object["metadata"], &object["spec"]);
        let (namespace, name) = (text(&meta["namespace"]), text(&meta["name"]));
        if spec["type"] == "ExternalName" {
            return None;
        }
        let behind = behind.get(&(namespace, name)).map_or(&[][..], Vec::as_slice);
        // With nobody behind it, it may be in the mesh as well as not: then it is not spoken to in clear.
        let is_in_mesh = if behind.is_empty() {
            spec["selector"].is_object()
        } else {
            behind.iter().any(|(address, _)| meshed.contains(address))
        };
        let own: BTreeSet<IpAddr> = [&spec["clusterIP"]]
            .into_iter()
            .chain(entries(&spec["clusterIPs"]))
            .filter_map(|address| text(address).parse().ok())
            .collect();
        let is_headless = own.is_empty();
        let (addresses, ports) = if is_headless {
            let ports = behind.iter().flat_map(|(_, ports)| ports).copied();
            (
                behind.iter().map(|(address, _)| *address).collect(),
                ports.collect(),
            )
        } else {
            let ports = tcp(&spec["ports"]).filter_map(|port| number(&port["port"]));
            (own.into_iter().collect(), ports.collect())
        };
        Some(Service {
            name: ServiceName {
                namespace: namespace.into(),
                name: name.into(),
            },
            addresses,
            ports,
            is_in_mesh,
            behind: behind.iter().map(|(address, _)| *address).collect(),
        })
    });
    (services.collect(), leading)
}

/// An address behind a service, with the ports there.
type Endpoint = (IpAddr, BTreeSet<u16>);

fn tcp(ports: &Value) -> impl Iterator<Item = &Value> {
    entries(ports).filter(|port| ["", "TCP"].contains(&text(&port["protocol"])))
}

fn number(port: &Value) -> Option<u16> {
    u16::try_from(port.as_u64()?).ok()
}

/// The label by which a slice names its service.
const SERVICE: &str = "kubernetes.io/service-name";
