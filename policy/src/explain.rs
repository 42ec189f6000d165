//! Says a verdict as a sentence, with what would have allowed the connection.

use crate::ask::Ask;
use crate::verdict::{Decision, Denial, Grant, Nearest, Verdict};
use crate::written::Peer;

/// The verdict on a question as one sentence. It begins with `allowed:` or `denied:`, names the rule that
/// decided or came nearest, and says what would allow what is denied.
pub fn explain(ask: &Ask<'_>, verdict: &Verdict) -> String {
    let is = decision(ask, &verdict.is);
    if !verdict.is_audited() {
        return is;
    }
    let would = decision(ask, &verdict.would);
    format!("{is}; with everything enforced it would be {would}")
}

fn decision(ask: &Ask<'_>, decision: &Decision) -> String {
    match decision {
        Decision::Allowed(grant) => allowed(ask, grant),
        Decision::Denied(denial) => denied(ask, denial),
    }
}

fn allowed(ask: &Ask<'_>, grant: &Grant) -> String {
    let why = match grant {
        Grant::Rule(rule) => format!("{rule} allows {} {}", rule.ports, rule.peers),
        Grant::Host(rule) => {
            format!(
                "{rule} allows {} {}, and the proxy resolves that name itself",
                rule.ports, rule.peers
            )
        }
        Grant::BuiltIn(name) => format!("it is the {name}, which is always allowed"),
        Grant::Permissive(policy) => format!("the mode is permissive by {policy}"),
        Grant::Audit(policy) => format!("{policy} is only audited, and no policy for it is enforced"),
    };
    format!("allowed: {} may reach {}; {why}", ask.caller(), ask.called())
}

fn denied(ask: &Ask<'_>, denial: &Denial) -> String {
    let why = match denial {
        Denial::Rule(rule) => format!(
            "{rule} denies {} {}; deny goes before allow, so take the caller out of that rule",
            rule.ports, rule.peers
        ),
        Denial::Plaintext(by) => {
            let by = match by {
                Some(policy) => format!("by {policy}"),
                None => "because no MeshPolicy says otherwise".to_owned(),
            };
            format!(
                "the connection is in clear and the mode is strict {by}; call through the mesh, or add a \
                 MeshPolicy in namespace {} with ports: [{{ port: {}, mode: permissive }}]",
                namespace(ask),
                port(ask)
            )
        }
        Denial::NoPolicy => format!(
            "no {} is about {}; add one in namespace {} with the rule {}",
            kind(ask),
            workload(ask),
            namespace(ask),
            Peer::of(ask).rule(port(ask))
        ),
        Denial::NoRule(nearest) => format!("no rule allows it; {}", nearly(ask, nearest)),
    };
    format!("denied: {} may not reach {}; {why}", ask.caller(), ask.called())
}

/// The nearest rule, and what to add.
fn nearly(ask: &Ask<'_>, nearest: &Nearest) -> String {
    let wanted = || Peer::of(ask).rule(port(ask));
    match nearest {
        Nearest::OtherPorts(rule) | Nearest::OtherPeers(rule) | Nearest::Other(rule) => format!(
            "nearest {rule} allows {} {}; add the rule {} to {}",
            rule.ports,
            rule.peers,
            wanted(),
            rule.policy
        ),
        Nearest::MeshRange(rule) => format!(
            "{rule} would allow {} {}, but no range and no host opens an address of the mesh; name the service",
            rule.ports, rule.peers
        ),
        Nearest::Metadata(rule) => format!(
            "{rule} would allow {} {}, but only its exact address opens a cloud's metadata service; add the \
             rule {} to {}",
            rule.ports,
            rule.peers,
            wanted(),
            rule.policy
        ),
        Nearest::Audited(rule) => format!(
            "{rule} would, but is only audited, and another policy is enforced; set enforcement: enforce in {}",
            rule.policy
        ),
        Nearest::None => format!(
            "no {} for {} allows anything; add one in namespace {} with the rule {}",
            kind(ask),
            workload(ask),
            namespace(ask),
            wanted()
        ),
    }
}

fn kind(ask: &Ask<'_>) -> &'static str {
    match ask {
        Ask::Inbound(_) => "AccessPolicy",
        Ask::Outbound(_) => "EgressPolicy",
    }
}

/// The workload whose policies are asked.
fn workload(ask: &Ask<'_>) -> String {
    match ask {
        Ask::Inbound(ask) => ask.destination.to_string(),
        Ask::Outbound(ask) => ask.source.to_string(),
    }
}

fn namespace<'a>(ask: &Ask<'a>) -> &'a str {
    match ask {
        Ask::Inbound(ask) => ask.destination.namespace,
        Ask::Outbound(ask) => ask.source.namespace,
    }
}

fn port(ask: &Ask<'_>) -> u16 {
    match ask {
        Ask::Inbound(ask) => ask.port,
        Ask::Outbound(ask) => ask.port,
    }
}

#[cfg(test)]
mod tests;
