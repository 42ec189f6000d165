//! What verifiers are told: bundle, deny list, revocation lists, time.

use std::time::{Duration, Instant};

use ferrule_ca::ledger::event::Subject;
use ferrule_ca::revoking;
use ferrule_identity::{Timestamp, TrustBundle};
use ferrule_wire::ca::{RevocationsReply, read};
use http::header::{CONTENT_TYPE, DATE, ETAG, IF_NONE_MATCH};
use http::{Method, Request, StatusCode};
use http_body_util::Full;

use crate::harness::{Answer, Ca, Connection, domain};

const WEB: &str = "spiffe://shop.test/ns/shop/sa/web";

async fn get(ca: &Ca, path: &str) -> Answer {
    ca.send(Method::GET, path, None).await
}

async fn get_unless(ca: &Ca, path: &str, tag: &str) -> Answer {
    let request = Request::get(path)
        .header("host", "localhost")
        .header(IF_NONE_MATCH, tag);
    ca.connect()
        .await
        .exchange(request.body(Full::default()).unwrap())
        .await
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_bundle_is_what_the_ca_signs_below() {
    let ca = Ca::start(&[]).await;
    let jwks = get(&ca, "/v1/bundle").await;
    assert_eq!(
        (jwks.status, &jwks.headers[CONTENT_TYPE]),
        (StatusCode::OK, &"application/json".parse().unwrap())
    );
    let text = String::from_utf8(jwks.body.to_vec()).unwrap();
    let bundle = TrustBundle::from_jwks(domain(), &text, ca.now()).unwrap();
    assert_eq!(
        (bundle.sequence(), bundle.refresh_hint()),
        (1, Some(Duration::from_secs(300)))
    );
    let pem = get(&ca, "/v1/bundle.pem").await;
    let pem = String::from_utf8(pem.body.to_vec()).unwrap();
    let from_pem = TrustBundle::from_pem(domain(), &pem, ca.now()).unwrap();
    assert_eq!(from_pem.anchors().len(), bundle.anchors().len());
    // HEAD is GET without the body.
    let head = ca.send(Method::HEAD, "/v1/bundle", None).await;
    assert_eq!((head.status, head.body.len()), (StatusCode::OK, 0));
    assert_eq!(head.headers[ETAG], jwks.headers[ETAG]);
    ca.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_client_has_is_not_sent_again() {
    let ca = Ca::start(&[]).await;
    for path in ["/v1/bundle", "/v1/bundle.pem", "/v1/revocations"] {
        let tag = get(&ca, path).await.headers[ETAG].to_str().unwrap().to_owned();
        let again = get_unless(&ca, path, &tag).await;
        assert_eq!(
            (again.status, again.body.len()),
            (StatusCode::NOT_MODIFIED, 0),
            "{path}"
        );
        assert_eq!(again.headers[ETAG].to_str().unwrap(), tag);
        assert_eq!(
            get_unless(&ca, path, "\"other\"").await.status,
            StatusCode::OK,
            "{path}"
        );
    }
    assert_eq!(
        get(&ca, "/v1/bundle?after=1").await.status,
        StatusCode::NOT_MODIFIED
    );
    assert_eq!(get(&ca, "/v1/bundle?after=0").await.status, StatusCode::OK);
    assert_eq!(
        get(&ca, "/v1/bundle?after=9").await.status,
        StatusCode::OK,
        "news, even where it goes back"
    );
    for query in ["wait=x", "since=1", "wait=1&wait=2", "after=-1"] {
        assert_eq!(
            get(&ca, &format!("/v1/bundle?{query}")).await.refusal(),
            "query_invalid",
            "{query}"
        );
    }
    ca.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_waiting_client_hears_of_a_change_at_once() {
    let ca = Ca::start(&[]).await;
    let mut waiting = ca.connect().await;
    let wait = waiting.send(Method::GET, "/v1/revocations?wait=20&after=0", None);
    let change = async {
        // The other is in its wait when the server has counted it in.
        while !ca
            .metrics
            .encode()
            .unwrap()
            .contains("ferrule_server_requests_total{server=\"api\"} 1")
        {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let subject = Subject::Identity(WEB.to_owned());
        revoking::change(ca.instance.ledger.as_ref(), subject, "test", "test", false)
            .await
            .unwrap();
        Instant::now()
    };
    let (answer, changed) = tokio::join!(wait, change);
    assert!(
        changed.elapsed() < Duration::from_secs(5),
        "heard after {:?}",
        changed.elapsed()
    );
    let list: RevocationsReply = read(&answer.body).unwrap();
    assert_eq!(
        (list.generation, list.identities.as_slice()),
        (1, [WEB.to_owned()].as_slice())
    );
    assert!(list.to_list().unwrap().identities.contains(&WEB.parse().unwrap()));
    // And for a bundle, when a new root is published.
    let prepare = async {
        tokio::time::sleep(Duration::from_millis(20)).await;
        let source = ferrule_ca::authority::RootSource::New;
        ca.instance
            .authorities
            .prepare_root(source, "test")
            .await
            .unwrap();
    };
    let mut other = ca.connect().await;
    let (answer, ()) = tokio::join!(
        other.send(Method::GET, "/v1/bundle?wait=20&after=1", None),
        prepare
    );
    assert_eq!(answer.json()["spiffe_sequence"], 2);
    assert_eq!(answer.json()["keys"].as_array().unwrap().len(), 2);
    ca.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wait_ends_without_news_in_time_and_when_the_ca_stops() {
    let ca = Ca::start(&[("LIMITS__WAIT", "1s")]).await;
    let begun = Instant::now();
    let answer = get(&ca, "/v1/bundle?wait=600&after=1").await;
    assert_eq!(answer.status, StatusCode::NOT_MODIFIED);
    assert!(begun.elapsed() < Duration::from_secs(10), "cut to the CA's limit");
    ca.stop().await;

    let ca = Ca::start(&[]).await;
    let mut waiting = ca.connect().await;
    let before = ca.metrics.clone();
    let wait = waiting.send(Method::GET, "/v1/bundle?wait=60&after=1", None);
    let stop = async move {
        while !before
            .encode()
            .unwrap()
            .contains("ferrule_server_requests_total{server=\"api\"} 1")
        {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let begun = Instant::now();
        ca.stop().await;
        begun.elapsed()
    };
    let (answer, took) = tokio::join!(wait, stop);
    assert_eq!(answer.status, StatusCode::NOT_MODIFIED);
    assert!(took < Duration::from_secs(10), "{took:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_answer_has_the_time() {
    let ca = Ca::start(&[]).await;
    for path in [
        "/v1/time",
        "/v1/bundle",
        "/ready",
        "/v1/openapi.json",
        "/v1/crl",
        "/nowhere",
    ] {
        let answer = get(&ca, path).await;
        assert!(answer.headers.contains_key(DATE), "{path}");
    }
    let time = get(&ca, "/v1/time").await.json()["server_time"].as_i64().unwrap();
    assert!(Timestamp::from_unix(time) <= ca.now() && ca.now().unix() - time < 10);
    assert_eq!(
        get(&ca, "/nowhere").await.json()["server_time"]
            .as_i64()
            .map(|now| now >= time),
        Some(true)
    );
    assert_eq!(get(&ca, "/ready").await.json()["ready"], true);
    ca.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_certificate_is_on_the_list_of_its_issuer() {
    let ca = Ca::start(&[]).await;
    let certificate = ca.certificate(WEB).await;
    let serial = certificate.serial().to_string();
    let subject = Subject::Serial(serial.parse().unwrap());
    revoking::change(ca.instance.ledger.as_ref(), subject, "test", "test", false)
        .await
        .unwrap();
    let mut waiting = ca.connect().await;
    let list = waiting
        .send(Method::GET, "/v1/revocations?wait=20&after=0", None)
        .await;
    assert_eq!(list.json()["certificates"][0]["serial"], serial);
    let crls = get(&ca, "/v1/crl").await.json();
    let path = crls["crls"][0]["path"].as_str().unwrap().to_owned();
    let crl = get(&ca, &path).await;
    assert_eq!(crl.headers[CONTENT_TYPE], "application/pkix-crl");
    let (_, parsed) = x509_parser::parse_x509_crl(&crl.body).unwrap();
    let revoked: Vec<String> = parsed
        .iter_revoked_certificates()
        .map(|entry| {
            entry
                .raw_serial()
                .iter()
                .map(|octet| format!("{octet:02x}"))
                .collect()
        })
        .collect();
    assert!(
        revoked
            .iter()
            .any(|listed| listed.trim_start_matches("00") == serial),
        "{revoked:?}"
    );
    assert_eq!(
        get_unless(&ca, &path, crl.headers[ETAG].to_str().unwrap())
            .await
            .status,
        StatusCode::NOT_MODIFIED
    );
    let other = format!("/v1/crl/{}.crl", "0a".repeat(32));
    assert_eq!(get(&ca, &other).await.refusal(), "not_found");
    // Its holder cannot open a connection with it any more, let alone renew.
    let refused = async {
        let mut connection = Connection::try_open(&ca, Some(&certificate)).await?;
        let request = Request::get("/v1/time")
            .header("host", "localhost")
            .body(Full::default())
            .unwrap();
        connection.exchange(request).await.map_err(std::io::Error::other)
    };
    assert!(refused.await.is_err());
    ca.stop().await;
}
