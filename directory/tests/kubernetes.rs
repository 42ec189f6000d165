//! Follows a small API server through whatever may happen to one.

#![cfg(feature = "kubernetes")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

#[path = "kubernetes/api.rs"]
mod api;

use std::convert::Infallible;
use std::time::Duration;

use api::Api;
use ferrule_directory::source::kubernetes::{Kubernetes, Reach};
use ferrule_directory::source::{Change, News, Source as _, Teller, Told};
use ferrule_identity::TrustDomain;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::timeout;

/// A cluster that is followed.
struct Followed {
    api: Api,
    told: Told,
    _file: tempfile::NamedTempFile,
    _following: JoinSet<Infallible>,
}

impl Followed {
    /// A cluster with a pod, of which all is told, and which is watched from then on.
    async fn with_a_pod() -> Self {
        let api = Api::start().await;
        api.put("pods", pod("api-1", "10.0.0.1"));
        let domain = TrustDomain::parse("shop.local").unwrap();
        // By a file, as a program is told: what a client does by itself is then the program's own choice.
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), api.kubeconfig()).unwrap();
        let source = Kubernetes::new(Reach::File(file.path().to_owned()), domain);
        let (teller, told) = Teller::new();
        let mut following = JoinSet::new();
        following.spawn(source.run(teller));
        let mut followed = Self {
            _file: file,
            api,
            told,
            _following: following,
        };
        let News::Everything(stack) = followed.news().await else {
            panic!("everything comes first");
        };
        assert_eq!(stack.places.len(), 1);
        let watched = async {
            while followed.api.asked().1 < KINDS {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(PATIENCE, watched).await.unwrap();
        followed
    }

    async fn news(&mut self) -> News {
        timeout(PATIENCE, self.told.news.recv()).await.unwrap().unwrap()
    }

    async fn changes(&mut self) -> Vec<String> {
        match self.news().await {
            News::Changes(changes) => names(&changes),
            News::Everything(_) => panic!("everything is told once"),
        }
    }

    async fn faults(&mut self, wanted: impl Fn(&[String]) -> bool) -> Vec<String> {
        let faults = self.told.faults.wait_for(|faults| wanted(faults));
        timeout(PATIENCE, faults).await.unwrap().unwrap().clone()
    }
}

fn names(changes: &[Change]) -> Vec<String> {
    let mut names: Vec<String> = changes
        .iter()
        .map(|change| match change {
            Change::Workload(workload) => format!("+{}", workload.name),
            Change::NoWorkload(_, name) => format!("-{name}"),
            Change::Service(service) => format!("+{}", service.name),
            Change::NoService(name) => format!("-{name}"),
            Change::Rule(rule) => format!("+{}", rule.policy.meta().name),
            Change::NoRule(policy) => format!("-{}", policy.meta().name),
        })
        .collect();
    names.sort();
    names
}

fn pod(name: &str, ip: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "namespace": "shop", "name": name, "uid": name,
            "annotations": { "ferrule.dev/status": "{\"capture\":\"cni\"}" },
        },
        "spec": { "serviceAccountName": "api", "initContainers": [{ "name": "ferrule-proxy" }], "containers": [] },
        "status": { "phase": "Running", "podIP": ip, "podIPs": [{ "ip": ip }] },
    })
}

fn rule(ports: Value) -> Value {
    json!({
        "apiVersion": "ferrule.dev/v1alpha1", "kind": "AccessPolicy", "metadata": { "namespace": "shop", "name": "rule" },
        "spec": { "workloads": "all", "action": "allow", "rules": [{ "from": [{ "namespaces": ["shop"] }], "ports": ports }] },
    })
}

#[tokio::test]
async fn changes_are_told_one_by_one() {
    let mut followed = Followed::with_a_pod().await;
    followed.api.put("pods", pod("api-2", "10.0.0.2"));
    assert_eq!(followed.changes().await, ["+api-2"]);
    followed.api.put("accesspolicies", rule(json!([8080])));
    assert_eq!(followed.changes().await, ["+rule"]);
    followed.api.delete("pods", "shop/api-1");
    assert_eq!(followed.changes().await, ["-api-1"]);
    followed.api.delete("accesspolicies", "shop/rule");
    assert_eq!(followed.changes().await, ["-rule"]);
}

#[tokio::test]
async fn a_watch_that_breaks_goes_on_where_it_was() {
    let mut followed = Followed::with_a_pod().await;
    let (lists, _) = followed.api.asked();
    followed.api.cut();
    followed.api.put("pods", pod("api-2", "10.0.0.2"));
    assert_eq!(followed.changes().await, ["+api-2"]);
    assert_eq!(followed.api.asked().0, lists, "nothing is listed again");
}

#[tokio::test]
async fn what_happened_unseen_is_told_as_the_difference() {
    let mut followed = Followed::with_a_pod().await;
    followed.api.put("pods", pod("api-2", "10.0.0.2"));
    assert_eq!(followed.changes().await, ["+api-2"]);
    followed.api.set_down(true);
    let faults = followed.faults(|faults| !faults.is_empty()).await;
    // One fault, not one for each kind.
    assert!(
        faults.len() == 1 && faults[0].starts_with("the API server is away since 2"),
        "{faults:?}"
    );
    followed.api.delete("pods", "shop/api-1");
    followed.api.put("pods", pod("api-3", "10.0.0.3"));
    followed.api.forget();
    assert!(followed.told.news.is_empty(), "what is known stays");
    followed.api.set_down(false);
    // Whoever was there before and is there still is not told again.
    assert_eq!(followed.changes().await, ["+api-3", "-api-1"]);
    followed.faults(<[String]>::is_empty).await;
}

#[tokio::test]
async fn a_broken_rule_is_a_fault_and_changes_nothing() {
    let mut followed = Followed::with_a_pod().await;
    followed.api.put("accesspolicies", rule(json!([8080])));
    assert_eq!(followed.changes().await, ["+rule"]);
    followed.api.put("accesspolicies", rule(json!([])));
    let faults = followed.faults(|faults| !faults.is_empty()).await;
    assert!(faults[0].contains("AccessPolicy shop/rule"), "{faults:?}");
    assert!(followed.told.news.is_empty());
    followed.api.put("accesspolicies", rule(json!([8081])));
    assert_eq!(followed.changes().await, ["+rule"]);
    followed.faults(<[String]>::is_empty).await;
}

#[tokio::test]
async fn nothing_is_told_before_all_is_known() {
    let api = Api::start().await;
    api.put("pods", pod("api-1", "10.0.0.1"));
    api.put("accesspolicies", rule(json!([8080])));
    api.set_down(true);
    let domain = TrustDomain::parse("shop.local").unwrap();
    let source = Kubernetes::new(Reach::Client(api.client()), domain);
    let (teller, mut told) = Teller::new();
    let mut following = JoinSet::new();
    following.spawn(source.run(teller));
    let failing = told.faults.wait_for(|faults| !faults.is_empty());
    timeout(PATIENCE, failing).await.unwrap().unwrap();
    assert!(told.news.is_empty());
    api.set_down(false);
    let first = timeout(PATIENCE, told.news.recv()).await.unwrap().unwrap();
    let News::Everything(stack) = first else {
        panic!("everything comes first");
    };
    assert_eq!((stack.places.len(), stack.policies.len()), (1, 1));
}

/// Kinds that are watched.
const KINDS: u64 = 8;

const PATIENCE: Duration = Duration::from_secs(60);
