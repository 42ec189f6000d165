//! Kubernetes tokens, in front of an API server that is scripted: A5 to A7.

use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::harness::{Answer, Ca, csr};
use crate::kube::{Kube, Script, jwt, token, vouched};

async fn start() -> (Kube, Ca) {
    let kube = Kube::start().await;
    let settings = kube.settings();
    let settings: Vec<_> = settings
        .iter()
        .map(|(name, value)| (*name, value.as_str()))
        .collect();
    let ca = Ca::start(&settings).await;
    (kube, ca)
}

async fn issue(ca: &Ca, token: &str, id: Option<&str>) -> Answer {
    let mut body = json!({ "csr": csr(), "evidence": { "kind": "kubernetes_token", "token": token } });
    if let Some(id) = id {
        body["id"] = json!(id);
    }
    ca.send(Method::POST, "/v1/issue", Some(body)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_gets_the_identity_of_its_account_alone() {
    // A5: whoever shows the token, it gives its own pod's identity.
    let (kube, ca) = start().await;
    kube.plays(Script::Status(vouched("shop", "web")));
    let token = token(ca.now().unix() + 600);
    let web = "spiffe://shop.test/ns/shop/sa/web";
    assert_eq!(issue(&ca, &token, None).await.json()["id"], web);
    assert_eq!(issue(&ca, &token, Some(web)).await.status, StatusCode::OK);
    for other in [
        "spiffe://shop.test/ns/shop/sa/api",
        "spiffe://shop.test/ns/bank/sa/web",
    ] {
        assert_eq!(issue(&ca, &token, Some(other)).await.refusal(), "not_entitled");
    }
    let asked = &kube.seen()[0];
    assert_eq!(
        asked["spec"],
        json!({ "token": token, "audiences": ["ferrule-ca"] })
    );
    assert_eq!(asked["kind"], "TokenReview");
    let row = ca
        .refusals()
        .await
        .into_iter()
        .find(|row| row["reason"] == "not_entitled")
        .unwrap();
    assert!(
        row["caller"]
            .as_str()
            .unwrap()
            .contains("shop/web pod web-7d4b9-x2x"),
        "{row}"
    );
    // Once the pod is gone the API server says no, and so does the CA.
    kube.plays(Script::Status(
        json!({ "authenticated": false, "error": "pod not found" }),
    ));
    assert_eq!(
        issue(&ca, &token, None).await.refusal(),
        "token_not_authenticated"
    );
    ca.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_cannot_be_ours_is_not_even_reviewed() {
    // A6
    let (kube, ca) = start().await;
    kube.plays(Script::Status(vouched("shop", "web")));
    let soon = ca.now().unix() + 600;
    let header = json!({ "alg": "RS256", "kid": "k1" });
    let claims = json!({ "aud": ["ferrule-ca"], "exp": soon });
    let cases: [(Value, Value, &str); 9] = [
        (json!({ "alg": "none" }), claims.clone(), "token_algorithm_none"),
        (
            json!({ "alg": "HS256", "kid": "k1" }),
            claims.clone(),
            "token_algorithm_symmetric",
        ),
        (
            json!({ "alg": "XX256" }),
            claims.clone(),
            "token_algorithm_unknown",
        ),
        (
            json!({ "alg": "RS256", "kid": "../../../etc/passwd" }),
            claims.clone(),
            "token_key_name",
        ),
        (
            header.clone(),
            json!({ "aud": ["https://kubernetes.default.svc"], "exp": soon }),
            "token_audience",
        ),
        (header.clone(), json!({ "exp": soon }), "token_audience"),
        (
            header.clone(),
            json!({ "aud": ["ferrule-ca"] }),
            "token_no_expiry",
        ),
        (
            header.clone(),
            json!({ "aud": ["ferrule-ca"], "exp": soon - 700 }),
            "token_expired",
        ),
        // As Secrets of old had them.
        (
            header,
            json!({ "iss": "kubernetes/serviceaccount", "sub": "system:serviceaccount:shop:web" }),
            "token_audience",
        ),
    ];
    for (header, claims, word) in cases {
        assert_eq!(
            issue(&ca, &jwt(&header, &claims), None).await.refusal(),
            word,
            "{header} {claims}"
        );
    }
    assert_eq!(issue(&ca, "not a token", None).await.refusal(), "token_malformed");
    assert!(kube.seen().is_empty(), "no call was spent");
    ca.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_api_server_does_not_vouch_for_is_refused() {
    // A6
    let (kube, ca) = start().await;
    let token = token(ca.now().unix() + 600);
    let with = |change: &dyn Fn(&mut Value)| {
        let mut status = vouched("shop", "web");
        change(&mut status);
        Script::Status(status)
    };
    let cases = [
        (
            with(&|status| status["authenticated"] = json!(false)),
            "token_not_authenticated",
        ),
        (
            with(&|status| status["audiences"] = json!(["other"])),
            "token_audience",
        ),
        (
            with(&|status| status["audiences"] = Value::Null),
            "token_audience",
        ),
        (
            with(&|status| status["user"]["extra"] = json!({})),
            "token_not_bound",
        ),
        (
            with(&|status| status["user"]["username"] = json!("kubernetes-admin")),
            "token_user",
        ),
        (
            with(&|status| status["user"]["username"] = json!("system:serviceaccount:shop/sa/x:web")),
            "token_user",
        ),
    ];
    for (script, word) in cases {
        kube.plays(script.clone());
        assert_eq!(issue(&ca, &token, None).await.refusal(), word, "{script:?}");
    }
    assert!(
        ca.rows("issued")
            .await
            .iter()
            .all(|row| !row.body.contains("spiffe://")),
        "nothing was issued"
    );
    ca.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_api_server_that_gives_no_answer_fails_closed() {
    // A7
    let (kube, ca) = start().await;
    let token = token(ca.now().unix() + 600);
    let long = format!("{{\"kind\":\"{}\"}}", "x".repeat(1 << 20));
    let cases = [
        (Script::Raw(500, "{}".to_owned()), "api_server_status"),
        (Script::Raw(404, "{}".to_owned()), "api_server_status"),
        (Script::Raw(403, "{}".to_owned()), "api_server_forbidden"),
        (
            Script::Raw(200, "<html>proxy login</html>".to_owned()),
            "api_server_answer",
        ),
        (Script::Raw(200, String::new()), "api_server_answer"),
        (
            Script::Raw(200, "{\"authenticated\":true}".to_owned()),
            "api_server_answer",
        ),
        (Script::Raw(201, long), "api_server_answer"),
        (
            Script::Redirect("http://169.254.169.254/latest/meta-data".to_owned()),
            "api_server_redirect",
        ),
        (
            Script::Redirect(format!("https://127.0.0.1:{}/elsewhere", kube.port)),
            "api_server_redirect",
        ),
        (Script::Silent, "api_server_timeout"),
    ];
    for (script, word) in cases {
        let before = kube.seen().len();
        kube.plays(script.clone());
        let answer = issue(&ca, &token, None).await;
        assert_eq!(answer.refusal(), word);
        assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(
            kube.seen().len(),
            before + 1,
            "one call, and no redirect is followed: {word}"
        );
    }
    ca.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn files_are_read_anew_and_nothing_is_a_fallback() {
    // A7
    let (kube, ca) = start().await;
    kube.plays(Script::Status(vouched("shop", "web")));
    let token = token(ca.now().unix() + 600);
    assert_eq!(issue(&ca, &token, None).await.status, StatusCode::OK);

    let own = std::fs::read_to_string(kube.file("token")).unwrap();
    std::fs::write(kube.file("token"), "another token").unwrap();
    assert_eq!(issue(&ca, &token, None).await.refusal(), "api_server_forbidden");
    std::fs::write(kube.file("token"), own).unwrap();
    assert_eq!(issue(&ca, &token, None).await.status, StatusCode::OK);

    let other = Kube::start().await;
    std::fs::copy(other.file("ca.crt"), kube.file("ca.crt")).unwrap();
    assert_eq!(issue(&ca, &token, None).await.refusal(), "api_server_tls");
    std::fs::write(kube.file("ca.crt"), "").unwrap();
    assert_eq!(issue(&ca, &token, None).await.refusal(), "api_server_setup");
    std::fs::remove_file(kube.file("ca.crt")).unwrap();
    assert_eq!(issue(&ca, &token, None).await.refusal(), "api_server_setup");
    ca.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_api_server_that_is_down_fails_closed() {
    // A7
    let (kube, ca) = start().await;
    let token = token(ca.now().unix() + 600);
    let ca_file = std::fs::read(kube.file("ca.crt")).unwrap();
    let home = tempfile::tempdir().unwrap();
    std::fs::write(home.path().join("ca.crt"), ca_file).unwrap();
    std::fs::write(home.path().join("token"), "x").unwrap();
    ca.stop().await;
    let file = |name: &str| home.path().join(name).display().to_string();
    // A port that was free a moment ago.
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let (api, ca_file, token_file) = (format!("https://127.0.0.1:{port}"), file("ca.crt"), file("token"));
    let settings = [
        ("KUBERNETES__API", &*api),
        ("KUBERNETES__CA_FILE", &ca_file),
        ("KUBERNETES__TOKEN_FILE", &token_file),
    ];
    let ca = Ca::start(&settings).await;
    assert_eq!(issue(&ca, &token, None).await.refusal(), "api_server_unreachable");
    ca.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_settings_no_token_is_taken() {
    let ca = Ca::start(&[]).await;
    let token = token(ca.now().unix() + 600);
    assert_eq!(
        issue(&ca, &token, None).await.refusal(),
        "kubernetes_not_configured"
    );
    ca.stop().await;
}
