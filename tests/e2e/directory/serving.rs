//! What a directory tells whom, message by message.

use std::collections::BTreeMap;

use ferrule_daemon::clock::Clock;
use ferrule_daemon::grpc::Code;
use ferrule_identity::Timestamp;
use ferrule_wire::directory::{ADDRESS, RULE, address, rule};
use ferrule_wire::proto::envoy::service::discovery::v3::DeltaDiscoveryRequest;

use super::mesh::{ALLOW, Mesh, PLACES};
use super::raw::{Raw, names, versions};

const DOCUMENTS: [(&str, &str); 2] = [("places.yaml", PLACES), ("rules.yaml", ALLOW)];

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_gets_its_own_scope_and_the_rest_on_demand() {
    let mesh = Mesh::start(&Clock::system(), &DOCUMENTS).await;
    let web = mesh.workload("web").await;
    let mut raw = Raw::connect(&mesh, &web, "shop/web-1", ADDRESS, BTreeMap::new())
        .await
        .unwrap();
    let first = raw.next().await.unwrap();
    assert_eq!(
        names(&first),
        ["shop.test//workload/shop/api-1", "shop.test//workload/shop/web-1"]
    );
    raw.answer(&first, None).await;
    for (name, found) in [
        ("/127.0.0.4", vec!["shop.test//workload/pay/card-1"]),
        ("/127.0.0.9", vec![]),
    ] {
        raw.say(DeltaDiscoveryRequest {
            type_url: ADDRESS.to_owned(),
            resource_names_subscribe: vec![name.to_owned()],
            ..DeltaDiscoveryRequest::default()
        })
        .await;
        let answer = raw.next().await.unwrap();
        assert_eq!(names(&answer), found, "{name}");
        for resource in &answer.resources {
            assert_eq!(resource.aliases, [name]);
            // It says that it needs TLS, or nothing.
            address::read(resource.resource.as_ref()).unwrap();
        }
        if found.is_empty() {
            assert_eq!(answer.removed_resources, [name]);
        }
        raw.answer(&answer, None).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rules_go_to_those_whom_they_are_about() {
    let mesh = Mesh::start(&Clock::system(), &DOCUMENTS).await;
    for (account, name, own) in [("web", "shop/web-1", 0), ("api", "shop/api-1", 1)] {
        let workload = mesh.workload(account).await;
        let mut raw = Raw::connect(&mesh, &workload, name, RULE, BTreeMap::new())
            .await
            .unwrap();
        let first = raw.next().await.unwrap();
        assert_eq!(first.resources.len(), own, "{account}");
        for resource in &first.resources {
            rule::read(resource.resource.as_ref(), &mesh.authority.domain).unwrap();
        }
    }
    let web = mesh.workload("web").await;
    // Somebody who calls itself a workload of another namespace is told nothing.
    let mut raw = Raw::connect(&mesh, &web, "pay/card-1", RULE, BTreeMap::new())
        .await
        .unwrap();
    assert_eq!(raw.next().await.unwrap_err().code, Code::PermissionDenied);
}

// A refusal means that the version is not held; the next change brings it again.
#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_is_kept_on_record_and_not_repeated() {
    let mesh = Mesh::start(&Clock::system(), &DOCUMENTS).await;
    let api = mesh.workload("api").await;
    let mut raw = Raw::connect(&mesh, &api, "shop/api-1", RULE, BTreeMap::new())
        .await
        .unwrap();
    let first = raw.next().await.unwrap();
    raw.answer(&first, Some("I do not know this")).await;
    let listed = || {
        let listed = mesh.proxies().list(Timestamp::from_unix(mesh.clock.unix()));
        listed
            .proxies
            .into_iter()
            .find(|proxy| proxy.name == "shop/api-1")
            .unwrap()
    };
    crate::kept::until(|| listed().refused.contains("I do not know this")).await;
    assert_eq!(listed().held.iter().map(|held| held.resources).sum::<u64>(), 0);
    mesh.write("more.yaml", &ALLOW.replace("name: api }", "name: more }"));
    let second = raw.next().await.unwrap();
    assert_eq!(
        names(&second),
        ["AccessPolicy/shop/api", "AccessPolicy/shop/more"]
    );
    raw.answer(&second, None).await;
    crate::kept::until(|| listed().refused.is_empty()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_resumes_is_told_only_what_changed() {
    let mut mesh = Mesh::start(&Clock::system(), &DOCUMENTS).await;
    let web = mesh.workload("web").await;
    let mut raw = Raw::connect(&mesh, &web, "shop/web-1", ADDRESS, BTreeMap::new())
        .await
        .unwrap();
    let first = raw.next().await.unwrap();
    let held = versions(&first);
    mesh.kill().await;
    assert!(raw.next().await.is_err());
    mesh.write("places.yaml", &PLACES.replace("127.0.0.2", "127.0.0.5"));
    mesh.resume().await;
    let mut raw = Raw::connect(&mesh, &web, "shop/web-1", ADDRESS, held)
        .await
        .unwrap();
    let again = raw.next().await.unwrap();
    assert_eq!(names(&again), ["shop.test//workload/shop/api-1"]);
}
