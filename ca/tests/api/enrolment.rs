//! How hosts enter, and how their statements are taken: A5.

use std::time::Duration;

use ferrule_ca::ledger::Ledger as _;
use ferrule_ca::ledger::event::TokenRevoked;
use ferrule_identity::{KeyAlgorithm, PrivateKey, SigningRequest};
use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::harness::{Answer, Ca, Host, csr, nonce};

const WEB: &str = "spiffe://shop.test/ns/shop/sa/web";

fn enrolment(secret: &str, csr: &str) -> Value {
    json!({ "token": secret, "csr": csr })
}

async fn enroll(ca: &Ca, secret: &str) -> Answer {
    ca.send(Method::POST, "/v1/enroll", Some(enrolment(secret, &csr())))
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_hundred_uses_at_once_one_succeeds() {
    // A5
    let ca = Ca::start(&[]).await;
    let secret = ca.token("web-1", &[WEB], Duration::from_secs(60)).await.to_text();
    // First, because the CA does not wait for ever for the first word on a connection.
    let bodies: Vec<_> = (0..100).map(|_| enrolment(&secret, &csr())).collect();
    let mut connections = Vec::new();
    for body in bodies {
        connections.push((ca.connect().await, body));
    }
    let mut uses = tokio::task::JoinSet::new();
    for (mut connection, body) in connections {
        uses.spawn(async move { connection.send(Method::POST, "/v1/enroll", Some(body)).await });
    }
    let answers = uses.join_all().await;
    let enrolled = answers
        .iter()
        .filter(|answer| answer.status == StatusCode::OK)
        .count();
    let refused = answers.iter().filter(|answer| answer.status != StatusCode::OK);
    let words: Vec<String> = refused.map(Answer::refusal).collect();
    assert_eq!((enrolled, words.len()), (1, 99));
    assert!(words.iter().all(|word| word == "join_token_used"), "{words:?}");
    assert_eq!(ca.rows("host_enrolled").await.len(), 1);
    // Every refusal is counted: those on record, and those that a record tells were left out.
    ca.instance.ledger.hosts().await.unwrap();
    let counted = ca.metrics.encode().unwrap();
    let line = "ferrule_ca_requests_total{route=\"enroll\",outcome=\"join_token_used\"} 99";
    assert!(counted.contains(line), "{counted}");
    ca.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_is_over_says_why() {
    // A5
    let ca = Ca::start(&[]).await;
    let expired = ca.token("late", &[WEB], Duration::ZERO).await.to_text();
    while ca.now().unix() <= ca.instance.ledger.tokens().await.unwrap()[0].expires.unix() {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(enroll(&ca, &expired).await.refusal(), "join_token_expired");

    let revoked = ca.token("gone", &[WEB], Duration::from_secs(60)).await.to_text();
    let event = TokenRevoked {
        token: "gone".to_owned(),
        by: "test".to_owned(),
    };
    ca.instance.ledger.append(vec![event.into()]).await.unwrap();
    assert_eq!(enroll(&ca, &revoked).await.refusal(), "join_token_revoked");

    let unknown = ferrule_wire::JoinSecret::from_bytes([9; 32]).to_text();
    assert_eq!(enroll(&ca, &unknown).await.refusal(), "join_token_unknown");
    for malformed in [
        "",
        "x",
        &unknown[1..],
        &format!("{unknown}="),
        &format!("ferrule-join-1.{unknown}"),
    ] {
        assert_eq!(
            enroll(&ca, malformed).await.refusal(),
            "join_token_malformed",
            "{malformed}"
        );
    }
    assert!(ca.instance.ledger.hosts().await.unwrap().is_empty());
    let known = ca.refusals().await;
    assert!(
        known
            .iter()
            .any(|row| row["caller"] == "token gone" && row["reason"] == "join_token_revoked")
    );
    ca.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_request_does_not_use_the_token_up() {
    let ca = Ca::start(&[]).await;
    let secret = ca.token("web-1", &[WEB], Duration::from_secs(60)).await.to_text();
    let refused = ca
        .send(Method::POST, "/v1/enroll", Some(enrolment(&secret, "no request")))
        .await;
    assert_eq!(refused.refusal(), "csr_invalid");
    assert_eq!(enroll(&ca, &secret).await.status, StatusCode::OK);
    ca.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_key_is_one_host() {
    let ca = Ca::start(&[]).await;
    let key = PrivateKey::generate(KeyAlgorithm::EcdsaP256).unwrap();
    let request = SigningRequest::build_pem(&key).unwrap();
    for (name, expected) in [("web-1", None), ("web-2", Some("host_key_exists"))] {
        let secret = ca.token(name, &[WEB], Duration::from_secs(60)).await.to_text();
        let answer = ca
            .send(Method::POST, "/v1/enroll", Some(enrolment(&secret, &request)))
            .await;
        assert_eq!(
            (answer.status != StatusCode::OK)
                .then(|| answer.refusal())
                .as_deref(),
            expected
        );
    }
    ca.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_is_good_once_and_for_what_it_says() {
    // A5
    let ca = Ca::start(&[]).await;
    let host = ca.host("web-1", &["spiffe://shop.test/ns/shop/*"]).await;
    let send = |body: Value| ca.send(Method::POST, "/v1/issue", Some(body));

    let body = host.ask(&ca, &csr(), Some(WEB));
    assert_eq!(send(body.clone()).await.status, StatusCode::OK);
    assert_eq!(send(body).await.refusal(), "statement_replayed");

    let mut other_id = host.ask(&ca, &csr(), Some(WEB));
    other_id["id"] = json!("spiffe://shop.test/ns/shop/sa/api");
    assert_eq!(send(other_id).await.refusal(), "statement_signature");
    let mut no_id = host.ask(&ca, &csr(), Some(WEB));
    no_id.as_object_mut().unwrap().remove("id");
    assert_eq!(send(no_id).await.refusal(), "statement_signature");
    let mut other_request = host.ask(&ca, &csr(), Some(WEB));
    other_request["csr"] = json!(csr());
    assert_eq!(send(other_request).await.refusal(), "statement_signature");

    let now = ca.now().unix();
    for (time, word) in [(now - 310, "statement_stale"), (now + 310, "statement_stale")] {
        let refused = send(host.ask_at(time, &nonce(), &csr(), Some(WEB))).await;
        assert_eq!(refused.refusal(), word);
    }
    // A clock that is wrong by three minutes works.
    for time in [now - 180, now + 180] {
        assert_eq!(
            send(host.ask_at(time, &nonce(), &csr(), Some(WEB))).await.status,
            StatusCode::OK
        );
    }
    for nonce in ["", "AAAA", "not base64url!", &"A".repeat(200)] {
        let refused = send(host.ask_at(now, nonce, &csr(), Some(WEB))).await;
        assert_eq!(refused.refusal(), "statement_malformed", "{nonce}");
    }
    let stranger = Host {
        name: "web-9".to_owned(),
        key: PrivateKey::generate(KeyAlgorithm::EcdsaP256).unwrap(),
    };
    assert_eq!(
        send(stranger.ask(&ca, &csr(), Some(WEB))).await.refusal(),
        "host_unknown"
    );
    let impostor = Host {
        name: "web-1".to_owned(),
        key: PrivateKey::generate(KeyAlgorithm::EcdsaP256).unwrap(),
    };
    assert_eq!(
        send(impostor.ask(&ca, &csr(), Some(WEB))).await.refusal(),
        "statement_signature"
    );
    ca.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_with_a_pattern_says_which_identity() {
    let ca = Ca::start(&[]).await;
    let host = ca.host("web-1", &["spiffe://shop.test/ns/shop/*"]).await;
    let refused = ca
        .send(Method::POST, "/v1/issue", Some(host.ask(&ca, &csr(), None)))
        .await;
    assert_eq!(refused.refusal(), "id_missing");
    let outside = Some("spiffe://shop.test/ns/shop2/sa/web");
    let refused = ca
        .send(Method::POST, "/v1/issue", Some(host.ask(&ca, &csr(), outside)))
        .await;
    assert_eq!(refused.refusal(), "not_entitled");
    ca.stop().await;
}
