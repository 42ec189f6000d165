//! Decides whether a connection may be, naming the rule that decides or nearly did.

use std::sync::Arc;

use crate::ask::{Ask, Inbound, Outbound, Source, Workload};
use crate::cidr::is_metadata;
use crate::document::Mode;
use crate::index::{Class, Guard, Hit, Hits};
use crate::policy::{Demand, Policy, Summary};
use crate::rule::{PolicyName, Rule};
use crate::verdict::{Decision, Denial, Grant, Nearest, Verdict};

/// Answers a question. Deny goes before allow; of several rules that match, the closest is named: first by
/// the other side (an identity before its namespace before what lies above, the longer range before the
/// shorter), then the one that names the port, then by the rules' names.
pub fn judge(policy: &Policy, ask: &Ask<'_>) -> Verdict {
    match ask {
        Ask::Inbound(ask) => judge_inbound(policy, ask),
        Ask::Outbound(ask) => judge_outbound(policy, ask),
    }
}

/// The refusal that everybody would meet at this port of the workload, to spare a handshake that can come to
/// nothing; `None` when it depends on who calls.
pub fn judge_port(policy: &Policy, destination: &Workload<'_>, port: u16) -> Option<Verdict> {
    if policy.inbound_mode(destination, port) == Mode::Permissive {
        return None;
    }
    let mut standing = Standing::default();
    for group in policy.access.about(destination) {
        standing.add(&group.summary, port);
    }
    if standing.is_open_to_audit() || standing.allowed_to_somebody {
        return None;
    }
    Some(Verdict::plain(Decision::Denied(
        standing.missing(policy, &Hits::default()),
    )))
}

fn judge_inbound(policy: &Policy, ask: &Inbound<'_>) -> Verdict {
    let demand = policy.inbound_demand(&ask.destination, ask.port);
    if matches!(ask.source, Source::Plaintext(_)) && demand.mode == Mode::Strict {
        return Verdict::plain(Decision::Denied(Denial::Plaintext(demand.by.cloned())));
    }
    let (mut hits, mut standing) = (Hits::default(), Standing::default());
    for group in policy.access.about(&ask.destination) {
        standing.add(&group.summary, ask.port);
        match ask.source {
            Source::Verified(id) => {
                group
                    .sources
                    .find_identity(id, &policy.mesh.trust_domain, ask.port, &mut hits);
            }
            Source::Plaintext(address) => {
                let guard = policy.is_in_mesh_ranges(address).then_some(Guard::MeshRange);
                group.sources.find_address(address, ask.port, guard, &mut hits);
            }
        }
    }
    decide(policy, &hits, &standing, &demand, standing.is_open_to_audit())
}

fn judge_outbound(policy: &Policy, ask: &Outbound<'_>) -> Verdict {
    let address = ask.address.to_canonical();
    let is_asked = |built_in: &&crate::policy::BuiltIn| {
        built_in.port == ask.port && built_in.address.to_canonical() == address
    };
    if let Some(built_in) = policy.mesh.built_in.iter().find(is_asked) {
        return Verdict::plain(Decision::Allowed(Grant::BuiltIn(Arc::clone(&built_in.name))));
    }
    let in_mesh = policy.is_in_mesh_ranges(address);
    let metadata = is_metadata(address);
    let mesh_guard = in_mesh.then_some(Guard::MeshRange);
    let range_guard = |single: bool| match mesh_guard {
        None if metadata && !single => Some(Guard::Metadata),
        guard => guard,
    };
    let (mut hits, mut standing) = (Hits::default(), Standing::default());
    for group in policy.egress.about(&ask.source) {
        standing.add(&group.summary, ask.port);
        group.targets.find_services(ask.services, ask.port, &mut hits);
        group
            .targets
            .find_address(address, ask.port, range_guard, &mut hits);
        if let Some(host) = ask.host {
            group.targets.find_host(host, ask.port, mesh_guard, &mut hits);
        }
    }
    // Trying a policy out must not open what even an enforced one could not open by accident.
    let open_to_audit = standing.is_open_to_audit() && !in_mesh && !metadata;
    decide(
        policy,
        &hits,
        &standing,
        &policy.outbound_demand(&ask.source),
        open_to_audit,
    )
}

/// What the policies about a workload say without looking at the other side.
#[derive(Default)]
struct Standing<'p> {
    /// Whether there is any.
    any: bool,
    /// Whether one that allows is enforced.
    enforced: bool,
    /// The first that allows and is only audited.
    audited: Option<&'p PolicyName>,
    /// Whether an enforced rule allows the port to somebody.
    allowed_to_somebody: bool,
    /// A rule that allows the port to somebody.
    same_port: Option<usize>,
    /// A rule that allows anything to anybody.
    first: Option<usize>,
}

impl<'p> Standing<'p> {
    fn add(&mut self, group: &'p Summary, port: u16) {
        self.any = true;
        self.enforced |= group.enforced;
        self.audited = self.audited.into_iter().chain(&group.audited).min();
        self.allowed_to_somebody |= group.enforced_ports.find(port).is_some();
        let same_port = group.ports.find(port).map(|(_, rule)| rule);
        self.same_port = self.same_port.into_iter().chain(same_port).min();
        self.first = self.first.into_iter().chain(group.first).min();
    }

    /// Whether a missing rule is only audited: policies that allow are being tried out, and none is enforced.
    fn is_open_to_audit(&self) -> bool {
        !self.enforced && self.audited.is_some()
    }

    /// The denial for want of a rule.
    fn missing(&self, policy: &Policy, hits: &Hits) -> Denial {
        if !self.any {
            return Denial::NoPolicy;
        }
        let rule = |id: usize| policy.rules.get(id).map(Arc::clone);
        let guarded = hits.guarded.and_then(|(hit, guard)| {
            Some(match guard {
                Guard::MeshRange => Nearest::MeshRange(rule(hit.rule)?),
                Guard::Metadata => Nearest::Metadata(rule(hit.rule)?),
            })
        });
        let audited = || {
            hits.of(Class::AuditAllow)
                .and_then(|hit| rule(hit.rule))
                .map(Nearest::Audited)
        };
        let elsewhere = || {
            hits.elsewhere
                .and_then(|hit| rule(hit.rule))
                .map(Nearest::OtherPorts)
        };
        let same_port = || self.same_port.and_then(rule).map(Nearest::OtherPeers);
        let any = || self.first.and_then(rule).map(Nearest::Other);
        let nearest = guarded
            .or_else(audited)
            .or_else(elsewhere)
            .or_else(same_port)
            .or_else(any);
        Denial::NoRule(nearest.unwrap_or(Nearest::None))
    }
}

/// Weighs what was found: what is, and what would be with everything enforced.
fn decide(
    policy: &Policy,
    hits: &Hits,
    standing: &Standing<'_>,
    demand: &Demand<'_>,
    open_to_audit: bool,
) -> Verdict {
    let denied = |hit: Option<Hit>| Some(Decision::Denied(Denial::Rule(rule_of(policy, hit?)?)));
    let allowed = |hit: Option<Hit>| {
        let rule = rule_of(policy, hit?)?;
        Some(Decision::Allowed(if rule.is_about_hosts() {
            Grant::Host(rule)
        } else {
            Grant::Rule(rule)
        }))
    };
    let missing = || Decision::Denied(standing.missing(policy, hits));

    let would = denied(hits.of_either(Class::Deny, Class::AuditDeny))
        .or_else(|| allowed(hits.of_either(Class::Allow, Class::AuditAllow)))
        .unwrap_or_else(missing);
    let is = denied(hits.of(Class::Deny))
        .or_else(|| allowed(hits.of(Class::Allow)))
        .unwrap_or_else(|| match (demand, standing.audited) {
            (
                Demand {
                    mode: Mode::Permissive,
                    by: Some(by),
                },
                _,
            ) => Decision::Allowed(Grant::Permissive((*by).clone())),
            (_, Some(by)) if open_to_audit => allowed(hits.of(Class::AuditAllow))
                .unwrap_or_else(|| Decision::Allowed(Grant::Audit(by.clone()))),
            _ => missing(),
        });
    Verdict { is, would }
}

fn rule_of(policy: &Policy, hit: Hit) -> Option<Arc<Rule>> {
    policy.rules.get(hit.rule).map(Arc::clone)
}

#[cfg(test)]
mod reference;
#[cfg(test)]
mod tests;
