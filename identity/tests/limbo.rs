//! Runs the public x509-limbo cases through path building with our certificate rules.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;

use ferrule_identity::path::{Purpose, verify_path};
use ferrule_identity::pem::{self, PemLimits};
use ferrule_identity::{Crl, DenyList, Revocations, Timestamp, bundle};
use rustls_pki_types::{CertificateDer, ServerName};
use serde_json::Value;
use webpki::EndEntityCert;

/// What our verifier says about one case.
enum Verdict {
    Accepted,
    Refused(String),
    /// The case needs something that our verifier has no place for.
    NoPlace(&'static str),
}

/// B2. Divergences are listed in `limbo-exceptions.txt`, each with its reason. A new one fails the test, and so does
/// a listed case that agrees by now.
#[test]
#[ignore = "needs FERRULE_LIMBO: tests/run"]
#[expect(
    clippy::disallowed_methods,
    reason = "the path of the data comes from whoever runs the test"
)]
fn divergences_from_limbo_are_exactly_the_listed_ones() {
    let path = std::env::var("FERRULE_LIMBO").expect("FERRULE_LIMBO names the file of cases");
    let document: Value = serde_json::from_slice(&read_maybe_gzip(&path)).expect("the cases are JSON");
    let cases = document["testcases"].as_array().expect("testcases is a list");
    let exceptions = exceptions();

    let mut found = BTreeMap::new();
    for case in cases {
        let id = case["id"].as_str().expect("a case has an id");
        let expected = case["expected_result"].as_str().expect("a case has a result");
        let divergence = match (judge(case), expected) {
            (Verdict::Accepted, "SUCCESS") | (Verdict::Refused(_), "FAILURE") => continue,
            (Verdict::Accepted, _) => "accepted".to_owned(),
            (Verdict::Refused(why), _) => format!("refused: {why}"),
            (Verdict::NoPlace(what), _) => format!("not run: {what}"),
        };
        found.insert(id.to_owned(), format!("expected {expected}, {divergence}"));
    }

    println!("{} of {} cases diverge", found.len(), cases.len());
    let unexpected: Vec<_> = found.iter().filter(|(id, _)| !exceptions.contains(*id)).collect();
    let agreeing: Vec<_> = exceptions.iter().filter(|id| !found.contains_key(*id)).collect();
    assert!(
        unexpected.is_empty() && agreeing.is_empty(),
        "unexpected divergences: {unexpected:#?}\nlisted, but agreeing by now: {agreeing:#?}"
    );
    assert!(found.len() <= MOST_DIVERGENCES, "{} divergences", found.len());
}

fn judge(case: &Value) -> Verdict {
    if !case["max_chain_depth"].is_null() {
        return Verdict::NoPlace("a limit on the depth of the chain, chosen by the caller");
    }
    let now = case["validation_time"]
        .as_str()
        .map_or(DEFAULT_TIME, unix_seconds);
    let now = Timestamp::from_unix(now);
    let trusted: Vec<_> = certificates(&case["trusted_certs"]);
    // As when a bundle is read: what is not fit to be an anchor does not become one.
    let anchors = bundle::Anchors::new(
        trusted
            .iter()
            .filter_map(|der| bundle::Anchor::from_der(der).ok()),
    );
    let mut chain = certificates(&Value::Array(vec![case["peer_certificate"].clone()]));
    let intermediates = certificates(&case["untrusted_intermediates"]);
    let mut crls = Vec::new();
    let issuers: Vec<_> = trusted.iter().chain(&intermediates).cloned().collect();
    for crl in case["crls"].as_array().into_iter().flatten() {
        let text = crl.as_str().expect("a CRL is text");
        let der = pem::read_one(text, pem::X509_CRL).expect("a CRL is PEM");
        match Crl::from_der(der.der(), &issuers, now) {
            Ok(crl) => crls.push(crl),
            Err(error) => return Verdict::Refused(chain_of(&error)),
        }
    }
    chain.extend(intermediates);
    let purpose = match case["validation_kind"].as_str() {
        Some("SERVER") => Purpose::Server,
        Some("CLIENT") => Purpose::Client,
        other => panic!("unknown kind of validation {other:?}"),
    };
    let revocations = Revocations::new(1, DenyList::default(), crls);
    if let Err(error) = verify_path(&chain, &anchors, purpose, &revocations, now) {
        return Verdict::Refused(chain_of(&error));
    }
    let name = &case["expected_peer_name"];
    if name.is_null() {
        return Verdict::Accepted;
    }
    let text = name["value"].as_str().expect("a name has a value");
    let leaf = EndEntityCert::try_from(&chain[0]).expect("a verified leaf can be read");
    match ServerName::try_from(text) {
        Err(_) => Verdict::NoPlace("a name that is neither DNS nor IP"),
        Ok(name) => match leaf.verify_is_valid_for_subject_name(&name) {
            Ok(()) => Verdict::Accepted,
            Err(error) => Verdict::Refused(error.to_string()),
        },
    }
}

fn certificates(list: &Value) -> Vec<CertificateDer<'static>> {
    let texts = list.as_array().expect("certificates are a list");
    texts
        .iter()
        .map(|text| {
            let text = text.as_str().expect("a certificate is text");
            // Some are larger than we read from settings; the verifier has to see them all the same.
            let blocks = pem::read_all(text, pem::CERTIFICATE, PemLimits::BUNDLE).expect("PEM");
            CertificateDer::from(blocks[0].der().to_vec())
        })
        .collect()
}

fn exceptions() -> BTreeSet<String> {
    include_str!("limbo-exceptions.txt")
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(|line| {
            let parts: Vec<_> = line.splitn(3, '|').map(str::trim).collect();
            assert!(
                parts.len() == 3 && parts.iter().all(|part| !part.is_empty()),
                "not `id | expected | reason`: {line}"
            );
            parts[0].to_owned()
        })
        .collect()
}

fn read_maybe_gzip(path: &str) -> Vec<u8> {
    let raw = std::fs::read(path).expect("the file of cases can be read");
    if !raw.starts_with(&[0x1f, 0x8b]) {
        return raw;
    }
    let mut plain = Vec::new();
    flate2::read::GzDecoder::new(raw.as_slice())
        .read_to_end(&mut plain)
        .expect("the file of cases is gzip");
    plain
}

/// Rounds down, as a clock in whole seconds does.
fn unix_seconds(text: &str) -> i64 {
    time::OffsetDateTime::parse(text, &time::format_description::well_known::Rfc3339)
        .expect("a time is RFC 3339")
        .unix_timestamp()
}

fn chain_of(error: &dyn std::error::Error) -> String {
    std::iter::successors(Some(error), |error| error.source())
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(": ")
}

/// Cases without a time of their own are valid for decades around the day on which they were made.
const DEFAULT_TIME: i64 = 1_763_769_600;

/// What we promise.
const MOST_DIVERGENCES: usize = 45;
