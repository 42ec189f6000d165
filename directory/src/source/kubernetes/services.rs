//! Reads of Services and EndpointSlices what matters to others: addresses, ports, who stands behind.

use std::net::IpAddr;
use std::num::NonZeroU16;

use ferrule_policy::ServiceName;
use k8s_openapi::api::core::v1;
use k8s_openapi::api::discovery::v1 as discovery;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::pods::somebodys;

/// A service with ports of TCP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    /// Its name.
    pub name: ServiceName,
    /// Its own addresses; none where it is headless. External addresses are left out: whoever may write a Service could
    /// claim any address of anybody by them.
    pub addresses: Vec<IpAddr>,
    /// Its ports.
    pub ports: Vec<Port>,
    /// Whether it selects pods, so that who stands behind it is the cluster's own doing.
    pub selects: bool,
    /// Whether pods stand behind it before they are ready, and after.
    pub takes_unready: bool,
}

/// A port of a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Port {
    /// What it is called; empty where it is the only one.
    pub name: String,
    /// The service's own.
    pub port: NonZeroU16,
    /// The workloads', where it is the same for all: a name may stand for another number in each.
    pub target: Option<NonZeroU16>,
}

/// Some of those behind a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slice {
    /// Namespace and name of the slice itself.
    pub key: (String, String),
    /// The service.
    pub service: String,
    /// Who.
    pub endpoints: Vec<Endpoint>,
    /// The ports of all of them, by what the service calls them.
    pub ports: Vec<(String, NonZeroU16)>,
}

/// Somebody behind a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Where.
    pub addresses: Vec<IpAddr>,
    /// The name of the pod, and which of that name; `None` where only the address is known.
    pub pod: Option<(String, String)>,
    /// Whether it is to be given connections.
    pub is_ready: bool,
    /// Whether it would serve them, although it is on its way out.
    pub serves_last: bool,
}

impl Service {
    /// What there is to know of `service`; `None` where nobody can be reached by it: it is a mere alias, or has no port
    /// of TCP.
    pub fn read(service: v1::Service) -> Option<Self> {
        let name = ServiceName {
            namespace: service.metadata.namespace?.into(),
            name: service.metadata.name?.into(),
        };
        let spec = service.spec?;
        if spec.type_.as_deref() == Some("ExternalName") {
            return None;
        }
        let first = spec.cluster_ip.as_deref().into_iter();
        let all = first.chain(spec.cluster_ips.iter().flatten().map(String::as_str));
        let mut addresses: Vec<IpAddr> = all.filter_map(somebodys).collect();
        addresses.sort_unstable();
        addresses.dedup();
        let declared = spec.ports.unwrap_or_default();
        let only_others =
            !declared.is_empty() && !declared.iter().any(|port| is_tcp(port.protocol.as_deref()));
        let ports: Vec<Port> = declared.into_iter().filter_map(Port::read).collect();
        // A headless service may do without ports; whoever has only ports of UDP is none of our business.
        if only_others {
            return None;
        }
        Some(Self {
            name,
            addresses,
            ports,
            selects: spec.selector.is_some_and(|selector| !selector.is_empty()),
            takes_unready: spec.publish_not_ready_addresses == Some(true),
        })
    }

    /// Whether it has no address of its own.
    pub const fn is_headless(&self) -> bool {
        self.addresses.is_empty()
    }
}

impl Port {
    fn read(port: v1::ServicePort) -> Option<Self> {
        if !is_tcp(port.protocol.as_deref()) {
            return None;
        }
        let own = number(port.port)?;
        let target = match port.target_port {
            None => Some(own),
            Some(IntOrString::Int(0)) => Some(own),
            Some(IntOrString::Int(target)) => Some(number(target)?),
            Some(IntOrString::String(text)) => text.parse().ok(),
        };
        Some(Self {
            name: port.name.unwrap_or_default(),
            port: own,
            target,
        })
    }
}

impl Slice {
    /// What there is to know of `slice`; `None` where it is about no service, or not about addresses.
    pub fn read(slice: discovery::EndpointSlice) -> Option<Self> {
        let meta = slice.metadata;
        let service = meta.labels.and_then(|mut labels| labels.remove(SERVICE))?;
        if !matches!(slice.address_type.as_str(), "IPv4" | "IPv6") {
            return None;
        }
        let namespace = meta.namespace?;
        let ports = slice.ports.unwrap_or_default().into_iter().filter_map(|port| {
            let is_ours = is_tcp(port.protocol.as_deref());
            let number = is_ours.then(|| number(port.port?)).flatten()?;
            Some((port.name.unwrap_or_default(), number))
        });
        let endpoints = slice.endpoints.into_iter();
        let endpoints = endpoints.map(|endpoint| Endpoint::read(endpoint, &namespace));
        Some(Self {
            service,
            endpoints: endpoints.collect(),
            ports: ports.collect(),
            key: (namespace, meta.name?),
        })
    }

    /// Every address that it names.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.endpoints
            .iter()
            .flat_map(|endpoint| &endpoint.addresses)
            .copied()
    }
}

impl Endpoint {
    fn read(endpoint: discovery::Endpoint, namespace: &str) -> Self {
        let conditions = endpoint.conditions.unwrap_or_default();
        // What is not said is yes, the specification says, and serving is what ready is.
        let is_ready = conditions.ready.unwrap_or(true);
        let is_serving = conditions.serving.unwrap_or(is_ready);
        let pod = endpoint.target_ref.and_then(|of| {
            let is_pod = of.kind.as_deref() == Some("Pod");
            let is_near = of.namespace.as_deref().is_none_or(|of| of == namespace);
            (is_pod && is_near).then_some((of.name?, of.uid.unwrap_or_default()))
        });
        let addresses = endpoint.addresses.iter();
        Self {
            addresses: addresses.filter_map(|text| somebodys(text)).collect(),
            pod,
            is_ready,
            serves_last: is_serving && conditions.terminating == Some(true),
        }
    }
}

fn is_tcp(protocol: Option<&str>) -> bool {
    matches!(protocol, None | Some("" | "TCP"))
}

fn number(port: i32) -> Option<NonZeroU16> {
    u16::try_from(port).ok().and_then(NonZeroU16::new)
}

/// The label by which a slice names its service.
const SERVICE: &str = "kubernetes.io/service-name";
