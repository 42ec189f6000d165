//! Shows objects of small clusters, as an API server has them, and looks at who is told to live where.

mod order;
mod rules;

use std::net::IpAddr;

use ferrule_identity::TrustDomain;
use ferrule_policy::{Behind, ServiceDocument, WorkloadDocument};
use serde_json::{Value, json};

use super::*;
use crate::source::kubernetes::policies::KINDS;

fn domain() -> TrustDomain {
    TrustDomain::parse("shop.local").unwrap()
}

/// A running pod of `shop` with a sidecar.
fn pod(name: &str, ip: &str) -> Value {
    json!({
        "metadata": {
            "namespace": "shop", "name": name, "uid": format!("uid-{name}"), "labels": { "app": "api" },
            "creationTimestamp": "2026-01-01T00:00:00Z",
            "annotations": { "ferrule.dev/status": "{\"capture\":\"cni\",\"version\":\"0.1.0\"}" },
        },
        "spec": {
            "serviceAccountName": "api", "nodeName": "node1",
            "initContainers": [{ "name": "ferrule-proxy" }], "containers": [{ "name": "app" }],
        },
        "status": { "phase": "Running", "podIP": ip, "podIPs": [{ "ip": ip }] },
    })
}

/// The same without a sidecar.
fn plain(name: &str, ip: &str) -> Value {
    let mut pod = pod(name, ip);
    pod["metadata"]["annotations"] = json!({});
    pod["spec"]["initContainers"] = json!([]);
    pod
}

/// The service `shop/api`, port 80, whose pods listen at 8080.
fn service() -> Value {
    json!({
        "metadata": { "namespace": "shop", "name": "api" },
        "spec": {
            "clusterIP": "10.96.0.7", "clusterIPs": ["10.96.0.7"], "selector": { "app": "api" },
            "ports": [{ "name": "http", "port": 80, "targetPort": 8080, "protocol": "TCP" }],
        },
    })
}

/// The endpoint of a pod, ready.
fn endpoint(name: &str, ip: &str) -> Value {
    json!({
        "addresses": [ip], "conditions": { "ready": true, "serving": true, "terminating": false },
        "targetRef": { "kind": "Pod", "namespace": "shop", "name": name, "uid": format!("uid-{name}") },
    })
}

fn slice(endpoints: &[Value]) -> Value {
    json!({
        "metadata": { "namespace": "shop", "name": "api-x", "labels": { "kubernetes.io/service-name": "api" } },
        "addressType": "IPv4", "endpoints": endpoints,
        "ports": [{ "name": "http", "port": 8080, "protocol": "TCP" }],
    })
}

/// A cluster in which all is known, and nothing there.
fn empty() -> Cluster {
    let mut cluster = Cluster::new(KINDS.map(|(kind, _)| kind));
    cluster.take(Event::Pods(Seen::All(Vec::new())));
    cluster.take(Event::Services(Seen::All(Vec::new())));
    cluster.take(Event::Slices(Seen::All(Vec::new())));
    cluster.take(Event::Namespaces(Seen::All(vec![(
        "shop".to_owned(),
        Some(true),
    )])));
    cluster.take(Event::Nodes(Seen::All(vec![(
        "node1".to_owned(),
        Some("north".to_owned()),
    )])));
    for (kind, _) in KINDS {
        cluster.take(Event::Rules(kind, Seen::All(Vec::new())));
    }
    assert!(cluster.is_whole());
    cluster
}

fn see_pod(cluster: &mut Cluster, pod: Value) {
    let pod = serde_json::from_value(pod).unwrap();
    let key = crate::source::kubernetes::pods::key(&pod).unwrap();
    cluster.take(Event::Pods(Seen::Here(key, Pod::read(pod, &domain()))));
}

fn lose_pod(cluster: &mut Cluster, name: &str) {
    cluster.take(Event::Pods(Seen::Gone(("shop".to_owned(), name.to_owned()))));
}

fn see_service(cluster: &mut Cluster, service: Value) {
    let service: k8s_openapi::api::core::v1::Service = serde_json::from_value(service).unwrap();
    let name = name(service.metadata.name.as_deref().unwrap());
    cluster.take(Event::Services(Seen::Here(name, Service::read(service))));
}

fn see_slice(cluster: &mut Cluster, slice: Value) {
    let slice: k8s_openapi::api::discovery::v1::EndpointSlice = serde_json::from_value(slice).unwrap();
    let key = (
        slice.metadata.namespace.clone().unwrap(),
        slice.metadata.name.clone().unwrap(),
    );
    cluster.take(Event::Slices(Seen::Here(key, Slice::read(slice))));
}

fn name(service: &str) -> ServiceName {
    ServiceName {
        namespace: "shop".into(),
        name: service.into(),
    }
}

/// A cluster with these objects.
fn cluster(pods: &[Value], service: Value, slices: &[Value]) -> Cluster {
    let mut cluster = empty();
    for pod in pods {
        see_pod(&mut cluster, pod.clone());
    }
    see_service(&mut cluster, service);
    for slice in slices {
        see_slice(&mut cluster, slice.clone());
    }
    cluster
}

fn workload(cluster: &Cluster, name: &str) -> Option<WorkloadDocument> {
    cluster.workload(&("shop".to_owned(), name.to_owned()))
}

fn addresses(cluster: &Cluster, name: &str) -> Vec<String> {
    let workload = workload(cluster, name).unwrap();
    workload.addresses.iter().map(IpAddr::to_string).collect()
}

fn told(cluster: &Cluster) -> ServiceDocument {
    cluster.service(&name("api")).unwrap()
}

/// The names of those behind `shop/api`, each with the first of its ports; `None` where it is not in the mesh.
fn behind(cluster: &Cluster) -> Option<Vec<(String, u16)>> {
    match told(cluster).behind {
        Behind::Named(named) => Some(
            named
                .into_iter()
                .map(|(name, ports)| (name, ports.first().map_or(0, |port| port.target_port)))
                .collect(),
        ),
        Behind::Outside => None,
        Behind::Labels(_) => panic!("a cluster says by name who is behind"),
    }
}

fn at(name: &str, port: u16) -> (String, u16) {
    (name.to_owned(), port)
}

#[test]
fn a_pod_with_a_sidecar_is_who_its_account_says() {
    let mut cluster = empty();
    let mut dual = pod("api-1", "10.0.0.1");
    dual["status"]["podIPs"] = json!([{ "ip": "10.0.0.1" }, { "ip": "fd00::1" }]);
    see_pod(&mut cluster, dual);
    let told = workload(&cluster, "api-1").unwrap();
    assert_eq!(told.id.as_str(), "spiffe://shop.local/ns/shop/sa/api");
    assert_eq!(addresses(&cluster, "api-1"), ["10.0.0.1", "fd00::1"]);
    assert_eq!(told.labels["app"], "api");
    assert_eq!(
        (told.node.as_deref(), told.zone.as_deref()),
        (Some("node1"), Some("north"))
    );
}

#[test]
fn a_pod_without_an_account_has_the_default_one() {
    let mut cluster = empty();
    let mut nobody = pod("api-1", "10.0.0.1");
    nobody["spec"]["serviceAccountName"] = json!(null);
    see_pod(&mut cluster, nobody);
    let told = workload(&cluster, "api-1").unwrap();
    assert_eq!(told.id.as_str(), "spiffe://shop.local/ns/shop/sa/default");
}

#[test]
fn neither_a_note_nor_a_container_alone_makes_a_workload_of_the_mesh() {
    let mut cluster = empty();
    let mut noted = pod("noted", "10.0.0.1");
    noted["spec"]["initContainers"] = json!([]);
    let mut silent = pod("silent", "10.0.0.2");
    silent["metadata"]["annotations"] = json!({});
    let mut odd = pod("odd", "10.0.0.3");
    odd["metadata"]["annotations"]["ferrule.dev/status"] = json!("{");
    let mut host = pod("host", "192.168.0.1");
    host["spec"]["hostNetwork"] = json!(true);
    for pod in [noted, silent, odd, host] {
        see_pod(&mut cluster, pod);
    }
    for name in ["noted", "silent", "odd", "host"] {
        assert_eq!(workload(&cluster, name), None, "{name}");
    }
    // An ordinary container is a sidecar, too, where there are no native ones.
    let mut old = pod("old", "10.0.0.4");
    old["spec"]["initContainers"] = json!([]);
    old["spec"]["containers"] = json!([{ "name": "ferrule-proxy" }, { "name": "app" }]);
    see_pod(&mut cluster, old);
    assert!(workload(&cluster, "old").is_some());
}

#[test]
fn a_pod_that_has_ended_lives_nowhere_whatever_its_object_says() {
    let mut cluster = empty();
    for phase in ["Succeeded", "Failed"] {
        see_pod(&mut cluster, pod("api-1", "10.0.0.1"));
        assert!(workload(&cluster, "api-1").is_some());
        let mut ended = pod("api-1", "10.0.0.1");
        ended["status"]["phase"] = json!(phase);
        see_pod(&mut cluster, ended);
        assert_eq!(workload(&cluster, "api-1"), None, "{phase}");
    }
}

#[test]
fn an_address_that_was_given_away_is_the_new_pods() {
    let mut cluster = empty();
    see_pod(&mut cluster, pod("old", "10.0.0.1"));
    let mut leaving = pod("old", "10.0.0.1");
    leaving["metadata"]["deletionTimestamp"] = json!("2026-01-02T00:00:00Z");
    see_pod(&mut cluster, leaving.clone());
    assert_eq!(addresses(&cluster, "old"), ["10.0.0.1"], "it still serves");
    let mut new = pod("new", "10.0.0.1");
    new["spec"]["serviceAccountName"] = json!("other");
    new["metadata"]["creationTimestamp"] = json!("2026-01-02T00:00:00Z");
    see_pod(&mut cluster, new.clone());
    assert_eq!(addresses(&cluster, "new"), ["10.0.0.1"]);
    assert!(addresses(&cluster, "old").is_empty());
    // Both on their way out: the later one has it.
    new["metadata"]["deletionTimestamp"] = json!("2026-01-03T00:00:00Z");
    see_pod(&mut cluster, new);
    assert_eq!(addresses(&cluster, "new"), ["10.0.0.1"]);
    assert!(addresses(&cluster, "old").is_empty());
    lose_pod(&mut cluster, "new");
    assert_eq!(addresses(&cluster, "old"), ["10.0.0.1"]);
    // A pod without a sidecar that stays has it, too: nobody of the mesh lives there any more.
    see_pod(&mut cluster, plain("stranger", "10.0.0.1"));
    assert!(addresses(&cluster, "old").is_empty());
}

#[test]
fn of_two_that_stay_neither_gives_way() {
    let mut cluster = empty();
    see_pod(&mut cluster, pod("one", "10.0.0.1"));
    see_pod(&mut cluster, pod("other", "10.0.0.1"));
    // The model then expects nobody there.
    assert_eq!(addresses(&cluster, "one"), addresses(&cluster, "other"));
    see_pod(&mut cluster, plain("stranger", "10.0.0.1"));
    assert_eq!(
        addresses(&cluster, "one"),
        ["10.0.0.1"],
        "it may be its own still"
    );
}

#[test]
fn whoever_stands_behind_a_service_is_told_with_its_port() {
    let pods = [pod("api-1", "10.0.0.1"), pod("api-2", "10.0.0.2")];
    let ends = [endpoint("api-1", "10.0.0.1"), endpoint("api-2", "10.0.0.2")];
    let cluster = cluster(&pods, service(), &[slice(&ends)]);
    assert_eq!(behind(&cluster), Some(vec![at("api-1", 8080), at("api-2", 8080)]));
    let told = told(&cluster);
    assert_eq!(told.addresses, ["10.96.0.7".parse::<IpAddr>().unwrap()]);
    assert_eq!((told.ports[0].port, told.ports[0].target_port), (80, 8080));
}

#[test]
fn a_port_with_a_name_is_each_pods_own() {
    let pods = [pod("api-1", "10.0.0.1"), pod("api-2", "10.0.0.2")];
    let mut named = service();
    named["spec"]["ports"][0]["targetPort"] = json!("web");
    let one = slice(&[endpoint("api-1", "10.0.0.1")]);
    let mut other = slice(&[endpoint("api-2", "10.0.0.2")]);
    other["metadata"]["name"] = json!("api-y");
    other["ports"][0]["port"] = json!(9090);
    let cluster = cluster(&pods, named, &[one, other]);
    assert_eq!(behind(&cluster), Some(vec![at("api-1", 8080), at("api-2", 9090)]));
}

#[test]
fn ports_of_udp_are_none_of_our_business() {
    let mut mixed = service();
    let udp = json!({ "name": "dns", "port": 53, "protocol": "UDP" });
    mixed["spec"]["ports"].as_array_mut().unwrap().push(udp.clone());
    let mut cluster = empty();
    see_service(&mut cluster, mixed.clone());
    assert_eq!(told(&cluster).ports.len(), 1);
    mixed["spec"]["ports"] = json!([udp]);
    see_service(&mut cluster, mixed);
    assert_eq!(cluster.service(&name("api")), None);
    let mut alias = service();
    alias["spec"] = json!({ "type": "ExternalName", "externalName": "example.com" });
    see_service(&mut cluster, alias);
    assert_eq!(cluster.service(&name("api")), None);
}

#[test]
fn nobody_is_given_connections_who_is_not_ready_or_on_the_way_out() {
    let mut leaving = pod("api-2", "10.0.0.2");
    leaving["metadata"]["deletionTimestamp"] = json!("2026-01-02T00:00:00Z");
    let mut cold = endpoint("api-1", "10.0.0.1");
    cold["conditions"] = json!({ "ready": false, "serving": false, "terminating": false });
    let ends = [cold, endpoint("api-2", "10.0.0.2"), endpoint("api-3", "10.0.0.3")];
    let pods = [pod("api-1", "10.0.0.1"), leaving, pod("api-3", "10.0.0.3")];
    let mut cluster = cluster(&pods, service(), &[slice(&ends)]);
    // The slice does not know yet that one of them is leaving.
    assert_eq!(behind(&cluster), Some(vec![at("api-3", 8080)]));
    // All of them can be dialled by their own addresses.
    assert_eq!(addresses(&cluster, "api-1"), ["10.0.0.1"]);
    assert_eq!(addresses(&cluster, "api-2"), ["10.0.0.2"]);
    // As long as there is nobody else, whoever leaves serves on.
    lose_pod(&mut cluster, "api-3");
    let mut last = endpoint("api-2", "10.0.0.2");
    last["conditions"] = json!({ "ready": false, "serving": true, "terminating": true });
    see_slice(&mut cluster, slice(&[ends[0].clone(), last]));
    assert_eq!(behind(&cluster), Some(vec![at("api-2", 8080)]));
    lose_pod(&mut cluster, "api-2");
    see_slice(&mut cluster, slice(&ends[..1]));
    assert_eq!(
        behind(&cluster),
        Some(Vec::new()),
        "in the mesh, and nobody there"
    );
}

#[test]
fn a_slice_older_than_the_pod_of_that_name_leads_nowhere() {
    let mut reborn = pod("api-1", "10.0.0.1");
    reborn["metadata"]["uid"] = json!("another");
    let mut moved = pod("api-2", "10.0.0.9");
    moved["metadata"]["uid"] = json!("uid-api-2");
    let ends = [endpoint("api-1", "10.0.0.1"), endpoint("api-2", "10.0.0.2")];
    let cluster = cluster(&[reborn, moved], service(), &[slice(&ends)]);
    assert!(!behind(&cluster).unwrap_or_default().contains(&at("api-1", 8080)));
    assert!(!behind(&cluster).unwrap_or_default().contains(&at("api-2", 8080)));
}

#[test]
fn a_stateful_set_is_reached_pod_by_pod_before_it_is_ready() {
    let mut headless = service();
    headless["spec"]["clusterIP"] = json!("None");
    headless["spec"]["clusterIPs"] = json!(["None"]);
    headless["spec"]["publishNotReadyAddresses"] = json!(true);
    let ends = [endpoint("api-0", "10.0.0.1"), endpoint("api-1", "10.0.0.2")];
    let pods = [pod("api-0", "10.0.0.1"), pod("api-1", "10.0.0.2")];
    let cluster = cluster(&pods, headless, &[slice(&ends)]);
    assert!(told(&cluster).addresses.is_empty());
    assert_eq!(behind(&cluster).map(|all| all.len()), Some(2));
    assert_eq!(addresses(&cluster, "api-0"), ["10.0.0.1"]);
}

#[test]
fn a_service_moves_into_the_mesh_with_its_first_ready_pod() {
    let pods = [plain("api-1", "10.0.0.1"), pod("api-2", "10.0.0.2")];
    let mut cold = endpoint("api-2", "10.0.0.2");
    cold["conditions"]["ready"] = json!(false);
    let before = [endpoint("api-1", "10.0.0.1"), cold];
    let mut cluster = cluster(&pods, service(), &[slice(&before)]);
    assert_eq!(behind(&cluster), None, "whoever serves now has no sidecar");
    let after = [endpoint("api-1", "10.0.0.1"), endpoint("api-2", "10.0.0.2")];
    see_slice(&mut cluster, slice(&after));
    assert_eq!(behind(&cluster), Some(vec![at("api-2", 8080)]));
}

#[test]
fn an_empty_service_is_where_its_namespace_is() {
    let mut cluster = cluster(&[], service(), &[]);
    assert_eq!(behind(&cluster), Some(Vec::new()));
    cluster.take(Event::Namespaces(Seen::Here("shop".to_owned(), Some(false))));
    assert_eq!(behind(&cluster), None);
    let changes = cluster.changes();
    assert!(
        changes
            .iter()
            .any(|change| matches!(change, Change::Service(told) if told.behind == Behind::Outside))
    );
}

#[test]
fn a_headless_service_beyond_the_mesh_is_where_its_pods_are() {
    let mut headless = service();
    headless["spec"]["clusterIP"] = json!("None");
    headless["spec"]["clusterIPs"] = json!(["None"]);
    let ends = [
        endpoint("db-1", "10.0.0.1"),
        json!({ "addresses": ["192.0.2.1"] }),
        json!({ "addresses": ["10.96.0.9"] }),
    ];
    let cluster = cluster(&[plain("db-1", "10.0.0.1")], headless, &[slice(&ends)]);
    let told = told(&cluster);
    assert_eq!(told.behind, Behind::Outside);
    // Nobody can take an address by naming it.
    assert_eq!(told.addresses, ["10.0.0.1".parse::<IpAddr>().unwrap()]);
    assert_eq!((told.ports[0].port, told.ports[0].target_port), (8080, 8080));
}

#[test]
fn a_service_that_names_another_namespaces_pods_leads_nowhere_and_never_in_clear() {
    let mut victim = pod("card", "10.0.0.1");
    victim["metadata"]["namespace"] = json!("pay");
    let ends = [json!({ "addresses": ["10.0.0.1"] }), endpoint("mine", "10.0.0.2")];
    let mut selectorless = service();
    selectorless["spec"]["selector"] = json!(null);
    let mut cluster = cluster(&[plain("mine", "10.0.0.2")], selectorless, &[slice(&ends)]);
    assert_eq!(
        behind(&cluster),
        None,
        "so far it is known for a service without the mesh"
    );
    cluster.changes();
    see_pod(&mut cluster, victim);
    assert_eq!(behind(&cluster), Some(Vec::new()));
    let changes = cluster.changes();
    assert!(
        changes.iter().any(|change| matches!(change, Change::Service(_))),
        "it is told"
    );
}

#[test]
fn everything_at_once_forgets_whoever_is_not_in_it() {
    let pods = [pod("api-1", "10.0.0.1"), pod("api-2", "10.0.0.2")];
    let mut cluster = cluster(&pods, service(), &[]);
    cluster.changes();
    let read = |pod: &Value| {
        let pod: k8s_openapi::api::core::v1::Pod = serde_json::from_value(pod.clone()).unwrap();
        (
            crate::source::kubernetes::pods::key(&pod).unwrap(),
            Pod::read(pod, &domain()),
        )
    };
    cluster.take(Event::Pods(Seen::All(pods.iter().map(read).collect())));
    assert!(cluster.changes().is_empty(), "the same again changes nothing");
    cluster.take(Event::Pods(Seen::All(vec![read(&pods[1])])));
    let changes = cluster.changes();
    assert!(matches!(&changes[..], [Change::NoWorkload(_, name)] if name == "api-1"));
}

#[test]
fn a_machine_that_moves_to_another_zone_moves_its_pods() {
    let mut cluster = empty();
    see_pod(&mut cluster, pod("api-1", "10.0.0.1"));
    cluster.changes();
    cluster.take(Event::Nodes(Seen::Here(
        "node1".to_owned(),
        Some("south".to_owned()),
    )));
    let changes = cluster.changes();
    assert!(matches!(&changes[..], [Change::Workload(told)] if told.zone.as_deref() == Some("south")));
}
