//! Programs one minor version apart understand each other: what the next version adds is passed over where that is
//! safe, refused where it is not, and what the last one did not know is not missed.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

use ferrule_identity::{Revocations, TrustDomain};
use ferrule_policy::{Stack, join};
use ferrule_wire::ca;
use ferrule_wire::directory::report::Told;
use ferrule_wire::directory::{ADDRESS, address, rule, trust};
use ferrule_wire::proto::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DeltaDiscoveryResponse};
use ferrule_wire::proto::ferrule::v1 as messages;
use ferrule_wire::proto::google::protobuf::Any;
use prost::Message;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

const PLACES: &str = "
apiVersion: ferrule.dev/v1alpha1
kind: Workload
metadata: { namespace: shop, name: api-1, labels: { app: api } }
spec: { serviceAccount: api, addresses: [10.0.0.1], node: one, published: [{ port: 8080, at: \"192.0.2.1:9443\" }] }
---
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

fn domain() -> TrustDomain {
    TrustDomain::parse("shop.local").unwrap()
}

fn stack() -> Stack {
    Stack::read([("mesh.yaml", PLACES.as_bytes())], &domain()).unwrap()
}

/// What the next version adds to any message: a number, a text and a message, under numbers that nobody uses.
fn added() -> Vec<u8> {
    let mut bytes = Vec::new();
    for (tag, value) in [
        (2000_u32, &[7_u8][..]),
        (2001, b"\x03new"),
        (2002, b"\x02\x08\x01"),
    ] {
        let kind = u32::from(tag > 2000) * 2;
        prost::encoding::encode_varint(u64::from(tag << 3 | kind), &mut bytes);
        bytes.extend_from_slice(value);
    }
    bytes
}

fn newer(mut packed: Any) -> Any {
    let mut value = packed.value.to_vec();
    value.extend(added());
    packed.value = value.into();
    packed
}

fn newer_read<M: Message + Default + PartialEq + std::fmt::Debug>(message: &M) {
    let mut bytes = message.encode_to_vec();
    bytes.extend(added());
    assert_eq!(&M::decode(bytes.as_slice()).unwrap(), message);
}

#[test]
fn what_a_newer_directory_adds_to_an_address_is_passed_over() {
    let joined = join(&stack().places);
    assert_eq!(joined.len(), 2);
    for one in joined {
        let packed = newer(address::write(&one, &domain()));
        assert_eq!(packed.type_url, ADDRESS);
        assert_eq!(
            address::read(Some(&packed)).unwrap(),
            address::read(Some(&address::write(&one, &domain()))).unwrap()
        );
    }
}

#[test]
fn what_a_newer_directory_adds_to_the_mesh_and_to_whom_to_trust_is_passed_over() {
    let ranges = ["10.0.0.0/8".parse().unwrap()];
    let mesh = newer(rule::write_mesh(&ranges));
    assert_eq!(rule::read_mesh(Some(&mesh)).unwrap(), ranges);
    let none = Revocations::empty();
    let list = newer(trust::write_deny_list(none.denied(), 7));
    let (generation, read) = trust::read_deny_list(Some(&list)).unwrap();
    assert_eq!((generation, &read), (7, none.denied()));
}

/// A rule is text, which an older proxy reads whole or not at all: it keeps the last good ones, and says so.
#[test]
fn what_a_newer_directory_adds_to_a_rule_is_refused_and_beside_it_passed_over() {
    let written = stack().policies.remove(0);
    let packed = newer(rule::write(&written));
    assert_eq!(
        rule::read(Some(&packed), &domain()).unwrap().kind(),
        written.policy.kind()
    );
    let mut unknown = written;
    unknown.text.push_str("\nunless: sunday\n");
    let refused = rule::read(Some(&rule::write(&unknown)), &domain()).unwrap_err();
    assert!(refused.to_string().contains("unless"), "{refused}");
}

#[test]
fn what_either_side_adds_around_the_resources_is_passed_over() {
    let told = Told {
        name: "shop/web-1".to_owned(),
        ..Told::default()
    };
    let request = DeltaDiscoveryRequest {
        node: Some(told.to_node()),
        type_url: ADDRESS.to_owned(),
        ..DeltaDiscoveryRequest::default()
    };
    newer_read(&request);
    newer_read(&DeltaDiscoveryResponse {
        nonce: "7".to_owned(),
        ..DeltaDiscoveryResponse::default()
    });
    newer_read(&messages::Proxy {
        identity: "spiffe://shop.local/ns/shop/sa/web".to_owned(),
        ..messages::Proxy::default()
    });
    newer_read(&messages::AnnounceRequest {
        host: "one".to_owned(),
        documents: PLACES.to_owned(),
    });
    newer_read(&messages::AnnounceReply::default());
}

/// What an older proxy does not tell yet is what nobody has to tell.
#[test]
fn a_proxy_that_tells_less_is_understood() {
    let node = Told::default().to_node();
    let bare = ferrule_wire::proto::envoy::service::discovery::v3::Node {
        metadata: None,
        ..node
    };
    let told = Told::from_node(&bare);
    assert_eq!((told.labels, told.clock), (None, None));
    let reach = messages::Reach::decode(&[8_u8, 1][..]).unwrap();
    assert_eq!(reach.leaf_not_after, 0, "the first version told the mode alone");
}

/// A reply of the CA's with what the next version adds.
fn reply_read<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(reply: &T) {
    let mut written = serde_json::to_value(reply).unwrap();
    written["added_later"] = json!({ "a": [1, 2] });
    assert_eq!(&serde_json::from_value::<T>(written).unwrap(), reply);
}

#[test]
fn what_a_newer_ca_adds_to_its_answers_is_passed_over() {
    reply_read(&ca::IssueReply {
        id: "spiffe://shop.local/ns/shop/sa/web".to_owned(),
        certificates: "PEM".to_owned(),
        serial: "01".to_owned(),
        not_before: 1,
        not_after: 3,
        renew_at: 2,
        server_time: 1,
        bundle_sequence: 4,
    });
    reply_read(&ca::EnrollReply {
        host: "one".to_owned(),
        identities: vec!["spiffe://shop.local/*".to_owned()],
        server_time: 1,
    });
    reply_read(&ca::RevocationsReply {
        generation: 1,
        identities: Vec::new(),
        certificates: vec![ca::RevokedCertificate {
            issuer: "00".to_owned(),
            serial: "01".to_owned(),
        }],
        authorities: Vec::new(),
        server_time: 1,
    });
    reply_read(&ca::TimeReply { server_time: 1 });
    reply_read(&ca::ErrorReply {
        error: "not_entitled".to_owned(),
        message: "no".to_owned(),
        server_time: 1,
    });
}

/// A CA answers no question that it does not understand whole: what is asked for might be less than is given. So a
/// client says what is new only where it is wanted, and what it always says is what the first version said.
#[test]
fn what_a_newer_client_always_asks_an_older_ca_understands() {
    let request = ca::IssueRequest {
        csr: "PEM".to_owned(),
        id: None,
        lifetime_seconds: None,
        serving: false,
        evidence: None,
    };
    assert_eq!(serde_json::to_value(&request).unwrap(), json!({ "csr": "PEM" }));
    let first: ca::IssueRequest = ca::read(br#"{ "csr": "PEM" }"#).unwrap();
    assert_eq!(first, request);
    let evidence = ca::Evidence::KubernetesToken {
        token: "t".to_owned(),
    };
    let written: Value = serde_json::to_value(&evidence).unwrap();
    assert_eq!(written, json!({ "kind": "kubernetes_token", "token": "t" }));
    let unknown = ca::read::<ca::IssueRequest>(br#"{ "csr": "PEM", "only_for": "sundays" }"#);
    assert!(unknown.is_err());
}
