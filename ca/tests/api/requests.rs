//! What a caller may ask for, and what it gets: A1 to A4.

use std::time::Instant;

use ferrule_identity::{CertificateInfo, KeyAlgorithm, PrivateKey, SigningRequest};
use http::{Method, StatusCode};
use rcgen::{
    Attribute, CertificateParams, CustomExtension, DnType, ExtendedKeyUsagePurpose, KeyUsagePurpose, SanType,
};
use serde_json::{Value, json};

use crate::harness::{Answer, Ca, Connection, Host, csr, raw};

const A: &str = "spiffe://shop.test/ns/shop/sa/a";
const B: &str = "spiffe://shop.test/ns/shop/sa/b";

async fn ca_with_host() -> (Ca, Host) {
    let ca = Ca::start(&[]).await;
    let host = ca.host("web-1", &[A]).await;
    (ca, host)
}

async fn issue(ca: &Ca, host: &Host, csr: &str, id: Option<&str>) -> Answer {
    ca.send(Method::POST, "/v1/issue", Some(host.ask(ca, csr, id)))
        .await
}

/// A request that asks for whatever `fill` puts into it.
fn asking_for(fill: impl FnOnce(&mut CertificateParams)) -> String {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    fill(&mut params);
    let key = rcgen::KeyPair::generate().unwrap();
    params.serialize_request(&key).unwrap().pem().unwrap()
}

fn uri(id: &str) -> SanType {
    SanType::URI(id.try_into().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_gets_what_it_is_entitled_to() {
    let (ca, host) = ca_with_host().await;
    let key = PrivateKey::generate(KeyAlgorithm::EcdsaP256).unwrap();
    let request = SigningRequest::build_pem(&key).unwrap();
    let answer = issue(&ca, &host, &request, Some(A)).await;
    assert_eq!(answer.status, StatusCode::OK, "{:?}", answer.json());
    let json = answer.json();
    let certificate = ca.taken(&answer, key);
    assert_eq!(certificate.id().as_str(), A);
    assert_eq!(json["id"], A);
    assert_eq!(json["serial"], certificate.serial().to_string());
    assert_eq!(json["bundle_sequence"], 1);
    let (now, renew, end) = (
        ca.now().unix(),
        json["renew_at"].as_i64().unwrap(),
        json["not_after"].as_i64().unwrap(),
    );
    assert!(
        now < renew && renew - now <= 12 * 3_600 / 3 + 60 && end - now <= 12 * 3_600,
        "{json}"
    );
    // Where the evidence stands for one identity, it need not be named.
    let unnamed = issue(&ca, &host, &csr(), None).await;
    assert_eq!(unnamed.json()["id"], A);
    let rows = ca.rows("issued").await;
    let on_record = rows
        .iter()
        .filter(|row| row.body.contains(A) && row.body.contains("web-1"))
        .count();
    assert_eq!(on_record, 2);
    ca.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_gets_the_identity_of_another() {
    // A1
    let (ca, host) = ca_with_host().await;
    let other_domain = "spiffe://other.test/ns/shop/sa/a";
    for (id, word) in [
        (B, "not_entitled"),
        ("spiffe://shop.test/ns/shop/sa/a/x", "not_entitled"),
        ("spiffe://shop.test/ns/shop/sa/A", "not_entitled"),
        (other_domain, "foreign_trust_domain"),
        ("spiffe://SHOP.test/ns/shop/sa/a", "id_invalid"),
        ("spiffe://shop.test/ns/shop/sa/%61", "id_invalid"),
        ("spiffe://shop.test/ns/shop/sa/a\u{0}", "id_invalid"),
        ("", "id_invalid"),
    ] {
        let refused = issue(&ca, &host, &csr(), Some(id)).await;
        let found = refused.refusal();
        assert!(
            found == word || (id == other_domain && found == "not_entitled"),
            "{id:?}: {found}"
        );
    }
    let refusals = ca.refusals().await;
    let row = refusals
        .iter()
        .find(|row| row["asked"].as_str().unwrap().contains(B))
        .unwrap();
    assert!(
        row["caller"].as_str().unwrap().contains("web-1"),
        "the row names both: {row}"
    );
    ca.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_else_a_request_asks_for_is_refused() {
    // A1, A2
    let (ca, host) = ca_with_host().await;
    let second_san = CustomExtension::from_oid_content(&[2, 5, 29, 17], san_of(B));
    let cases: Vec<(&str, String)> = vec![
        (
            "another identity",
            asking_for(|p| p.subject_alt_names = vec![uri(B)]),
        ),
        (
            "two identities",
            asking_for(|p| p.subject_alt_names = vec![uri(A), uri(B)]),
        ),
        (
            "the same as DNS",
            asking_for(|p| p.subject_alt_names = vec![SanType::DnsName("b".try_into().unwrap())]),
        ),
        (
            "an address",
            asking_for(|p| p.subject_alt_names = vec![SanType::IpAddress([10, 0, 0, 1].into())]),
        ),
        (
            "a common name",
            asking_for(|p| p.distinguished_name.push(DnType::CommonName, B)),
        ),
        (
            "a second extension",
            asking_for(|p| {
                p.subject_alt_names = vec![uri(A)];
                p.custom_extensions = vec![second_san.clone()];
            }),
        ),
        ("a second attribute", in_two_attributes()),
        (
            "a certificate authority",
            asking_for(|p| {
                p.custom_extensions = vec![CustomExtension::from_oid_content(
                    &[2, 5, 29, 19],
                    vec![0x30, 3, 1, 1, 0xff],
                )];
            }),
        ),
        (
            "keyCertSign",
            asking_for(|p| p.key_usages = vec![KeyUsagePurpose::KeyCertSign]),
        ),
        (
            "another purpose",
            asking_for(|p| p.extended_key_usages = vec![ExtendedKeyUsagePurpose::CodeSigning]),
        ),
    ];
    for (what, request) in cases {
        let word = issue(&ca, &host, &request, Some(A)).await.refusal();
        assert!(
            word == "request_asks_too_much" || word == "csr_invalid",
            "{what}: {word}"
        );
    }
    // To ask for exactly what it will get is no crime.
    let same = asking_for(|p| p.subject_alt_names = vec![uri(A)]);
    assert_eq!(issue(&ca, &host, &same, Some(A)).await.status, StatusCode::OK);
    ca.stop().await;
}

/// The content of a subject alternative name with one URI.
fn san_of(id: &str) -> Vec<u8> {
    let length = |bytes: usize| u8::try_from(bytes).unwrap();
    let mut content = vec![0x30, length(id.len() + 2), 0x86, length(id.len())];
    content.extend_from_slice(id.as_bytes());
    content
}

/// A request for A in one block of extensions, and for B in another.
fn in_two_attributes() -> String {
    // extensionRequest (1.2.840.113549.1.9.14), a set of one sequence of one extension.
    const OID: &[u64] = &[1, 2, 840, 113_549, 1, 9, 14];
    let san = san_of(B);
    let wrap = |tag: u8, inside: &[u8]| {
        let mut out = vec![tag, u8::try_from(inside.len()).unwrap()];
        out.extend_from_slice(inside);
        out
    };
    let extension = [vec![0x06, 3, 0x55, 0x1d, 0x11], wrap(0x04, &san)].concat();
    let values = wrap(0x31, &wrap(0x30, &wrap(0x30, &extension)));
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.subject_alt_names = vec![uri(A)];
    let key = rcgen::KeyPair::generate().unwrap();
    let request = params.serialize_request_with_attributes(&key, vec![Attribute { oid: OID, values }]);
    request.unwrap().pem().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_certificate_has_our_profile_alone() {
    // A2: fields that the API does not have cannot be asked for; what is issued is ours.
    let (ca, host) = ca_with_host().await;
    let mut body = host.ask(&ca, &csr(), Some(A));
    for field in ["serial", "not_after", "usages", "subject", "ca"] {
        body[field] = json!("1");
        let refused = ca.send(Method::POST, "/v1/issue", Some(body.clone())).await;
        assert_eq!(refused.refusal(), "message_invalid");
        assert!(refused.json()["message"].as_str().unwrap().contains(field));
        body.as_object_mut().unwrap().remove(field);
    }
    let answer = ca
        .send(Method::POST, "/v1/issue", Some(host.ask(&ca, &csr(), Some(A))))
        .await;
    let pem = answer.json()["certificates"].as_str().unwrap().to_owned();
    let chain = ferrule_identity::certificate::read_chain(&pem).unwrap();
    let leaf = CertificateInfo::from_der(&chain[0]).unwrap();
    assert!(!leaf.is_authority);
    assert_eq!(
        (leaf.uris.as_slice(), leaf.dns_names.len()),
        ([A.to_owned()].as_slice(), 0)
    );
    let serial = answer.json()["serial"].as_str().unwrap().to_owned();
    assert!(serial.len() > 16, "a serial of more than 64 bits: {serial}");
    ca.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_requests_are_refused_at_once() {
    // A3
    let (ca, host) = ca_with_host().await;
    let good = csr();
    let der = ferrule_identity::pem::read_one(&good, "CERTIFICATE REQUEST").unwrap();
    let mut forged = der.der().to_vec();
    let last = forged.len() - 1;
    forged[last] ^= 1;
    let forged = ferrule_identity::pem::write("CERTIFICATE REQUEST", &forged).to_string();
    let headers = format!(
        "-----BEGIN CERTIFICATE REQUEST-----\n{}",
        "X-Header: 1\n".repeat(2_000)
    );
    let long = ferrule_identity::pem::write("CERTIFICATE REQUEST", &vec![0x30; 40_000]).to_string();
    for (what, request, word) in [
        ("a wrong proof of possession", forged.as_str(), "csr_signature"),
        ("RSA-1024", RSA_1024, "key_not_accepted"),
        ("P-192", P_192, "key_not_accepted"),
        ("Ed448", ED_448, "key_not_accepted"),
        ("no PEM", "csr", "csr_invalid"),
        ("nothing", "", "csr_invalid"),
        (
            "another label",
            &good.replace("CERTIFICATE REQUEST", "CERTIFICATE"),
            "csr_invalid",
        ),
        ("two of them", &format!("{good}{good}"), "csr_invalid"),
        ("headers without end", &headers, "csr_invalid"),
        ("too long", &long, "csr_invalid"),
    ] {
        let begun = Instant::now();
        let refused = issue(&ca, &host, request, Some(A)).await;
        let found = refused.refusal();
        assert!(
            found == word || (found == "csr_signature" && word == "key_not_accepted"),
            "{what}: {found}"
        );
        assert!(
            begun.elapsed().as_millis() < 2_000,
            "{what} took {:?}",
            begun.elapsed()
        );
    }
    // Each is on record, under the host's name.
    let refusals = ca.refusals().await;
    assert!(
        refusals
            .iter()
            .any(|row| row["caller"] == "host web-1" && row["reason"] == "csr_signature")
    );
    ca.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_megabyte_of_request_is_not_read() {
    // A3
    let (ca, host) = ca_with_host().await;
    let long = format!("-----BEGIN CERTIFICATE REQUEST-----\n{}", "A".repeat(1 << 20));
    let body = host.ask(&ca, &long, Some(A)).to_string();
    let head = format!(
        "POST /v1/issue HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    // Refused by its length, before a byte of it is sent.
    let answer = raw(&ca, head.as_bytes()).await;
    assert!(
        answer.starts_with("HTTP/1.1 413") && answer.contains("body_too_long"),
        "{answer}"
    );
    // And where no length is told, at the first byte too many.
    let mut chunked = b"POST /v1/issue HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n\
        transfer-encoding: chunked\r\n\r\n20000\r\n"
        .to_vec();
    chunked.extend_from_slice(&body.as_bytes()[..0x2_0000]);
    let answer = raw(&ca, &chunked).await;
    assert!(
        answer.is_empty() || answer.starts_with("HTTP/1.1 413"),
        "{answer}"
    );
    ca.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lives_outside_the_limits_are_refused() {
    // A4
    let (ca, host) = ca_with_host().await;
    let ask = |seconds: Value| {
        let mut body = host.ask(&ca, &csr(), Some(A));
        body["lifetime_seconds"] = seconds;
        body
    };
    for seconds in [
        json!(-1),
        json!(0),
        json!(59),
        json!(7 * 86_400 + 1),
        json!(i64::MAX),
        json!(i64::MIN),
    ] {
        let answer = ca
            .send(Method::POST, "/v1/issue", Some(ask(seconds.clone())))
            .await;
        assert_eq!(answer.refusal(), "lifetime_out_of_range", "{seconds}");
        assert!(
            answer.json()["message"].as_str().unwrap().contains("604800"),
            "names the limits"
        );
    }
    for seconds in [json!(u64::MAX), json!(1.5), json!("12h")] {
        let answer = ca
            .send(Method::POST, "/v1/issue", Some(ask(seconds.clone())))
            .await;
        assert_eq!(answer.refusal(), "message_invalid", "{seconds}");
    }
    for seconds in [60, 3_600, 7 * 86_400] {
        let answer = ca
            .send(Method::POST, "/v1/issue", Some(ask(json!(seconds))))
            .await;
        let json = answer.json();
        let left = json["not_after"].as_i64().unwrap() - json["server_time"].as_i64().unwrap();
        assert!((seconds - 2..=seconds).contains(&left), "{seconds}: {json}");
    }
    ca.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_life_is_cut_at_the_end_of_the_signing_certificate() {
    // A4
    let settings = [
        ("SIGNING__LIFETIME", "2h"),
        ("LEAF__MAX_LIFETIME", "1h"),
        ("LEAF__DEFAULT_LIFETIME", "1h"),
    ];
    let ca = Ca::start(&settings).await;
    let host = ca.host("web-1", &[A]).await;
    let answer = issue(&ca, &host, &csr(), Some(A)).await;
    let signer = ca.instance.authorities.active_signer().unwrap();
    assert!(answer.json()["not_after"].as_i64().unwrap() <= signer.lifetime().not_after().unix());
    ca.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_holder_renews_its_own_identity_and_no_other() {
    // A1
    let ca = Ca::start(&[]).await;
    let own = ca.certificate(A).await;
    let mut connection = Connection::open(&ca, Some(&own)).await;
    let key = PrivateKey::generate(KeyAlgorithm::EcdsaP256).unwrap();
    let request = SigningRequest::build_pem(&key).unwrap();
    let answer = connection
        .send(Method::POST, "/v1/renew", Some(json!({ "csr": request })))
        .await;
    assert_eq!(answer.status, StatusCode::OK, "{:?}", answer.json());
    let next = ca.taken(&answer, key);
    assert_eq!(next.id().as_str(), A);
    assert_ne!(next.serial(), own.serial());

    let other = connection
        .send(Method::POST, "/v1/renew", Some(json!({ "csr": csr(), "id": B })))
        .await;
    assert_eq!(other.refusal(), "not_entitled");
    let body = json!({ "csr": csr(), "evidence": { "kind": "kubernetes_token", "token": "x" } });
    let both = connection.send(Method::POST, "/v1/renew", Some(body)).await;
    assert_eq!(both.refusal(), "evidence_unexpected");
    let anonymous = ca
        .send(Method::POST, "/v1/renew", Some(json!({ "csr": csr() })))
        .await;
    assert_eq!(anonymous.refusal(), "certificate_required");
    ca.stop().await;
}

// Made with: openssl req -new -newkey rsa:1024 -nodes -subj / (and the like); their keys were thrown away.

const RSA_1024: &str = "\
-----BEGIN CERTIFICATE REQUEST-----\n\
MIIBPzCBqQIBADAAMIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQCvD6RcnbH6\n\
BosXVoBx2G1Ih9FQ6DNo7u5ORiuAyR+bBCdaRQLmd5yMx6rHvI1EfQwQ+DYV5SZ8\n\
dMP9wt2nWFiBx9g+gTPmTe10h6c8qLlW+lLeZ44XSsX0qzw5QYuf5Gqcw5nVgsK1\n\
q4Rd21poD5Q/cHdgmgqHrNWxiy4H6uMo7QIDAQABoAAwDQYJKoZIhvcNAQELBQAD\n\
gYEAVFHks4VCaZdTTLKltkkItHuidMQyz6dWNpqgV3K07X0majwdNz5KdX08T23W\n\
biF+cFF+C+NbKw4dF+h2fm/ohD2fBzD4kk31tywusCDiqv5LsF/NCp0TAmurcorR\n\
z6LexMDdmo8AEkUiZGAJhipMmAadtEYYElFwh8N3uJwo7RQ=\n\
-----END CERTIFICATE REQUEST-----\n\
";

const P_192: &str = "\
-----BEGIN CERTIFICATE REQUEST-----\n\
MIGZMFICAQAwADBJMBMGByqGSM49AgEGCCqGSM49AwEBAzIABA2o6Z/kDaD3yeAR\n\
luTE37lvglrAoycaI7/ExI/qzNPibHuAocyfvdoQ8/d34ga6V6AAMAoGCCqGSM49\n\
BAMCAzcAMDQCGBZkbdF11tBTb0a5vTMU34k5nHti8pAFhwIYbTONz88UrEiHH30M\n\
4MnOKUVVZHB5RIFB\n\
-----END CERTIFICATE REQUEST-----\n\
";

const ED_448: &str = "\
-----BEGIN CERTIFICATE REQUEST-----\n\
MIHKMEwCAQAwADBDMAUGAytlcQM6AHw2mlSW1tnn+bpMOORm7lTODVgXBuecx6ii\n\
R+Fl8t7fKbO4o+Vj8BDwXhledn7yTk/Zx0T2SxbAgKAAMAUGAytlcQNzAAKMz5Cb\n\
CN8oEtTFdjWkqnj3ee2/Su8G/4nc5AkR9r1HkVmrF3i2/dYo5fI2+Sp8QFObrI/C\n\
73X1AHg4gwV3YQ88xoUix8jc94E/KcEBZgo15Ilt4RveIbTPv7CJKWN62lnP7S2J\n\
UrdeO6TOfog2uxQ7AA==\n\
-----END CERTIFICATE REQUEST-----\n\
";
