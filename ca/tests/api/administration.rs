//! What administrators may do over HTTPS, and others may not.

use ferrule_ca::ledger::Ledger as _;
use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::harness::{Ca, Connection, csr};

const ADMIN: &str = "spiffe://shop.test/ns/ops/sa/admin";
const WEB: &str = "spiffe://shop.test/ns/shop/sa/web";

async fn start() -> (Ca, Connection) {
    let ca = Ca::start(&[("ADMINS", ADMIN)]).await;
    let admin = ca.certificate(ADMIN).await;
    let connection = Connection::open(&ca, Some(&admin)).await;
    (ca, connection)
}

fn revocation(subject: Value, lift: bool) -> Option<Value> {
    Some(json!({ "subject": subject, "reason": "lost", "lift": lift }))
}

/// Waits until the API itself goes by the deny list of this number.
async fn published(ca: &Ca, generation: u64) {
    let path = format!("/v1/revocations?wait=20&after={}", generation - 1);
    assert_eq!(
        ca.send(Method::GET, &path, None).await.json()["generation"],
        generation
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn only_administrators_are_heard() {
    let (ca, mut admin) = start().await;
    let web = ca.certificate(WEB).await;
    let mut web = Connection::open(&ca, Some(&web)).await;
    let identity = || revocation(json!({ "identity": WEB }), false);
    assert_eq!(
        web.send(Method::POST, "/v1/revoke", identity()).await.refusal(),
        "not_an_administrator"
    );
    assert_eq!(
        web.send(Method::GET, "/v1/status", None).await.refusal(),
        "not_an_administrator"
    );
    assert_eq!(
        ca.send(Method::POST, "/v1/revoke", identity()).await.refusal(),
        "certificate_required"
    );
    assert_eq!(
        ca.send(Method::GET, "/v1/status", None).await.refusal(),
        "certificate_required"
    );
    let row = ca
        .refusals()
        .await
        .into_iter()
        .find(|row| row["reason"] == "not_an_administrator")
        .unwrap();
    assert_eq!(row["caller"], format!("certificate {WEB}"));
    let status = admin.send(Method::GET, "/v1/status", None).await.json();
    assert_eq!(status["trust_domain"], "shop.test");
    assert_eq!(status["authorities"].as_array().unwrap().len(), 2);
    assert!(status["live_certificates"].as_u64().unwrap() >= 2, "{status}");
    assert_eq!(status["warnings"], json!([]));
    ca.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_identity_is_revoked_and_given_back() {
    let (ca, mut admin) = start().await;
    let host = ca.host("web-1", &[WEB]).await;
    let done = admin
        .send(
            Method::POST,
            "/v1/revoke",
            revocation(json!({ "identity": WEB }), false),
        )
        .await;
    assert_eq!(done.json()["generation"], 1);
    let refused = ca
        .send(Method::POST, "/v1/issue", Some(host.ask(&ca, &csr(), None)))
        .await;
    assert_eq!(refused.refusal(), "identity_revoked");
    let twice = admin
        .send(
            Method::POST,
            "/v1/revoke",
            revocation(json!({ "identity": WEB }), false),
        )
        .await;
    assert_eq!(twice.refusal(), "already_revoked");
    let lifted = admin
        .send(
            Method::POST,
            "/v1/revoke",
            revocation(json!({ "identity": WEB }), true),
        )
        .await;
    assert_eq!(lifted.json()["generation"], 2);
    let again = ca
        .send(Method::POST, "/v1/issue", Some(host.ask(&ca, &csr(), None)))
        .await;
    assert_eq!(again.status, StatusCode::OK);
    let row = ca.rows("lifted").await.pop().unwrap();
    assert!(
        row.body.contains(ADMIN) && row.body.contains("lost"),
        "{}",
        row.body
    );
    ca.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_host_gets_nothing_and_neither_does_what_it_got() {
    let (ca, mut admin) = start().await;
    let host = ca.host("web-1", &[WEB]).await;
    let key = ferrule_identity::PrivateKey::generate(ferrule_identity::KeyAlgorithm::EcdsaP256).unwrap();
    let request = ferrule_identity::SigningRequest::build_pem(&key).unwrap();
    let answer = ca
        .send(Method::POST, "/v1/issue", Some(host.ask(&ca, &request, None)))
        .await;
    let certificate = ca.taken(&answer, key);
    let mut renewing = Connection::open(&ca, Some(&certificate)).await;
    // Renewed by certificate alone, it still stands on the host's evidence.
    let key = ferrule_identity::PrivateKey::generate(ferrule_identity::KeyAlgorithm::EcdsaP256).unwrap();
    let request = ferrule_identity::SigningRequest::build_pem(&key).unwrap();
    let renewed = renewing
        .send(Method::POST, "/v1/renew", Some(json!({ "csr": request })))
        .await;
    let renewed = ca.taken(&renewed, key);

    let done = admin
        .send(
            Method::POST,
            "/v1/revoke",
            revocation(json!({ "host": "web-1" }), false),
        )
        .await;
    assert_eq!(done.status, StatusCode::OK, "{:?}", done.json());
    published(&ca, 1).await;
    let list = ca.send(Method::GET, "/v1/revocations", None).await.json();
    let serials: Vec<&str> = list["certificates"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["serial"].as_str().unwrap())
        .collect();
    for certificate in [&certificate, &renewed] {
        assert!(
            serials.contains(&certificate.serial().to_string().as_str()),
            "{list}"
        );
    }
    // The connection is older than the revocation, and is judged by it all the same.
    let refused = renewing
        .send(Method::POST, "/v1/renew", Some(json!({ "csr": csr() })))
        .await;
    assert_eq!(refused.refusal(), "certificate_refused");
    let refused = ca
        .send(Method::POST, "/v1/issue", Some(host.ask(&ca, &csr(), None)))
        .await;
    assert_eq!(refused.refusal(), "host_revoked");
    ca.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revocation_that_makes_no_sense_is_refused() {
    let (ca, mut admin) = start().await;
    let live = ca.instance.ledger.live().await.unwrap();
    for (subject, lift, word) in [
        (
            json!({ "identity": "spiffe://shop.test" }),
            false,
            "subject_invalid",
        ),
        (json!({ "serial": "zz" }), false, "subject_invalid"),
        (json!({ "host": "a/b" }), false, "subject_invalid"),
        (json!({ "host": "nobody" }), false, "subject_unknown"),
        (json!({ "identity": WEB }), true, "not_revoked"),
        (
            json!({ "identity": WEB, "host": "web-1" }),
            false,
            "message_invalid",
        ),
        (json!({}), false, "message_invalid"),
        (json!({ "everything": true }), false, "message_invalid"),
    ] {
        let answer = admin
            .send(Method::POST, "/v1/revoke", revocation(subject.clone(), lift))
            .await;
        assert_eq!(answer.refusal(), word, "{subject}");
    }
    for reason in [String::new(), "x".repeat(257), "two\nlines".to_owned()] {
        let body = json!({ "subject": { "identity": WEB }, "reason": reason });
        assert_eq!(
            admin.send(Method::POST, "/v1/revoke", Some(body)).await.refusal(),
            "reason_invalid"
        );
    }
    assert_eq!(ca.instance.ledger.live().await.unwrap(), live);
    assert_eq!(ca.instance.ledger.revocations().await.unwrap().generation, 0);
    ca.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_status_warns_thirty_fourteen_and_seven_days_before_the_end() {
    // A13
    let ca = Ca::start(&[]).await;
    let view = ca.instance.authorities.view();
    let root = view.slots().active_root().unwrap().lifetime.not_after();
    let day = std::time::Duration::from_secs(86_400);
    let about_the_root = async |now| {
        let status = ca.instance.overview().read(now).await.unwrap();
        status
            .warnings
            .into_iter()
            .filter(|warning| warning.contains("root"))
            .collect::<Vec<_>>()
    };
    assert_eq!(about_the_root(root.minus(day * 31)).await, Vec::<String>::new());
    for (days, within) in [
        (29, "within 30 days"),
        (13, "within 14 days"),
        (6, "within 7 days"),
    ] {
        let warnings = about_the_root(root.minus(day * days)).await;
        assert!(
            warnings.len() == 1 && warnings[0].contains(within),
            "{days}: {warnings:?}"
        );
    }
    assert!(about_the_root(root.minus(day / 2)).await[0].contains("today"));
    assert!(about_the_root(root.plus(day)).await[0].contains("has ended"));
    let signer = ca
        .instance
        .authorities
        .active_signer()
        .unwrap()
        .lifetime()
        .not_after();
    let status = ca.instance.overview().read(signer.minus(day * 10)).await.unwrap();
    assert!(
        status.warnings[0].contains("signing certificate"),
        "{:?}",
        status.warnings
    );
    let metrics = ca.metrics.encode().unwrap();
    let line = format!(
        "ferrule_certificate_not_after_timestamp_seconds{{kind=\"root\"}} {}",
        root.unix()
    );
    assert!(metrics.contains(&line), "{metrics}");
    ca.stop().await;
}
