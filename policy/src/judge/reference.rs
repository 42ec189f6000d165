//! Property tests: random rules and questions, judged also by a plain reading of the rules one by one.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::net::IpAddr;

use ferrule_document::Place;
use ferrule_identity::SpiffeId;
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use proptest::sample::select;

use super::*;
use crate::compile::compile;
use crate::document::{
    AccessPolicy, AccessRule, Action, EgressPolicy, EgressRule, Enforcement, MeshPolicy, Meta, PolicyDocument,
};
use crate::explain::explain;
use crate::host::HostName;
use crate::pattern::{Ports, ServiceName, SourcePattern, TargetPattern, Workloads};
use crate::policy::Mesh;

const IDS: [&str; 8] = [
    "spiffe://t.x/ns/a/sa/web",
    "spiffe://t.x/ns/a/sa/we.b",
    "spiffe://t.x/ns/a/sa/web/deep",
    "spiffe://t.x/ns/b/sa/web",
    "spiffe://t.x/ns/b",
    "spiffe://t.x.y/ns/a/sa/web",
    "spiffe://t.x/adm",
    "spiffe://t.x/admin",
];
const ID_PATTERNS: [&str; 9] = [
    "spiffe://t.x/ns/a/sa/web",
    "spiffe://t.x/ns/a/sa/we.b",
    "spiffe://t.x/ns/a/sa/web/*",
    "spiffe://t.x/ns/a/sa/*",
    "spiffe://t.x/ns/a/*",
    "spiffe://t.x/*",
    "spiffe://t.x.y/*",
    "spiffe://t.x/adm/*",
    "spiffe://t.x/adm",
];
const ADDRESSES: [&str; 8] = [
    "10.0.0.1",
    "10.1.0.1",
    "192.0.2.1",
    "::ffff:192.0.2.1",
    "192.0.2.200",
    "2001:db8::1",
    "fe80::1",
    "169.254.169.254",
];
const CIDRS: [&str; 8] = [
    "0.0.0.0/0",
    "10.0.0.0/8",
    "10.1.0.0/16",
    "192.0.2.0/24",
    "192.0.2.1/32",
    "::/0",
    "2001:db8::/32",
    "169.254.169.254/32",
];
const HOSTS: [&str; 4] = ["a.x.org", "b.a.x.org", "x.org", "ax.org"];
const HOST_PATTERNS: [&str; 4] = ["a.x.org", "*.x.org", "*.a.x.org", "x.org"];

fn ports() -> impl Strategy<Value = Ports> {
    prop_oneof![
        Just(Ports::All),
        vec(1u16..4, 1..3).prop_map(|ports| Ports::only(ports).unwrap())
    ]
}

fn labels(least: usize) -> impl Strategy<Value = BTreeMap<String, String>> {
    let word = |words: &'static [&'static str]| select(words).prop_map(str::to_owned);
    btree_map(word(&["app", "tier"]), word(&["1", "2"]), least..3)
}

fn workloads() -> impl Strategy<Value = Workloads> {
    prop_oneof![
        Just(Workloads::AllOfNamespace),
        labels(1).prop_map(Workloads::Labelled)
    ]
}

fn source() -> impl Strategy<Value = SourcePattern> {
    prop_oneof![
        4 => select(&ID_PATTERNS[..]).prop_map(|text| SourcePattern::Identity(text.parse().unwrap())),
        1 => select(&["a", "b"][..]).prop_map(|text| SourcePattern::Namespace(text.into())),
        2 => select(&CIDRS[..]).prop_map(|text| SourcePattern::Cidr(text.parse().unwrap())),
    ]
}

fn service() -> impl Strategy<Value = ServiceName> {
    (select(&["a", "b"][..]), select(&["s", "t"][..])).prop_map(|(namespace, name)| ServiceName {
        namespace: namespace.into(),
        name: name.into(),
    })
}

fn targets() -> impl Strategy<Value = Vec<TargetPattern>> {
    let host = select(&HOST_PATTERNS[..]).prop_map(|text| TargetPattern::Host(text.parse().unwrap()));
    let cidr = select(&CIDRS[..]).prop_map(|text| TargetPattern::Cidr(text.parse().unwrap()));
    prop_oneof![
        vec(host, 1..3),
        vec(cidr, 1..3),
        vec(service().prop_map(TargetPattern::Service), 1..2)
    ]
}

fn documents() -> impl Strategy<Value = Vec<PolicyDocument>> {
    let enforcement = || select(&[Enforcement::Enforce, Enforcement::Enforce, Enforcement::Audit][..]);
    let mode = || select(&[Mode::Strict, Mode::Permissive][..]);
    let action = select(&[Action::Allow, Action::Allow, Action::Deny][..]);
    let access_rule = (vec(source(), 1..3), ports()).prop_map(|(from, ports)| AccessRule { from, ports });
    let access = (workloads(), action, enforcement(), vec(access_rule, 1..4)).prop_map(
        |(workloads, action, enforcement, rules)| {
            PolicyDocument::Access(AccessPolicy {
                meta: meta(),
                workloads,
                action,
                enforcement,
                rules,
            })
        },
    );
    let egress_rule = (targets(), ports()).prop_map(|(to, ports)| EgressRule { to, ports });
    let egress =
        (workloads(), enforcement(), vec(egress_rule, 1..4)).prop_map(|(workloads, enforcement, allow)| {
            PolicyDocument::Egress(EgressPolicy {
                meta: meta(),
                workloads,
                enforcement,
                allow,
            })
        });
    let modes =
        (workloads(), mode(), btree_map(1u16..4, mode(), 0..2)).prop_map(|(workloads, mode, ports)| {
            PolicyDocument::Mesh(MeshPolicy {
                meta: meta(),
                workloads,
                mode,
                ports,
            })
        });
    let any = prop_oneof![3 => access, 2 => egress, 1 => modes];
    vec((any, select(&["a", "a", "b"][..])), 0..8).prop_map(|documents| {
        let named = documents
            .into_iter()
            .enumerate()
            .map(|(at, (mut document, namespace))| {
                let meta = match &mut document {
                    PolicyDocument::Access(policy) => &mut policy.meta,
                    PolicyDocument::Egress(policy) => &mut policy.meta,
                    PolicyDocument::Mesh(policy) => &mut policy.meta,
                };
                // Names in another order than that of writing.
                meta.name = format!("p{}", (at * 5) % 8).into();
                meta.namespace = namespace.into();
                document
            });
        named.collect()
    })
}

fn meta() -> Meta {
    Meta {
        namespace: "a".into(),
        name: "x".into(),
        place: Place::whole("made here"),
    }
}

fn mesh() -> Mesh {
    let ranges = vec!["10.0.0.0/8".parse().unwrap()];
    Mesh {
        ranges,
        ..Mesh::named("t.x".parse().unwrap())
    }
}

/// A question with everything that it borrows.
#[derive(Debug, Clone)]
struct Question {
    caller: Caller,
    labels: BTreeMap<String, String>,
    port: u16,
}

#[derive(Debug, Clone)]
enum Caller {
    Identity(SpiffeId),
    Clear(IpAddr),
    Ourselves {
        address: IpAddr,
        host: Option<HostName>,
        services: Vec<ServiceName>,
    },
}

fn question() -> impl Strategy<Value = Question> {
    let address = || select(&ADDRESSES[..]).prop_map(|text| text.parse::<IpAddr>().unwrap());
    let host = proptest::option::of(select(&HOSTS[..]).prop_map(|text| HostName::parse(text).unwrap()));
    let caller = prop_oneof![
        select(&IDS[..]).prop_map(|text| Caller::Identity(SpiffeId::parse(text).unwrap())),
        address().prop_map(Caller::Clear),
        (address(), host, vec(service(), 0..2)).prop_map(|(address, host, services)| Caller::Ourselves {
            address,
            host,
            services
        }),
    ];
    (caller, labels(0), 1u16..5).prop_map(|(caller, labels, port)| Question { caller, labels, port })
}

impl Question {
    fn ask(&self) -> Ask<'_> {
        let workload = Workload {
            namespace: "a",
            name: "w",
            labels: &self.labels,
        };
        let port = self.port;
        let inbound = |source| {
            Ask::Inbound(Inbound {
                source,
                destination: workload,
                port,
            })
        };
        match &self.caller {
            Caller::Identity(id) => inbound(Source::Verified(id)),
            Caller::Clear(address) => inbound(Source::Plaintext(*address)),
            Caller::Ourselves {
                address,
                host,
                services,
            } => Ask::Outbound(Outbound {
                source: workload,
                address: *address,
                port,
                services,
                host: host.as_ref(),
            }),
        }
    }
}

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
