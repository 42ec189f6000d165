//! A Kubernetes API server that says what a test wants.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ferrule_daemon::clock::Clock;
use ferrule_daemon::drain::Drain;
use ferrule_daemon::https::{Limits, Reply, Request, Server, ServerMetrics, listen, reply};
use ferrule_daemon::metrics::Metrics;
use http::StatusCode;
use http::header::{AUTHORIZATION, LOCATION};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::ServerConfig;
use rustls_pki_types::PrivateKeyDer;
use serde_json::{Value, json};

/// The token that the CA itself has to show.
pub(crate) const OWN_TOKEN: &str = "the-token-of-the-ca-itself";

/// What the API server does with a review.
#[derive(Debug, Clone)]
pub(crate) enum Script {
    /// Answers with this status of a TokenReview.
    Status(Value),
    /// Answers with this HTTP status and this body.
    Raw(u16, String),
    /// Sends the caller elsewhere.
    Redirect(String),
    /// Never answers.
    Silent,
}

/// A running API server.
pub(crate) struct Kube {
    pub(crate) port: u16,
    script: Arc<Mutex<Script>>,
    seen: Arc<Mutex<Vec<Value>>>,
    home: tempfile::TempDir,
    drain: Drain,
}

impl Kube {
    pub(crate) async fn start() -> Self {
        let home = tempfile::tempdir().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let root = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let key = KeyPair::generate().unwrap();
        let names = vec!["127.0.0.1".to_owned()];
        let leaf = CertificateParams::new(names)
            .unwrap()
            .signed_by(&key, &root)
            .unwrap();
        std::fs::write(home.path().join("ca.crt"), root.pem()).unwrap();
        std::fs::write(home.path().join("token"), format!("{OWN_TOKEN}\n")).unwrap();

        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![leaf.der().clone()], key)
            .unwrap();
        let config = Arc::new(config);
        let script = Arc::new(Mutex::new(Script::Status(json!({ "authenticated": false }))));
        let seen = Arc::new(Mutex::new(Vec::new()));
        let listener = listen("127.0.0.1:0".parse().unwrap()).unwrap();
        let port = listener.local_addr().unwrap().port();
        let drain = Drain::new();
        let counters = ServerMetrics::register(&Metrics::new());
        let server = Server::new(
            "kube",
            Limits::default(),
            Clock::system(),
            drain.clone(),
            &counters,
        );
        let (plays, notes) = (script.clone(), seen.clone());
        let handler = move |request: Request| answer(request, plays.clone(), notes.clone());
        #[allow(clippy::disallowed_methods, reason = "ends with the drain")]
        tokio::spawn(server.serve_tls(listener, move || config.clone(), Arc::new(handler)));
        Self {
            port,
            script,
            seen,
            home,
            drain,
        }
    }

    /// What it does from now on.
    pub(crate) fn plays(&self, script: Script) {
        *self.script.lock().unwrap() = script;
    }

    /// The reviews that it was asked for.
    pub(crate) fn seen(&self) -> Vec<Value> {
        self.seen.lock().unwrap().clone()
    }

    /// A file that the CA reads: `ca.crt` or `token`.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        Path::new(self.home.path()).join(name)
    }

    /// The settings of a CA that asks it.
    pub(crate) fn settings(&self) -> Vec<(&'static str, String)> {
        vec![
            ("KUBERNETES__API", format!("https://127.0.0.1:{}", self.port)),
            ("KUBERNETES__CA_FILE", self.file("ca.crt").display().to_string()),
            ("KUBERNETES__TOKEN_FILE", self.file("token").display().to_string()),
        ]
    }
}

impl Drop for Kube {
    fn drop(&mut self) {
        self.drain.cut_now();
    }
}

async fn answer(request: Request, script: Arc<Mutex<Script>>, seen: Arc<Mutex<Vec<Value>>>) -> Reply {
    let authorized = request.headers().get(AUTHORIZATION).is_some_and(|value| {
        value
            .to_str()
            .is_ok_and(|value| value == format!("Bearer {OWN_TOKEN}"))
    });
    let path = request.uri().path().to_owned();
    if path != "/apis/authentication.k8s.io/v1/tokenreviews" {
        return apply(request, &path, &seen, authorized).await;
    }
    let body = request.into_body().read().await.unwrap();
    seen.lock().unwrap().push(serde_json::from_slice(&body).unwrap());
    if !authorized {
        return reply(StatusCode::UNAUTHORIZED, "application/json", "{}");
    }
    let script = script.lock().unwrap().clone();
    match script {
        Script::Status(status) => {
            let review =
                json!({ "apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "status": status });
            reply(StatusCode::CREATED, "application/json", review.to_string())
        }
        Script::Raw(status, body) => reply(StatusCode::from_u16(status).unwrap(), "application/json", body),
        Script::Redirect(to) => {
            let mut reply = reply(StatusCode::TEMPORARY_REDIRECT, "text/plain", "");
            reply.headers_mut().insert(LOCATION, to.parse().unwrap());
            reply
        }
        Script::Silent => {
            tokio::time::sleep(Duration::from_secs(60)).await;
            reply(StatusCode::OK, "text/plain", "")
        }
    }
}

/// Takes an object, and notes it.
async fn apply(request: Request, path: &str, seen: &Mutex<Vec<Value>>, authorized: bool) -> Reply {
    assert_eq!(request.method(), http::Method::PATCH, "{path}");
    let content = request.headers()[http::header::CONTENT_TYPE].clone();
    assert_eq!(content, "application/apply-patch+yaml");
    let body = request.into_body().read().await.unwrap();
    let mut object: Value = serde_json::from_slice(&body).unwrap();
    object["path"] = json!(path);
    seen.lock().unwrap().push(object);
    let status = if authorized {
        StatusCode::OK
    } else {
        StatusCode::UNAUTHORIZED
    };
    reply(status, "application/json", "{}")
}

/// The status of a TokenReview that vouches for a pod of `account` in `namespace`.
pub(crate) fn vouched(namespace: &str, account: &str) -> Value {
    json!({
        "authenticated": true,
        "audiences": ["ferrule-ca"],
        "user": {
            "username": format!("system:serviceaccount:{namespace}:{account}"),
            "extra": {
                "authentication.kubernetes.io/pod-name": [format!("{account}-7d4b9-x2x")],
                "authentication.kubernetes.io/pod-uid": ["0d5e0d5e"],
            },
        },
    })
}

/// A JWT with these parts and a signature that nobody made.
pub(crate) fn jwt(header: &Value, claims: &Value) -> String {
    let [header, claims] = [header, claims].map(|part| URL_SAFE_NO_PAD.encode(part.to_string()));
    format!("{header}.{claims}.{}", URL_SAFE_NO_PAD.encode([7; 64]))
}

/// A JWT that passes for a projected token.
pub(crate) fn token(expires: i64) -> String {
    jwt(
        &json!({ "alg": "RS256", "kid": "k1" }),
        &json!({ "aud": ["ferrule-ca"], "exp": expires }),
    )
}
