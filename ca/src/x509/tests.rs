//! Tries what is written: names kept as they were, dates in their forms, lists that others read.

use ferrule_identity::{CertificateInfo, PrivateKey, SigningRequest, TrustBundle};
use x509_cert::der::asn1::PrintableStringRef;
use x509_cert::name::RdnSequence;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::*;
use crate::authority::signer::FileSigner;

fn signer(algorithm: KeyAlgorithm) -> FileSigner {
    FileSigner::new(PrivateKey::generate(algorithm).unwrap())
}

fn serial() -> Serial {
    Serial::from_be_bytes(&[0x80, 1, 2]).unwrap()
}

fn life(from: i64, to: i64) -> Lifetime {
    Lifetime::new(Timestamp::from_unix(from), Timestamp::from_unix(to)).unwrap()
}

fn root(signer: &FileSigner, subject: &Subject, lifetime: Lifetime) -> CertificateDer<'static> {
    let key = signer.public_key();
    let fields = Fields {
        serial: serial(),
        subject: subject.clone(),
        key,
        lifetime,
        extensions: use_extensions(Use::Authority { path_length: None }, key).unwrap(),
    };
    let key_id = key.fingerprint();
    let by = IssuedBy {
        signer,
        name: subject,
        key_id: key_id.as_bytes(),
    };
    certificate(fields, by).unwrap()
}

/// The name of an authority as directories make it: several parts of one type, of several string types.
fn directory_name() -> Vec<u8> {
    let part = |oid: &str, value: Any| {
        let oid = ObjectIdentifier::new(oid).unwrap();
        let attribute = x509_cert::attr::AttributeTypeAndValue { oid, value };
        RelativeDistinguishedName(SetOfVec::try_from([attribute]).unwrap())
    };
    let ia5 = |text| Any::encode_from(&Ia5String::new(text).unwrap()).unwrap();
    let printable = |text| Any::encode_from(&PrintableStringRef::new(text).unwrap()).unwrap();
    RdnSequence(vec![
        part("0.9.2342.19200300.100.1.25", ia5("local")),
        part("0.9.2342.19200300.100.1.25", ia5("example")),
        part("2.5.4.11", printable("One")),
        part("2.5.4.11", printable("Two")),
        part("2.5.4.3", printable("Example Root")),
    ])
    .to_der()
    .unwrap()
}

#[test]
fn an_issuers_name_is_repeated_octet_for_octet() {
    let raw = directory_name();
    let subject = Subject::from_der(&raw).unwrap();
    let der = root(
        &signer(KeyAlgorithm::EcdsaP256),
        &subject,
        life(1_800_000_000, 1_900_000_000),
    );
    let (_, read) = X509Certificate::from_der(&der).unwrap();
    assert_eq!(read.issuer().as_raw(), raw);
    assert_eq!(read.subject().as_raw(), raw);
}

#[test]
fn a_name_in_another_encoding_than_der_is_refused() {
    // A sequence whose length is written in two octets where one is enough.
    let mut raw = directory_name();
    assert!(raw[1] < 0x80);
    raw.insert(1, 0x81);
    assert!(Subject::from_der(&raw).is_err());
}

#[test]
fn dates_have_the_form_for_their_year() {
    const UTC_TIME: u8 = 0x17;
    const GENERALIZED_TIME: u8 = 0x18;
    for (seconds, tag) in [(2_524_607_999, UTC_TIME), (2_524_608_000, GENERALIZED_TIME)] {
        let encoded = time(Timestamp::from_unix(seconds)).unwrap().to_der().unwrap();
        assert_eq!(encoded[0], tag, "{seconds}");
    }
    assert!(time(Timestamp::from_unix(-1)).is_err());
    assert!(time(Timestamp::from_unix(i64::MAX)).is_err());
    let name = Subject::new("shop.local", "root").unwrap();
    let der = root(
        &signer(KeyAlgorithm::EcdsaP256),
        &name,
        life(2_524_607_999, 2_524_608_000),
    );
    let info = CertificateInfo::from_der(&der).unwrap();
    assert_eq!(info.lifetime, life(2_524_607_999, 2_524_608_000));
}

#[test]
fn every_kind_of_key_signs_what_the_bundle_takes() {
    let (now, lifetime) = (
        Timestamp::from_unix(1_800_000_001),
        life(1_800_000_000, 1_900_000_000),
    );
    for algorithm in KeyAlgorithm::MADE {
        let name = Subject::new("shop.local", "root").unwrap();
        let der = root(&signer(algorithm), &name, lifetime);
        let domain = "shop.local".parse().unwrap();
        let bundle = TrustBundle::new(domain, 1, None, std::slice::from_ref(&der), now).unwrap();
        assert_eq!(bundle.anchors().len(), 1);
        let (_, read) = X509Certificate::from_der(&der).unwrap();
        assert_eq!(read.signature_algorithm, read.tbs_certificate.signature);
        assert_eq!(read.raw_serial(), [0, 0x80, 1, 2]);
    }
}

#[test]
fn a_request_of_ours_is_one_that_we_would_read() {
    let signer = signer(KeyAlgorithm::EcdsaP384);
    let name = Subject::new("shop.local", "Ferrule signing 00").unwrap();
    let wanted = use_extensions(Use::Authority { path_length: Some(0) }, signer.public_key()).unwrap();
    let request = SigningRequest::from_der(&request(name, wanted, &signer).unwrap()).unwrap();
    assert_eq!(request.public_key(), signer.public_key());
    assert!(request.asked().authority);
    assert_eq!(request.asked().key_usages, ["keyCertSign", "cRLSign"]);
    assert_eq!(request.asked().common_names, ["Ferrule signing 00"]);
}
