//! Turns documents into a policy.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use ferrule_document::{Problem, Problems};

use crate::document::{
    AccessPolicy, Action, EgressPolicy, Enforcement, MeshPolicy, Meta, Mode, PolicyDocument,
};
use crate::index::{Class, RuleId};
use crate::pattern::{Ports, TargetPattern, Workloads};
use crate::policy::{AccessGroup, EgressGroup, Mesh, ModeGroup, Policy, Summary};
use crate::rule::{Peers, PolicyName, Rule};
use crate::scope::Scoped;

/// Arranges the rules of `documents` for judging. Without any document, everything is denied.
///
/// # Errors
/// When two documents of one kind have the same name: nobody can say which of them was meant.
pub fn compile(documents: &[PolicyDocument], mesh: Mesh) -> Result<Policy, Problems> {
    let mut problems = Problems::new();
    let mut named: HashMap<(&str, PolicyName), &Meta> = HashMap::new();
    for document in documents {
        let meta = document.meta();
        if let Some(first) = named.insert((document.kind(), name_of(meta)), meta) {
            let message = format!(
                "{} {} is also written at {}",
                document.kind(),
                name_of(meta),
                first.place
            );
            problems.add(Problem::new(meta.place.clone(), "metadata.name", message));
        }
    }
    // The order of files must not decide which rule is named.
    let mut ordered: Vec<&PolicyDocument> = documents.iter().collect();
    ordered.sort_by_key(|document| (name_of(document.meta()), document.kind()));

    let mut compiling = Compiling::default();
    for document in ordered {
        match document {
            PolicyDocument::Access(policy) => compiling.access(policy),
            PolicyDocument::Egress(policy) => compiling.egress(policy),
            PolicyDocument::Mesh(policy) => compiling.modes_of(policy),
        }
    }
    let modes = compiling
        .modes
        .into_iter()
        .map(|(selector, policies)| (selector, strictest(&policies)));
    problems.into_result(Policy {
        mesh,
        rules: compiling.rules,
        access: Scoped::new(compiling.access),
        egress: Scoped::new(compiling.egress),
        modes: Scoped::new(modes.collect()),
    })
}

type Selector = (Arc<str>, Workloads);

#[derive(Default)]
struct Compiling<'d> {
    rules: Vec<Arc<Rule>>,
    access: BTreeMap<Selector, AccessGroup>,
    egress: BTreeMap<Selector, EgressGroup>,
    modes: BTreeMap<Selector, Vec<&'d MeshPolicy>>,
}

impl<'d> Compiling<'d> {
    fn access(&mut self, policy: &AccessPolicy) {
        let selector = (Arc::clone(&policy.meta.namespace), policy.workloads.clone());
        let group = self.access.entry(selector).or_default();
        let class = Class::of(policy.action, policy.enforcement);
        for (at, rule) in policy.rules.iter().enumerate() {
            let id = self.rules.len();
            for source in &rule.from {
                group.sources.add(source, &rule.ports, class, id);
            }
            if policy.action == Action::Allow {
                group
                    .summary
                    .add(policy.enforcement, &policy.meta, &rule.ports, id);
            }
            let name = name_of(&policy.meta);
            self.rules.push(Arc::new(Rule {
                name: rule_name(&name, at + 1),
                policy: name,
                number: at + 1,
                action: policy.action,
                enforcement: policy.enforcement,
                peers: Peers::From(rule.from.clone()),
                ports: rule.ports.clone(),
            }));
        }
    }

    fn egress(&mut self, policy: &EgressPolicy) {
        let selector = (Arc::clone(&policy.meta.namespace), policy.workloads.clone());
        let group = self.egress.entry(selector).or_default();
        let class = Class::of(Action::Allow, policy.enforcement);
        for (at, rule) in policy.allow.iter().enumerate() {
            let id = self.rules.len();
            for target in &rule.to {
                group.targets.add(target, &rule.ports, class, id);
                match target {
                    TargetPattern::Host(_) => group.host_ports.add(&rule.ports, id),
                    TargetPattern::Cidr(_) | TargetPattern::Service(_) => {
                        group.address_ports.add(&rule.ports, id);
                    }
                }
            }
            group
                .summary
                .add(policy.enforcement, &policy.meta, &rule.ports, id);
            let name = name_of(&policy.meta);
            self.rules.push(Arc::new(Rule {
                name: rule_name(&name, at + 1),
                policy: name,
                number: at + 1,
                action: Action::Allow,
                enforcement: policy.enforcement,
                peers: Peers::To(rule.to.clone()),
                ports: rule.ports.clone(),
            }));
        }
    }

    fn modes_of(&mut self, policy: &'d MeshPolicy) {
        let selector = (Arc::clone(&policy.meta.namespace), policy.workloads.clone());
        self.modes.entry(selector).or_default().push(policy);
    }
}

impl Summary {
    /// Takes note of a rule that allows.
    fn add(&mut self, enforcement: Enforcement, meta: &Meta, ports: &Ports, rule: RuleId) {
        self.ports.add(ports, rule);
        self.first = self.first.or(Some(rule));
        match enforcement {
            Enforcement::Enforce => {
                self.enforced = true;
                self.enforced_ports.add(ports, rule);
            }
            Enforcement::Audit => {
                self.audited.get_or_insert_with(|| name_of(meta));
            }
        }
    }
}

/// Every policy has its say on every port that any of them names; the strictest wins, and of several equally
/// strict ones the first by name.
fn strictest(policies: &[&MeshPolicy]) -> ModeGroup {
    let says = |policy: &MeshPolicy, mode: Mode| (mode, name_of(&policy.meta));
    let others = policies.iter().map(|policy| says(policy, policy.mode)).min();
    let named: BTreeSet<u16> = policies
        .iter()
        .flat_map(|policy| policy.ports.keys().copied())
        .collect();
    let ports = named.into_iter().filter_map(|port| {
        let on_port =
            |policy: &&MeshPolicy| says(policy, policy.ports.get(&port).copied().unwrap_or(policy.mode));
        policies.iter().map(on_port).min().map(|said| (port, said))
    });
    ModeGroup {
        others,
        ports: ports.collect(),
    }
}

/// How logs, verdicts and sentences call a policy's rule of that number.
fn rule_name(policy: &PolicyName, number: usize) -> Arc<str> {
    format!("{policy} rule {number}").into()
}

fn name_of(meta: &Meta) -> PolicyName {
    PolicyName {
        namespace: Arc::clone(&meta.namespace),
        name: Arc::clone(&meta.name),
    }
}
