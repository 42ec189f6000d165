//! Converts rule documents between their message and their checked form.

use ferrule_identity::TrustDomain;
use ferrule_policy::{PolicyDocument, Stack, WrittenPolicy};

use super::{MESH, RULE, UnpackError, pack, unpack};
use crate::proto::ferrule::v1::{Mesh, Rule};
use crate::proto::google::protobuf::Any;
use ferrule_policy::Cidr;

/// The name of the resource about a rule document.
pub fn name(policy: &PolicyDocument) -> String {
    let meta = policy.meta();
    format!("{}/{}/{}", policy.kind(), meta.namespace, meta.name)
}

/// The message about a rule document.
pub fn write(written: &WrittenPolicy) -> Any {
    let rule = Rule {
        document: written.text.clone(),
        place: written.policy.meta().place.to_string(),
    };
    pack(RULE, &rule)
}

/// The rule document in a message; its faults, if any, are told with the place where it was written.
///
/// # Errors
/// When there is no document, more than one, or it has a fault: a rule that is not understood is not ignored.
pub fn read(packed: Option<&Any>, trust_domain: &TrustDomain) -> Result<PolicyDocument, RuleError> {
    let rule: Rule = unpack(RULE, packed).map_err(|source| RuleError::Message { source })?;
    let place: String = rule
        .place
        .chars()
        .filter(|c| !c.is_control())
        .take(MAX_PLACE_CHARS)
        .collect();
    let texts = [(place.as_str(), rule.document.as_bytes())];
    let stack = Stack::read(texts, trust_domain).map_err(|faults| RuleError::Faults {
        faults: faults.to_string(),
    })?;
    match stack.policies.as_slice() {
        [one] if stack.places.is_empty() => Ok(one.policy.clone()),
        _ => Err(RuleError::NotOne { place }),
    }
}

/// The message about the mesh.
pub fn write_mesh(ranges: &[Cidr]) -> Any {
    let ranges = ranges.iter().map(ToString::to_string).collect();
    pack(MESH, &Mesh { ranges })
}

/// The ranges of the mesh in a message.
///
/// # Errors
/// When one is no range.
pub fn read_mesh(packed: Option<&Any>) -> Result<Vec<Cidr>, RuleError> {
    let mesh: Mesh = unpack(MESH, packed).map_err(|source| RuleError::Message { source })?;
    let range = |text: &String| {
        text.parse::<Cidr>().map_err(|_| RuleError::Range {
            text: text.chars().take(64).collect(),
        })
    };
    mesh.ranges.iter().map(range).collect()
}

const MAX_PLACE_CHARS: usize = 512;

/// Why a rule is not taken.
#[derive(Debug, thiserror::Error)]
pub enum RuleError {
    /// The message cannot be read.
    #[error("the rule cannot be read")]
    Message {
        /// Why.
        source: UnpackError,
    },
    /// The document has faults.
    #[error("the rule has faults:\n{faults}")]
    Faults {
        /// Which, a line for each.
        faults: String,
    },
    /// Not one rule document.
    #[error("{place} is to be one rule document")]
    NotOne {
        /// Where it was written.
        place: String,
    },
    /// No range of addresses.
    #[error("{text:?} is no range of addresses")]
    Range {
        /// What is there, cut short.
        text: String,
    },
}
