//! Which tokens of service accounts the CA takes, on the real API server's word.

use std::fs;
use std::path::Path;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ferrule_tests::kubernetes::{Cluster, Namespace, said, shared};
use ferrule_tests::wait::{unix_milliseconds, until};
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::pki_types::pem::PemObject as _;
use serde_json::{Value, json};
use tempfile::TempDir;

const SYSTEM: [&str; 2] = ["--namespace", "ferrule-system"];

// A6.
#[test]
#[ignore = "needs root and a Kubernetes: tests/run"]
fn the_ca_takes_no_token_but_one_for_it_that_is_bound_to_a_living_pod() {
    let cluster = shared();
    let shop = Namespace::plain(&cluster);
    let ca = Ca::of(&cluster);
    let bound = bound(&shop.run("web", &["pause"]));
    let good = token(&shop, "ferrule-ca", &bound);
    ca.issues(&good);

    let parts: Vec<&str> = good.split('.').collect();
    let header = |text: &str, signature: &str| format!("{}.{}.{signature}", encoded(text), parts[1]);
    let mut claims = claims(&good);
    claims["sub"] = json!("system:serviceaccount:kube-system:default");
    let other = format!("{}.{}.{}", parts[0], encoded(&claims.to_string()), parts[2]);
    let legacy = json!({
        "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/service-account-token",
        "metadata": { "name": "legacy", "annotations": { "kubernetes.io/service-account.name": "default" } },
    });
    shop.apply(&legacy);
    let legacy = until("the old kind of token is made", || {
        let secret = shop.get("secret/legacy")?;
        let token = secret["data"]["token"].as_str()?.to_owned();
        String::from_utf8(STANDARD.decode(token).ok()?).ok()
    });
    let elsewhere = token(&shop, "https://kubernetes.default.svc.cluster.local", &bound);
    for (reason, token) in [
        ("token_audience", elsewhere),
        ("token_not_bound", token(&shop, "ferrule-ca", &[])),
        (
            "token_algorithm_none",
            header(r#"{"alg":"none","typ":"JWT"}"#, ""),
        ),
        (
            "token_algorithm_symmetric",
            header(r#"{"alg":"HS256","typ":"JWT"}"#, parts[2]),
        ),
        (
            "token_key_name",
            header(r#"{"alg":"RS256","kid":"../../../dev/null"}"#, parts[2]),
        ),
        ("token_not_authenticated", other),
        ("token_audience", legacy),
        ("token_malformed", "x".to_owned()),
    ] {
        ca.refuses(&token, reason);
    }
    shop.kubectl(&["delete", "pod", "web", "--now", "--wait=true"]);
    ca.comes_to_refuse(&good, "token_not_authenticated");
}

// A6.
#[test]
#[ignore = "needs root and a Kubernetes: tests/run"]
fn a_token_that_the_cluster_signed_is_refused_once_it_has_expired_or_if_it_never_does() {
    let cluster = shared();
    let shop = Namespace::plain(&cluster);
    let ca = Ca::of(&cluster);
    let good = token(&shop, "ferrule-ca", &bound(&shop.run("web", &["pause"])));
    let signer = Signer::of(&cluster);
    let now = i64::try_from(unix_milliseconds() / 1000).unwrap();
    // Nothing but the times differs from a token that is taken.
    let lasting = |from: i64, to: Option<i64>| {
        let mut claims = claims(&good);
        claims["iat"] = json!(from);
        claims["nbf"] = json!(from);
        match to {
            Some(to) => claims["exp"] = json!(to),
            None => drop(claims.as_object_mut().unwrap().remove("exp")),
        }
        signer.sign(&good, &claims)
    };
    ca.issues(&lasting(now - 5, Some(now + 600)));

    let past = lasting(now - 7200, Some(now - 3600));
    ca.refuses(&past, "token_expired");
    // A CA whose clock is behind would ask; the API server does not vouch for it either.
    let review = review(&cluster, &past);
    assert_eq!(review["status"].get("authenticated"), None, "{review:#}");
    let why = review["status"]["error"].as_str().unwrap();
    assert!(why.contains("expired"), "{why}");

    ca.refuses(&lasting(now - 5, None), "token_no_expiry");

    // One that is taken now, and is not any more once its time has come.
    let short = lasting(now - 5, Some(now + 600));
    let mut ends = claims(&short);
    ends["exp"] = json!(i64::try_from(unix_milliseconds() / 1000).unwrap() + 10);
    let short = signer.sign(&good, &ends);
    ca.issues(&short);
    ca.comes_to_refuse(&short, "token_expired");
}

/// The CA of the mesh, as whoever has a token asks it.
pub(super) struct Ca<'a> {
    cluster: &'a Cluster,
    folder: TempDir,
    address: String,
    csr: String,
}

impl<'a> Ca<'a> {
    pub(super) fn of(cluster: &'a Cluster) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let trust = cluster.get("configmap/ferrule-trust", &SYSTEM).unwrap();
        let bundle = trust["data"]["bundle.pem"].as_str().unwrap();
        fs::write(folder.path().join("bundle"), bundle).unwrap();
        let key = rcgen::KeyPair::generate().unwrap();
        let csr = rcgen::CertificateParams::default().serialize_request(&key);
        let service = cluster.get("service/ferrule-ca", &SYSTEM).unwrap();
        Self {
            cluster,
            folder,
            address: service["spec"]["clusterIP"].as_str().unwrap().to_owned(),
            csr: csr.unwrap().pem().unwrap(),
        }
    }

    /// The CA's answer to a token, and its status in the last line.
    fn issue(&self, token: &str) -> String {
        // Many are refused here, and whoever is refused often has to slow down.
        until("the CA lets it ask", || {
            let answer = self.ask(token);
            (!answer.ends_with("\n429")).then_some(answer)
        })
    }

    fn ask(&self, token: &str) -> String {
        let at = |name: &str| self.folder.path().join(name).to_str().unwrap().to_owned();
        let body = json!({ "csr": self.csr, "evidence": { "kind": "kubernetes_token", "token": token } });
        fs::write(at("body"), body.to_string()).unwrap();
        let mut curl = self.cluster.nodes()[0].command("curl");
        curl.args(["--silent", "--max-time", "20", "--cacert", &at("bundle")]);
        curl.args(["--data", &format!("@{}", at("body"))]);
        curl.args([
            "--header",
            "content-type: application/json",
            "--write-out",
            "\n%{http_code}",
        ]);
        curl.args([
            "--resolve",
            &format!("ferrule-ca.ferrule-system.svc:15010:{}", self.address),
        ]);
        curl.arg("https://ferrule-ca.ferrule-system.svc:15010/v1/issue");
        said(&["curl"], &curl.output().unwrap())
    }

    pub(super) fn issues(&self, token: &str) {
        let answer = self.issue(token);
        assert!(
            answer.ends_with("\n200") && answer.contains("BEGIN CERTIFICATE"),
            "{answer}"
        );
    }

    /// Waits until a token is not taken any more: the API server remembers for 10 s what it has said of one.
    pub(super) fn comes_to_refuse(&self, token: &str, reason: &str) {
        until("the token is not taken any more", || {
            (!self.issue(token).ends_with("\n200")).then_some(())
        });
        self.refuses(token, reason);
    }

    fn refuses(&self, token: &str, reason: &str) {
        let answer = self.issue(token);
        let word = format!(r#""error":"{reason}""#);
        assert!(
            answer.contains(&word) && answer.ends_with("\n401"),
            "not {reason}: {answer}"
        );
    }
}

/// Signs as the API server does, with the cluster's own key.
struct Signer(EcdsaKeyPair);

impl Signer {
    fn of(cluster: &Cluster) -> Self {
        Self::read(&cluster.signing_key())
    }

    fn read(path: &Path) -> Self {
        let key = PrivatePkcs8KeyDer::from_pem_file(path).unwrap();
        let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, key.secret_pkcs8_der());
        Self(key.unwrap())
    }

    /// A token with the header of `like`.
    fn sign(&self, like: &str, claims: &Value) -> String {
        let header = like.split('.').next().unwrap();
        let signed = format!("{header}.{}", encoded(&claims.to_string()));
        let signature = self.0.sign(&SystemRandom::new(), signed.as_bytes()).unwrap();
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}

/// A token of a pod's account that is bound to it, for the CA, as the kubelet mounts one.
pub(super) fn token_of(namespace: &Namespace<'_>, pod: &Value) -> String {
    let account = pod["spec"]["serviceAccountName"].as_str().unwrap();
    create(namespace, account, "ferrule-ca", &bound(pod))
}

/// What binds a token to a pod.
fn bound(pod: &Value) -> [String; 6] {
    let text = |field: &str| pod["metadata"][field].as_str().unwrap();
    [
        "--bound-object-kind",
        "Pod",
        "--bound-object-name",
        text("name"),
        "--bound-object-uid",
        text("uid"),
    ]
    .map(str::to_owned)
}

/// A token of the namespace's default account.
fn token(namespace: &Namespace<'_>, audience: &str, bound: &[String]) -> String {
    create(namespace, "default", audience, bound)
}

fn create(namespace: &Namespace<'_>, account: &str, audience: &str, bound: &[String]) -> String {
    let mut arguments = vec!["create", "token", account, "--audience", audience];
    arguments.extend(bound.iter().map(String::as_str));
    namespace.kubectl(&arguments).trim().to_owned()
}

/// What the API server itself says of a token for the CA.
fn review(cluster: &Cluster, token: &str) -> Value {
    let review = json!({
        "apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview",
        "spec": { "token": token, "audiences": ["ferrule-ca"] },
    });
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("review.json");
    fs::write(&file, review.to_string()).unwrap();
    let path = file.to_str().unwrap();
    let answer = cluster.kubectl(&["create", "--filename", path, "--output", "json"]);
    serde_json::from_str(&answer).unwrap()
}

fn claims(token: &str) -> Value {
    let claims = token.split('.').nth(1).unwrap();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).unwrap()).unwrap()
}

fn encoded(text: &str) -> String {
    URL_SAFE_NO_PAD.encode(text)
}
