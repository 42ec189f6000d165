//! Builds requests, and reads those that ask for too much.

use std::time::{Duration, Instant};

use proptest::prelude::*;
use rcgen::{
    Attribute, BasicConstraints, CustomExtension, DnType, ExtendedKeyUsagePurpose, IsCa, KeyUsagePurpose,
    SanType,
};
use x509_parser::certification_request::X509CertificationRequest;

use super::*;

mod openssl;

const EXTENSION_REQUEST: &[u64] = &[1, 2, 840, 113_549, 1, 9, 14];

fn key() -> PrivateKey {
    PrivateKey::generate(KeyAlgorithm::EcdsaP256).unwrap()
}

fn nameless() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params
}

fn uri(text: &str) -> SanType {
    SanType::URI(text.try_into().unwrap())
}

fn dns(text: &str) -> SanType {
    SanType::DnsName(text.try_into().unwrap())
}

fn with(change: impl FnOnce(&mut CertificateParams)) -> Result<AskedNames, RequestError> {
    with_attributes(change, Vec::new())
}

fn with_attributes(
    change: impl FnOnce(&mut CertificateParams),
    attributes: Vec<Attribute>,
) -> Result<AskedNames, RequestError> {
    let mut params = nameless();
    change(&mut params);
    let request = params
        .serialize_request_with_attributes(&key(), attributes)
        .unwrap();
    SigningRequest::from_der(request.der()).map(|request| request.asked().clone())
}

/// The set of values of the extension request that asks for `name`, as it stands in a request.
fn extension_values(name: SanType) -> Vec<u8> {
    let mut params = nameless();
    params.subject_alt_names.push(name);
    let request = params.serialize_request(&key()).unwrap();
    let (_, read) = X509CertificationRequest::from_der(request.der()).unwrap();
    let attributes = read.certification_request_info.attributes();
    attributes[0].value.to_vec()
}

#[test]
fn every_kind_of_key_asks_for_nothing_but_itself() {
    for algorithm in KeyAlgorithm::MADE {
        let key = PrivateKey::generate(algorithm).unwrap();
        let request = SigningRequest::from_der(&SigningRequest::build(&key).unwrap()).unwrap();
        assert_eq!(request.public_key(), key.public_key());
        assert!(request.asked().is_empty(), "{}", request.asked());
        let request = SigningRequest::from_pem(&SigningRequest::build_pem(&key).unwrap()).unwrap();
        assert_eq!(request.public_key(), key.public_key());
        assert_eq!(request.asked().to_string(), "nothing");
    }
}

#[test]
fn everything_a_foreign_request_asks_for_is_seen() {
    // A1, A2; written by OpenSSL.
    let request = SigningRequest::from_pem(include_str!("foreign/everything.pem")).unwrap();
    assert_eq!(
        *request.asked(),
        AskedNames {
            uris: vec!["spiffe://shop.local/ns/shop/sa/web".into()],
            dns: vec!["web.shop".into()],
            ips: vec!["10.0.0.1".parse().unwrap(), "fd00::1".parse().unwrap()],
            emails: vec!["a@shop.local".into()],
            other_names: vec![
                "otherName 1.2.3.4".into(),
                "registeredID 1.2.3".into(),
                "directoryName".into()
            ],
            common_names: vec!["web.shop".into()],
            subject_fields: vec!["2.5.4.10=Shop".into()],
            authority: true,
            key_usages: vec![
                "digitalSignature".into(),
                "keyCertSign".into(),
                "decipherOnly".into()
            ],
            extended_key_usages: vec!["serverAuth".into(), "codeSigning".into(), "1.2.3.4.5".into()],
            extensions: vec!["1.2.3.4".into(), "2.5.29.30".into()],
            attributes: vec![],
        }
    );
}

#[test]
fn each_wish_alone_is_seen() {
    type Wish = fn(&mut CertificateParams);
    // A1, A2: none of these may look like a request that asks for nothing.
    let wishes: [(&str, Wish); 7] = [
        ("uri \"spiffe://a/b\"", |p| {
            p.subject_alt_names.push(uri("spiffe://a/b"))
        }),
        ("dns \"b.shop\"", |p| p.subject_alt_names.push(dns("b.shop"))),
        ("common name \"spiffe://a/b\"", |p| {
            p.distinguished_name.push(DnType::CommonName, "spiffe://a/b");
        }),
        ("authority", |p| {
            p.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        }),
        ("key usage \"keyCertSign\"", |p| {
            p.key_usages.push(KeyUsagePurpose::KeyCertSign);
        }),
        ("extended key usage \"OCSPSigning\"", |p| {
            p.extended_key_usages.push(ExtendedKeyUsagePurpose::OcspSigning);
        }),
        ("extension \"1.2.3\"", |p| {
            let extension = CustomExtension::from_oid_content(&[1, 2, 3], vec![5, 0]);
            p.custom_extensions.push(extension);
        }),
    ];
    for (seen, wish) in wishes {
        let asked = with(wish).unwrap().to_string();
        assert!(asked.contains(seen), "{asked:?} does not say {seen:?}");
    }
}

#[test]
fn names_cannot_forge_log_lines() {
    let asked = with(|p| {
        p.distinguished_name
            .push(DnType::CommonName, "web\nissued to admin\u{1b}[31m");
    })
    .unwrap();
    assert_eq!(
        asked.to_string(),
        r#"common name "web\nissued to admin\u{1b}[31m""#
    );
}

#[test]
fn another_attribute_is_seen() {
    let challenge = Attribute {
        oid: &[1, 2, 840, 113_549, 1, 9, 7],
        values: vec![0x31, 3, 0x0c, 1, b'x'],
    };
    // Microsoft's own extension request, which our reader does not look into.
    let microsoft = Attribute {
        oid: &[1, 3, 6, 1, 4, 1, 311, 2, 1, 14],
        values: extension_values(uri("spiffe://a/b")),
    };
    let asked = with_attributes(|_| {}, vec![challenge, microsoft]).unwrap();
    assert_eq!(
        asked.attributes,
        ["1.2.840.113549.1.9.7", "1.3.6.1.4.1.311.2.1.14"]
    );
}

#[test]
fn a_second_block_of_extensions_is_refused() {
    // A1: the second block is where readers that stop at the first do not look.
    let second = Attribute {
        oid: EXTENSION_REQUEST,
        values: extension_values(uri("spiffe://a/b")),
    };
    let error = with_attributes(|p| p.subject_alt_names.push(uri("spiffe://a/a")), vec![second]).unwrap_err();
    assert!(matches!(error, RequestError::Repeated { .. }), "{error}");
}

#[test]
fn a_second_value_in_one_block_is_refused() {
    // A1: the same, inside one attribute.
    let first = extension_values(uri("spiffe://a/a"));
    let second = extension_values(uri("spiffe://a/b"));
    let mut values = vec![0x31, u8::try_from(first.len() + second.len() - 4).unwrap()];
    values.extend_from_slice(&first[2..]);
    values.extend_from_slice(&second[2..]);
    let twice = Attribute {
        oid: EXTENSION_REQUEST,
        values,
    };
    let error = with_attributes(|_| {}, vec![twice]).unwrap_err();
    assert!(
        matches!(
            error,
            RequestError::Repeated { .. } | RequestError::Malformed { .. }
        ),
        "{error}"
    );
}

#[test]
fn a_second_subject_alternative_name_is_refused() {
    // A1: two extensions of one kind in one block.
    let error = with(|p| {
        p.subject_alt_names.push(uri("spiffe://a/a"));
        let names = [&[0x30, 14, 0x86, 12][..], b"spiffe://a/b"].concat();
        p.custom_extensions
            .push(CustomExtension::from_oid_content(&[2, 5, 29, 17], names));
    })
    .unwrap_err();
    assert!(matches!(error, RequestError::Repeated { .. }), "{error}");
}

#[test]
fn an_extension_that_cannot_be_read_is_refused() {
    for content in [
        // Not a sequence; an address of three bytes; a name that is not ASCII; bytes after the names.
        &[5, 0][..],
        &[0x30, 5, 0x87, 3, 10, 0, 0],
        &[0x30, 4, 0x82, 2, 0xc3, 0x28],
        &[0x30, 3, 0x82, 1, b'a', 0],
        &[],
    ] {
        let error = with(|p| {
            p.custom_extensions.push(CustomExtension::from_oid_content(
                &[2, 5, 29, 17],
                content.to_vec(),
            ));
        })
        .unwrap_err();
        assert!(
            matches!(error, RequestError::Asked { .. }),
            "{content:?}: {error}"
        );
    }
}

#[test]
fn too_many_wishes_are_refused() {
    let names = |count: usize| {
        with(|p| {
            p.subject_alt_names = (0..count).map(|i| uri(&format!("spiffe://a/{i}"))).collect();
        })
    };
    assert_eq!(names(AskedNames::MAX).unwrap().uris.len(), AskedNames::MAX);
    assert!(matches!(
        names(AskedNames::MAX + 1),
        Err(RequestError::TooMuchAsked)
    ));
    assert!(matches!(names(300), Err(RequestError::TooMuchAsked)));
}

#[test]
fn possession_is_proved() {
    // A3: every byte of the signature and of what it covers counts.
    let der = SigningRequest::build(&key()).unwrap();
    for at in 0..der.len() {
        let mut changed = der.clone();
        changed[at] ^= 1;
        assert!(SigningRequest::from_der(&changed).is_err(), "byte {at}");
    }
    let mut changed = der.clone();
    *changed.last_mut().unwrap() ^= 1;
    let error = SigningRequest::from_der(&changed).unwrap_err();
    assert!(matches!(error, RequestError::Possession { .. }), "{error}");
}

#[test]
fn nothing_may_follow_or_be_missing() {
    let der = SigningRequest::build(&key()).unwrap();
    let twice = [der.clone(), der.clone()].concat();
    let error = SigningRequest::from_der(&twice).unwrap_err();
    assert!(matches!(error, RequestError::Trailing { .. }), "{error}");
    for end in 0..der.len() {
        assert!(SigningRequest::from_der(&der[..end]).is_err(), "{end} bytes");
    }
    let text = SigningRequest::build_pem(&key()).unwrap();
    assert!(matches!(
        SigningRequest::from_pem(&format!("{text}{text}")),
        Err(RequestError::Pem(PemError::TooMany { .. }))
    ));
}

/// A request from `foreign/`: written by OpenSSL, except for the one with the exponent 1, which was bent by hand.
macro_rules! foreign {
    ($name:literal) => {
        ($name, include_str!(concat!("foreign/", $name, ".pem")))
    };
}

/// Says the whole chain of causes, as a log would.
fn chain(error: &RequestError) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

#[test]
fn bad_requests_are_refused_by_name_and_at_once() {
    // A3.
    let weak = [
        (foreign!("rsa1024"), "RSA keys of 1024 bits"),
        (foreign!("rsae1"), "exponent"),
        (foreign!("rsae3"), "exponent"),
        (foreign!("p192"), "P-192"),
        (foreign!("p521"), "P-521"),
        (foreign!("ed448"), "Ed448"),
        (foreign!("sha1"), "sha1WithRSAEncryption"),
        (foreign!("ecdsa-sha1"), "ecdsa-with-SHA1"),
        (foreign!("rsa-pss"), "RSASSA-PSS"),
    ];
    let headers = format!(
        "-----BEGIN CERTIFICATE REQUEST-----\n{}AAEC\n-----END CERTIFICATE REQUEST-----\n",
        "X-Header: yes\n".repeat(80_000)
    );
    let long = pem::write(pem::CERTIFICATE_REQUEST, &vec![0x30; 64 * 1024]);
    let long_der = pem::write(pem::CERTIFICATE_REQUEST, &vec![0x30; 32 * 1024]);
    let cases = weak
        .iter()
        .map(|((name, text), word)| (*name, *text, *word))
        .chain([
            ("headers", headers.as_str(), "more than 65536"),
            ("64 KiB", long.as_str(), "more than 65536"),
            ("32 KiB", long_der.as_str(), "more than 16384"),
        ]);
    for (name, text, word) in cases {
        let started = Instant::now();
        let error = SigningRequest::from_pem(text).unwrap_err();
        let took = started.elapsed();
        let said = chain(&error);
        assert!(said.contains(word), "{name}: {said:?} does not say {word:?}");
        // The promise is 5 ms; a loaded machine without optimisation gets ten times that.
        assert!(took < Duration::from_millis(50), "{name} took {took:?}");
    }
}

#[test]
fn other_digests_of_sha_2_are_accepted() {
    for text in [
        include_str!("foreign/rsa2048-sha512.pem"),
        include_str!("foreign/everything.pem"),
    ] {
        SigningRequest::from_pem(text).unwrap();
    }
}

#[test]
fn the_signature_goes_with_the_key() {
    // The outer algorithm says Ed25519, and the key is on P-256.
    let mut der = SigningRequest::build(&key()).unwrap();
    let ecdsa = [0x30, 10, 6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2];
    let at = der
        .windows(ecdsa.len())
        .rposition(|window| window == ecdsa)
        .unwrap();
    // The same length: an OID of three bytes, and octets as parameters to fill up.
    let ed25519 = [0x30, 10, 6, 3, 0x2b, 0x65, 0x70, 4, 3, 0, 0, 0];
    der[at..at + ed25519.len()].copy_from_slice(&ed25519);
    let error = SigningRequest::from_der(&der).unwrap_err();
    assert!(
        matches!(
            error,
            RequestError::SignatureMismatch {
                name: "Ed25519",
                key: KeyAlgorithm::EcdsaP256
            }
        ),
        "{error}"
    );
}

proptest! {
    #[test]
    fn noise_is_refused_without_a_panic(der in prop::collection::vec(any::<u8>(), 0..300)) {
        prop_assert!(SigningRequest::from_der(&der).is_err());
    }

    #[test]
    fn what_is_asked_is_what_is_read(
        uris in prop::collection::vec("spiffe://[a-z]{1,8}(/[a-zA-Z0-9._-]{1,8}){1,4}", 0..6),
        names in prop::collection::vec("[a-z]{1,10}(\\.[a-z]{1,10}){0,3}", 0..6),
        ips in prop::collection::vec(any::<std::net::IpAddr>(), 0..6),
        common in prop::option::of("\\PC{1,30}"),
        authority: bool,
    ) {
        let asked = with(|p| {
            p.subject_alt_names.extend(uris.iter().map(|name| uri(name)));
            p.subject_alt_names.extend(names.iter().map(|name| dns(name)));
            p.subject_alt_names.extend(ips.iter().map(|ip| SanType::IpAddress(*ip)));
            if let Some(name) = &common {
                p.distinguished_name.push(DnType::CommonName, name.as_str());
            }
            if authority {
                p.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            }
        }).unwrap();
        prop_assert_eq!(asked.uris, uris);
        prop_assert_eq!(asked.dns, names);
        prop_assert_eq!(asked.ips, ips);
        prop_assert_eq!(asked.common_names, common.into_iter().collect::<Vec<_>>());
        prop_assert_eq!(asked.authority, authority);
    }
}
