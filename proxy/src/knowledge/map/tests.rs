//! Asks a small map who lives where.

use ferrule_identity::TrustDomain;

use super::*;

const TEXT: &str = "
apiVersion: ferrule.dev/v1alpha1
kind: Workload
metadata: { namespace: shop, name: api-1, labels: { app: api } }
spec: { serviceAccount: api, addresses: [10.0.0.1] }
---
apiVersion: ferrule.dev/v1alpha1
kind: Workload
metadata: { namespace: shop, name: api-2, labels: { app: api } }
spec: { serviceAccount: api, addresses: [10.0.0.2, \"fd00::2\"] }
---
apiVersion: ferrule.dev/v1alpha1
kind: Workload
metadata: { namespace: other, name: api, labels: { app: api } }
spec: { serviceAccount: api, addresses: [10.0.0.3] }
---
apiVersion: ferrule.dev/v1alpha1
kind: Service
metadata: { namespace: shop, name: api }
spec: { addresses: [10.1.0.1, \"fd01::1\"], ports: [{ port: 80, targetPort: 8080 }], workloads: { labels: { app: api } } }
---
apiVersion: ferrule.dev/v1alpha1
kind: Service
metadata: { namespace: legacy, name: ldap }
spec: { addresses: [10.1.0.2], ports: [{ port: 389 }] }
";

fn map(text: &str) -> Map {
    let domain = TrustDomain::parse("shop.local").unwrap();
    let stack = ferrule_policy::Stack::read([("places.yaml", text.as_bytes())], &domain).unwrap();
    Map::new(&ferrule_policy::join(&stack.places))
}

fn at(map: &Map, address: &str) -> Place {
    map.at(OriginalDst::new(address.parse().unwrap()))
}

fn addresses(endpoints: &[Endpoint]) -> Vec<String> {
    let addresses = endpoints.iter().map(|endpoint| endpoint.address.to_string());
    addresses.collect()
}

#[test]
fn a_service_leads_to_the_workloads_of_its_own_namespace() {
    let Place::Mesh { service, endpoints } = at(&map(TEXT), "10.1.0.1:80") else {
        panic!("the service is in the mesh");
    };
    assert_eq!(service.unwrap().to_string(), "api.shop");
    assert_eq!(addresses(&endpoints), ["10.0.0.1:8080", "10.0.0.2:8080"]);
    assert!(
        endpoints
            .iter()
            .all(|one| one.id.as_str() == "spiffe://shop.local/ns/shop/sa/api")
    );
}

// An application may listen in one family alone: whoever calls it in that one must not be led to the other.
#[test]
fn a_workload_is_reached_in_the_family_that_was_called() {
    let map = map(TEXT);
    let Place::Mesh { endpoints, .. } = at(&map, "[fd01::1]:80") else {
        panic!("the service is in the mesh");
    };
    assert_eq!(addresses(&endpoints), ["10.0.0.1:8080", "[fd00::2]:8080"]);
    let name = ServiceName {
        namespace: Arc::from("shop"),
        name: Arc::from("api"),
    };
    let Place::Mesh { endpoints, .. } = map.behind(&name, 80) else {
        panic!("the service is in the mesh");
    };
    assert_eq!(addresses(&endpoints), ["10.0.0.1:8080", "10.0.0.2:8080"]);
}

#[test]
fn a_workload_is_expected_at_its_own_address() {
    let Place::Mesh { service, endpoints } = at(&map(TEXT), "10.0.0.3:22") else {
        panic!("the workload is in the mesh");
    };
    assert_eq!(service, None);
    assert_eq!(endpoints[0].id.as_str(), "spiffe://shop.local/ns/other/sa/api");
    assert_eq!(endpoints[0].address.to_string(), "10.0.0.3:22");
}

#[test]
fn what_is_not_known_is_told_apart() {
    let map = map(TEXT);
    assert!(matches!(at(&map, "10.1.0.2:389"), Place::Unmeshed { .. }));
    assert!(matches!(at(&map, "10.1.0.1:81"), Place::NoSuchPort { .. }));
    assert_eq!(at(&map, "10.9.9.9:80"), Place::Unknown);
}

#[test]
fn an_address_that_two_claim_is_nobodys() {
    let twice = format!(
        "{TEXT}---\n{}",
        TEXT.split("---").next().unwrap().replace("api-1", "thief")
    );
    assert!(matches!(at(&map(&twice), "10.0.0.1:80"), Place::Mesh { endpoints, .. } if endpoints.is_empty()));
    assert!(matches!(at(&map(&twice), "10.0.0.2:80"), Place::Mesh { .. }));
}

#[test]
fn a_service_beyond_the_mesh_takes_no_workloads_address() {
    let text = TEXT
        .replace("10.1.0.2", "10.0.0.1")
        .replace("port: 389", "port: 8080");
    let Place::Mesh { endpoints, .. } = at(&map(&text), "10.0.0.1:8080") else {
        panic!("a workload of the mesh lives there");
    };
    assert_eq!(addresses(&endpoints), ["10.0.0.1:8080"]);
}

const ELSEWHERE: &str = "
apiVersion: ferrule.dev/v1alpha1
kind: Workload
metadata: { namespace: shop, name: api-1, labels: { app: api } }
spec:
  serviceAccount: api
  addresses: [10.0.0.1, \"fd00::1\"]
  node: 192.0.2.2
  published: [{ port: 8080, at: \"192.0.2.2:20000\" }]
---
apiVersion: ferrule.dev/v1alpha1
kind: Service
metadata: { namespace: shop, name: api }
spec:
  addresses: [10.1.0.1]
  ports: [{ port: 80, targetPort: 8080 }, { port: 81 }]
  workloads: { labels: { app: api } }
";

#[test]
fn a_workload_of_another_machine_is_reached_where_that_publishes_it() {
    let domain = TrustDomain::parse("shop.local").unwrap();
    let stack = ferrule_policy::Stack::read([("places.yaml", ELSEWHERE.as_bytes())], &domain).unwrap();
    let seen_from = |node: &str| Map::seen_from(node, &ferrule_policy::join(&stack.places));
    let found = |map: &Map, address: &str| match at(map, address) {
        Place::Mesh { endpoints, .. } => addresses(&endpoints),
        place => panic!("{place:?}"),
    };
    let (here, there) = (seen_from("192.0.2.2"), seen_from("192.0.2.1"));
    assert_eq!(found(&here, "10.1.0.1:80"), ["10.0.0.1:8080"]);
    assert_eq!(found(&there, "10.1.0.1:80"), ["192.0.2.2:20000"]);
    assert_eq!(found(&there, "10.0.0.1:8080"), ["192.0.2.2:20000"]);
    // Not at an address that is somebody else's there, as it may be.
    assert!(found(&there, "10.1.0.1:81").is_empty());
    assert!(found(&there, "10.0.0.1:22").is_empty());
    assert_eq!(found(&here, "10.0.0.1:22"), ["10.0.0.1:22"]);
}
