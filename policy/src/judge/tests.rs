//! Tests of judging: precedence, modes, audit.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use ferrule_document::Limits;
use ferrule_identity::SpiffeId;

use super::*;
use crate::compile::compile;
use crate::document::PolicyDocument;
use crate::host::HostName;
use crate::pattern::ServiceName;
use crate::policy::{BuiltIn, Mesh, ResolvedError};

mod egress;
mod many;

/// Documents without what is the same in all of them: `kind shop/name`, then the lines of the spec.
fn policy(documents: &[(&str, &str)]) -> Policy {
    let mut text = String::new();
    for (title, spec) in documents {
        let (kind, name) = title.split_once(' ').unwrap();
        let (namespace, name) = name.split_once('/').unwrap();
        let spec = spec.replace('\n', "\n  ");
        write!(
            text,
            "apiVersion: ferrule.dev/v1alpha1\nkind: {kind}\nmetadata: {{ namespace: {namespace}, name: {name} }}\n\
             spec:\n  {spec}\n---\n"
        )
        .unwrap();
    }
    let documents = PolicyDocument::read_all("rules.yaml", text.as_bytes(), Limits::default()).unwrap();
    let mesh = Mesh {
        trust_domain: "shop.local".parse().unwrap(),
        ranges: vec!["10.0.0.0/8".parse().unwrap(), "fd00:1::/32".parse().unwrap()],
        built_in: vec![BuiltIn {
            name: "resolver".into(),
            address: "10.0.0.53".parse().unwrap(),
            port: 53,
        }],
    };
    compile(&documents, mesh).unwrap()
}

fn labels(app: &str) -> BTreeMap<String, String> {
    BTreeMap::from([
        ("app".to_owned(), app.to_owned()),
        ("tier".to_owned(), "1".to_owned()),
    ])
}

/// The verdict on a caller (an account of the namespace `shop`, a whole ID, or an address in clear) of the workload
/// `api`.
fn inbound(policy: &Policy, caller: &str, port: u16) -> Verdict {
    let labels = labels("api");
    let destination = Workload {
        namespace: "shop",
        name: "api",
        labels: &labels,
    };
    if let Ok(address) = caller.parse() {
        return judge(
            policy,
            &Ask::Inbound(Inbound {
                source: Source::Plaintext(address),
                destination,
                port,
            }),
        );
    }
    let whole = format!("spiffe://shop.local/ns/shop/sa/{caller}");
    let id = SpiffeId::parse(if caller.contains(':') { caller } else { &whole }).unwrap();
    judge(
        policy,
        &Ask::Inbound(Inbound {
            source: Source::Verified(&id),
            destination,
            port,
        }),
    )
}

/// The verdict on the workload `api` calling an address, naming a host.
fn outbound(
    policy: &Policy,
    address: &str,
    port: u16,
    host: Option<&str>,
    services: &[ServiceName],
) -> Verdict {
    let labels = labels("api");
    let source = Workload {
        namespace: "shop",
        name: "api",
        labels: &labels,
    };
    let host = host.map(|host| HostName::parse(host).unwrap());
    let address = address.parse().unwrap();
    judge(
        policy,
        &Ask::Outbound(Outbound {
            source,
            address,
            port,
            services,
            host: host.as_ref(),
        }),
    )
}

fn rule(verdict: &Verdict) -> String {
    verdict.rule().map(ToString::to_string).unwrap_or_default()
}

const ALLOW_WEB: (&str, &str) = (
    "AccessPolicy shop/api",
    "workloads: { labels: { app: api } }\naction: allow\nrules:\n- from: [{ identities: [spiffe://shop.local/ns/shop/sa/web] }]\n  ports: [8080]",
);

#[test]
fn without_a_policy_everything_is_denied() {
    // D3
    let none = policy(&[]);
    assert_eq!(inbound(&none, "web", 80).is, Decision::Denied(Denial::NoPolicy));
    assert_eq!(
        outbound(&none, "192.0.2.1", 80, None, &[]).is,
        Decision::Denied(Denial::NoPolicy)
    );
    assert!(!inbound(&none, "192.0.2.1", 80).is_allowed());
    let labels = labels("api");
    let api = Workload {
        namespace: "shop",
        name: "api",
        labels: &labels,
    };
    assert!(judge_port(&none, &api, 80).is_some());
    assert_eq!(none.inbound_mode(&api, 80), Mode::Strict);
}

#[test]
fn a_rule_allows_exactly_what_it_says() {
    let policy = policy(&[ALLOW_WEB]);
    assert!(inbound(&policy, "web", 8080).is_allowed());
    assert_eq!(rule(&inbound(&policy, "web", 8080)), "shop/api rule 1");
    for (caller, port) in [
        ("web", 8081),
        ("we", 8080),
        ("webx", 8080),
        ("spiffe://shop.local/ns/shop2/sa/web", 8080),
        ("spiffe://other.local/ns/shop/sa/web", 8080),
        ("spiffe://shop.local/ns/shop/sa/web/x", 8080),
    ] {
        assert!(!inbound(&policy, caller, port).is_allowed(), "{caller} {port}");
    }
}

#[test]
fn a_namespace_is_one_of_our_own_trust_domain_and_of_the_usual_shape() {
    let policy = policy(&[(
        "AccessPolicy shop/api",
        "workloads: all\naction: allow\nrules:\n- from: [{ namespaces: [shop] }]",
    )]);
    assert!(inbound(&policy, "anyone", 1).is_allowed());
    for caller in [
        "spiffe://evil.local/ns/shop/sa/web",
        "spiffe://shop.local/ns/shop",
        "spiffe://shop.local/ns/shop/sa/web/x",
        "spiffe://shop.local/x/shop/sa/web",
        "spiffe://shop.local/ns/shop2/sa/web",
    ] {
        assert!(!inbound(&policy, caller, 1).is_allowed(), "{caller}");
    }
}

#[test]
fn deny_goes_before_allow_and_the_closest_one_is_named() {
    let policy = policy(&[
        ALLOW_WEB,
        (
            "AccessPolicy shop/a-deny",
            "workloads: all\naction: deny\nrules:\n- from: [{ identities: [\"spiffe://shop.local/*\"] }]\n- from: [{ namespaces: [shop] }]\n  ports: [8080]\n- from: [{ identities: [\"spiffe://shop.local/ns/shop/*\"] }]",
        ),
    ]);
    let verdict = inbound(&policy, "web", 8080);
    assert!(!verdict.is_allowed());
    assert_eq!(rule(&verdict), "shop/a-deny rule 2");
    assert_eq!(rule(&inbound(&policy, "web", 8081)), "shop/a-deny rule 3");
}

#[test]
fn overlapping_ranges_name_the_most_specific_deny() {
    // D8
    let permissive = ("MeshPolicy shop/m", "workloads: all\nmode: permissive");
    let policy = policy(&[
        permissive,
        (
            "AccessPolicy shop/d",
            "workloads: all\naction: deny\nrules:\n- from: [{ cidrs: [192.0.0.0/8] }]\n- from: [{ cidrs: [192.0.2.0/24] }]\n- from: [{ cidrs: [192.0.2.7/32] }]\n  ports: [1]",
        ),
        (
            "AccessPolicy shop/a",
            "workloads: all\naction: allow\nrules:\n- from: [{ cidrs: [192.0.2.7/32] }]",
        ),
    ]);
    assert_eq!(rule(&inbound(&policy, "192.0.2.7", 1)), "shop/d rule 3");
    assert_eq!(rule(&inbound(&policy, "192.0.2.7", 2)), "shop/d rule 2");
    assert_eq!(rule(&inbound(&policy, "::ffff:192.0.2.8", 1)), "shop/d rule 2");
    assert_eq!(rule(&inbound(&policy, "192.1.2.8", 1)), "shop/d rule 1");
    // An address beside an identity proves nothing, so a rule about ranges says nothing of it.
    assert_eq!(inbound(&policy, "web", 1).is.reason(), "permissive");
}

#[test]
fn clear_is_taken_only_where_the_mode_allows_it() {
    let policy = policy(&[
        (
            "MeshPolicy shop/m",
            "workloads: all\nmode: strict\nports: [{ port: 9090, mode: permissive }]",
        ),
        (
            "AccessPolicy shop/scrape",
            "workloads: all\naction: allow\nrules:\n- from: [{ cidrs: [192.0.2.0/24, 10.1.0.0/16] }]\n  ports: [9090, 8080]",
        ),
    ]);
    assert!(matches!(
        inbound(&policy, "192.0.2.1", 8080).is,
        Decision::Denied(Denial::Plaintext(Some(_)))
    ));
    let allowed = inbound(&policy, "192.0.2.1", 9090);
    assert_eq!(
        (allowed.word(), rule(&allowed).as_str()),
        ("allow", "shop/scrape rule 1")
    );
    // No range opens an address of the mesh itself: only the mode does, on the record.
    let within = inbound(&policy, "10.1.2.3", 9090);
    assert_eq!((within.word(), within.is.reason()), ("audit", "permissive"));
    assert!(matches!(
        &within.would,
        Decision::Denied(Denial::NoRule(Nearest::MeshRange(_)))
    ));
}

#[test]
fn permissive_audits_what_is_missing_but_a_deny_holds() {
    let permissive = ("MeshPolicy shop/m", "workloads: all\nmode: permissive");
    let deny = (
        "AccessPolicy shop/deny",
        "workloads: all\naction: deny\nrules:\n- from: [{ identities: [spiffe://shop.local/ns/shop/sa/bad] }]\n- from: [{ cidrs: [10.0.0.0/8] }]",
    );
    let policy = policy(&[permissive, deny, ALLOW_WEB]);
    assert_eq!(inbound(&policy, "web", 8080).word(), "allow");
    assert_eq!(inbound(&policy, "other", 8080).word(), "audit");
    assert_eq!(inbound(&policy, "192.0.2.1", 8080).word(), "audit");
    assert_eq!(inbound(&policy, "bad", 8080).word(), "deny");
    // A deny reaches into the mesh's own ranges, where an allow does not.
    assert_eq!(inbound(&policy, "10.1.2.3", 8080).word(), "deny");
    assert_eq!(outbound(&policy, "192.0.2.1", 80, None, &[]).word(), "audit");
}

#[test]
fn labels_decide_the_mode_before_the_namespace_and_the_strictest_wins() {
    let all = ("MeshPolicy shop/all", "workloads: all\nmode: permissive");
    let api = (
        "MeshPolicy shop/api",
        "workloads: { labels: { app: api } }\nmode: strict",
    );
    let tier = (
        "MeshPolicy shop/tier",
        "workloads: { labels: { tier: \"1\" } }\nmode: permissive\nports: [{ port: 9090, mode: strict }]",
    );
    let mode = |documents: &[(&str, &str)], port: u16| {
        let labels = labels("api");
        policy(documents).inbound_mode(
            &Workload {
                namespace: "shop",
                name: "api",
                labels: &labels,
            },
            port,
        )
    };
    assert_eq!(mode(&[all], 1), Mode::Permissive);
    assert_eq!(mode(&[all, api], 1), Mode::Strict);
    assert_eq!(mode(&[all, api, tier], 1), Mode::Strict);
    assert_eq!(mode(&[all, tier], 1), Mode::Permissive);
    assert_eq!(mode(&[all, tier], 9090), Mode::Strict);
    let same = (
        "MeshPolicy shop/all-too",
        "workloads: all\nmode: strict\nports: [{ port: 1, mode: permissive }]",
    );
    assert_eq!(mode(&[all, same], 1), Mode::Permissive);
    assert_eq!(mode(&[all, same], 2), Mode::Strict);
}

const AUDIT_WEB: (&str, &str) = (
    "AccessPolicy shop/trial",
    "workloads: all\naction: allow\nenforcement: audit\nrules:\n- from: [{ identities: [spiffe://shop.local/ns/shop/sa/web] }]",
);

#[test]
fn audit_never_blocks() {
    let trial = policy(&[AUDIT_WEB]);
    assert_eq!(inbound(&trial, "web", 1).word(), "allow");
    let other = inbound(&trial, "other", 1);
    assert_eq!(
        (other.word(), other.is.reason(), other.would.reason()),
        ("audit", "audit", "no-rule")
    );
    // It opens nothing in clear.
    assert!(!inbound(&trial, "192.0.2.1", 1).is_allowed());

    let deny = (
        "AccessPolicy shop/deny",
        "workloads: all\naction: deny\nenforcement: audit\nrules:\n- from: [{ namespaces: [shop] }]",
    );
    let tried = inbound(&policy(&[ALLOW_WEB, deny]), "web", 8080);
    assert_eq!((tried.word(), tried.would.reason()), ("audit", "deny-rule"));
    assert_eq!(rule(&tried), "shop/api rule 1");
    // A deny that is tried out says nothing of who is allowed.
    assert!(!inbound(&policy(&[deny]), "web", 8080).is_allowed());
}

#[test]
fn beside_a_policy_in_force_an_audited_one_allows_nothing() {
    let policy = policy(&[ALLOW_WEB, AUDIT_WEB]);
    let verdict = inbound(&policy, "web", 9999);
    assert_eq!((verdict.word(), verdict.would.reason()), ("deny", "audited-rule"));
    assert!(matches!(
        &verdict.is,
        Decision::Denied(Denial::NoRule(Nearest::Audited(_)))
    ));
    assert!(!inbound(&policy, "other", 8080).is_allowed());
}

#[test]
fn a_port_that_nobody_may_reach_is_refused_before_the_handshake() {
    let labels = labels("api");
    let api = Workload {
        namespace: "shop",
        name: "api",
        labels: &labels,
    };
    let port = |documents: &[(&str, &str)], port| judge_port(&policy(documents), &api, port).is_some();
    assert!(!port(&[ALLOW_WEB], 8080));
    assert!(port(&[ALLOW_WEB], 8081));
    assert!(port(&[ALLOW_WEB, AUDIT_WEB], 8081));
    assert!(!port(&[AUDIT_WEB], 8081));
    assert!(!port(
        &[("MeshPolicy shop/m", "workloads: all\nmode: permissive")],
        8081
    ));
}

#[test]
fn two_documents_with_one_name_are_refused() {
    let text = "apiVersion: ferrule.dev/v1alpha1\nkind: MeshPolicy\nmetadata: { namespace: a, name: b }\nspec: { workloads: all, mode: strict }\n";
    let text = format!("{text}---\n{text}");
    let documents = PolicyDocument::read_all("rules.yaml", text.as_bytes(), Limits::default()).unwrap();
    let refused = compile(&documents, Mesh::named("shop.local".parse().unwrap())).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "rules.yaml:6:1: metadata.name: MeshPolicy a/b is also written at rules.yaml:1:1"
    );
}
