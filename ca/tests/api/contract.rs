//! The API's document and the server say the same: whatever is served is documented, whatever is documented is served.

mod schema;

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use ferrule_ca::api::openapi::DOCUMENT;
use ferrule_ca::api::status::TABLE;
use ferrule_ca::ledger::Ledger as _;
use ferrule_identity::{KeyAlgorithm, PrivateKey, SigningRequest, WorkloadCertificate};
use http::header::{CONTENT_TYPE, HOST, IF_NONE_MATCH};
use http::{Method, Request};
use http_body_util::Full;
use serde_json::{Value, json};

use crate::harness::{Answer, Ca, Connection, csr, raw_as};
use schema::Document;

const ADMIN: &str = "spiffe://shop.test/ns/ops/sa/admin";
const WEB: &str = "spiffe://shop.test/ns/shop/sa/web";
const API: &str = "spiffe://shop.test/ns/shop/sa/api";

/// Sends requests and compares each exchange with the document.
struct Comparison {
    document: Document,
    seen: BTreeSet<(String, String, u16)>,
}

impl Comparison {
    /// Sends a request for the documented path `template` and checks the answer.
    async fn ask(
        &mut self,
        caller: &Caller<'_>,
        method: Method,
        template: &str,
        path: &str,
        body: Option<Value>,
    ) -> Answer {
        let mut connection = Connection::open(caller.ca, caller.own).await;
        let answer = connection.send(method.clone(), path, body.clone()).await;
        if answer.status.is_success() && body.is_some() {
            self.document
                .check_request(template, &method, &body.unwrap_or_default());
        }
        self.note(&method, template, &answer);
        answer
    }

    fn note(&mut self, method: &Method, template: &str, answer: &Answer) {
        self.document.check_answer(template, method, answer);
        self.seen.insert((
            template.to_owned(),
            method.as_str().to_lowercase(),
            answer.status.as_u16(),
        ));
    }

    async fn get(&mut self, caller: &Caller<'_>, path: &str) -> Answer {
        let template = path.split('?').next().unwrap().to_owned();
        self.ask(caller, Method::GET, &template, path, None).await
    }

    async fn post(&mut self, caller: &Caller<'_>, path: &str, body: Value) -> Answer {
        self.ask(caller, Method::POST, path, path, Some(body)).await
    }
}

/// Who asks. Each request has a connection of its own, because some refusals end it.
#[derive(Clone, Copy)]
struct Caller<'a> {
    ca: &'a Ca,
    own: Option<&'a WorkloadCertificate>,
}

#[tokio::test(flavor = "multi_thread")]
async fn document_and_server_agree() {
    let mut compared = Comparison {
        document: Document::parse(DOCUMENT),
        seen: BTreeSet::new(),
    };
    well_meant(&mut compared).await;
    hasty(&mut compared).await;
    slow(&mut compared).await;
    broken(&mut compared).await;
    let documented = compared.document.answers();
    let never: Vec<_> = documented.difference(&compared.seen).collect();
    assert!(never.is_empty(), "documented and never served: {never:?}");
    // The other direction was asserted at each answer.
    assert_eq!(documented, compared.seen);
}

/// Callers of every kind, and what each of them can get wrong.
async fn well_meant(compared: &mut Comparison) {
    let ca = Ca::start(&[("ADMINS", ADMIN), ("STOP__LEAVE", "5s")]).await;
    let anyone = Caller { ca: &ca, own: None };
    for path in [
        "/v1/bundle",
        "/v1/bundle.pem",
        "/v1/revocations",
        "/v1/crl",
        "/v1/time",
        "/v1/openapi.json",
        "/ready",
    ] {
        compared.get(&anyone, path).await;
    }
    for path in ["/v1/bundle", "/v1/bundle.pem"] {
        compared.get(&anyone, &format!("{path}?after=1")).await;
        compared.get(&anyone, &format!("{path}?after=x")).await;
    }
    compared.get(&anyone, "/v1/revocations?after=0&wait=0").await;
    compared.get(&anyone, "/v1/revocations?wait=9999").await;
    let crls = ca.send(Method::GET, "/v1/crl", None).await.json();
    let path = crls["crls"][0]["path"].as_str().unwrap().to_owned();
    let template = "/v1/crl/{issuer}.crl";
    let crl = compared.ask(&anyone, Method::GET, template, &path, None).await;
    let request = Request::get(&path)
        .header(HOST, "localhost")
        .header(IF_NONE_MATCH, &crl.headers["etag"]);
    let unchanged = ca
        .connect()
        .await
        .exchange(request.body(Full::default()).unwrap())
        .await
        .unwrap();
    compared.note(&Method::GET, template, &unchanged);
    let other = format!("/v1/crl/{}.crl", "0b".repeat(32));
    compared.ask(&anyone, Method::GET, template, &other, None).await;

    let secret = ca
        .token("web-1", &[WEB], Duration::from_secs(600))
        .await
        .to_text();
    let key = PrivateKey::generate(KeyAlgorithm::EcdsaP256).unwrap();
    let enrolment = json!({ "token": secret, "csr": SigningRequest::build_pem(&key).unwrap() });
    compared.post(&anyone, "/v1/enroll", enrolment.clone()).await;
    compared.post(&anyone, "/v1/enroll", enrolment.clone()).await;
    let second = ca
        .token("web-2", &[WEB], Duration::from_secs(600))
        .await
        .to_text();
    compared
        .post(
            &anyone,
            "/v1/enroll",
            json!({ "token": second, "csr": enrolment["csr"] }),
        )
        .await;
    let host = crate::harness::Host {
        name: "web-1".to_owned(),
        key,
    };
    let mut asked = host.ask(&ca, &csr(), Some(WEB));
    asked["lifetime_seconds"] = json!(600);
    compared.post(&anyone, "/v1/issue", asked.clone()).await;
    compared.post(&anyone, "/v1/issue", asked).await;
    compared
        .post(&anyone, "/v1/issue", host.ask(&ca, &csr(), Some(API)))
        .await;

    let (web_own, admin_own) = (ca.certificate(WEB).await, ca.certificate(ADMIN).await);
    let web = Caller {
        own: Some(&web_own),
        ..anyone
    };
    let admin = Caller {
        own: Some(&admin_own),
        ..anyone
    };
    compared.post(&web, "/v1/renew", json!({ "csr": csr() })).await;
    compared
        .post(&web, "/v1/renew", json!({ "csr": csr(), "id": API }))
        .await;
    compared.post(&anyone, "/v1/renew", json!({ "csr": csr() })).await;
    let by = |subject: Value, lift: bool| json!({ "subject": subject, "reason": "lost", "lift": lift });
    compared
        .post(&admin, "/v1/revoke", by(json!({ "identity": API }), false))
        .await;
    compared
        .post(&admin, "/v1/revoke", by(json!({ "identity": API }), false))
        .await;
    compared
        .post(&admin, "/v1/revoke", by(json!({ "host": "nobody" }), false))
        .await;
    compared
        .post(&admin, "/v1/revoke", by(json!({ "serial": "0a0b" }), false))
        .await;
    compared
        .post(&web, "/v1/revoke", by(json!({ "host": "web-1" }), false))
        .await;
    compared
        .post(&anyone, "/v1/revoke", by(json!({ "host": "web-1" }), false))
        .await;
    compared.get(&admin, "/v1/status").await;
    compared.get(&web, "/v1/status").await;
    compared.get(&anyone, "/v1/status").await;

    for path in ["/v1/enroll", "/v1/issue", "/v1/renew", "/v1/revoke"] {
        compared.post(&admin, path, json!({ "unknown": 1 })).await;
        let request = Request::post(path)
            .header(HOST, "localhost")
            .header(CONTENT_TYPE, "text/plain");
        let mut connection = Connection::open(&ca, Some(&admin_own)).await;
        let request = request.body(Full::new(Bytes::from_static(b"{}"))).unwrap();
        let answer = connection.exchange(request).await.unwrap();
        compared.note(&Method::POST, path, &answer);
        compared
            .post(&admin, path, json!({ "csr": "x".repeat(100_000) }))
            .await;
    }
    let mut watching = ca.connect().await;
    ca.ask_to_stop();
    // Not ready any more, and still answering those who are here.
    loop {
        let answer = watching.send(Method::GET, "/ready", None).await;
        compared.note(&Method::GET, "/ready", &answer);
        if answer.status.is_server_error() {
            assert_eq!(answer.json()["waiting_for"], json!(["stopping"]));
            break;
        }
    }
    drop(watching);
    ca.stop().await;
}

/// An address that has asked too often is told so on every route but readiness.
async fn hasty(compared: &mut Comparison) {
    let ca = Ca::start(&[
        ("LIMITS__REQUESTS_PER_ADDRESS", "1"),
        ("LIMITS__REQUEST_BURST", "1"),
    ])
    .await;
    let issuer = format!("/v1/crl/{}.crl", "0b".repeat(32));
    let routes = compared.document.routes();
    for (template, method) in routes.into_iter().filter(|(template, _)| template != "/ready") {
        let path = if template.contains('{') {
            issuer.as_str()
        } else {
            template.as_str()
        };
        loop {
            let body = (method == Method::POST).then(|| json!({}));
            let answer = ca.send(method.clone(), path, body).await;
            if answer.status.as_u16() == 429 {
                compared.note(&method, &template, &answer);
                break;
            }
        }
    }
    ca.stop().await;
}

/// A body that never comes whole.
async fn slow(compared: &mut Comparison) {
    let ca = Ca::start(&[("ADMINS", ADMIN), ("LIMITS__REQUEST_TIME", "1s")]).await;
    let admin = ca.certificate(ADMIN).await;
    for path in ["/v1/enroll", "/v1/issue", "/v1/renew", "/v1/revoke"] {
        let head = format!("POST {path} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json");
        let half = format!("{head}\r\ncontent-length: 100\r\n\r\n{{");
        let answer = Answer::parse(&raw_as(&ca, Some(&admin), half.as_bytes()).await);
        compared.note(&Method::POST, path, &answer);
    }
    ca.stop().await;
}

/// A CA whose ledger does not answer refuses whatever needs it.
async fn broken(compared: &mut Comparison) {
    // It would stop at once: a CA without its ledger is of no use.
    let ca = Ca::start(&[("ADMINS", ADMIN), ("STOP__LEAVE", "60s")]).await;
    let secret = ca
        .token("web-9", &[WEB], Duration::from_secs(600))
        .await
        .to_text();
    let host = ca.host("web-1", &[WEB]).await;
    let anyone = Caller { ca: &ca, own: None };
    let issued = ca
        .send(Method::POST, "/v1/issue", Some(host.ask(&ca, &csr(), None)))
        .await;
    assert!(issued.status.is_success(), "the host is known from now on");
    let admin_own = ca.certificate(ADMIN).await;
    let admin = Caller {
        own: Some(&admin_own),
        ..anyone
    };
    ca.served_ledger.close().await.unwrap();
    compared
        .post(&anyone, "/v1/enroll", json!({ "token": secret, "csr": csr() }))
        .await;
    compared
        .post(&anyone, "/v1/issue", host.ask(&ca, &csr(), None))
        .await;
    compared.post(&admin, "/v1/renew", json!({ "csr": csr() })).await;
    let revocation = json!({ "subject": { "identity": WEB }, "reason": "lost" });
    compared.post(&admin, "/v1/revoke", revocation).await;
    compared.get(&admin, "/v1/status").await;
    // What is trusted is still told.
    compared.get(&anyone, "/v1/bundle").await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs schemathesis: tests/run"]
async fn schemathesis_finds_no_difference() {
    #[allow(clippy::disallowed_methods, reason = "tests/run says where the program is")]
    let program = std::env::var("FERRULE_SCHEMATHESIS").expect("FERRULE_SCHEMATHESIS, as tests/run sets it");
    let generous = [
        ("LIMITS__REQUESTS_PER_ADDRESS", "100000"),
        ("LIMITS__REQUEST_BURST", "100000"),
        ("LIMITS__WAIT", "1s"),
    ];
    let ca = Ca::start(&generous).await;
    let home = tempfile::tempdir().unwrap();
    let trusted = home.path().join("bundle.pem");
    std::fs::write(&trusted, ca.bundle().to_pem()).unwrap();
    let here = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/api/schemathesis.toml");
    let document = concat!(env!("CARGO_MANIFEST_DIR"), "/openapi.json");
    let mut command = std::process::Command::new(program);
    command
        .current_dir(home.path())
        .args([
            "--config-file",
            here,
            "run",
            document,
            "--no-color",
            "--generation-deterministic",
        ])
        .args(["--url", &format!("https://127.0.0.1:{}", ca.port), "--tls-verify"])
        .arg(&trusted)
        // A random request is never a signed one: that it is refused is right.
        .args([
            "--checks",
            "all",
            "--exclude-checks",
            "positive_data_acceptance",
            "--max-examples",
            "25",
        ]);
    let output = tokio::task::spawn_blocking(move || command.output().unwrap())
        .await
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    // It repeats requests in full, some of them of 100 KB.
    let lines: Vec<String> = said
        .lines()
        .map(|line| line.chars().take(300).collect())
        .collect();
    assert!(
        output.status.success(),
        "{}{}",
        lines.join("\n"),
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(
        said.contains("Tested: 13"),
        "every operation: {}",
        lines.join("\n")
    );
    ca.stop().await;
}

#[test]
fn every_word_of_a_refusal_is_explained() {
    let manual =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/operating.md")).unwrap();
    let missing: Vec<&str> = TABLE
        .iter()
        .flat_map(|(_, words)| *words)
        .copied()
        .filter(|word| !manual.contains(&format!("`{word}`")))
        .collect();
    assert!(
        missing.is_empty(),
        "docs/operating.md does not explain {missing:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn every_metric_is_explained() {
    let manual =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/operating.md")).unwrap();
    let ca = Ca::start(&[]).await;
    ca.send(Method::GET, "/v1/time", None).await;
    let metrics = ca.metrics.encode().unwrap();
    let names = metrics
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE "))
        .filter_map(|rest| rest.split(' ').next());
    let missing: Vec<&str> = names.filter(|name| !manual.contains(*name)).collect();
    assert!(
        missing.is_empty(),
        "docs/operating.md does not explain {missing:?}"
    );
    ca.stop().await;
}
