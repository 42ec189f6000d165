//! Draws random rules and questions, of few names, so that they meet often.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ferrule_document::Place;
use ferrule_identity::SpiffeId;
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use proptest::sample::select;

use crate::ask::{Ask, Inbound, Outbound, Source, Workload};
use crate::document::{
    AccessPolicy, AccessRule, Action, EgressPolicy, EgressRule, Enforcement, MeshPolicy, Meta, Mode,
    PolicyDocument,
};
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

pub(super) fn documents() -> impl Strategy<Value = Vec<PolicyDocument>> {
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

pub(super) fn mesh() -> Mesh {
    let ranges = vec!["10.0.0.0/8".parse().unwrap()];
    Mesh {
        ranges,
        ..Mesh::named("t.x".parse().unwrap())
    }
}

/// A question with everything that it borrows.
#[derive(Debug, Clone)]
pub(super) struct Question {
    pub(super) caller: Caller,
    pub(super) labels: BTreeMap<String, String>,
    pub(super) port: u16,
}

#[derive(Debug, Clone)]
pub(super) enum Caller {
    Identity(SpiffeId),
    Clear(IpAddr),
    Ourselves {
        address: IpAddr,
        host: Option<HostName>,
        services: Vec<ServiceName>,
    },
}

pub(super) fn question() -> impl Strategy<Value = Question> {
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
    pub(super) fn ask(&self) -> Ask<'_> {
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
