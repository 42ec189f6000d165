//! Property tests: random rules and questions, judged also by a plain reading of the rules one by one.

use std::cmp::Reverse;
use std::net::IpAddr;

use proptest::collection::vec;
use proptest::prelude::*;

use self::draw::{Caller, Question, documents, mesh, question};
use super::*;
use crate::compile::compile;
use crate::document::{Action, Enforcement, Meta, PolicyDocument};
use crate::explain::explain;
use crate::pattern::{Ports, SourcePattern, TargetPattern, Workloads};

mod draw;

/// A rule that matches, as the plain reading finds it: what orders it first, its name last.
type Match = (u8, Reverse<usize>, bool, String, usize);

/// The plain reading: every rule of every document is looked at.
struct Plain<'d> {
    documents: &'d [PolicyDocument],
    question: &'d Question,
}

impl Plain<'_> {
    /// Whether it is allowed, whether it would be, and the rule that decides each.
    fn judge(&self) -> [(bool, Option<String>); 2] {
        let permissive = self.is_permissive();
        if matches!(self.question.caller, Caller::Clear(_)) && !permissive {
            return [(false, None), (false, None)];
        }
        let of = |action, enforcements: &[Enforcement]| {
            let mut found: Vec<Match> = enforcements
                .iter()
                .flat_map(|e| self.matches(action, *e))
                .collect();
            found.sort();
            found
                .first()
                .map(|(.., name, number)| format!("{name} rule {number}"))
        };
        let both = [Enforcement::Enforce, Enforcement::Audit];
        let would = match (of(Action::Deny, &both), of(Action::Allow, &both)) {
            (Some(rule), _) => (false, Some(rule)),
            (None, Some(rule)) => (true, Some(rule)),
            (None, None) => (false, None),
        };
        let enforced = [Enforcement::Enforce];
        let is = match (of(Action::Deny, &enforced), of(Action::Allow, &enforced)) {
            (Some(rule), _) => (false, Some(rule)),
            (None, Some(rule)) => (true, Some(rule)),
            (None, None) if permissive => (true, None),
            (None, None) if self.is_on_trial() => (true, of(Action::Allow, &both)),
            (None, None) => (false, None),
        };
        [is, would]
    }

    fn selected(&self, meta: &Meta, workloads: &Workloads) -> bool {
        &*meta.namespace == "a" && workloads.select(&self.question.labels)
    }

    fn is_permissive(&self) -> bool {
        let inbound = !matches!(self.question.caller, Caller::Ourselves { .. });
        let modes = |by_labels: bool| -> Vec<Mode> {
            let policies = self.documents.iter().filter_map(|document| match document {
                PolicyDocument::Mesh(policy) => Some(policy),
                _ => None,
            });
            policies
                .filter(|policy| self.selected(&policy.meta, &policy.workloads))
                .filter(|policy| matches!(policy.workloads, Workloads::Labelled(_)) == by_labels)
                .map(|policy| match policy.ports.get(&self.question.port) {
                    Some(mode) if inbound => *mode,
                    _ => policy.mode,
                })
                .collect()
        };
        let deciding = if modes(true).is_empty() {
            modes(false)
        } else {
            modes(true)
        };
        !deciding.is_empty() && deciding.iter().all(|mode| *mode == Mode::Permissive)
    }

    fn is_on_trial(&self) -> bool {
        let outbound = matches!(self.question.caller, Caller::Ourselves { .. });
        if let Caller::Ourselves { address, .. } = &self.question.caller
            && (is_in_ten(*address) || is_metadata(*address))
        {
            return false;
        }
        let allowing: Vec<Enforcement> = self
            .documents
            .iter()
            .filter_map(|document| match document {
                PolicyDocument::Access(policy) if !outbound && policy.action == Action::Allow => self
                    .selected(&policy.meta, &policy.workloads)
                    .then_some(policy.enforcement),
                PolicyDocument::Egress(policy) if outbound => self
                    .selected(&policy.meta, &policy.workloads)
                    .then_some(policy.enforcement),
                _ => None,
            })
            .collect();
        !allowing.is_empty() && !allowing.contains(&Enforcement::Enforce)
    }

    fn matches(&self, action: Action, enforcement: Enforcement) -> Vec<Match> {
        let mut found = Vec::new();
        let mut look = |meta: &Meta, number: usize, ports: &Ports, closeness: Option<(u8, usize)>| {
            if let Some((kind, length)) = closeness.filter(|_| ports.contain(self.question.port)) {
                let name = format!("{}/{}", meta.namespace, meta.name);
                found.push((kind, Reverse(length), *ports == Ports::All, name, number));
            }
        };
        for document in self.documents {
            match document {
                PolicyDocument::Access(policy)
                    if policy.action == action
                        && policy.enforcement == enforcement
                        && self.selected(&policy.meta, &policy.workloads) =>
                {
                    for (at, rule) in policy.rules.iter().enumerate() {
                        for source in &rule.from {
                            look(
                                &policy.meta,
                                at + 1,
                                &rule.ports,
                                self.source_fits(source, action),
                            );
                        }
                    }
                }
                PolicyDocument::Egress(policy)
                    if action == Action::Allow
                        && policy.enforcement == enforcement
                        && self.selected(&policy.meta, &policy.workloads) =>
                {
                    for (at, rule) in policy.allow.iter().enumerate() {
                        for target in &rule.to {
                            look(&policy.meta, at + 1, &rule.ports, self.target_fits(target));
                        }
                    }
                }
                _ => {}
            }
        }
        found
    }

    /// How closely the pattern fits the caller: kind (less is closer) and length (more is closer).
    fn source_fits(&self, source: &SourcePattern, action: Action) -> Option<(u8, usize)> {
        match (&self.question.caller, source.to_string()) {
            (Caller::Identity(id), pattern) => {
                let parts: Vec<&str> = id.as_str().split('/').collect();
                if let Some(namespace) = pattern.strip_prefix("namespace ") {
                    let [_, _, "t.x", "ns", found, "sa", _] = parts.as_slice() else {
                        return None;
                    };
                    return (*found == namespace).then_some((1, 0));
                }
                let wanted: Vec<&str> = pattern.split('/').collect();
                match wanted.split_last() {
                    Some((&"*", above)) => {
                        let fits = parts.len() > above.len() && parts.starts_with(above);
                        fits.then_some((2, pattern.len()))
                    }
                    _ => (parts == wanted).then_some((0, 0)),
                }
            }
            (Caller::Clear(address), pattern) => {
                let fits = range_fits(&pattern, *address)?;
                (action == Action::Deny || !is_in_ten(*address)).then_some((0, fits))
            }
            (Caller::Ourselves { .. }, _) => None,
        }
    }

    fn target_fits(&self, target: &TargetPattern) -> Option<(u8, usize)> {
        let Caller::Ourselves {
            address,
            host,
            services,
        } = &self.question.caller
        else {
            return None;
        };
        match target {
            TargetPattern::Service(service) => services.contains(service).then_some((0, 0)),
            _ if is_in_ten(*address) => None,
            TargetPattern::Cidr(cidr) => {
                let fits = range_fits(&cidr.to_string(), *address)?;
                (!is_metadata(*address) || fits == 32).then_some((1, fits))
            }
            TargetPattern::Host(pattern) => {
                let (host, pattern) = (host.as_ref()?.to_string(), pattern.to_string());
                match pattern.strip_prefix('*') {
                    None => (host == pattern).then_some((2, 0)),
                    Some(end) => {
                        let label = host.strip_suffix(end)?;
                        (!label.is_empty() && !label.contains('.')).then_some((3, 0))
                    }
                }
            }
        }
    }
}

fn is_in_ten(address: IpAddr) -> bool {
    range_fits("10.0.0.0/8", address).is_some()
}

fn is_metadata(address: IpAddr) -> bool {
    address.to_canonical().to_string() == "169.254.169.254"
}

/// The length of the range when the address lies in it, bit by bit.
fn range_fits(cidr: &str, address: IpAddr) -> Option<usize> {
    let bits = |address: IpAddr| -> Vec<bool> {
        let octets = match address {
            IpAddr::V4(v4) => v4.octets().to_vec(),
            IpAddr::V6(v6) => v6.octets().to_vec(),
        };
        octets
            .iter()
            .flat_map(|octet| (0..8).rev().map(move |bit| octet >> bit & 1 == 1))
            .collect()
    };
    let (network, length) = cidr.split_once('/')?;
    let (network, length) = (bits(network.parse().ok()?), length.parse::<usize>().ok()?);
    let address = bits(address.to_canonical());
    (network.len() == address.len() && network[..length] == address[..length]).then_some(length)
}

/// Checks that a nearest rule is what its name says.
fn check_nearest(nearest: &Nearest, question: &Question) {
    let Some(rule) = nearest.rule() else { return };
    assert_eq!(rule.action, Action::Allow);
    let covers = rule.ports.contain(question.port);
    match nearest {
        Nearest::OtherPorts(_) | Nearest::Other(_) => assert!(!covers),
        Nearest::OtherPeers(_) | Nearest::MeshRange(_) | Nearest::Metadata(_) => assert!(covers),
        Nearest::Audited(rule) => assert!(covers && rule.enforcement == Enforcement::Audit),
        Nearest::None => {}
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn judging_by_index_is_reading_rule_by_rule(
        documents in documents(),
        questions in vec(question(), 1..12),
    ) {
        let policy = compile(&documents, mesh()).unwrap();
        for question in &questions {
            let ask = question.ask();
            let verdict = judge(&policy, &ask);
            let rule = |decision: &Decision| decision.rule().map(ToString::to_string);
            let found = [&verdict.is, &verdict.would].map(|d| (d.is_allowed(), rule(d)));
            let wanted = Plain { documents: &documents, question }.judge();
            prop_assert_eq!(&found, &wanted, "{:?}\n{:?}", question, verdict);
            if let Decision::Denied(Denial::NoRule(nearest)) = &verdict.is {
                check_nearest(nearest, question);
            }
        }
    }

    #[test]
    fn the_sentence_says_what_is_judged(documents in documents(), question in question()) {
        let policy = compile(&documents, mesh()).unwrap();
        let ask = question.ask();
        let verdict = judge(&policy, &ask);
        let sentence = explain(&ask, &verdict);
        let begin = if verdict.is_allowed() { "allowed: " } else { "denied: " };
        prop_assert!(sentence.starts_with(begin), "{}", sentence);
        prop_assert_eq!(sentence.contains("it would be denied: "), verdict.is_audited());
        for rule in verdict.is.rule().into_iter().chain(verdict.is.nearest()) {
            prop_assert!(sentence.contains(&rule.to_string()), "{}", sentence);
        }
    }

    #[test]
    fn a_refused_port_is_refused_to_everybody(documents in documents(), question in question()) {
        let policy = compile(&documents, mesh()).unwrap();
        if let Ask::Inbound(inbound) = question.ask()
            && judge_port(&policy, &inbound.destination, inbound.port).is_some()
        {
            prop_assert!(!judge(&policy, &question.ask()).is_allowed());
        }
    }

    #[test]
    fn a_document_less_widens_nothing_unless_it_denies_or_demands(
        documents in documents(),
        without in any::<proptest::sample::Index>(),
        questions in vec(question(), 1..12),
    ) {
        // Only enforced rules: taking away a policy in force may leave one that is on trial.
        let enforced = |document: &PolicyDocument| match document {
            PolicyDocument::Access(policy) => policy.enforcement == Enforcement::Enforce,
            PolicyDocument::Egress(policy) => policy.enforcement == Enforcement::Enforce,
            PolicyDocument::Mesh(_) => true,
        };
        let documents: Vec<PolicyDocument> = documents.into_iter().filter(enforced).collect();
        if documents.is_empty() {
            return Ok(());
        }
        let mut fewer = documents.clone();
        let taken = fewer.remove(without.index(documents.len()));
        let only_allows = match &taken {
            PolicyDocument::Access(policy) => policy.action == Action::Allow,
            PolicyDocument::Egress(_) => true,
            PolicyDocument::Mesh(_) => false,
        };
        let [before, after] = [&documents, &fewer].map(|documents| compile(documents, mesh()).unwrap());
        for question in &questions {
            let ask = question.ask();
            if only_allows && judge(&after, &ask).is_allowed() {
                prop_assert!(judge(&before, &ask).is_allowed());
            }
        }
    }
}
