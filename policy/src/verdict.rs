//! The answer to a question: what is, what would be with everything enforced, and by which rule.

use std::sync::Arc;

use crate::document::Enforcement;
use crate::rule::{PolicyName, Rule};

/// The answer to a question. `is` is what happens; `would` is what would happen if policies that are only
/// audited were in force and a missing rule denied. They differ where something is being tried out.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub struct Verdict {
    /// What happens.
    pub is: Decision,
    /// What would happen with everything enforced.
    pub would: Decision,
}

/// Yes or no, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// The connection may be.
    Allowed(Grant),
    /// The connection may not be.
    Denied(Denial),
}

/// Why a connection may be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Grant {
    /// This rule allows it.
    Rule(Arc<Rule>),
    /// This rule allows the host that the client named: the proxy resolves that name and dials it, instead of
    /// the address that the application dialled, which may be anything.
    Host(Arc<Rule>),
    /// It is one of the destinations without which nothing works, such as the resolver, under this name.
    BuiltIn(Arc<str>),
    /// No rule allows it, but this policy's mode is permissive.
    Permissive(PolicyName),
    /// No rule allows it, but this policy, the first of those for the workload, is only audited, and none for
    /// it is enforced.
    Audit(PolicyName),
}

/// Why a connection may not be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Denial {
    /// This rule denies it.
    Rule(Arc<Rule>),
    /// It is in clear and the mode is strict: because of this policy, or because none says otherwise.
    Plaintext(Option<PolicyName>),
    /// No policy is about the workload.
    NoPolicy,
    /// No rule allows it.
    NoRule(Nearest),
}

/// The rule that comes nearest to allowing what no rule allows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Nearest {
    /// It matches the other side, but not the port.
    OtherPorts(Arc<Rule>),
    /// It matches the port, but not the other side.
    OtherPeers(Arc<Rule>),
    /// It matches neither, but is about this workload.
    Other(Arc<Rule>),
    /// It would match, but no rule of its kind opens an address within the mesh's own ranges.
    MeshRange(Arc<Rule>),
    /// It would match, but only the exact address opens a cloud's metadata service.
    Metadata(Arc<Rule>),
    /// It would match, but is only audited, and other policies for the workload are in force.
    Audited(Arc<Rule>),
    /// The policies for this workload have no rule that allows anything.
    None,
}

impl Verdict {
    /// The same decision for what is and what would be.
    pub(crate) fn plain(decision: Decision) -> Self {
        Self {
            is: decision.clone(),
            would: decision,
        }
    }

    /// Whether the connection may be.
    pub fn is_allowed(&self) -> bool {
        self.is.is_allowed()
    }

    /// Whether the connection may be only because something is not enforced: such ones are counted and
    /// logged as audited.
    pub fn is_audited(&self) -> bool {
        self.is.is_allowed() && !self.would.is_allowed()
    }

    /// The word for the verdict in logs and metrics: `allow`, `audit` or `deny`.
    pub fn word(&self) -> &'static str {
        match (self.is_allowed(), self.is_audited()) {
            (true, false) => "allow",
            (true, true) => "audit",
            (false, _) => "deny",
        }
    }

    /// The rule that decided, or that would have: the one to name in a log line.
    pub fn rule(&self) -> Option<&Arc<Rule>> {
        self.is.rule().or_else(|| self.would.rule())
    }

    /// The host rule by which the destination is resolved and dialled by its name.
    pub fn by_host(&self) -> Option<&Arc<Rule>> {
        match &self.is {
            Decision::Allowed(Grant::Host(rule)) => Some(rule),
            _ => None,
        }
    }
}

impl Decision {
    /// Whether the connection may be.
    pub fn is_allowed(&self) -> bool {
        matches!(self, Self::Allowed(_))
    }

    /// The rule that decided; a nearest rule did not.
    pub fn rule(&self) -> Option<&Arc<Rule>> {
        match self {
            Self::Allowed(Grant::Rule(rule) | Grant::Host(rule)) | Self::Denied(Denial::Rule(rule)) => {
                Some(rule)
            }
            _ => None,
        }
    }

    /// The rule that nearly decided otherwise.
    pub fn nearest(&self) -> Option<&Arc<Rule>> {
        match self {
            Self::Denied(Denial::NoRule(nearest)) => nearest.rule(),
            _ => None,
        }
    }

    /// The word for the reason in logs and metrics, one of a fixed few.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Allowed(Grant::Rule(rule)) if rule.enforcement == Enforcement::Audit => "audited-rule",
            Self::Allowed(Grant::Rule(_)) => "rule",
            Self::Allowed(Grant::Host(_)) => "host-rule",
            Self::Allowed(Grant::BuiltIn(_)) => "built-in",
            Self::Allowed(Grant::Permissive(_)) => "permissive",
            Self::Allowed(Grant::Audit(_)) => "audit",
            Self::Denied(Denial::Rule(_)) => "deny-rule",
            Self::Denied(Denial::Plaintext(_)) => "plaintext",
            Self::Denied(Denial::NoPolicy) => "no-policy",
            Self::Denied(Denial::NoRule(_)) => "no-rule",
        }
    }
}

impl Nearest {
    /// The rule, where there is one.
    pub fn rule(&self) -> Option<&Arc<Rule>> {
        match self {
            Self::OtherPorts(rule)
            | Self::OtherPeers(rule)
            | Self::Other(rule)
            | Self::MeshRange(rule)
            | Self::Metadata(rule)
            | Self::Audited(rule) => Some(rule),
            Self::None => None,
        }
    }
}
