//! The questions that a policy answers.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

use ferrule_identity::SpiffeId;

use crate::host::HostName;
use crate::pattern::ServiceName;

/// A question: may this connection be?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ask<'a> {
    /// May this caller reach this workload?
    Inbound(Inbound<'a>),
    /// May this workload reach this destination, which is not in the mesh?
    Outbound(Outbound<'a>),
}

/// A caller in front of a workload of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Inbound<'a> {
    /// Who calls.
    pub source: Source<'a>,
    /// Who is called.
    pub destination: Workload<'a>,
    /// The workload's own port.
    pub port: u16,
}

/// Who calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source<'a> {
    /// Somebody who proved an identity in a TLS handshake. The address proves nothing beside it.
    Verified(&'a SpiffeId),
    /// Somebody in clear, of whom only the address is known.
    Plaintext(IpAddr),
}

/// A workload of ours in front of a destination beyond the mesh. What the directory knows to be in the mesh
/// is never asked about here: it is spoken to in TLS, and judged by its own AccessPolicies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outbound<'a> {
    /// Who calls.
    pub source: Workload<'a>,
    /// The address that the application dialled.
    pub address: IpAddr,
    /// The port that the application dialled.
    pub port: u16,
    /// The unmeshed services that the directory names at this address.
    pub services: &'a [ServiceName],
    /// The host that the client named in TLS SNI or the HTTP Host field, once it did.
    pub host: Option<&'a HostName>,
}

/// A workload as policies select it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Workload<'a> {
    /// Its namespace.
    pub namespace: &'a str,
    /// Its name, for sentences alone.
    pub name: &'a str,
    /// Its labels.
    pub labels: &'a BTreeMap<String, String>,
}

impl fmt::Display for Source<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Verified(id) => id.fmt(f),
            Self::Plaintext(address) => write!(f, "{address} in clear"),
        }
    }
}

impl fmt::Display for Workload<'_> {
    /// `api.shop`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.name, self.namespace)
    }
}

impl fmt::Display for Ask<'_> {
    /// The two ends: `spiffe://shop.local/ns/shop/sa/web to api.shop:8080`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} to {}", self.caller(), self.called())
    }
}

impl Ask<'_> {
    /// Who calls, in words.
    pub(crate) fn caller(&self) -> String {
        match self {
            Self::Inbound(ask) => ask.source.to_string(),
            Self::Outbound(ask) => ask.source.to_string(),
        }
    }

    /// Who is called, in words.
    pub(crate) fn called(&self) -> String {
        match self {
            Self::Inbound(ask) => format!("{}:{}", ask.destination, ask.port),
            Self::Outbound(Outbound {
                address,
                port,
                services,
                host,
                ..
            }) => {
                let address = std::net::SocketAddr::new(*address, *port);
                match (host, services.first()) {
                    (Some(host), _) => format!("{host}:{port} ({address})"),
                    (None, Some(service)) => format!("{service}:{port} ({address})"),
                    (None, None) => address.to_string(),
                }
            }
        }
    }
}
