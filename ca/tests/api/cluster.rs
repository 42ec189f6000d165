//! What a cluster needs besides workload certificates: serving certificates of its control plane, a published bundle.

use ferrule_ca::config::ServingName;
use ferrule_daemon::clock::Clock;
use http::{Method, StatusCode};
use serde_json::json;

use crate::harness::{Ca, PATIENCE, csr};
use crate::kube::{Kube, Script, token, vouched};

const INJECTOR: &str = "spiffe://shop.test/ns/ferrule-system/sa/ferrule-injector";

async fn start(publish: &str) -> (Kube, Ca) {
    let kube = Kube::start().await;
    let mut settings = kube.settings();
    settings.push(("KUBERNETES__PUBLISH", publish.to_owned()));
    let settings: Vec<_> = settings
        .iter()
        .map(|(name, value)| (*name, value.as_str()))
        .collect();
    let names = vec![ServingName::Dns("ferrule-injector.ferrule-system.svc".to_owned())];
    let ca = Ca::start_with(&settings, |config| {
        config.servers = vec![(INJECTOR.parse().unwrap(), names)];
    })
    .await;
    (kube, ca)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_of_the_settings_gets_their_names_and_nobody_else_gets_any() {
    let (kube, ca) = start("ferrule-system/ferrule-trust").await;
    let token = token(ca.now().unix() + 600);
    let body = json!({
        "csr": csr(), "serving": true, "evidence": { "kind": "kubernetes_token", "token": token },
    });
    kube.plays(Script::Status(vouched("ferrule-system", "ferrule-injector")));
    let answer = ca.send(Method::POST, "/v1/issue", Some(body.clone())).await;
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(answer.json()["id"], "ferrule-injector.ferrule-system.svc");

    kube.plays(Script::Status(vouched("shop", "web")));
    let answer = ca.send(Method::POST, "/v1/issue", Some(body.clone())).await;
    assert_eq!(answer.refusal(), "not_a_server");
    assert_eq!(answer.status, StatusCode::FORBIDDEN);

    let mut other = body;
    other["id"] = json!(INJECTOR);
    let answer = ca.send(Method::POST, "/v1/issue", Some(other)).await;
    assert_eq!(answer.refusal(), "not_entitled");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_bundle_is_published() {
    let (kube, ca) = start("ferrule-system/ferrule-trust").await;
    let wanted = ca.bundle().to_pem();
    let clock = Clock::system();
    let published = async {
        loop {
            let seen = kube.seen();
            if let Some(map) = seen.iter().find(|object| object["kind"] == "ConfigMap") {
                return map.clone();
            }
            clock.sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    let map = tokio::time::timeout(PATIENCE, published).await.unwrap();
    assert_eq!(
        map["path"],
        "/api/v1/namespaces/ferrule-system/configmaps/ferrule-trust"
    );
    assert_eq!(map["data"]["bundle.pem"], wanted);
    assert!(
        map["data"]["bundle.json"]
            .as_str()
            .unwrap()
            .contains("spiffe_sequence")
    );
}
