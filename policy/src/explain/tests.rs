//! Golden texts: one for each reason that a verdict can have.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ferrule_document::Limits;
use ferrule_identity::SpiffeId;

use super::*;
use crate::ask::{Inbound, Outbound, Source, Workload};
use crate::compile::compile;
use crate::document::PolicyDocument;
use crate::host::HostName;
use crate::judge::judge;
use crate::pattern::ServiceName;
use crate::policy::{BuiltIn, Mesh, Policy};

fn policy(text: &str) -> Policy {
    let documents = PolicyDocument::read_all("rules.yaml", text.as_bytes(), Limits::default()).unwrap();
    let mut mesh = Mesh::named("shop.local".parse().unwrap());
    mesh.ranges.push("10.0.0.0/8".parse().unwrap());
    mesh.built_in.push(BuiltIn {
        name: "resolver".into(),
        address: "10.0.0.53".parse().unwrap(),
        port: 53,
    });
    compile(&documents, mesh).unwrap()
}

fn document(kind: &str, name: &str, spec: &str) -> String {
    let spec = spec.replace('\n', "\n  ");
    format!(
        "---\napiVersion: ferrule.dev/v1alpha1\nkind: {kind}\n\
         metadata: {{ namespace: shop, name: {name} }}\nspec:\n  {spec}\n"
    )
}

fn allow_web(name: &str, more: &str) -> String {
    let rule = "- from: [{ identities: [spiffe://shop.local/ns/shop/sa/web] }]\n  ports: [8080]";
    document(
        "AccessPolicy",
        name,
        &format!("workloads: all\n{more}rules:\n{rule}"),
    )
}

fn labels() -> BTreeMap<String, String> {
    BTreeMap::from([("app".to_owned(), "api".to_owned())])
}

/// What is said of an account of the namespace `shop`, or an address in clear, that calls `api.shop`.
fn inbound(text: &str, caller: &str, port: u16) -> String {
    let labels = labels();
    let destination = Workload {
        namespace: "shop",
        name: "api",
        labels: &labels,
    };
    let id = SpiffeId::parse(&format!("spiffe://shop.local/ns/shop/sa/{caller}"));
    let source = match (caller.parse::<IpAddr>(), &id) {
        (Ok(address), _) => Source::Plaintext(address),
        (Err(_), id) => Source::Verified(id.as_ref().unwrap()),
    };
    let ask = Ask::Inbound(Inbound {
        source,
        destination,
        port,
    });
    explain(&ask, &judge(&policy(text), &ask))
}

/// What is said of `api.shop` that calls an address.
fn outbound(text: &str, address: &str, port: u16, host: Option<&str>, services: &[ServiceName]) -> String {
    let labels = labels();
    let source = Workload {
        namespace: "shop",
        name: "api",
        labels: &labels,
    };
    let host = host.map(|host| HostName::parse(host).unwrap());
    let address = address.parse().unwrap();
    let ask = Ask::Outbound(Outbound {
        source,
        address,
        port,
        services,
        host: host.as_ref(),
    });
    explain(&ask, &judge(&policy(text), &ask))
}

#[test]
fn what_is_allowed_says_by_what() {
    let allow = allow_web("api", "action: allow\n");
    assert_eq!(
        inbound(&allow, "web", 8080),
        "allowed: spiffe://shop.local/ns/shop/sa/web may reach api.shop:8080; shop/api rule 1 allows port 8080 \
         from spiffe://shop.local/ns/shop/sa/web"
    );
    assert_eq!(
        outbound("", "10.0.0.53", 53, None, &[]),
        "allowed: api.shop may reach 10.0.0.53:53; it is the resolver, which is always allowed"
    );
    let hosts = document(
        "EgressPolicy",
        "out",
        "workloads: all\nallow:\n- { hosts: [\"*.example.com\"] }",
    );
    assert_eq!(
        outbound(&hosts, "192.0.2.1", 443, Some("a.example.com"), &[]),
        "allowed: api.shop may reach a.example.com:443 (192.0.2.1:443); shop/out rule 1 allows all ports to \
         *.example.com, and the proxy resolves that name itself"
    );
}

#[test]
fn what_is_only_audited_says_what_would_be() {
    let permissive = document("MeshPolicy", "migrate", "workloads: all\nmode: permissive");
    assert_eq!(
        inbound(&permissive, "192.0.2.7", 80),
        "allowed: 192.0.2.7 in clear may reach api.shop:80; the mode is permissive by shop/migrate; with \
         everything enforced it would be denied: 192.0.2.7 in clear may not reach api.shop:80; no AccessPolicy \
         is about api.shop; add one in namespace shop with the rule { from: [{ cidrs: [192.0.2.7/32] }], \
         ports: [80] }"
    );
    let trial = allow_web("trial", "action: allow\nenforcement: audit\n");
    assert_eq!(
        inbound(&trial, "job", 8080),
        "allowed: spiffe://shop.local/ns/shop/sa/job may reach api.shop:8080; shop/trial is only audited, and \
         no policy for it is enforced; with everything enforced it would be denied: \
         spiffe://shop.local/ns/shop/sa/job may not reach api.shop:8080; no rule allows it; nearest shop/trial \
         rule 1 allows port 8080 from spiffe://shop.local/ns/shop/sa/web; add the rule { from: [{ identities: \
         [spiffe://shop.local/ns/shop/sa/job] }], ports: [8080] } to shop/trial"
    );
}

#[test]
fn a_deny_rule_is_named() {
    let deny = allow_web("deny", "action: deny\n");
    assert_eq!(
        inbound(&deny, "web", 8080),
        "denied: spiffe://shop.local/ns/shop/sa/web may not reach api.shop:8080; shop/deny rule 1 denies port \
         8080 from spiffe://shop.local/ns/shop/sa/web; deny goes before allow, so take the caller out of that \
         rule"
    );
    assert_eq!(
        inbound(&deny, "job", 8080),
        "denied: spiffe://shop.local/ns/shop/sa/job may not reach api.shop:8080; no rule allows it; no \
         AccessPolicy for api.shop allows anything; add one in namespace shop with the rule { from: [{ \
         identities: [spiffe://shop.local/ns/shop/sa/job] }], ports: [8080] }"
    );
}

#[test]
fn what_comes_in_clear_is_told_so() {
    assert_eq!(
        inbound("", "192.0.2.7", 9090),
        "denied: 192.0.2.7 in clear may not reach api.shop:9090; the connection is in clear and the mode is \
         strict because no MeshPolicy says otherwise; call through the mesh, or add a MeshPolicy in namespace \
         shop with ports: [{ port: 9090, mode: permissive }]"
    );
    let strict = document("MeshPolicy", "demand", "workloads: all\nmode: strict");
    assert!(inbound(&strict, "192.0.2.7", 9090).contains("the mode is strict by shop/demand;"));
}

#[test]
fn without_a_policy_the_rule_to_write_is_shown() {
    assert_eq!(
        inbound("", "web", 8080),
        "denied: spiffe://shop.local/ns/shop/sa/web may not reach api.shop:8080; no AccessPolicy is about \
         api.shop; add one in namespace shop with the rule { from: [{ identities: \
         [spiffe://shop.local/ns/shop/sa/web] }], ports: [8080] }"
    );
    assert_eq!(
        outbound("", "2001:db8::1", 443, None, &[]),
        "denied: api.shop may not reach [2001:db8::1]:443; no EgressPolicy is about api.shop; add one in \
         namespace shop with the rule { cidrs: [\"2001:db8::1/128\"], ports: [443] }"
    );
    let ldap = [ServiceName {
        namespace: "legacy".into(),
        name: "ldap".into(),
    }];
    assert_eq!(
        outbound("", "10.2.3.4", 389, None, &ldap),
        "denied: api.shop may not reach ldap.legacy:389 (10.2.3.4:389); no EgressPolicy is about api.shop; add \
         one in namespace shop with the rule { services: [{ namespace: legacy, name: ldap }], ports: [389] }"
    );
}

#[test]
fn the_nearest_rule_is_named() {
    let allow = allow_web("api", "action: allow\n");
    let nearest = "no rule allows it; nearest shop/api rule 1 allows port 8080 from \
                   spiffe://shop.local/ns/shop/sa/web; add the rule";
    assert_eq!(
        inbound(&allow, "web", 9090),
        format!(
            "denied: spiffe://shop.local/ns/shop/sa/web may not reach api.shop:9090; {nearest} {{ from: [{{ \
             identities: [spiffe://shop.local/ns/shop/sa/web] }}], ports: [9090] }} to shop/api"
        )
    );
    assert_eq!(
        inbound(&allow, "job", 8080),
        format!(
            "denied: spiffe://shop.local/ns/shop/sa/job may not reach api.shop:8080; {nearest} {{ from: [{{ \
             identities: [spiffe://shop.local/ns/shop/sa/job] }}], ports: [8080] }} to shop/api"
        )
    );
    assert!(inbound(&allow, "job", 9090).contains(nearest));
}

#[test]
fn a_rule_on_trial_beside_one_in_force_is_named() {
    let both = allow_web("trial", "action: allow\nenforcement: audit\n")
        + &document(
            "AccessPolicy",
            "api",
            "workloads: all\naction: allow\nrules:\n- from: [{ namespaces: [other] }]",
        );
    assert_eq!(
        inbound(&both, "web", 8080),
        "denied: spiffe://shop.local/ns/shop/sa/web may not reach api.shop:8080; no rule allows it; shop/trial \
         rule 1 would, but is only audited, and another policy is enforced; set enforcement: enforce in \
         shop/trial"
    );
}

#[test]
fn an_address_that_no_range_opens_is_told_so() {
    let all = document(
        "EgressPolicy",
        "out",
        "workloads: all\nallow:\n- { cidrs: [0.0.0.0/0] }",
    );
    assert_eq!(
        outbound(&all, "10.2.3.4", 80, None, &[]),
        "denied: api.shop may not reach 10.2.3.4:80; no rule allows it; shop/out rule 1 would allow all ports \
         to 0.0.0.0/0, but no range and no host opens an address of the mesh; name the service"
    );
    assert_eq!(
        outbound(&all, "169.254.169.254", 80, None, &[]),
        "denied: api.shop may not reach 169.254.169.254:80; no rule allows it; shop/out rule 1 would allow all \
         ports to 0.0.0.0/0, but only its exact address opens a cloud's metadata service; add the rule { \
         cidrs: [169.254.169.254/32], ports: [80] } to shop/out"
    );
}
