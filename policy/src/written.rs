//! Writes rules as the documents have them.

use std::net::IpAddr;

use ferrule_document::Node;

use crate::ask::{Ask, Source};
use crate::cidr::Cidr;
use crate::document::API_VERSION;
use crate::host::HostPattern;
use crate::pattern::{IdentityPattern, SourcePattern, TargetPattern};

/// The narrowest pattern for one end of a connection.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Peer {
    /// The caller of one of our workloads.
    From(SourcePattern),
    /// What one of our workloads calls beyond the mesh.
    To(TargetPattern),
}

impl Peer {
    /// The other side of the connection that is asked about. A destination is named as closely as it is
    /// known: by its host, else by its service, else by its address.
    pub fn of(ask: &Ask<'_>) -> Self {
        let single = |address: IpAddr| Cidr::of(address);
        match ask {
            Ask::Inbound(ask) => Self::From(match ask.source {
                Source::Verified(id) => SourcePattern::Identity(IdentityPattern::Exact(id.clone())),
                Source::Plaintext(address) => SourcePattern::Cidr(single(address)),
            }),
            Ask::Outbound(ask) => Self::To(match (ask.host, ask.services.first()) {
                (Some(host), _) => TargetPattern::Host(HostPattern::Exact(host.clone())),
                (None, Some(service)) => TargetPattern::Service(service.clone()),
                (None, None) => TargetPattern::Cidr(single(ask.address)),
            }),
        }
    }

    /// The field that patterns of this kind are written in.
    pub(crate) fn field(&self) -> &'static str {
        match self {
            Self::From(SourcePattern::Identity(_)) => "identities",
            Self::From(SourcePattern::Namespace(_)) => "namespaces",
            Self::From(SourcePattern::Cidr(_)) | Self::To(TargetPattern::Cidr(_)) => "cidrs",
            Self::To(TargetPattern::Host(_)) => "hosts",
            Self::To(TargetPattern::Service(_)) => "services",
        }
    }

    /// The pattern as an item of that field.
    pub(crate) fn node(&self) -> Node {
        match self {
            Self::From(SourcePattern::Namespace(namespace)) => Node::text(&**namespace),
            Self::From(pattern) => Node::text(pattern.to_string()),
            Self::To(TargetPattern::Service(service)) => Node::map([
                ("namespace", Node::text(&*service.namespace)),
                ("name", Node::text(&*service.name)),
            ]),
            Self::To(pattern) => Node::text(pattern.to_string()),
        }
    }

    /// A rule about this peer and this port alone, on one line, to be put into a sentence.
    pub(crate) fn rule(&self, port: u16) -> String {
        let field = self.field();
        match self {
            Self::From(SourcePattern::Namespace(namespace)) => {
                format!("{{ from: [{{ {field}: [{namespace}] }}], ports: [{port}] }}")
            }
            Self::From(pattern) => format!(
                "{{ from: [{{ {field}: [{}] }}], ports: [{port}] }}",
                flow(pattern)
            ),
            Self::To(TargetPattern::Service(service)) => {
                let (namespace, name) = (&service.namespace, &service.name);
                format!("{{ {field}: [{{ namespace: {namespace}, name: {name} }}], ports: [{port}] }}")
            }
            Self::To(pattern) => format!("{{ {field}: [{}], ports: [{port}] }}", flow(pattern)),
        }
    }
}

/// A whole document.
pub(crate) fn document(kind: &str, namespace: &str, name: &str, spec: Node) -> Node {
    Node::map([
        ("apiVersion", Node::text(API_VERSION)),
        ("kind", Node::text(kind)),
        (
            "metadata",
            Node::map([("namespace", Node::text(namespace)), ("name", Node::text(name))]),
        ),
        ("spec", spec),
    ])
}

/// Documents one after another in one text.
pub(crate) fn stream(documents: &[Node]) -> String {
    documents
        .iter()
        .map(Node::render)
        .collect::<Vec<_>>()
        .join("---\n")
}

/// A pattern as it can stand within `[…]`: an IPv6 range begins with or has colons, a wildcard begins with a
/// star, and both would mean something else without quotes.
fn flow(pattern: &impl std::fmt::Display) -> String {
    let text = pattern.to_string();
    if text.contains("::") || text.starts_with('*') {
        format!("\"{text}\"")
    } else {
        text
    }
}
