//! Asks what proxies of a small mesh may need.

use ferrule_policy::{Ask, Inbound, Mesh, Source, compile, judge};

use super::*;
use crate::sample::{self, workload};

/// What there is beside the workloads.
const REST: &str = "
apiVersion: ferrule.dev/v1alpha1
kind: Service
metadata: { namespace: shop, name: api }
spec: { addresses: [10.1.0.1], ports: [{ port: 80 }], workloads: { labels: { app: api } } }
---
apiVersion: ferrule.dev/v1alpha1
kind: Service
metadata: { namespace: legacy, name: ldap }
spec: { addresses: [10.1.0.2], ports: [{ port: 389 }] }
---
apiVersion: ferrule.dev/v1alpha1
kind: AccessPolicy
metadata: { namespace: shop, name: api }
spec:
  workloads: { labels: { app: api } }
  action: allow
  rules: [{ from: [{ identities: [\"spiffe://shop.local/ns/shop/sa/web\"] }] }]
---
apiVersion: ferrule.dev/v1alpha1
kind: EgressPolicy
metadata: { namespace: shop, name: api-out }
spec:
  workloads: { labels: { app: api } }
  allow: [{ services: [{ namespace: legacy, name: ldap }] }]
---
apiVersion: ferrule.dev/v1alpha1
kind: AccessPolicy
metadata: { namespace: pay, name: card }
spec: { workloads: all, action: deny, rules: [{ from: [{ namespaces: [shop] }] }] }
";

fn text() -> String {
    let workloads = [
        ("shop", "api-1", "10.0.0.1"),
        ("shop", "web-1", "10.0.0.2"),
        ("pay", "card-1", "10.0.0.3"),
        ("pay", "far-1", "192.0.2.1"),
    ];
    let workloads = workloads.map(|(namespace, name, address)| workload(namespace, name, address));
    workloads.concat() + REST
}

fn model(text: &str) -> Model {
    sample::model(text, &["10.0.0.0/8".parse().unwrap()])
}

fn subject(id: &str, name: &str) -> Subject {
    let told = Told {
        name: name.to_owned(),
        ..Told::default()
    };
    Subject::new(id.parse().unwrap(), told).unwrap()
}

fn covered(scope: &Scope, model: &Model) -> Vec<String> {
    let all = model.addresses().iter();
    let covered = all.filter(|(_, address)| scope.covers(&address.joined, model));
    covered
        .map(|(name, _)| name.rsplit('/').next().unwrap().to_owned())
        .collect()
}

fn own_rules(scope: &Scope, model: &Model) -> Vec<String> {
    let own = model
        .rules()
        .iter()
        .filter(|(_, rule)| scope.selects(&rule.written.policy));
    own.map(|(name, _)| name.to_string()).collect()
}

const WEB: &str = "spiffe://shop.local/ns/shop/sa/web";
const API: &str = "spiffe://shop.local/ns/shop/sa/api";

#[test]
fn a_proxy_needs_whom_it_may_reach_and_its_own_rules() {
    let model = model(&text());
    let web = Scope::of(subject(WEB, "shop/web-1"), &model);
    // Beyond the ranges lives somebody whom nobody would ask about.
    assert_eq!(covered(&web, &model), ["far-1", "api-1", "web-1", "api.shop"]);
    assert!(own_rules(&web, &model).is_empty());
    let api = Scope::of(subject(API, "shop/api-1"), &model);
    assert_eq!(
        covered(&api, &model),
        ["ldap.legacy", "far-1", "api-1", "api.shop"]
    );
    assert_eq!(
        own_rules(&api, &model),
        ["AccessPolicy/shop/api", "EgressPolicy/shop/api-out"]
    );
}

#[test]
fn a_name_is_believed_only_of_the_identity_that_bears_it() {
    let model = model(&text());
    let liar = Scope::of(subject(WEB, "shop/api-1"), &model);
    assert!(own_rules(&liar, &model).is_empty(), "the labels are the other's");
    let told = Told {
        name: "pay/card-1".to_owned(),
        ..Told::default()
    };
    let elsewhere = Subject::new(WEB.parse().unwrap(), told).unwrap_err();
    assert!(matches!(elsewhere, SubjectError::Elsewhere { .. }));
    let odd = Subject::new("spiffe://shop.local/somebody".parse().unwrap(), Told::default());
    assert!(matches!(odd, Err(SubjectError::Identity { .. })));
}

#[test]
fn labels_that_only_the_proxy_knows_choose_rules_of_its_own_namespace() {
    let model = model(&text());
    let told = Told {
        name: "shop/api-9".to_owned(),
        labels: Some([("app".to_owned(), "api".to_owned())].into()),
        clock: None,
    };
    let scope = Scope::of(Subject::new(API.parse().unwrap(), told).unwrap(), &model);
    assert_eq!(own_rules(&scope, &model).len(), 2);
}

#[test]
fn a_proxy_without_labels_waits_until_the_directory_knows_them() {
    let model = model(&text());
    let early = Scope::of(subject(API, "shop/api-9"), &model);
    assert!(!early.can_select());
    let known = Scope::of(subject(API, "shop/api-1"), &model);
    assert!(known.can_select());
    assert_eq!(own_rules(&known, &model).len(), 2);
}

#[test]
fn whoever_may_be_called_in_clear_knows_its_callers() {
    let text = format!(
        "{}---\napiVersion: ferrule.dev/v1alpha1\nkind: MeshPolicy\n\
         metadata: {{ namespace: shop, name: m }}\nspec: {{ workloads: all, mode: permissive }}\n",
        text()
    );
    let model = model(&text);
    let api = Scope::of(subject(API, "shop/api-1"), &model);
    assert!(covered(&api, &model).contains(&"web-1".to_owned()));
}

// Whatever the rules allow on some port is pushed; nobody has to ask for it first.
#[test]
fn whatever_is_allowed_is_covered() {
    let model = model(&text());
    let policies: Vec<_> = model
        .rules()
        .values()
        .map(|rule| rule.written.policy.clone())
        .collect();
    let policy = compile(&policies, Mesh::named(model.trust_domain().clone())).unwrap();
    for who in [WEB, API, "spiffe://shop.local/ns/pay/sa/card"] {
        let id: SpiffeId = who.parse().unwrap();
        let scope = Scope::of(Subject::new(id.clone(), Told::default()).unwrap(), &model);
        for address in model.addresses().values() {
            let Joined::Workload(joined) = &*address.joined else {
                continue;
            };
            let ask = Ask::Inbound(Inbound {
                source: Source::Verified(&id),
                destination: ferrule_policy::Workload {
                    namespace: &joined.workload.namespace,
                    name: &joined.workload.name,
                    labels: &joined.workload.labels,
                },
                port: 8080,
            });
            if judge(&policy, &ask).is_allowed() {
                assert!(
                    scope.covers(&address.joined, &model),
                    "{who} to {}",
                    joined.workload.name
                );
            }
        }
    }
}
