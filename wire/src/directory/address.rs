//! Converts who lives where between its message and its checked form.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use bytes::Bytes;
use ferrule_identity::{SpiffeId, SpiffeIdError, Timestamp, TrustDomain};
use ferrule_policy::{
    Joined, JoinedService, JoinedWorkload, PublishedPort, ServiceName, ServicePort, WorkloadDocument,
};

use super::{ADDRESS, REACH, UnpackError, pack, unpack};
use crate::proto::ferrule::v1::{self as proto, Mode, Reach};
use crate::proto::google::protobuf::Any;
use crate::proto::istio::workload::{
    Address, Extension, Locality, NetworkAddress, Port, PortList, Service, TunnelProtocol, Workload,
    address::Type,
};

/// The name of the resource about `joined` in the mesh `trust_domain`.
pub fn name(joined: &Joined, trust_domain: &TrustDomain) -> String {
    match joined {
        Joined::Workload(joined) => {
            workload_name(&joined.workload.namespace, &joined.workload.name, trust_domain)
        }
        Joined::Service(service) => service_name(&service.name),
    }
}

/// The name of the resource about a workload.
pub fn workload_name(namespace: &str, name: &str, trust_domain: &TrustDomain) -> String {
    format!("{trust_domain}//workload/{namespace}/{name}")
}

/// The name of the resource about a service: its namespace and its host name.
pub fn service_name(name: &ServiceName) -> String {
    format!("{}/{name}", name.namespace)
}

/// The name by which whoever lives at `address` is asked for: the network, which is the only one and has no name, and
/// the address.
pub fn address_name(address: IpAddr) -> String {
    format!("/{}", address.to_canonical())
}

/// The address that is asked for by `name`; `None` when it is no such name.
pub fn asked_address(name: &str) -> Option<IpAddr> {
    let address: IpAddr = name.strip_prefix('/')?.parse().ok()?;
    Some(address.to_canonical())
}

/// The message about `joined`.
pub fn write(joined: &Joined, trust_domain: &TrustDomain) -> Any {
    let of = match joined {
        Joined::Workload(workload) => Type::Workload(write_workload(workload, trust_domain)),
        Joined::Service(service) => Type::Service(write_service(service)),
    };
    pack(ADDRESS, &Address { r#type: Some(of) })
}

fn write_workload(joined: &JoinedWorkload, trust_domain: &TrustDomain) -> Workload {
    let workload = &joined.workload;
    let account = workload.id.namespace_and_account().map(|(_, account)| account);
    let mut services: BTreeMap<String, PortList> = BTreeMap::new();
    for (service, port) in &joined.behind {
        services
            .entry(service_name(service))
            .or_default()
            .ports
            .push(write_port(*port));
    }
    let reach = Reach {
        mode: Mode::MutualTls.into(),
        framings: Vec::new(),
        contested: joined.contested.iter().copied().map(octets).collect(),
        published: workload.published.iter().map(write_published).collect(),
        leaf_not_after: joined.leaf_end.map_or(0, Timestamp::unix),
    };
    Workload {
        uid: workload_name(&workload.namespace, &workload.name, trust_domain),
        name: workload.name.clone(),
        namespace: workload.namespace.clone(),
        addresses: joined.own_addresses().map(octets).collect(),
        // For those who do not know the extension.
        tunnel_protocol: TunnelProtocol::LegacyIstioMtls.into(),
        trust_domain: workload.id.trust_domain().to_string(),
        service_account: account.unwrap_or_default().to_owned(),
        node: workload.node.clone().unwrap_or_default(),
        locality: workload.zone.clone().map(|zone| Locality {
            zone,
            ..Locality::default()
        }),
        services,
        extensions: vec![extension(&reach)],
        ..Workload::default()
    }
}

fn write_service(service: &JoinedService) -> Service {
    let mode = if service.is_in_mesh {
        Mode::MutualTls
    } else {
        Mode::Outside
    };
    let reach = Reach {
        mode: mode.into(),
        ..Reach::default()
    };
    let address = |address: &IpAddr| NetworkAddress {
        network: String::new(),
        address: octets(*address),
    };
    Service {
        name: service.name.name.to_string(),
        namespace: service.name.namespace.to_string(),
        hostname: service.name.to_string(),
        addresses: service.addresses.iter().map(address).collect(),
        ports: service.ports.iter().copied().map(write_port).collect(),
        extensions: vec![extension(&reach)],
        ..Service::default()
    }
}

fn extension(reach: &Reach) -> Extension {
    Extension {
        name: REACH_NAME.to_owned(),
        config: Some(pack(REACH, reach)),
    }
}

fn write_port(port: ServicePort) -> Port {
    Port {
        service_port: port.port.into(),
        target_port: port.target_port.into(),
    }
}

fn write_published(published: &PublishedPort) -> proto::PublishedPort {
    proto::PublishedPort {
        port: published.port.into(),
        address: octets(published.at.ip()),
        at: published.at.port().into(),
    }
}

/// An address as messages have it.
pub fn octets(address: IpAddr) -> Bytes {
    match address {
        IpAddr::V4(v4) => Bytes::copy_from_slice(&v4.octets()),
        IpAddr::V6(v6) => Bytes::copy_from_slice(&v6.octets()),
    }
}

/// Whoever the message is about, checked. Nothing that may be in the mesh is ever taken for something outside: where
/// the message does not say how it is reached, it is refused.
///
/// # Errors
/// Names the part that cannot be used.
pub fn read(packed: Option<&Any>) -> Result<Joined, AddressError> {
    let address: Address = unpack(ADDRESS, packed).map_err(|source| AddressError::Message { source })?;
    match address.r#type.ok_or(AddressError::Nobody)? {
        Type::Workload(workload) => read_workload(workload).map(Joined::Workload),
        Type::Service(service) => read_service(service).map(Joined::Service),
    }
}

fn read_workload(message: Workload) -> Result<JoinedWorkload, AddressError> {
    let who = || format!("workload {}/{}", message.namespace, message.name);
    let reach = reach(&message.extensions, &who)?;
    if reach.mode() != Mode::MutualTls {
        return Err(AddressError::NoReach { who: who() });
    }
    let trust_domain = TrustDomain::parse(&message.trust_domain)
        .map_err(|source| AddressError::Identity { who: who(), source })?;
    let account = match message.service_account.as_str() {
        "" => "default",
        named => named,
    };
    let id = SpiffeId::workload(&trust_domain, &message.namespace, account)
        .map_err(|source| AddressError::Identity { who: who(), source })?;
    let read_all = |all: &[Bytes]| {
        all.iter()
            .map(|octets| read_octets(octets, &who))
            .collect::<Result<Vec<_>, _>>()
    };
    let mut addresses = read_all(&message.addresses)?;
    let contested = read_all(&reach.contested)?;
    addresses.extend(&contested);
    let mut behind = Vec::new();
    for (name, ports) in &message.services {
        let service = read_service_name(name).ok_or_else(|| AddressError::Service {
            who: who(),
            name: name.chars().take(MAX_NAME_CHARS).collect(),
        })?;
        for port in &ports.ports {
            behind.push((service.clone(), read_port(port, &who)?));
        }
    }
    let published = reach.published.iter().map(|message| {
        Ok(PublishedPort {
            port: read_port_number(message.port, &who)?,
            at: SocketAddr::new(
                read_octets(&message.address, &who)?,
                read_port_number(message.at, &who)?,
            ),
        })
    });
    let published = published.collect::<Result<_, AddressError>>()?;
    let workload = WorkloadDocument {
        published,
        namespace: message.namespace,
        name: message.name,
        labels: BTreeMap::new(),
        id,
        addresses,
        node: (!message.node.is_empty()).then_some(message.node),
        zone: message
            .locality
            .map(|locality| locality.zone)
            .filter(|zone| !zone.is_empty()),
    };
    Ok(JoinedWorkload {
        workload: Arc::new(workload),
        contested,
        behind,
        leaf_end: (reach.leaf_not_after > 0).then(|| Timestamp::from_unix(reach.leaf_not_after)),
    })
}

fn read_service(message: Service) -> Result<JoinedService, AddressError> {
    let who = || format!("service {}/{}", message.namespace, message.name);
    let reach = reach(&message.extensions, &who)?;
    let is_in_mesh = match reach.mode() {
        Mode::MutualTls => true,
        Mode::Outside => false,
        Mode::Unspecified => return Err(AddressError::NoReach { who: who() }),
    };
    let addresses = message
        .addresses
        .iter()
        .map(|address| read_octets(&address.address, &who));
    let ports = message.ports.iter().map(|port| read_port(port, &who));
    Ok(JoinedService {
        addresses: addresses.collect::<Result<_, _>>()?,
        ports: ports.collect::<Result<_, _>>()?,
        is_in_mesh,
        name: ServiceName {
            namespace: message.namespace.into(),
            name: message.name.into(),
        },
    })
}

fn reach(extensions: &[Extension], who: &dyn Fn() -> String) -> Result<Reach, AddressError> {
    let found = extensions.iter().find(|extension| extension.name == REACH_NAME);
    let found = found.ok_or_else(|| AddressError::NoReach { who: who() })?;
    let reach: Reach =
        unpack(REACH, found.config.as_ref()).map_err(|source| AddressError::Message { source })?;
    // A mode of a later version: nothing is known of it, so nothing is allowed.
    if Mode::try_from(reach.mode).is_err() {
        return Err(AddressError::NoReach { who: who() });
    }
    Ok(reach)
}

fn read_octets(octets: &[u8], who: &dyn Fn() -> String) -> Result<IpAddr, AddressError> {
    let address = match octets.len() {
        4 => <[u8; 4]>::try_from(octets).map(IpAddr::from),
        _ => <[u8; 16]>::try_from(octets).map(IpAddr::from),
    };
    let address = address.map_err(|_| AddressError::Octets {
        who: who(),
        count: octets.len(),
    })?;
    Ok(address.to_canonical())
}

fn read_port(port: &Port, who: &dyn Fn() -> String) -> Result<ServicePort, AddressError> {
    Ok(ServicePort {
        port: read_port_number(port.service_port, who)?,
        target_port: read_port_number(port.target_port, who)?,
    })
}

fn read_port_number(number: u32, who: &dyn Fn() -> String) -> Result<u16, AddressError> {
    match u16::try_from(number) {
        Ok(port @ 1..) => Ok(port),
        _ => Err(AddressError::Port { who: who(), number }),
    }
}

/// `shop/api.shop` as a name.
fn read_service_name(text: &str) -> Option<ServiceName> {
    let (namespace, host) = text.split_once('/')?;
    let name = host.strip_suffix(namespace)?.strip_suffix('.')?;
    if name.is_empty() || namespace.is_empty() {
        return None;
    }
    Some(ServiceName {
        namespace: namespace.into(),
        name: name.into(),
    })
}

const REACH_NAME: &str = "ferrule.v1.Reach";

const MAX_NAME_CHARS: usize = 256;

/// Why a message about an address is not taken.
#[derive(Debug, thiserror::Error)]
pub enum AddressError {
    /// It cannot be read.
    #[error("the address cannot be read")]
    Message {
        /// Why.
        source: UnpackError,
    },
    /// It is about neither a workload nor a service.
    #[error("the address is nobody's")]
    Nobody,
    /// It does not say how it is reached in words that are understood here.
    #[error("{who} does not say how it is reached")]
    NoReach {
        /// Who.
        who: String,
    },
    /// It makes no SPIFFE ID.
    #[error("{who} has no identity")]
    Identity {
        /// Who.
        who: String,
        /// The rule that it breaks.
        source: SpiffeIdError,
    },
    /// An address of another length than IPv4 and IPv6 have.
    #[error("{who} has an address of {count} bytes")]
    Octets {
        /// Who.
        who: String,
        /// How many bytes.
        count: usize,
    },
    /// A port that there is not.
    #[error("{who} has a port {number}")]
    Port {
        /// Who.
        who: String,
        /// The number.
        number: u32,
    },
    /// A service whose name is none.
    #[error("{who} stands behind {name:?}, which is no service's name")]
    Service {
        /// Who.
        who: String,
        /// The name, cut short.
        name: String,
    },
}

#[cfg(test)]
mod tests;
