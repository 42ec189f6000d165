//! Runs Netflix' BetterTLS cases (name constraints, path building) through path building with our rules.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ferrule_identity::bundle::{Anchor, Anchors};
use ferrule_identity::path::{Purpose, verify_path};
use ferrule_identity::{Revocations, Timestamp};
use rustls_pki_types::{CertificateDer, ServerName};
use serde_json::Value;
use webpki::EndEntityCert;

/// B2. A case is decided when everything that it requires is supported; then the answer has to be the expected one.
/// `failureIsWarning` marks cases whose failure the suite itself does not count; they are held to all the same,
/// and none of them diverges.
#[test]
#[ignore = "needs FERRULE_BETTERTLS: tests/run"]
#[expect(
    clippy::disallowed_methods,
    reason = "the path of the data comes from whoever runs the test"
)]
fn every_bettertls_case_has_the_expected_answer() {
    let path = std::env::var("FERRULE_BETTERTLS").expect("FERRULE_BETTERTLS names the file of cases");
    let text = std::fs::read(path).expect("the file of cases can be read");
    let document: Value = serde_json::from_slice(&text).expect("the cases are JSON");
    let root = certificate(&document["trustRoot"]);
    let root = Anchor::from_der(&root).expect("the root is fit to be an anchor");
    // The suite makes its certificates when it exports them, backdated by a day.
    let now = root
        .lifetime()
        .not_before()
        .plus(Duration::from_secs(2 * 24 * 3600));
    let anchors = Anchors::new([root]);

    let suites = document["suites"].as_object().expect("suites is an object");
    let (mut cases, mut divergences) = (0, Vec::new());
    for (suite, content) in suites {
        for case in content["testCases"].as_array().expect("testCases is a list") {
            cases += 1;
            let expected = case["expected"].as_str().expect("a case has an expectation");
            let answer = judge(case, &anchors, now);
            if answer.is_ok() != (expected == "ACCEPT") {
                divergences.push(format!(
                    "{suite} {}: expected {expected} (warning: {}), found {answer:?}",
                    case["id"], case["failureIsWarning"]
                ));
            }
        }
    }
    println!("{} of {cases} cases diverge", divergences.len());
    assert!(cases > 9_000, "only {cases} cases");
    divergences.truncate(40);
    assert!(divergences.is_empty(), "{divergences:#?}");
}

fn judge(case: &Value, anchors: &Anchors, now: Timestamp) -> Result<(), String> {
    let chain: Vec<_> = case["certificates"]
        .as_array()
        .expect("certificates is a list")
        .iter()
        .map(certificate)
        .collect();
    verify_path(&chain, anchors, Purpose::Server, &Revocations::empty(), now)
        .map_err(|error| format!("{error:?}"))?;
    let name = case["hostname"].as_str().expect("a case has a host name");
    let name = ServerName::try_from(name).map_err(|error| error.to_string())?;
    EndEntityCert::try_from(&chain[0])
        .and_then(|leaf| leaf.verify_is_valid_for_subject_name(&name))
        .map_err(|error| error.to_string())
}

fn certificate(text: &Value) -> CertificateDer<'static> {
    let text = text.as_str().expect("a certificate is text");
    STANDARD.decode(text).expect("a certificate is Base64").into()
}
