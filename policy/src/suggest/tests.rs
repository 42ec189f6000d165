//! Tests of suggestions: they read again, allow what was observed, and nothing else.

use ferrule_document::Limits;
use ferrule_identity::SpiffeId;
use proptest::collection::{btree_set, vec};
use proptest::prelude::*;

use super::*;
use crate::ask::{Inbound, Outbound, Source};
use crate::compile::compile;
use crate::document::PolicyDocument;
use crate::host::HostName;
use crate::pattern::ServiceName;
use crate::policy::Mesh;
use crate::preset::Preset;

fn compiled(text: &str) -> Policy {
    let documents = PolicyDocument::read_all("suggested.yaml", text.as_bytes(), Limits::default());
    let documents = documents.unwrap_or_else(|faults| panic!("{faults}\n{text}"));
    compile(&documents, Mesh::named("shop.local".parse().unwrap())).unwrap()
}

fn labels(app: &str) -> BTreeMap<String, String> {
    let pairs = [("app", app), ("version", "1.10"), ("pod-template-hash", "5d4f")];
    pairs
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect()
}

fn id(account: &str) -> SpiffeId {
    SpiffeId::parse(&format!("spiffe://shop.local/ns/shop/sa/{account}")).unwrap()
}

fn called<'a>(id: &'a SpiffeId, labels: &'a BTreeMap<String, String>, port: u16) -> Ask<'a> {
    let destination = Workload {
        namespace: "shop",
        name: "api",
        labels,
    };
    Ask::Inbound(Inbound {
        source: Source::Verified(id),
        destination,
        port,
    })
}

#[test]
fn the_rules_are_few_and_readable() {
    let (web, job, api) = (id("web"), id("job"), labels("api"));
    let source = Workload {
        namespace: "shop",
        name: "api",
        labels: &api,
    };
    let host = HostName::parse("pay.example.com").unwrap();
    let outbound = |port, host, services| {
        let address = "192.0.2.9".parse().unwrap();
        Ask::Outbound(Outbound {
            source,
            address,
            port,
            services,
            host,
        })
    };
    let ldap = [ServiceName {
        namespace: "legacy".into(),
        name: "ldap".into(),
    }];
    let asks = [
        called(&web, &api, 8080),
        called(&job, &api, 8080),
        called(&web, &api, 8080),
        outbound(443, Some(&host), &[]),
        outbound(5432, None, &[]),
        outbound(389, None, &ldap),
    ];
    let suggestion = suggest(&missing_edges(&compiled(""), &asks));
    assert_eq!(suggestion.left_out, []);
    assert_eq!(
        suggestion.documents,
        "\
apiVersion: ferrule.dev/v1alpha1
kind: AccessPolicy
metadata:
  namespace: shop
  name: api-observed
spec:
  workloads:
    labels:
      app: api
  action: allow
  rules:
  - from:
    - identities:
      - spiffe://shop.local/ns/shop/sa/job
      - spiffe://shop.local/ns/shop/sa/web
    ports:
    - 8080
---
apiVersion: ferrule.dev/v1alpha1
kind: EgressPolicy
metadata:
  namespace: shop
  name: api-observed
spec:
  workloads:
    labels:
      app: api
  allow:
  - cidrs:
    - 192.0.2.9/32
    ports:
    - 5432
  - hosts:
    - pay.example.com
    ports:
    - 443
  - services:
    - namespace: legacy
      name: ldap
    ports:
    - 389
"
    );
}

#[test]
fn what_no_rule_could_mean_alone_is_left_out() {
    let (web, none) = (id("web"), BTreeMap::new());
    let edge = Edge::of(&called(&web, &none, 8080));
    let suggestion = suggest(&[edge.clone(), edge.clone()]);
    assert_eq!(
        (suggestion.documents.as_str(), suggestion.left_out),
        ("", vec![edge])
    );
}

#[test]
fn what_is_allowed_or_denied_by_a_rule_is_not_missing() {
    let (web, api) = (id("web"), labels("api"));
    let allowed = compiled(&Preset::SameNamespace.documents(["shop"]));
    assert_eq!(missing_edges(&allowed, &[called(&web, &api, 1)]), []);
    let denied = Preset::SameNamespace
        .documents(["shop"])
        .replace("action: allow", "action: deny");
    assert_eq!(missing_edges(&compiled(&denied), &[called(&web, &api, 1)]), []);
}

#[test]
fn the_presets_read_again() {
    assert_eq!(compiled(&Preset::None.documents(["shop"])).rule_count(), 0);
    let preset: Preset = "same-namespace".parse().unwrap();
    assert_eq!(compiled(&preset.documents(["shop", "yes", "1"])).rule_count(), 3);
    assert!("some".parse::<Preset>().is_err());
}

#[test]
fn the_better_of_two_ways_to_group_is_taken() {
    let api = labels("api");
    // Three callers, one of each pair of ports and one port for all: by caller three rules, by port two.
    let wanted = [("a", 1), ("b", 1), ("c", 1), ("a", 2), ("b", 2)];
    let ids: Vec<(SpiffeId, u16)> = wanted.iter().map(|(name, port)| (id(name), *port)).collect();
    let edges: Vec<Edge> = ids
        .iter()
        .map(|(id, port)| Edge::of(&called(id, &api, *port)))
        .collect();
    assert_eq!(compiled(&suggest(&edges).documents).rule_count(), 2);
    let wanted = [("a", 1), ("a", 2), ("a", 3), ("b", 3)];
    let ids: Vec<(SpiffeId, u16)> = wanted.iter().map(|(name, port)| (id(name), *port)).collect();
    let edges: Vec<Edge> = ids
        .iter()
        .map(|(id, port)| Edge::of(&called(id, &api, *port)))
        .collect();
    assert_eq!(compiled(&suggest(&edges).documents).rule_count(), 2);
}

/// A random edge: which workload, which peer, inbound or outbound, which port.
type Draw = (u8, u8, bool, u16);

fn asked<R>((workload, peer, inbound, port): Draw, then: impl FnOnce(&Ask<'_>) -> R) -> R {
    let labels = labels(&format!("app{workload}"));
    let name = format!("app{workload}");
    let workload = Workload {
        namespace: "shop",
        name: &name,
        labels: &labels,
    };
    let caller = id(&format!("peer{peer}"));
    let address = format!("192.0.2.{peer}").parse().unwrap();
    let host = HostName::parse(&format!("host{peer}.example.com")).unwrap();
    let services = [ServiceName {
        namespace: "legacy".into(),
        name: format!("svc{peer}").into(),
    }];
    match (inbound, peer % 3) {
        (true, _) => {
            let source = Source::Verified(&caller);
            then(&Ask::Inbound(Inbound {
                source,
                destination: workload,
                port,
            }))
        }
        (false, kind) => then(&Ask::Outbound(Outbound {
            source: workload,
            address,
            port,
            services: if kind == 1 { &services } else { &[] },
            host: (kind == 2).then_some(&host),
        })),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_suggested_allows_exactly_what_was_observed(
        observed in btree_set((0u8..3, 0u8..5, any::<bool>(), 1u16..5), 0..20),
        others in vec((0u8..3, 0u8..5, any::<bool>(), 1u16..5), 0..20),
    ) {
        let edges: Vec<Edge> = observed.iter().map(|draw| asked(*draw, Edge::of)).collect();
        let suggestion = suggest(&edges);
        prop_assert!(suggestion.left_out.is_empty());
        let policy = compiled(&suggestion.documents);
        prop_assert!(policy.rule_count() <= edges.len());
        for draw in observed.iter().chain(&others) {
            let allowed = asked(*draw, |ask| judge(&policy, ask).is_allowed());
            prop_assert_eq!(allowed, observed.contains(draw), "{:?}\n{}", draw, suggestion.documents);
        }
    }
}
