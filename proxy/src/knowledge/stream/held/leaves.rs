//! What a directory tells of certificates is kept for as long as it is about the same workload.

use std::sync::Arc;

use ferrule_identity::TrustDomain;
use ferrule_policy::{JoinedWorkload, WorkloadDocument};

use super::*;

const ID: &str = "spiffe://shop.local/ns/shop/sa/api";

fn told(held: &mut Held, version: u64, id: &str, end: Option<i64>) -> Option<i64> {
    let id = SpiffeId::parse(id).unwrap();
    let address = IpAddr::from([10, 0, 0, 1]);
    let domain = TrustDomain::parse("shop.local").unwrap();
    let joined = Joined::Workload(JoinedWorkload {
        workload: Arc::new(WorkloadDocument {
            namespace: "shop".to_owned(),
            name: "api-1".to_owned(),
            labels: BTreeMap::new(),
            id: id.clone(),
            addresses: vec![address],
            published: Vec::new(),
            node: None,
            zone: None,
        }),
        contested: Vec::new(),
        behind: Vec::new(),
        leaf_end: end.map(Timestamp::from_unix),
    });
    let response = DeltaDiscoveryResponse {
        type_url: ADDRESS.to_owned(),
        nonce: version.to_string(),
        resources: vec![Resource {
            name: address::name(&joined, &domain),
            version: version.to_string(),
            resource: Some(address::write(&joined, &domain)),
            ..Resource::default()
        }],
        ..DeltaDiscoveryResponse::default()
    };
    held.take(&response, |_, _| Ok(())).unwrap();
    let known = held.map("").leaf_ends(address, &id);
    known.map(Timestamp::unix)
}

#[test]
fn what_a_directory_reports_of_certificates_reaches_the_map() {
    let mesh = Mesh::named(TrustDomain::parse("shop.local").unwrap());
    let mut held = Held::new(mesh, false);
    assert_eq!(told(&mut held, 1, ID, None), None);
    assert_eq!(told(&mut held, 2, ID, Some(500)), Some(500));
    // A directory that has just been started does not know yet.
    assert_eq!(told(&mut held, 3, ID, None), Some(500));
    assert_eq!(told(&mut held, 4, ID, Some(900)), Some(900));
    // Somebody else lives there now.
    let other = "spiffe://shop.local/ns/shop/sa/other";
    assert_eq!(told(&mut held, 5, other, None), None);
}
