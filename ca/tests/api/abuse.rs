//! Callers who ask too often, too much, or for what is not there.

use std::time::Duration;

use bytes::Bytes;
use http::header::{ALLOW, CONTENT_ENCODING, CONTENT_TYPE, HOST, RETRY_AFTER};
use http::{Method, Request, StatusCode};
use http_body_util::Full;
use serde_json::json;

use crate::harness::{Answer, Ca, csr, raw};

const WEB: &str = "spiffe://shop.test/ns/shop/sa/web";

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_there_says_so() {
    let ca = Ca::start(&[]).await;
    for path in [
        "/",
        "/v1",
        "/v1/issue/",
        "/v2/issue",
        "/v1/crl/x.crl",
        "/v1/%69ssue",
        "/metrics",
        "/debug",
    ] {
        let answer = ca.send(Method::GET, path, None).await;
        assert_eq!(
            (answer.refusal().as_str(), answer.status),
            ("not_found", StatusCode::NOT_FOUND),
            "{path}"
        );
    }
    for (method, path, allow) in [
        (Method::GET, "/v1/issue", "POST"),
        (Method::PUT, "/v1/enroll", "POST"),
        (Method::POST, "/v1/bundle", "GET, HEAD"),
        (Method::DELETE, "/v1/revocations", "GET, HEAD"),
        (Method::OPTIONS, "/v1/status", "GET, HEAD"),
        (Method::TRACE, "/v1/time", "GET, HEAD"),
    ] {
        let answer = ca.send(method.clone(), path, None).await;
        assert_eq!(answer.refusal(), "method_not_allowed", "{method} {path}");
        assert_eq!(answer.headers[ALLOW], allow);
    }
    ca.stop().await;
}

async fn post_raw(ca: &Ca, kind: Option<&str>, encoding: Option<&str>, body: &str) -> Answer {
    let mut request = Request::post("/v1/issue").header(HOST, "localhost");
    if let Some(kind) = kind {
        request = request.header(CONTENT_TYPE, kind);
    }
    if let Some(encoding) = encoding {
        request = request.header(CONTENT_ENCODING, encoding);
    }
    let body = Full::new(Bytes::from(body.to_owned()));
    ca.connect()
        .await
        .exchange(request.body(body).unwrap())
        .await
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_is_no_message_is_refused_with_its_place() {
    // E10
    let ca = Ca::start(&[]).await;
    for kind in [
        None,
        Some("text/plain"),
        Some("application/x-www-form-urlencoded"),
        Some("application/jsonx"),
    ] {
        assert_eq!(
            post_raw(&ca, kind, None, "{}").await.refusal(),
            "media_type",
            "{kind:?}"
        );
    }
    assert_eq!(
        post_raw(&ca, Some("application/json"), Some("gzip"), "{}")
            .await
            .refusal(),
        "media_type"
    );
    let deep = format!("{{\"csr\":{}", "[".repeat(60_000));
    for body in [
        "",
        "{",
        "[]",
        "null",
        "{}",
        "\u{feff}{}",
        "{\"csr\":\"x\"} x",
        "{\"csr\":1}",
        &deep,
    ] {
        let answer = post_raw(&ca, Some("application/json"), None, body).await;
        assert_eq!(answer.refusal(), "message_invalid", "{body:.20}");
    }
    let answer = post_raw(
        &ca,
        Some("application/json"),
        None,
        "{\"csr\":\"x\",\n\"sans\":[]}",
    )
    .await
    .json();
    let message = answer["message"].as_str().unwrap();
    assert!(
        message.contains("`sans`") && message.contains("line 2"),
        "{message}"
    );
    ca.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_that_asks_too_often_is_told_when_to_come_again() {
    let ca = Ca::start(&[("LIMITS__ISSUES_PER_CALLER", "1"), ("LIMITS__ISSUE_BURST", "3")]).await;
    let (one, other) = (ca.host("web-1", &[WEB]).await, ca.host("web-2", &[WEB]).await);
    let mut connection = ca.connect().await;
    let mut refused = None;
    for _ in 0..10 {
        let answer = connection
            .send(Method::POST, "/v1/issue", Some(one.ask(&ca, &csr(), None)))
            .await;
        if answer.status != StatusCode::OK {
            refused = Some(answer);
            break;
        }
    }
    let refused = refused.expect("ten at once are more than the burst");
    assert_eq!(
        (refused.refusal().as_str(), refused.status),
        ("rate_limited", StatusCode::TOO_MANY_REQUESTS)
    );
    let after: u64 = refused.headers[RETRY_AFTER].to_str().unwrap().parse().unwrap();
    assert!((1..=3).contains(&after));
    let answer = connection
        .send(Method::POST, "/v1/issue", Some(other.ask(&ca, &csr(), None)))
        .await;
    assert_eq!(answer.status, StatusCode::OK, "another caller is served");
    assert!(
        ca.refusals()
            .await
            .iter()
            .any(|row| row["reason"] == "rate_limited" && row["caller"] == "host web-1")
    );
    tokio::time::sleep(Duration::from_secs(after)).await;
    let again = connection
        .send(Method::POST, "/v1/issue", Some(one.ask(&ca, &csr(), None)))
        .await;
    assert_eq!(again.status, StatusCode::OK, "{:?}", again.json());
    ca.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn forged_evidence_runs_out_and_the_ledger_does_not_grow_with_it() {
    // A9
    let ca = Ca::start(&[
        ("LIMITS__REQUESTS_PER_ADDRESS", "1"),
        ("LIMITS__REQUEST_BURST", "200"),
    ])
    .await;
    let host = ca.host("web-1", &[WEB]).await;
    let mut connection = ca.connect().await;
    let mut words = std::collections::BTreeMap::<String, u32>::new();
    for _ in 0..400 {
        let mut body = host.ask(&ca, "x", None);
        body["csr"] = json!("y");
        let answer = connection.send(Method::POST, "/v1/issue", Some(body)).await;
        *words.entry(answer.refusal()).or_default() += 1;
    }
    assert!(
        words["statement_signature"] <= 220 && words["rate_limited"] >= 180,
        "{words:?}"
    );
    let rows = ca.refusals().await.len();
    assert!(rows < 60, "{rows} rows for 400 refusals");
    let answer = connection.send(Method::GET, "/ready", None).await;
    assert_eq!(answer.status, StatusCode::OK, "readiness is never refused");
    ca.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_body_is_given_up() {
    // A9, E4
    let ca = Ca::start(&[("LIMITS__REQUEST_TIME", "1s")]).await;
    let head =
        "POST /v1/issue HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n";
    let stuck = raw(&ca, format!("{head}{{").as_bytes()).await;
    assert!(
        stuck.starts_with("HTTP/1.1 408") && stuck.contains("body_too_slow"),
        "{stuck}"
    );
    ca.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ambiguous_framing_is_refused() {
    // E6
    let ca = Ca::start(&[]).await;
    for headers in [
        "content-length: 2\r\ntransfer-encoding: chunked",
        "content-length: 2\r\ncontent-length: 3",
        "content-length: +2",
        "transfer-encoding: xchunked",
    ] {
        let request = format!(
            "POST /v1/issue HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n{headers}\r\n\r\n{{}}"
        );
        let answer = raw(&ca, request.as_bytes()).await;
        assert!(
            !answer.starts_with("HTTP/1.1 2") && answer.matches("HTTP/1.1").count() <= 1,
            "{headers}: {answer}"
        );
    }
    ca.stop().await;
}
