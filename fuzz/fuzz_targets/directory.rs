//! Reads any bytes as what a directory tells: addresses, rules, ranges, bundles, deny lists, and what a proxy tells it.
#![no_main]

use ferrule_identity::{Timestamp, TrustDomain};
use ferrule_wire::directory::report::Told;
use ferrule_wire::directory::{ADDRESS, BUNDLE, DENY_LIST, MESH, RULE, address, rule, trust};
use ferrule_wire::proto::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DeltaDiscoveryResponse};
use ferrule_wire::proto::google::protobuf::Any;
use libfuzzer_sys::fuzz_target;
use prost::Message as _;

fn packed(type_url: &str, bytes: &[u8]) -> Any {
    Any {
        type_url: type_url.to_owned(),
        value: bytes.to_vec().into(),
    }
}

fuzz_target!(|input: (u8, Vec<u8>)| {
    let (kind, bytes) = input;
    let domain: TrustDomain = "shop.local".parse().expect("a trust domain");
    match kind % 7 {
        0 => {
            if let Ok(joined) = address::read(Some(&packed(ADDRESS, &bytes))) {
                let written = address::write(&joined, &domain);
                let again = address::read(Some(&written)).expect("what we write");
                assert_eq!(address::write(&again, &domain), written);
            }
        }
        1 => drop(rule::read(Some(&packed(RULE, &bytes)), &domain)),
        2 => {
            if let Ok(ranges) = rule::read_mesh(Some(&packed(MESH, &bytes))) {
                let written = rule::write_mesh(&ranges);
                assert_eq!(rule::read_mesh(Some(&written)).expect("what we write"), ranges);
            }
        }
        3 => {
            let now = Timestamp::from_unix(1_830_000_000);
            drop(trust::read_bundle(Some(&packed(BUNDLE, &bytes)), domain, now));
        }
        4 => drop(trust::read_deny_list(Some(&packed(DENY_LIST, &bytes)))),
        5 => drop(DeltaDiscoveryResponse::decode(&*bytes)),
        _ => {
            if let Ok(request) = DeltaDiscoveryRequest::decode(&*bytes)
                && let Some(node) = &request.node
            {
                let told = Told::from_node(node);
                assert_eq!(Told::from_node(&told.to_node()), told);
            }
        }
    }
});
