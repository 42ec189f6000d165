//! Secrets stay out of everything that others read: A14.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use ferrule_identity::{KeyAlgorithm, PrivateKey, SigningRequest};
use http::{Method, StatusCode};
use serde_json::json;

use crate::harness::{Ca, DOMAIN, csr};
use crate::kube::{Kube, OWN_TOKEN, Script, token, vouched};
use crate::program::{Program, wait_for};

const WEB: &str = "spiffe://shop.test/ns/shop/sa/web";

/// What must not be found: the text itself, and what is left of it when it is cut.
fn absent(place: &str, text: &str, secrets: &[&str]) {
    for secret in secrets {
        for part in [*secret, &secret[..secret.len().min(24)]] {
            assert!(!text.contains(part), "{place} has a secret: …{}…", &part[..4]);
        }
    }
    assert!(!text.contains("PRIVATE KEY"), "{place} has a private key");
}

#[tokio::test(flavor = "multi_thread")]
async fn ledger_metrics_and_answers_hold_no_secret() {
    // A14
    let kube = Kube::start().await;
    kube.plays(Script::Status(vouched("shop", "web")));
    let settings = kube.settings();
    let settings: Vec<_> = settings
        .iter()
        .map(|(name, value)| (*name, value.as_str()))
        .collect();
    let ca = Ca::start(&settings).await;
    let join = ca.token("web-1", &[WEB], Duration::from_secs(60)).await.to_text();
    let key = PrivateKey::generate(KeyAlgorithm::EcdsaP256).unwrap();
    let host_csr = SigningRequest::build_pem(&key).unwrap();
    let pod_token = token(ca.now().unix() + 600);
    let misplaced = json!({ "csr": csr(), "evidence": { "kind": "kubernetes_token", "tokn": pod_token } });
    let requests = [
        ("/v1/enroll", json!({ "token": join, "csr": host_csr })),
        ("/v1/enroll", json!({ "token": join, "csr": host_csr })),
        (
            "/v1/enroll",
            json!({ "token": { "inside": join }, "csr": host_csr }),
        ),
        (
            "/v1/issue",
            json!({ "csr": host_csr, "evidence": { "kind": "kubernetes_token", "token": pod_token } }),
        ),
        (
            "/v1/issue",
            json!({ "csr": pod_token, "evidence": { "kind": "kubernetes_token", "token": pod_token } }),
        ),
        (
            "/v1/issue",
            json!({ "csr": host_csr, "id": pod_token, "evidence": { "kind": "kubernetes_token", "token": "x" } }),
        ),
        ("/v1/issue", misplaced),
    ];
    let mut answers = String::new();
    let mut fine = 0;
    for (path, body) in requests {
        let answer = ca.send(Method::POST, path, Some(body)).await;
        fine += usize::from(answer.status == StatusCode::OK);
        answers.push_str(&String::from_utf8_lossy(&answer.body));
    }
    assert_eq!(fine, 2, "one enrolment, one certificate: {answers}");
    let mut ledger = String::new();
    let export = &mut Vec::new();
    let everything = ferrule_ca::ledger::RowFilter::default();
    ferrule_ca::ledger::audit::export(ca.instance.ledger.as_ref(), &everything, export)
        .await
        .unwrap();
    ledger.push_str(&String::from_utf8_lossy(export));
    assert!(
        ledger.contains("host_enrolled") && ledger.contains("refused"),
        "{ledger}"
    );
    let body_of_request: String = host_csr.lines().nth(1).unwrap().to_owned();
    let secrets = [join.as_str(), &pod_token, OWN_TOKEN];
    absent(
        "the ledger",
        &ledger,
        &[&secrets[..], &[body_of_request.as_str()]].concat(),
    );
    absent("the metrics", &ca.metrics.encode().unwrap(), &secrets);
    // A caller may see its own words again, never those of others.
    absent("an answer", &answers, &[OWN_TOKEN]);
    ca.stop().await;
}

#[test]
fn what_the_program_prints_and_shows_holds_no_secret() {
    // A14
    let home = tempfile::tempdir().unwrap();
    let program = Program::new(home.path());
    let passphrase = home.path().join("passphrase");
    std::fs::write(&passphrase, "correct horse battery staple\n").unwrap();
    std::fs::set_permissions(&passphrase, std::fs::Permissions::from_mode(0o600)).unwrap();
    let lock = ["--passphrase-file", passphrase.to_str().unwrap()];
    let common = ["--trust-domain", DOMAIN];
    let mut serve = program.command(&["serve", "--listen", "127.0.0.1:0"]);
    serve
        .args(lock)
        .args(common)
        .env("FERRULE_CA__ADMIN__ENABLED", "false")
        .env("FERRULE_CA__LOG", "trace");
    let mut running = program.start(serve);
    wait_for("the API's certificate", || {
        running.said().contains("the API has a new certificate")
    });
    let arguments = std::fs::read(format!("/proc/{}/cmdline", running.id())).unwrap();
    let mut issue = program.command(&["issue", WEB, "--out", home.path().join("web").to_str().unwrap()]);
    assert!(issue.args(lock).status().unwrap().success());
    let printed = running.stop();
    let key = std::fs::read_to_string(home.path().join("web/svid_key.pem")).unwrap();
    let key_line = key.lines().nth(1).unwrap();
    let secrets = ["correct horse battery staple", key_line];
    absent("what the program printed", &printed, &secrets);
    absent("its arguments", &String::from_utf8_lossy(&arguments), &secrets);
    // Keys lie there encrypted, in files that nobody else reads.
    let folder = home.path().join("ca");
    let mut seen = 0;
    for file in files(&folder) {
        let mode = std::fs::metadata(&file).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{}", file.display());
        let content = String::from_utf8_lossy(&std::fs::read(&file).unwrap()).into_owned();
        assert!(
            !content.contains("BEGIN PRIVATE KEY") && !content.contains("BEGIN EC PRIVATE"),
            "{}",
            file.display()
        );
        seen += 1;
    }
    assert!(seen >= 3, "ledger and keys");
}

fn files(folder: &Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => found.extend(files(&path)),
            false => found.push(path),
        }
    }
    found
}

#[test]
fn a_folder_that_others_may_read_is_refused_with_what_to_type() {
    // A14
    let home = tempfile::tempdir().unwrap();
    let program = Program::new(home.path());
    assert!(
        program
            .command(&["init", "--trust-domain", DOMAIN])
            .status()
            .unwrap()
            .success()
    );
    std::fs::set_permissions(home.path().join("ca"), std::fs::Permissions::from_mode(0o755)).unwrap();
    let output = Command::output(&mut program.command(&["status"])).unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(
        String::from_utf8_lossy(&output.stderr).contains("chmod"),
        "{output:?}"
    );
}
