//! A rule as verdicts name it.

use std::fmt;
use std::sync::Arc;

use crate::document::{Action, Enforcement};
use crate::pattern::{Ports, SourcePattern, TargetPattern, write_some};

/// The name of a policy: its namespace and its name there.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PolicyName {
    /// The namespace.
    pub namespace: Arc<str>,
    /// The name within the namespace.
    pub name: Arc<str>,
}

impl fmt::Display for PolicyName {
    /// `shop/api`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// A rule of a policy that is in use, with everything that a sentence about it needs.
#[derive(Debug, PartialEq, Eq)]
pub struct Rule {
    /// The policy that it is written in.
    pub policy: PolicyName,
    /// Which of the policy's rules it is, counted from one.
    pub number: usize,
    /// `shop/api rule 1`: the name that logs, verdicts and sentences use.
    pub name: Arc<str>,
    /// What it does to what it matches; an EgressPolicy's rules all allow.
    pub action: Action,
    /// Whether it is in force.
    pub enforcement: Enforcement,
    /// Whom it is about.
    pub peers: Peers,
    /// The ports that it is about.
    pub ports: Ports,
}

/// The other side of the connections that a rule is about.
#[derive(Debug, PartialEq, Eq)]
pub enum Peers {
    /// Callers, of an AccessPolicy.
    From(Vec<SourcePattern>),
    /// Destinations, of an EgressPolicy.
    To(Vec<TargetPattern>),
}

impl Rule {
    /// Whether the rule is about hosts by name; all destinations of a rule are of one kind.
    pub(crate) fn is_about_hosts(&self) -> bool {
        matches!(&self.peers, Peers::To(targets) if matches!(targets.first(), Some(TargetPattern::Host(_))))
    }
}

impl fmt::Display for Rule {
    /// Its [`name`](Self::name).
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

impl fmt::Display for Peers {
    /// `from spiffe://shop.local/ns/shop/sa/web, namespace monitoring`; the first three alone, and how many
    /// there are more.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::From(sources) => {
                f.write_str("from ")?;
                write_some(f, sources)
            }
            Self::To(targets) => {
                f.write_str("to ")?;
                write_some(f, targets)
            }
        }
    }
}
