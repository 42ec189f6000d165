//! Judges one workload's connections while rules and the map change.

use std::collections::BTreeMap;

use ferrule_document::Limits;
use ferrule_identity::TrustDomain;
use ferrule_policy::{Mesh, PolicyDocument, compile};
use tokio::sync::watch;

use super::*;
use crate::knowledge::{Teller, news};
use crate::net::address::ClientAddr;

mod explained;
mod leaves;

const ALLOW_ITSELF: &str = "
apiVersion: ferrule.dev/v1alpha1
kind: AccessPolicy
metadata: { namespace: shop, name: api }
spec: { workloads: all, action: allow, rules: [{ from: [{ namespaces: [shop] }], ports: [8080] }] }
";

const EGRESS: &str = "
apiVersion: ferrule.dev/v1alpha1
kind: EgressPolicy
metadata: { namespace: shop, name: out }
spec: { workloads: all, allow: [{ cidrs: [192.0.2.0/24], ports: [5432] }] }
";

fn gate() -> (
    Gate,
    Teller,
    watch::Sender<Option<Arc<ferrule_credentials::Credentials>>>,
) {
    let own = Own {
        namespace: "shop".to_owned(),
        name: "api".to_owned(),
        labels: BTreeMap::new(),
        addresses: Vec::new(),
        node: String::new(),
        zone: String::new(),
    };
    let id = SpiffeId::parse("spiffe://shop.local/ns/shop/sa/api").unwrap();
    let (teller, news) = news();
    let (sender, credentials) = watch::channel(None);
    let gate = Gate::new(
        Arc::new(own),
        id,
        news,
        credentials,
        Clock::system(),
        Duration::ZERO,
    );
    (gate, teller, sender)
}

fn rules(teller: &Teller, text: &str) {
    let documents = PolicyDocument::read_all("rules.yaml", text.as_bytes(), Limits::default()).unwrap();
    let mesh = Mesh::named(TrustDomain::parse("shop.local").unwrap());
    teller
        .rules
        .send_replace(Some(Arc::new(compile(&documents, mesh).unwrap())));
}

fn beyond(target: &str) -> Grounds {
    Grounds::Beyond {
        target: UpstreamAddr::new(target.parse().unwrap()),
        service: None,
        host: None,
    }
}

// D3: no rules yet means no.
#[test]
fn nothing_is_allowed_before_the_first_rules() {
    let (gate, _teller, _credentials) = gate();
    assert_eq!(gate.port(8080).unwrap_err().closed.reason, CloseReason::Denied);
    assert!(gate.admit(Grounds::Itself { port: 8080 }).is_err());
    assert!(gate.admit(beyond("192.0.2.1:5432")).is_err());
    assert_eq!(gate.mode(8080), Mode::Strict);
    assert!(gate.is_in_mesh_ranges("203.0.113.1".parse().unwrap()));
}

#[test]
fn a_port_that_nobody_may_reach_is_refused_by_itself() {
    let (gate, teller, _credentials) = gate();
    rules(&teller, ALLOW_ITSELF);
    assert_eq!(gate.port(8080), Ok(()));
    let denied = gate.port(9090).unwrap_err();
    assert!(
        denied.judged.sentence.contains("port 9090"),
        "{}",
        denied.judged.sentence
    );
    assert_eq!(
        &*denied.judged.rule, "shop/api rule 1",
        "the nearest rule is named"
    );
}

#[test]
fn a_caller_in_clear_is_refused_for_that_reason() {
    let (gate, teller, _credentials) = gate();
    rules(&teller, ALLOW_ITSELF);
    let client = ClientAddr::new("10.0.0.1:5555".parse().unwrap());
    let denied = gate.admit(Grounds::Stranger { client, port: 8080 }).unwrap_err();
    assert_eq!(denied.closed.reason, CloseReason::Plaintext);
}

/// Runs the gate's own loop until `permit` is withdrawn.
async fn revoked(gate: &Gate, permit: &Permit) -> Closed {
    let (inbound, outbound) = (Drain::new(), Drain::new());
    tokio::select! {
        () = gate.mind(&inbound, &outbound) => unreachable!("it never ends"),
        closed = permit.revoked() => closed,
    }
}

#[tokio::test]
async fn a_permit_is_withdrawn_with_its_rule() {
    let (gate, teller, _credentials) = gate();
    rules(&teller, ALLOW_ITSELF);
    let permit = gate.admit(Grounds::Itself { port: 8080 }).unwrap();
    assert_eq!((permit.judged().verdict, permit.judged().why), ("allow", "rule"));
    rules(&teller, "");
    assert_eq!(revoked(&gate, &permit).await.reason, CloseReason::Denied);
}

#[tokio::test]
async fn a_destination_that_joins_the_mesh_is_not_spoken_to_in_clear_any_more() {
    let (gate, teller, _credentials) = gate();
    rules(&teller, EGRESS);
    let permit = gate.admit(beyond("192.0.2.1:5432")).unwrap();
    let text = "apiVersion: ferrule.dev/v1alpha1\nkind: Workload\nmetadata: { namespace: shop, name: db }\n\
                spec: { serviceAccount: db, addresses: [192.0.2.1] }\n";
    let document =
        ferrule_document::Document::parse_one("db.yaml", text.as_bytes(), Limits::default()).unwrap();
    let domain = TrustDomain::parse("shop.local").unwrap();
    let place = ferrule_policy::PlaceDocument::read(&document, &domain).unwrap();
    teller
        .map
        .send_replace(Arc::new(crate::knowledge::map::Map::new(&ferrule_policy::join(
            &[place],
        ))));
    assert_eq!(
        revoked(&gate, &permit).await.reason,
        CloseReason::UnknownDestination
    );
    assert!(gate.admit(beyond("192.0.2.1:5432")).is_err());
}

#[tokio::test]
async fn a_cut_ends_the_permits_of_its_direction_alone() {
    let (gate, teller, _credentials) = gate();
    rules(&teller, &format!("{ALLOW_ITSELF}---{EGRESS}"));
    let (inbound, outbound) = (Drain::new(), Drain::new());
    let permit = gate.admit(beyond("192.0.2.1:5432")).unwrap();
    inbound.cut_now();
    let minding = gate.mind(&inbound, &outbound);
    let waiting = async {
        tokio::select! {
            _ = permit.revoked() => panic!("the other direction was cut"),
            () = tokio::task::yield_now() => {}
        }
        outbound.cut_now();
        permit.revoked().await
    };
    tokio::select! {
        () = minding => unreachable!("it never ends"),
        closed = waiting => assert_eq!(closed.reason, CloseReason::Cut),
    }
}

#[test]
fn a_permit_that_is_dropped_leaves_the_table() {
    let (gate, teller, _credentials) = gate();
    rules(&teller, ALLOW_ITSELF);
    let permit = gate.admit(Grounds::Itself { port: 8080 }).unwrap();
    assert_eq!(gate.table.all().len(), 1);
    drop(permit);
    assert_eq!(gate.table.all().len(), 0);
}
