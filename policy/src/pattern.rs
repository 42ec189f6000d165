//! What a rule says of workloads, callers and ports, in shapes where "any" is a word of its own.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use ferrule_identity::{SpiffeId, SpiffeIdError, TrustDomain};

use crate::cidr::Cidr;
use crate::host::HostPattern;

/// Which workloads of its namespace a policy is about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Workloads {
    /// All of them.
    AllOfNamespace,
    /// Those that carry all of these labels, at least one.
    Labelled(BTreeMap<String, String>),
}

impl Workloads {
    /// Whether a workload of the policy's namespace with these labels is meant.
    pub fn select(&self, labels: &BTreeMap<String, String>) -> bool {
        match self {
            Self::AllOfNamespace => true,
            Self::Labelled(wanted) => wanted.iter().all(|(name, value)| labels.get(name) == Some(value)),
        }
    }
}

/// Which ports a rule is about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Ports {
    /// All of them.
    All,
    /// These, in ascending order, at least one.
    Only(Box<[u16]>),
}

impl Ports {
    /// These ports, in any order; `None` when there are none.
    pub fn only(ports: impl IntoIterator<Item = u16>) -> Option<Self> {
        let mut ports: Vec<u16> = ports.into_iter().collect();
        ports.sort_unstable();
        ports.dedup();
        (!ports.is_empty()).then(|| Self::Only(ports.into()))
    }

    /// Whether `port` is meant.
    pub fn contain(&self, port: u16) -> bool {
        match self {
            Self::All => true,
            Self::Only(ports) => ports.binary_search(&port).is_ok(),
        }
    }
}

impl fmt::Display for Ports {
    /// `all ports`, `port 80` or `ports 80, 443`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("all ports"),
            Self::Only(ports) => {
                f.write_str(if ports.len() == 1 { "port " } else { "ports " })?;
                write_some(f, ports)
            }
        }
    }
}

/// Which identities a rule is about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum IdentityPattern {
    /// This one.
    Exact(SpiffeId),
    /// Every identity below this one, at any depth, and not this one itself: written with `/*` at the end.
    /// Kept as text without the `/*`: a trust domain or an ID, both checked.
    Below(Arc<str>),
}

impl IdentityPattern {
    /// Whether `id` is meant. Names are compared byte by byte and segment by segment.
    pub fn matches(&self, id: &SpiffeId) -> bool {
        match self {
            Self::Exact(exact) => exact == id,
            Self::Below(ancestor) => id
                .as_str()
                .strip_prefix(&**ancestor)
                .is_some_and(|rest| rest.starts_with('/')),
        }
    }
}

impl FromStr for IdentityPattern {
    type Err = SpiffeIdError;

    fn from_str(text: &str) -> Result<Self, SpiffeIdError> {
        let Some(ancestor) = text.strip_suffix("/*") else {
            return SpiffeId::parse(text).map(Self::Exact);
        };
        match SpiffeId::parse(ancestor) {
            Ok(id) => Ok(Self::Below(id.as_str().into())),
            // `spiffe://shop.local/*`: everyone of the trust domain.
            Err(SpiffeIdError::NoPath) if !ancestor.ends_with('/') => Ok(Self::Below(ancestor.into())),
            Err(error) => Err(error),
        }
    }
}

impl fmt::Display for IdentityPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(id) => id.fmt(f),
            Self::Below(ancestor) => write!(f, "{ancestor}/*"),
        }
    }
}

/// One caller, or some, that an AccessPolicy's rule is about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SourcePattern {
    /// Callers that proved an identity.
    Identity(IdentityPattern),
    /// Callers that proved an identity of this namespace of our own trust domain.
    Namespace(Arc<str>),
    /// Callers in clear from these addresses.
    Cidr(Cidr),
}

impl SourcePattern {
    /// Whether a caller that proved `id` is meant, where `ours` is our own trust domain.
    pub fn matches_identity(&self, id: &SpiffeId, ours: &TrustDomain) -> bool {
        match self {
            Self::Identity(pattern) => pattern.matches(id),
            Self::Namespace(namespace) => {
                id.is_in(ours)
                    && id
                        .namespace_and_account()
                        .is_some_and(|(found, _)| *found == **namespace)
            }
            Self::Cidr(_) => false,
        }
    }
}

impl fmt::Display for SourcePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Identity(pattern) => pattern.fmt(f),
            Self::Namespace(namespace) => write!(f, "namespace {namespace}"),
            Self::Cidr(cidr) => cidr.fmt(f),
        }
    }
}

/// A service of the cluster by its name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceName {
    /// Its namespace.
    pub namespace: Arc<str>,
    /// Its name within the namespace.
    pub name: Arc<str>,
}

impl fmt::Display for ServiceName {
    /// `ldap.legacy`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.name, self.namespace)
    }
}

/// One destination beyond the mesh, or some, that an EgressPolicy's rule is about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TargetPattern {
    /// Hosts by the name that the client says; the proxy resolves it itself.
    Host(HostPattern),
    /// Addresses.
    Cidr(Cidr),
    /// An unmeshed service of the cluster.
    Service(ServiceName),
}

impl fmt::Display for TargetPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host(pattern) => pattern.fmt(f),
            Self::Cidr(cidr) => cidr.fmt(f),
            Self::Service(service) => write!(f, "service {service}"),
        }
    }
}

/// Writes the first few of a list, and how many there are more.
pub(crate) fn write_some<T: fmt::Display>(f: &mut fmt::Formatter<'_>, items: &[T]) -> fmt::Result {
    for (at, item) in items.iter().take(SHOWN).enumerate() {
        write!(f, "{}{item}", if at > 0 { ", " } else { "" })?;
    }
    match items.len().checked_sub(SHOWN) {
        Some(more) if more > 0 => write!(f, " and {more} more"),
        _ => Ok(()),
    }
}

/// How many items of a list a sentence shows.
const SHOWN: usize = 3;

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, id: &str) -> bool {
        pattern
            .parse::<IdentityPattern>()
            .unwrap()
            .matches(&SpiffeId::parse(id).unwrap())
    }

    #[test]
    fn names_are_compared_as_strings() {
        // D1
        assert!(matches(
            "spiffe://shop.local/ns/a.b/sa/web",
            "spiffe://shop.local/ns/a.b/sa/web"
        ));
        assert!(!matches(
            "spiffe://shop.local/ns/a.b/sa/web",
            "spiffe://shop.local/ns/aXb/sa/web"
        ));
        assert!(!matches(
            "spiffe://shop.local/*",
            "spiffe://shopxlocal/ns/a/sa/web"
        ));
        assert!(!matches(
            "spiffe://shop.local/ns/shop/sa/Web",
            "spiffe://shop.local/ns/shop/sa/web"
        ));
    }

    #[test]
    fn a_wildcard_stands_for_whole_segments_below() {
        // D1
        let below = "spiffe://shop.local/ns/shop/sa/adm/*";
        assert!(!matches(below, "spiffe://shop.local/ns/shop/sa/admin"));
        assert!(!matches(below, "spiffe://shop.local/ns/shop/sa/adm"));
        assert!(matches(below, "spiffe://shop.local/ns/shop/sa/adm/x"));
        assert!(matches(
            "spiffe://shop.local/*",
            "spiffe://shop.local/ns/shop/sa/web"
        ));
        assert!(!matches(
            "spiffe://shop.local/*",
            "spiffe://shop.local.evil/ns/shop/sa/web"
        ));
    }

    #[test]
    fn a_wildcard_anywhere_else_is_refused() {
        for text in [
            "*",
            "/*",
            "spiffe://*",
            "spiffe:///*",
            "spiffe://shop.local//*",
            "spiffe://*.local/ns/a/sa/b",
            "spiffe://shop.local/ns/*/sa/web",
            "spiffe://shop.local/ns/shop/sa/adm*",
            "spiffe://shop.local/ns/shop/*/*",
            "spiffe://shop.local",
            "spiffe://shop.local/ns/../*",
        ] {
            assert!(text.parse::<IdentityPattern>().is_err(), "{text}");
        }
    }
}
