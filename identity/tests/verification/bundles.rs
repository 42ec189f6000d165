//! Bundles: as JWK sets, as PEM, in maps, and the anchors in them.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ferrule_identity::{BundleError, Bundles, Revocations, TrustBundle, verify};
use rcgen::{GeneralSubtree, IsCa, KeyUsagePurpose, NameConstraints};
use rustls_pki_types::CertificateDer;
use serde_json::{Value, json};

use crate::pki::{Authority, AuthoritySpec, HOUR, Leaf, NOW, WEB, domain, extension, fixture, reasons, tlv};

fn read(document: &Value) -> Result<TrustBundle, BundleError> {
    read_text(&document.to_string())
}

fn read_text(text: &str) -> Result<TrustBundle, BundleError> {
    TrustBundle::from_jwks(domain("shop.local"), text, NOW)
}

fn entry(root: &Authority) -> Value {
    json!({"kty": "EC", "use": "x509-svid", "x5c": [STANDARD.encode(root.der())]})
}

fn refused(text: &str, reason: &str) {
    let error = read_text(text).expect_err(text);
    let found = reasons(&error);
    assert!(found.contains(reason), "{text}: {found}");
}

// S-20: `keys` must be there; empty, it trusts nobody.
#[test]
fn a_bundle_without_keys_trusts_nobody() {
    let bundle = read_text(r#"{"keys": [], "spiffe_sequence": 9}"#).unwrap();
    assert!(bundle.anchors().is_empty());
    let root = Authority::root("Root");
    let chain = [root.issue(&Leaf::new(WEB)).0];
    let error = verify(&chain, &Bundles::from_iter([bundle]), &Revocations::empty(), NOW).unwrap_err();
    assert_eq!(error.reason(), "unknown_authority");

    refused("{}", "keys is missing or not a list");
    refused(r#"{"keys": {}}"#, "keys is missing or not a list");
    refused(r#"{"keys": null}"#, "keys is missing or not a list");
    refused("[]", "document is missing or not an object");
    refused("", "cannot read the bundle as JSON");
    refused(r#"{"keys": []} x"#, "cannot read the bundle as JSON");
    refused(r#"{"keys": [1]}"#, "entry 0 of keys is missing or not an object");
}

// S-21; B11: only the first x5c counts; entries that are not for us are passed over.
#[test]
fn entries_are_taken_as_the_standard_says() {
    let (root, other) = (Authority::root("Root"), Authority::root("Other"));
    let mut two = entry(&root);
    two["x5c"]
        .as_array_mut()
        .unwrap()
        .push(STANDARD.encode(other.der()).into());
    let document = json!({
        "keys": [
            two,
            {"kty": "EC", "use": "jwt-svid", "kid": "1", "x5c": ["nonsense"]},
            {"kty": "martian", "use": "x509-svid", "x5c": ["nonsense"]},
            {"kty": "EC", "x5c": ["nonsense"]},
            {"use": "x509-svid", "x5c": ["nonsense"]},
            {"kty": "EC", "use": "x509-svid"},
            {"kty": "EC", "use": "x509-svid", "x5c": []},
        ],
        "something_new": true,
    });
    let bundle = read(&document).unwrap();
    let anchors: Vec<_> = bundle
        .anchors()
        .iter()
        .map(|anchor| anchor.der().clone())
        .collect();
    assert_eq!(anchors, [root.der()]);
    for x5c in [json!(["not base64!"]), json!([1]), json!("text"), json!([""])] {
        let document = json!({"keys": [{"kty": "EC", "use": "x509-svid", "x5c": x5c}]});
        read(&document).expect_err("an entry for us must be readable");
    }
}

// S-22: a 64-bit sequence and a hint in whole seconds.
#[test]
fn sequence_and_hint_are_whole_numbers() {
    let root = Authority::root("Root");
    let document = json!({
        "keys": [entry(&root)],
        "spiffe_sequence": u64::MAX,
        "spiffe_refresh_hint": 300,
    });
    let bundle = read(&document).unwrap();
    assert_eq!(bundle.sequence(), u64::MAX);
    assert_eq!(bundle.refresh_hint(), Some(Duration::from_secs(300)));
    for bad in ["-1", "1.5", "\"7\"", "18446744073709551616", "null"] {
        refused(
            &format!(r#"{{"keys": [], "spiffe_sequence": {bad}}}"#),
            "spiffe_sequence is missing or not a whole number",
        );
        refused(
            &format!(r#"{{"keys": [], "spiffe_refresh_hint": {bad}}}"#),
            "spiffe_refresh_hint is missing or not a whole number",
        );
    }
}

fn numbered(root: &Authority, sequence: u64) -> TrustBundle {
    TrustBundle::new(domain("shop.local"), sequence, None, &[root.der()], NOW).unwrap()
}

// S-22; B11: a bundle never goes back, and never changes under one number.
#[test]
fn an_older_bundle_does_not_replace_a_newer_one() {
    let (old, new) = (Authority::root("Old"), Authority::root("New"));
    let mut bundles = Bundles::new();
    bundles.insert(numbered(&old, 5)).unwrap();
    bundles.insert(numbered(&new, 6)).unwrap();
    let error = bundles.insert(numbered(&old, 5)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the bundle of shop.local goes back from number 6 to 5"
    );
    bundles.insert(numbered(&old, 0)).unwrap_err();
    let error = bundles.insert(numbered(&old, 6)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the bundle of shop.local changed, but kept the number 6"
    );
    bundles
        .insert(numbered(&new, 6))
        .expect("the same bundle again changes nothing");
    let held = bundles.of(&domain("shop.local")).unwrap();
    assert_eq!(held.anchors()[0].der(), &new.der());
}

// Bundles without numbers, such as PEM files, may be replaced at will.
#[test]
fn bundles_without_number_replace_each_other() {
    let (old, new) = (Authority::root("Old"), Authority::root("New"));
    let mut bundles = Bundles::new();
    bundles.insert(numbered(&old, 0)).unwrap();
    bundles.insert(numbered(&new, 0)).unwrap();
    assert_eq!(bundles.iter().count(), 1);
    assert!(bundles.remove(&domain("shop.local")));
    assert!(!bundles.remove(&domain("shop.local")));
}

// S-24, S-26: a map keeps domains apart, refuses a key that is there twice, and is taken whole or not at all.
#[test]
fn a_map_of_bundles_is_taken_whole_or_not_at_all() {
    let (shop, bank) = (Authority::root("Shop"), Authority::root("Bank"));
    let of = |root: &Authority| json!({"keys": [entry(root)], "spiffe_refresh_hint": 7}).to_string();
    let map = |entries: &str| format!(r#"{{"trust_domains": {{{entries}}}}}"#);
    let good = map(&format!(
        r#""shop.local": {}, "bank.local": {}"#,
        of(&shop),
        of(&bank)
    ));
    let bundles = Bundles::from_map(&good, NOW).unwrap();
    let held = bundles.of(&domain("bank.local")).unwrap();
    assert_eq!(held.anchors().len(), 1);
    assert_eq!(held.anchors()[0].der(), &bank.der());
    assert_eq!(held.refresh_hint(), None, "the map is refreshed as one");

    let bad = [
        (
            map(&format!(
                r#""shop.local": {}, "shop.local": {}"#,
                of(&shop),
                of(&bank)
            )),
            r#"the key "shop.local" is there twice"#,
        ),
        (
            map(&format!(r#""shop.local": {}, "Bank": {}"#, of(&shop), of(&bank))),
            r#""Bank" in the bundle map is no trust domain"#,
        ),
        (
            map(&format!(r#""shop.local": {}, "bank.local": {{}}"#, of(&shop))),
            "the bundle of bank.local is refused: the bundle's keys is missing",
        ),
        (
            r#"{"trust_domains": []}"#.to_owned(),
            "trust_domains is missing or not an object",
        ),
        ("{}".to_owned(), "trust_domains is missing or not an object"),
    ];
    for (text, reason) in bad {
        let found = reasons(&Bundles::from_map(&text, NOW).unwrap_err());
        assert!(found.contains(reason), "{found}");
    }
}

// B11: readers differ in which of two equal keys they believe.
#[test]
fn a_key_that_is_there_twice_refuses_the_bundle() {
    refused(r#"{"keys": [], "keys": []}"#, r#"the key "keys" is there twice"#);
    refused(
        r#"{"keys": [], "x": {"y": 1, "y": 2}}"#,
        r#"the key "y" is there twice"#,
    );
    refused(&"[".repeat(100_000), "cannot read the bundle as JSON");
    refused(&" ".repeat(1024 * 1024 + 1), "1048577 bytes, more than 1048576");
}

#[test]
fn pem_may_be_indented_and_come_from_windows() {
    let (one, two) = (Authority::root("One"), Authority::root("Two"));
    let from = |text: &str| TrustBundle::from_pem(domain("shop.local"), text, NOW);
    let plain = format!("{}\n\n{}", one.0.pem(), two.0.pem());
    let expected = from(&plain).unwrap();
    assert_eq!(expected.anchors().len(), 2);
    let indented: String = plain.lines().map(|line| format!("    {line}\n")).collect();
    for text in [plain.replace('\n', "\r\n"), indented, format!("{plain}\n \t\n")] {
        assert_eq!(from(&text).unwrap().fingerprint(), expected.fingerprint());
    }
    let bad = [
        (format!("{plain}\njunk"), "line"),
        (plain.replacen("END", "EN", 1), "line"),
        (String::new(), "cannot read the bundle as PEM"),
        (plain.replace("CERTIFICATE", "PRIVATE KEY"), "line 1"),
    ];
    for (text, reason) in bad {
        let found = reasons(&from(&text).unwrap_err());
        assert!(found.contains(reason), "{found}");
    }
}

#[test]
fn one_certificate_twice_is_one_anchor() {
    let root = Authority::root("Root");
    let bundle = TrustBundle::new(domain("shop.local"), 1, None, &[root.der(), root.der()], NOW).unwrap();
    assert_eq!(bundle.anchors().len(), 1);
}

fn import(certificates: &[CertificateDer<'_>]) -> Result<TrustBundle, BundleError> {
    TrustBundle::new(domain("shop.local"), 1, None, certificates, NOW)
}

// S-13: what webpki takes on faith is checked at import, and the error says which certificate it was.
#[test]
fn unfit_anchors_are_refused_by_place_name_and_reason() {
    let good = Authority::root("Good");
    let spec = || AuthoritySpec::new("Bad");
    let uris = NameConstraints {
        permitted_subtrees: vec![GeneralSubtree::Rfc822Name("shop.local".into())],
        excluded_subtrees: Vec::new(),
    };
    let uri_constraint = tlv(0x30, &tlv(0xa0, &tlv(0x30, &tlv(0x86, b"shop.local"))));
    let leaf = good.issue(&Leaf::new(WEB)).0;
    let bad = [
        (
            spec().change(|it| it.is_ca = IsCa::NoCa).root().der(),
            "not an authority's",
        ),
        (
            spec().change(|it| it.is_ca = IsCa::ExplicitNoCa).root().der(),
            "not an authority's",
        ),
        (
            spec()
                .change(|it| it.key_usages = vec![KeyUsagePurpose::CrlSign])
                .root()
                .der(),
            "keyCertSign is missing",
        ),
        (
            spec()
                .change(|it| it.custom_extensions = vec![extension(&[1, 2, 3], true, tlv(5, &[]))])
                .root()
                .der(),
            "critical extension 1.2.3",
        ),
        (
            spec()
                .extension(&[2, 5, 29, 30], true, uri_constraint)
                .root()
                .der(),
            "every SPIFFE ID below it would be refused",
        ),
        (
            spec()
                .change(|it| it.distinguished_name = rcgen::DistinguishedName::new())
                .root()
                .der(),
            "its issuer has no name",
        ),
        (
            spec()
                .extension(&[2, 5, 29, 17], false, tlv(0x30, &tlv(0x86, WEB.as_bytes())))
                .root()
                .der(),
            "names the workload spiffe://shop.local/ns/shop/sa/web",
        ),
        (leaf, "not an authority's"),
        (fixture("root-rsa-1024"), "RSA keys of 1024 bits"),
        (
            CertificateDer::from(vec![1, 2, 3]),
            "(unreadable) cannot be a trust anchor",
        ),
    ];
    for (certificate, reason) in bad {
        let found = reasons(&import(&[good.der(), certificate]).unwrap_err());
        assert!(found.starts_with("certificate 1 of the bundle ("), "{found}");
        assert!(found.contains(reason), "{reason}: {found}");
    }
    let own_name = tlv(0x30, &tlv(0x86, b"spiffe://shop.local"));
    import(&[spec().extension(&[2, 5, 29, 17], false, own_name).root().der()])
        .expect("an authority may be named after its trust domain");
    import(&[spec().constraints(uris).root().der()]).expect("other constraints are evaluated, or refuse");
}

#[test]
fn expired_anchors_are_left_out_and_told() {
    let good = Authority::root("Good");
    let gone = AuthoritySpec::new("Gone")
        .life(NOW.minus(2 * HOUR), NOW.minus(HOUR))
        .root();
    let next = AuthoritySpec::new("Next")
        .life(NOW.plus(HOUR), NOW.plus(2 * HOUR))
        .root();
    let bundle = import(&[gone.der(), good.der(), next.der()]).unwrap();
    assert_eq!(bundle.anchors().len(), 2, "one for now, and one published ahead");
    assert_eq!(bundle.expired()[0].subject(), "CN=Gone");
    let found = reasons(&import(&[gone.der()]).unwrap_err());
    assert!(
        found.contains("every certificate of the bundle has expired, the last (CN=Gone)"),
        "{found}"
    );

    // S-15: the one published ahead vouches for nobody yet.
    let chain = [next.issue(&Leaf::new(WEB)).0];
    let error = verify(&chain, &Bundles::from_iter([bundle]), &Revocations::empty(), NOW).unwrap_err();
    assert!(
        reasons(&error).contains("the trust anchor is valid from"),
        "{}",
        reasons(&error)
    );
}

#[test]
fn a_bundle_of_many_certificates_is_refused() {
    let root = Authority::root("Root").der();
    let error = import(&vec![root; 257]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the bundle has 257 certificates, more than 256"
    );
}

// S-21: what we publish has what the standard asks for, and the key members that readers of JWK demand.
#[test]
fn a_published_bundle_has_the_members_of_the_standard() {
    let root = Authority::root("Root");
    let bundle = TrustBundle::new(
        domain("shop.local"),
        3,
        Some(Duration::from_secs(60)),
        &[root.der()],
        NOW,
    )
    .unwrap();
    let document: Value = serde_json::from_str(&bundle.to_jwks()).unwrap();
    let key = &document["keys"][0];
    assert_eq!(key["kty"], "EC");
    assert_eq!(key["crv"], "P-256");
    assert_eq!(key["use"], "x509-svid");
    assert!(key.get("kid").is_none());
    assert_eq!(key["x5c"].as_array().unwrap().len(), 1);
    assert_eq!(key["x"].as_str().unwrap().len(), 43);
    assert_eq!(key["y"].as_str().unwrap().len(), 43);
    assert_eq!(document["spiffe_sequence"], 3);
    assert_eq!(document["spiffe_refresh_hint"], 60);
}
