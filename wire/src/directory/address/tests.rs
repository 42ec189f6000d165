//! Writes and reads who lives where.

use ferrule_policy::{Stack, join};
use prost::Message as _;

use super::*;

const TEXT: &str = "
apiVersion: ferrule.dev/v1alpha1
kind: Workload
metadata: { namespace: shop, name: api-1, labels: { app: api } }
spec: { serviceAccount: api, addresses: [10.0.0.1, \"fd00::1\"], node: left, zone: west }
---
apiVersion: ferrule.dev/v1alpha1
kind: Workload
metadata: { namespace: shop, name: thief, labels: { app: other } }
spec: { serviceAccount: thief, addresses: [10.0.0.1, 10.0.0.9] }
---
apiVersion: ferrule.dev/v1alpha1
kind: Service
metadata: { namespace: shop, name: api }
spec: { addresses: [10.1.0.1], ports: [{ port: 80, targetPort: 8080 }], workloads: { labels: { app: api } } }
---
apiVersion: ferrule.dev/v1alpha1
kind: Service
metadata: { namespace: legacy, name: ldap }
spec: { addresses: [10.1.0.2], ports: [{ port: 389 }] }
";

fn domain() -> TrustDomain {
    TrustDomain::parse("shop.local").unwrap()
}

fn joined() -> Vec<Joined> {
    join(
        &Stack::read([("places.yaml", TEXT.as_bytes())], &domain())
            .unwrap()
            .places,
    )
}

/// What the sidecar does not need is left out on the way: labels, and the order of addresses.
fn comparable(joined: Joined) -> Joined {
    match joined {
        Joined::Workload(mut joined) => {
            let mut workload = (*joined.workload).clone();
            workload.labels.clear();
            workload.addresses.sort_unstable();
            joined.workload = Arc::new(workload);
            Joined::Workload(joined)
        }
        service => service,
    }
}

#[test]
fn everybody_is_read_as_they_were_written() {
    for one in joined() {
        let packed = write(&one, &domain());
        assert_eq!(comparable(read(Some(&packed)).unwrap()), comparable(one));
    }
}

#[test]
fn an_address_that_two_claim_is_told_as_one_of_the_mesh() {
    let Some(Joined::Workload(api)) = joined().into_iter().next() else {
        panic!("the first is a workload");
    };
    let message = write_workload(&api, &domain());
    assert_eq!(message.addresses.len(), 1, "its own alone");
    assert_eq!(api.contested, ["10.0.0.1".parse::<IpAddr>().unwrap()]);
    assert_eq!(read_workload(message).unwrap().contested, api.contested);
}

// An address is never served to a proxy that could not also learn that it needs TLS.
#[test]
fn nobody_is_told_of_without_how_they_are_reached() {
    for one in joined() {
        let packed = write(&one, &domain());
        let address = Address::decode(packed.value).unwrap();
        let without = match address.r#type.unwrap() {
            Type::Workload(workload) => {
                // For those who do not know the extension.
                assert_eq!(workload.tunnel_protocol(), TunnelProtocol::LegacyIstioMtls);
                let extensions = Vec::new();
                Type::Workload(Workload {
                    extensions,
                    ..workload
                })
            }
            Type::Service(service) => Type::Service(Service {
                extensions: Vec::new(),
                ..service
            }),
        };
        let without = pack(
            ADDRESS,
            &Address {
                r#type: Some(without),
            },
        );
        assert!(matches!(read(Some(&without)), Err(AddressError::NoReach { .. })));
    }
}

#[test]
fn a_way_that_is_not_known_yet_is_refused() {
    let reach = Reach {
        mode: 7,
        ..Reach::default()
    };
    let workload = Workload {
        name: "new".to_owned(),
        extensions: vec![extension(&reach)],
        ..Workload::default()
    };
    let r#type = Some(Type::Workload(workload));
    let packed = pack(ADDRESS, &Address { r#type });
    assert!(matches!(read(Some(&packed)), Err(AddressError::NoReach { .. })));
}

#[test]
fn names_lead_back() {
    let address: IpAddr = "fd00::1".parse().unwrap();
    assert_eq!(asked_address(&address_name(address)), Some(address));
    assert_eq!(asked_address("/::ffff:10.0.0.1"), "10.0.0.1".parse().ok());
    for other in ["10.0.0.1", "/", "/x", "shop/api.shop"] {
        assert_eq!(asked_address(other), None, "{other}");
    }
    let service = ServiceName {
        namespace: "shop".into(),
        name: "a.b".into(),
    };
    assert_eq!(read_service_name(&service_name(&service)), Some(service));
    for wrong in ["", "shop", "shop/", "shop/.shop", "shop/api.other", "/api."] {
        assert_eq!(read_service_name(wrong), None, "{wrong}");
    }
}
