//! Tests what hosts may say, and for how long it counts.

use ferrule_policy::WorkloadDocument;

use super::*;
use crate::source::News;

const BASE: &str = "
apiVersion: ferrule.dev/v1alpha1
kind: Workload
metadata: { namespace: shop, name: api-0, labels: { app: api } }
spec: { serviceAccount: api, addresses: [10.213.0.16] }
---
apiVersion: ferrule.dev/v1alpha1
kind: Service
metadata: { namespace: shop, name: api }
spec: { addresses: [10.213.128.0], ports: [{ port: 80 }], workloads: { labels: { app: api } } }
";

fn domain() -> TrustDomain {
    TrustDomain::parse("shop.local").unwrap()
}

fn base() -> Stack {
    Stack::read([("base.yaml", BASE.as_bytes())], &domain()).unwrap()
}

fn model() -> Model {
    let mut model = Model::new(domain(), &["10.213.0.0/16".parse().unwrap()]);
    model.apply(News::Everything(base()));
    model
}

fn workload(namespace: &str, name: &str, address: &str) -> String {
    format!(
        "apiVersion: ferrule.dev/v1alpha1\nkind: Workload\n\
         metadata: {{ namespace: {namespace}, name: {name}, labels: {{ app: api }} }}\n\
         spec: {{ serviceAccount: api, addresses: [{address}], node: 192.0.2.2, \
         published: [{{ port: 80, at: \"192.0.2.2:20000\" }}] }}\n"
    )
}

/// Announces `documents` as host `b` of the namespace `shop`, until 100.
fn announce(announced: &Announced, documents: &str) -> Result<(), AnnounceError> {
    let said = Announcement {
        namespace: "shop",
        host: "b",
        documents,
        until: Timestamp::from_unix(100),
    };
    announced.take(said, &model())
}

fn places(announced: &Announced, now: i64) -> (Vec<WorkloadDocument>, Vec<String>) {
    let mut stack = base();
    let faults = announced.add(&mut stack, &announced.live(Timestamp::from_unix(now)));
    let workloads = stack.places.into_iter().filter_map(|place| match place {
        PlaceDocument::Workload(workload) => Some(workload),
        PlaceDocument::Service(_) => None,
    });
    (workloads.collect(), faults)
}

#[test]
fn what_a_host_says_counts_until_its_certificate_ends_or_it_leaves() {
    let home = tempfile::tempdir().unwrap();
    let announced = Announced::new(home.path().join("announced"), domain());
    announce(&announced, &workload("shop", "api-0.b", "10.213.4.16")).unwrap();
    let (workloads, faults) = places(&announced, 99);
    assert_eq!((workloads.len(), faults.len()), (2, 0));
    assert_eq!(
        workloads[1].published_at(80).unwrap().to_string(),
        "192.0.2.2:20000"
    );
    assert!(workloads[1].is_elsewhere("192.0.2.1") && !workloads[1].is_elsewhere("192.0.2.2"));
    assert_eq!(places(&announced, 100).0.len(), 1);
    announce(&announced, "").unwrap();
    assert_eq!(places(&announced, 99).0.len(), 1);
}

#[test]
fn a_host_says_nothing_about_others() {
    let home = tempfile::tempdir().unwrap();
    let announced = Announced::new(home.path().to_owned(), domain());
    let refused = |documents: &str| announce(&announced, documents).unwrap_err().to_string();
    let other = refused(&workload("pay", "api-0.b", "10.213.4.16"));
    assert!(other.contains("another namespace"), "{other}");
    let other = refused(&workload("shop", "api-0", "10.213.4.16"));
    assert!(other.contains("does not end with the host's name"), "{other}");
    let taken = refused(&workload("shop", "api-0.b", "10.213.0.16"));
    assert!(
        taken.contains("10.213.0.16 is the address of shop.local//workload/shop/api-0"),
        "{taken}"
    );
    let rules = "apiVersion: ferrule.dev/v1alpha1\nkind: AccessPolicy\nmetadata: { namespace: shop, name: a }\n\
                 spec: { workloads: all, action: allow, rules: [{ from: [{ namespaces: [shop] }] }] }\n";
    assert!(refused(rules).contains("rules lie with the first host"));
    assert!(refused("kind: Nothing\n").contains("faults"));
    let named = |host: &str| {
        let said = Announcement {
            namespace: "shop",
            host,
            documents: "",
            until: Timestamp::from_unix(100),
        };
        announced.take(said, &model())
    };
    for host in ["", "../b", ".b", "a/b"] {
        assert!(matches!(named(host), Err(AnnounceError::Host { .. })), "{host:?}");
    }
    assert!(places(&announced, 0).0.len() == 1);
}

// The first host's file may have changed since.
#[test]
fn what_clashes_later_is_left_out_and_told() {
    let home = tempfile::tempdir().unwrap();
    let announced = Announced::new(home.path().to_owned(), domain());
    let text = workload("shop", "api-0.b", "10.213.4.16");
    announce(&announced, &text).unwrap();
    let again = text.replace("api-0.b", "api-0.c");
    fs::write(home.path().join("shop.c.yaml"), format!("{UNTIL}100\n{again}")).unwrap();
    let (workloads, faults) = places(&announced, 0);
    assert_eq!(workloads.len(), 2);
    let [fault] = faults.as_slice() else {
        panic!("{faults:?}")
    };
    assert!(
        fault.contains("somebody else has the address 10.213.4.16"),
        "{fault}"
    );
}
