//! Says in log lines which rules came and which went.

use std::collections::BTreeSet;

use ferrule_policy::{Policy, PolicyDocument};
use tracing::info;

/// A line for each rule and each mode.
pub(super) fn names(policy: &Policy, documents: &[PolicyDocument]) -> BTreeSet<String> {
    let rules = policy.rules().map(|rule| {
        let (action, enforcement) = (rule.action, rule.enforcement);
        format!(
            "{rule} ({action:?}, {enforcement:?}): {} {}",
            rule.peers, rule.ports
        )
    });
    let modes = documents.iter().filter_map(|document| match document {
        PolicyDocument::Mesh(mode) => Some(format!(
            "{}/{} (MeshPolicy): {:?}, ports {:?}",
            mode.meta.namespace, mode.meta.name, mode.mode, mode.ports
        )),
        PolicyDocument::Access(_) | PolicyDocument::Egress(_) => None,
    });
    rules.chain(modes).collect()
}

/// A log line for each that `before` lacks, and for each that `after` lacks.
pub(super) fn tell_changes(before: &BTreeSet<String>, after: &BTreeSet<String>, source: &str) {
    for added in after.difference(before) {
        info!(rule = added, change = "added", source, "rule changed");
    }
    for removed in before.difference(after) {
        info!(rule = removed, change = "removed", source, "rule changed");
    }
}
