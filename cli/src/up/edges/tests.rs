//! Tests how lines of sidecars become edges.

use ferrule_document::{Document, Limits};
use serde_json::json;

use super::*;
use crate::state::Capture;
use crate::up::document::MeshDocument;
use crate::up::plan::Machine;

fn edges() -> Edges {
    let text = "apiVersion: ferrule.dev/v1alpha1\nkind: Mesh\ntrustDomain: shop.local\nworkloads:\n\
                - { name: api, namespace: shop, run: [./api], ports: [8080] }\n";
    let document = Document::parse_one("mesh.yaml", text.as_bytes(), Limits::default()).unwrap();
    let mesh = MeshDocument::read(&document).unwrap();
    let machine = Machine {
        capture: Capture::Transparent,
        ipv6: false,
        loopback: 213,
    };
    Edges::new(&Plan::new(&mesh, "/".as_ref(), machine).unwrap())
}

fn line(direction: &str, tls: &str, verdict: &str, reason: &str, src_id: &str, dst_addr: &str) -> String {
    json!({
        "event": "close", "direction": direction, "src_id": src_id, "dst_id": "", "src_addr": "10.213.0.99:4000",
        "dst_addr": dst_addr, "dst_port": 8080, "tls": tls, "verdict": verdict, "rule": "shop/api rule 1",
        "reason": reason, "bytes_in": 3, "bytes_out": 5,
    })
    .to_string()
}

const WEB: &str = "spiffe://shop.local/ns/shop/sa/web";
const API: &str = "10.213.0.16";

#[test]
fn connections_of_one_kind_add_up() {
    let mut edges = edges();
    let edge = edges
        .take(&line("inbound", "mutual", "allow", "finished", WEB, API))
        .unwrap();
    assert_eq!((edge.who.as_str(), edge.whom.as_str()), ("web.shop", "api.shop"));
    assert_eq!(
        edges.take(&line("inbound", "mutual", "allow", "finished", WEB, API)),
        None
    );
    let traffic = &edges.all()[&edge];
    assert_eq!(
        (traffic.connections, traffic.bytes_in, traffic.bytes_out),
        (2, 6, 10)
    );
}

#[test]
fn the_clients_account_counts_where_the_server_has_none() {
    let mut edges = edges();
    for (tls, reason) in [
        ("mutual", "finished"),
        ("none", "refused_by_peer"),
        ("none", "upstream_reset"),
    ] {
        assert_eq!(
            edges.take(&line("outbound", tls, "allow", reason, WEB, API)),
            None
        );
    }
    let gone = edges
        .take(&line("outbound", "none", "none", "unreachable", WEB, "192.0.2.7"))
        .unwrap();
    assert_eq!(
        (gone.whom.as_str(), gone.verdict.as_str()),
        ("192.0.2.7", "unreachable")
    );
}

#[test]
fn whoever_shows_no_identity_is_named_by_its_address() {
    let mut edges = edges();
    let edge = edges
        .take(&line("inbound", "none", "none", "plaintext", "", API))
        .unwrap();
    assert_eq!(
        (edge.who.as_str(), edge.verdict.as_str()),
        ("10.213.0.99", "refused")
    );
    let foreign = "spiffe://other.example/ns/shop/sa/web";
    let edge = edges
        .take(&line("inbound", "mutual", "deny", "denied", foreign, API))
        .unwrap();
    assert_eq!(edge.who, foreign);
}

#[test]
fn other_lines_are_no_edges() {
    let mut edges = edges();
    let open = line("inbound", "mutual", "allow", "", WEB, API).replace("close", "open");
    for other in [open.as_str(), "", "no json", "{}", "{\"message\":\"listening\"}"] {
        assert_eq!(edges.take(other), None);
    }
    assert!(edges.all().is_empty());
}

#[test]
fn what_is_open_counts_until_its_sidecar_says_otherwise() {
    let mut edges = edges();
    let open = json!([{
        "direction": "inbound", "src_id": WEB, "dst_id": null, "src_addr": "10.213.0.99:4000", "dst_addr": API,
        "dst_port": 8080, "tls": "mutual", "verdict": "allow", "rule": "shop/api rule 1", "bytes_in": 7, "bytes_out": 1,
    }]);
    let [edge] = edges.take_open(3, &open).try_into().unwrap();
    assert_eq!((edge.who.as_str(), edges.all()[&edge].open), ("web.shop", 1));
    assert!(edges.take_open(3, &open).is_empty());
    assert!(edges.take_open(3, &json!([])).is_empty());
    assert_eq!(
        edges.take(&line("inbound", "mutual", "allow", "finished", WEB, API)),
        None
    );
    assert_eq!((edges.all()[&edge].open, edges.all()[&edge].connections), (0, 1));
}
