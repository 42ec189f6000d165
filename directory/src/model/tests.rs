//! Changes small meshes, and looks at what that touches.

use ferrule_identity::SpiffeId;
use ferrule_policy::PlaceDocument;
use proptest::prelude::*;

use super::*;
use crate::sample::{self, domain, stack, workload};

/// What there is beside the workloads.
const REST: &str = "
apiVersion: ferrule.dev/v1alpha1
kind: Service
metadata: { namespace: shop, name: api }
spec: { addresses: [10.1.0.1], ports: [{ port: 80, targetPort: 8080 }], workloads: { labels: { app: api } } }
---
apiVersion: ferrule.dev/v1alpha1
kind: AccessPolicy
metadata: { namespace: shop, name: api }
spec: { workloads: all, action: allow, rules: [{ from: [{ namespaces: [shop] }], ports: [8080] }] }
";

fn text() -> String {
    let workloads = [("api-1", "10.0.0.1"), ("web-1", "10.0.0.2")];
    let workloads = workloads.map(|(name, address)| workload("shop", name, address));
    workloads.concat() + REST
}

fn model(text: &str) -> Model {
    sample::model(text, &[])
}

fn names(touched: &Touched) -> Vec<&str> {
    touched.addresses.iter().map(AsRef::as_ref).collect()
}

fn found(model: &Model, name: &str) -> Vec<String> {
    model
        .find(name)
        .iter()
        .map(|(name, _)| name.to_string())
        .collect()
}

#[test]
fn the_same_again_touches_nothing() {
    let mut model = model(&text());
    assert_eq!(model.counts(), (2, 1, 1));
    assert!(model.apply(News::Everything(stack(&text()))).is_empty());
}

#[test]
fn only_what_differs_is_touched() {
    let mut model = model(&text());
    let touched = model.apply(News::Everything(stack(&text().replace("10.0.0.2", "10.0.0.3"))));
    assert_eq!(names(&touched), ["shop.local//workload/shop/web-1"]);
    assert!(touched.rules.is_empty());
    let touched = model.apply(News::Everything(stack(&text().replace("[8080]", "[8081]"))));
    assert_eq!(touched.rules.len(), 1);
}

#[test]
fn a_label_moves_a_workload_behind_a_service() {
    let mut model = model(&text());
    let touched = model.apply(News::Everything(stack(
        &text().replace("{ app: web }", "{ app: api }"),
    )));
    assert_eq!(
        names(&touched),
        ["shop.local//workload/shop/web-1", "shop/api.shop"],
        "whom the service concerns depends on who is behind it"
    );
    let service = ServiceName {
        namespace: "shop".into(),
        name: "api".into(),
    };
    assert_eq!(model.members(&service).count(), 2);
}

#[test]
fn whoever_is_asked_for_is_found_with_all_that_belongs_to_it() {
    let model = model(&text());
    assert_eq!(found(&model, "/10.0.0.2"), ["shop.local//workload/shop/web-1"]);
    let both = ["shop.local//workload/shop/api-1", "shop/api.shop"];
    assert_eq!(found(&model, "/10.1.0.1"), both);
    assert_eq!(found(&model, "shop/api.shop"), both);
    assert!(found(&model, "/10.0.0.9").is_empty());
    assert!(found(&model, "nonsense").is_empty());
}

#[test]
fn an_address_that_two_claim_is_nobodys_until_one_goes() {
    let mut model = model(&text());
    let thief = "---
apiVersion: ferrule.dev/v1alpha1
kind: Workload
metadata: { namespace: other, name: thief }
spec: { serviceAccount: thief, addresses: [10.0.0.1] }
";
    let touched = model.apply(News::Everything(stack(&(text() + thief))));
    assert_eq!(
        names(&touched),
        [
            "shop.local//workload/other/thief",
            "shop.local//workload/shop/api-1"
        ]
    );
    assert_eq!(found(&model, "/10.0.0.1").len(), 2);
    for name in names(&touched) {
        let Joined::Workload(joined) = &*model.addresses().get(name).unwrap().joined else {
            panic!("{name} is a workload");
        };
        assert_eq!(joined.own_addresses().count(), 0, "{name}");
    }
    let gone = Change::NoWorkload("other".to_owned(), "thief".to_owned());
    let touched = model.apply(News::Changes(vec![gone]));
    assert_eq!(names(&touched).len(), 2);
    let Joined::Workload(joined) = &*model
        .addresses()
        .get("shop.local//workload/shop/api-1")
        .unwrap()
        .joined
    else {
        panic!("it is a workload");
    };
    assert_eq!(joined.own_addresses().count(), 1);
}

/// A workload out of few, so that they meet.
fn workloads() -> impl Strategy<Value = (u8, Option<(u8, u8)>)> {
    (0..4_u8, proptest::option::of((0..3_u8, 0..3_u8)))
}

fn place(name: u8, address: u8, app: u8) -> PlaceDocument {
    let text = format!(
        "apiVersion: ferrule.dev/v1alpha1\nkind: Workload\n\
         metadata: {{ namespace: n{}, name: w{name}, labels: {{ app: a{app} }} }}\n\
         spec: {{ serviceAccount: w, addresses: [10.0.0.{address}] }}\n",
        name % 2
    );
    stack(&text).places.remove(0)
}

proptest! {
    // However it came about, the picture is the one that the same documents give at once.
    #[test]
    fn changes_lead_where_everything_at_once_leads(steps in proptest::collection::vec(workloads(), 0..24)) {
        let services = "apiVersion: ferrule.dev/v1alpha1\nkind: Service\nmetadata: { namespace: n0, name: s }\n\
                        spec: { addresses: [10.1.0.1], ports: [{ port: 80 }], workloads: { labels: { app: a0 } } }\n";
        let mut model = model(services);
        let mut all = BTreeMap::new();
        for (name, set) in steps {
            let before = model.clone();
            let change = match set {
                Some((address, app)) => {
                    all.insert(name, (address, app));
                    let PlaceDocument::Workload(workload) = place(name, address, app) else { unreachable!() };
                    Change::Workload(workload)
                }
                None => {
                    all.remove(&name);
                    Change::NoWorkload(format!("n{}", name % 2), format!("w{name}"))
                }
            };
            let touched = model.apply(News::Changes(vec![change]));
            // Nothing changes without being touched.
            for (name, address) in model.addresses() {
                let same = before.addresses().get(name).is_some_and(|old| old.joined == address.joined);
                prop_assert!(same || touched.addresses.contains(name), "{}", name);
            }
            for name in before.addresses().keys() {
                prop_assert!(model.addresses().contains_key(name) || touched.addresses.contains(name));
            }
        }
        let mut stack = stack(services);
        stack.places.extend(all.iter().map(|(name, (address, app))| place(*name, *address, *app)));
        let mut fresh = Model::new(domain(), &[]);
        fresh.apply(News::Everything(stack));
        let versions = |model: &Model| -> Vec<_> {
            model.addresses().iter().map(|(name, address)| (name.clone(), address.resource.version())).collect()
        };
        prop_assert_eq!(versions(&model), versions(&fresh));
        for address in 0..3 {
            let name = format!("/10.0.0.{address}");
            prop_assert_eq!(model.find(&name), fresh.find(&name));
        }
        prop_assert_eq!(model.find("/10.1.0.1"), fresh.find("/10.1.0.1"));
    }
}

fn shown(id: &str, name: &str, end: i64) -> Shown {
    Shown {
        id: SpiffeId::parse(id).unwrap(),
        name: name.to_owned(),
        not_after: Timestamp::from_unix(end),
    }
}

fn leaf_end(model: &Model, name: &str) -> Option<i64> {
    let Joined::Workload(joined) = &*model.addresses().get(name).unwrap().joined else {
        panic!("{name} is no workload");
    };
    joined.leaf_end.map(Timestamp::unix)
}

const API: &str = "shop.local//workload/shop/api-1";
const API_ID: &str = "spiffe://shop.local/ns/shop/sa/api";

#[test]
fn a_later_certificate_is_told_of_and_an_earlier_one_is_not() {
    let mut model = model(&text());
    let now = Timestamp::from_unix(100);
    assert_eq!(leaf_end(&model, API), None);
    let touched = model.note_leaves(vec![shown(API_ID, "shop/api-1", 500)], now);
    assert_eq!((names(&touched), leaf_end(&model, API)), (vec![API], Some(500)));
    let touched = model.note_leaves(vec![shown(API_ID, "shop/api-1", 400)], now);
    assert_eq!((touched.is_empty(), leaf_end(&model, API)), (true, Some(500)));
    // A change of something else keeps it.
    model.apply(News::Everything(stack(&text().replace("10.0.0.1", "10.0.0.7"))));
    assert_eq!(leaf_end(&model, API), Some(500));
}

#[test]
fn a_certificate_under_somebody_elses_name_says_nothing() {
    let mut model = model(&text());
    let now = Timestamp::from_unix(100);
    let others = [
        shown("spiffe://shop.local/ns/shop/sa/web", "shop/api-1", 900),
        shown("spiffe://shop.local/ns/other/sa/api", "shop/api-1", 900),
        shown(API_ID, "shop/nobody", 900),
        shown(API_ID, "nowhere", 900),
        // One that has ended.
        shown(API_ID, "shop/api-1", 99),
    ];
    let touched = model.note_leaves(others.to_vec(), now);
    assert_eq!((names(&touched), leaf_end(&model, API)), (vec![], None));
}
