//! Reads any bytes as a certificate request, and bends a good one.
#![no_main]

use std::sync::LazyLock;

use ferrule_fuzz::{bend, ed25519};
use ferrule_identity::{AskedNames, SigningRequest};
use libfuzzer_sys::fuzz_target;
use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, KeyUsagePurpose, SanType};

/// A request that asks for something of every kind that the builder can write.
static GOOD: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::OrganizationName, "Shop");
    params.subject_alt_names = vec![
        SanType::URI("spiffe://shop.local/ns/shop/sa/web".try_into().expect("ASCII")),
        SanType::DnsName("web.shop".try_into().expect("ASCII")),
        SanType::Rfc822Name("web@shop.local".try_into().expect("ASCII")),
        SanType::IpAddress([10, 0, 0, 1].into()),
        SanType::OtherName((vec![1, 2, 3, 4], rcgen::OtherNameValue::Utf8String("x".into()))),
    ];
    params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Constrained(1));
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyCertSign];
    params.extended_key_usages = vec![
        ExtendedKeyUsagePurpose::ServerAuth,
        ExtendedKeyUsagePurpose::Other(vec![1, 2, 3, 4, 5]),
    ];
    let request = params.serialize_request(&ed25519(1)).expect("a request");
    request.der().to_vec()
});

fuzz_target!(|data: &[u8]| {
    let Some((how, rest)) = data.split_first() else {
        return;
    };
    let request = match how % 3 {
        0 => SigningRequest::from_der(rest),
        1 => SigningRequest::from_der(&bend(&GOOD, rest)),
        _ => match std::str::from_utf8(rest) {
            Ok(text) => SigningRequest::from_pem(text),
            Err(_) => return,
        },
    };
    match request {
        Ok(request) => {
            let asked: &AskedNames = request.asked();
            assert!(asked.uris.len() + asked.dns.len() <= AskedNames::MAX);
            assert!(!asked.to_string().contains('\n'));
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
});
