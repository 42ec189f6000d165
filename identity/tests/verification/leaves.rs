//! The leaf rules: what is refused, and what is not.

use ferrule_identity::leaf::check_leaf;
use ferrule_identity::{Revocations, VerifyError, verify};
use rustls_pki_types::CertificateDer;

use crate::pki::{
    CLIENT_AUTH, CRL_SIGN, DIGITAL_SIGNATURE, HOUR, KEY_CERT_SIGN, KEY_ENCIPHERMENT, Leaf, NOW, Pki,
    SERVER_AUTH, WEB, extension, fixture, reasons, tlv,
};

/// A leaf that must be refused, and words of the reason.
pub(crate) struct Hostile {
    pub(crate) name: &'static str,
    pub(crate) leaf: Leaf,
    pub(crate) reason: &'static str,
}

fn uri(text: &str) -> (u8, Vec<u8>) {
    (6, text.as_bytes().to_vec())
}

fn named(text: &str) -> Leaf {
    Leaf::but(|leaf| leaf.names = vec![uri(text)])
}

/// Every leaf here must be refused in both directions.
pub(crate) fn hostile_leaves() -> Vec<Hostile> {
    let mut all = hostile_names();
    all.extend(hostile_usages());
    all.extend(hostile_forms());
    all
}

// S-10, S-1, S-2, S-3, S-4: exactly one URI name, and that a SPIFFE ID with a path.
fn hostile_names() -> Vec<Hostile> {
    let hostile = |name, leaf, reason| Hostile { name, leaf, reason };
    let long = format!("spiffe://shop.local/{}", "a".repeat(2049 - 20));
    assert_eq!(long.len(), 2049);
    vec![
        hostile(
            "two URI names",
            Leaf::but(|leaf| leaf.names.push(uri("spiffe://shop.local/ns/shop/sa/admin"))),
            "2 URI names",
        ),
        hostile(
            "the same URI name twice",
            Leaf::but(|leaf| leaf.names.push(uri(WEB))),
            "2 URI names",
        ),
        hostile(
            "a second URI name that is no text",
            Leaf::but(|leaf| leaf.names.push((6, vec![0xff, 0xfe]))),
            "2 URI names",
        ),
        hostile(
            "300 URI names",
            Leaf::but(|leaf| leaf.names = (0..300).map(|n| uri(&format!("{WEB}{n}"))).collect()),
            "300 URI names",
        ),
        hostile("no names", Leaf::but(|leaf| leaf.names.clear()), "no URI name"),
        hostile(
            "empty names",
            Leaf::but(|leaf| {
                leaf.names.clear();
                leaf.subject = Some("web".into());
                leaf.more.push(extension(&[2, 5, 29, 17], true, tlv(0x30, &[])));
            }),
            "no URI name",
        ),
        hostile(
            "a DNS name that looks like an ID",
            Leaf::but(|leaf| leaf.names = vec![(2, WEB.as_bytes().to_vec())]),
            "no URI name",
        ),
        hostile("no path", named("spiffe://shop.local"), "no path"),
        hostile("root path", named("spiffe://shop.local/"), "no path"),
        hostile(
            "upper case domain",
            named("spiffe://SHOP.local/web"),
            "'S' at byte",
        ),
        hostile(
            "upper case scheme",
            named("SPIFFE://shop.local/web"),
            "does not begin",
        ),
        hostile(
            "another scheme",
            named("https://shop.local/web"),
            "does not begin",
        ),
        hostile(
            "percent-encoding",
            named("spiffe://shop.local/%6es/web"),
            "'%' at byte",
        ),
        hostile("a NUL", named("spiffe://shop.local/web\0.evil"), "'\\0' at byte"),
        hostile("2,049 bytes", named(&long), "2049 bytes"),
        hostile("user info", named("spiffe://me@shop.local/web"), "'@' at byte"),
        hostile("a port", named("spiffe://shop.local:443/web"), "':' at byte"),
        hostile("an IPv6 host", named("spiffe://[::1]/web"), "'[' at byte"),
        hostile("a query", named("spiffe://shop.local/web?x"), "'?' at byte"),
        hostile("a fragment", named("spiffe://shop.local/web#x"), "'#' at byte"),
        hostile("two slashes", named("spiffe://shop.local//web"), "empty segment"),
        hostile(
            "a trailing slash",
            named("spiffe://shop.local/web/"),
            "empty segment",
        ),
        hostile("a dot", named("spiffe://shop.local/./web"), "relative segment"),
        hostile(
            "two dots",
            named("spiffe://shop.local/../web"),
            "relative segment",
        ),
        hostile(
            "a trust domain without bundle",
            named("spiffe://other.local/ns/shop/sa/web"),
            "no bundle for the peer's trust domain other.local",
        ),
    ]
}

// S-11, S-12, S-14: usages of a leaf, and never those of an authority.
fn hostile_usages() -> Vec<Hostile> {
    let hostile = |name, leaf, reason| Hostile { name, leaf, reason };
    let usage = |critical, bits| Leaf::but(|leaf| leaf.key_usage = Some((critical, bits)));
    let purposes = |ids: &[&'static [u8]]| Leaf::but(|leaf| leaf.purposes = Some(ids.to_vec()));
    vec![
        hostile("cA", Leaf::but(|leaf| leaf.is_ca = true), "cA is true"),
        hostile(
            "keyCertSign",
            usage(true, DIGITAL_SIGNATURE | KEY_CERT_SIGN),
            "may sign certificates",
        ),
        hostile(
            "cRLSign",
            usage(true, DIGITAL_SIGNATURE | CRL_SIGN),
            "may sign certificates or revocation lists",
        ),
        hostile(
            "no key usage",
            Leaf::but(|leaf| leaf.key_usage = None),
            "no key usage",
        ),
        hostile(
            "key usage not critical",
            usage(false, DIGITAL_SIGNATURE),
            "not critical",
        ),
        hostile(
            "no digitalSignature",
            usage(true, KEY_ENCIPHERMENT),
            "lacks digitalSignature",
        ),
        hostile(
            "serverAuth alone",
            purposes(&[SERVER_AUTH]),
            "clientAuth (there: false)",
        ),
        hostile(
            "clientAuth alone",
            purposes(&[CLIENT_AUTH]),
            "serverAuth (there: false)",
        ),
        hostile(
            "code signing alone",
            purposes(&[&[0x2b, 6, 1, 5, 5, 7, 3, 3]]),
            "serverAuth (there: false)",
        ),
        hostile(
            "any purpose alone",
            purposes(&[&[0x55, 0x1d, 0x25, 0]]),
            "serverAuth (there: false)",
        ),
        hostile(
            "a serving certificate",
            Leaf::serving("ca.shop.local"),
            "clientAuth (there: false)",
        ),
    ]
}

// S-15: RFC 5280 for the leaf.
fn hostile_forms() -> Vec<Hostile> {
    let hostile = |name, leaf, reason| Hostile { name, leaf, reason };
    vec![
        hostile(
            "empty subject, names not critical",
            Leaf::but(|leaf| leaf.names_critical = false),
            "alternative names are not critical",
        ),
        hostile(
            "expired",
            Leaf::but(|leaf| leaf.life = (NOW.minus(2 * HOUR), NOW.minus(HOUR))),
            "expired at 2027-12-28T12:20:00Z, and it is 2027-12-28T13:20:00Z",
        ),
        hostile(
            "not yet valid",
            Leaf::but(|leaf| leaf.life = (NOW.plus(HOUR), NOW.plus(2 * HOUR))),
            "valid from 2027-12-28T14:20:00Z on, and it is only 2027-12-28T13:20:00Z",
        ),
        hostile(
            "an unknown critical extension",
            Leaf::but(|leaf| {
                leaf.more
                    .push(extension(&[1, 3, 6, 1, 4, 1, 99], true, tlv(5, &[])))
            }),
            "critical extension 1.3.6.1.4.1.99",
        ),
        hostile(
            "an extension twice",
            Leaf::but(|leaf| {
                leaf.more
                    .push(extension(&[2, 5, 29, 15], true, tlv(3, &[7, 0x80])))
            }),
            "2.5.29.15 twice",
        ),
        hostile(
            "bytes after an extension's value",
            Leaf::but(|leaf| {
                let padded = [tlv(3, &[7, 0x80]), vec![0, 0]].concat();
                leaf.key_usage = None;
                leaf.more.push(extension(&[2, 5, 29, 15], true, padded));
            }),
            "2.5.29.15 is malformed",
        ),
        hostile(
            "name constraints",
            Leaf::but(|leaf| {
                let subtree = tlv(0x30, &tlv(0x82, b"shop.local"));
                let constraints = tlv(0x30, &tlv(0xa0, &subtree));
                leaf.more.push(extension(&[2, 5, 29, 30], true, constraints));
            }),
            "only an authority may have",
        ),
        hostile(
            "serial number zero",
            Leaf::but(|leaf| leaf.serial = vec![0]),
            "not positive",
        ),
        hostile(
            "serial number of 21 octets",
            Leaf::but(|leaf| leaf.serial = vec![0x11; 21]),
            "21 octets",
        ),
        hostile(
            "no authority key identifier",
            Leaf::but(|leaf| leaf.authority_key_id = false),
            "no authority key identifier",
        ),
        hostile(
            "a DNS name with a NUL",
            Leaf::but(|leaf| leaf.names.push((2, b"web.shop.local\0.evil".to_vec()))),
            "does not have the form of its type",
        ),
        hostile(
            "an IP address of three octets",
            Leaf::but(|leaf| leaf.names.push((7, vec![10, 0, 0]))),
            "does not have the form of its type",
        ),
    ]
}

/// What OpenSSL made for us, and words of the reason.
pub(crate) const HOSTILE_FIXTURES: [(&str, &str); 7] = [
    ("sha1", "SHA-1"),
    ("rsa-1024", "RSA keys of 1024 bits"),
    ("curve-prime192v1", "the curve P-192"),
    ("curve-secp224r1", "the curve P-224"),
    ("curve-secp256k1", "the curve secp256k1"),
    ("curve-P-521", "the curve P-521"),
    ("ed448", "algorithm Ed448"),
];

// S-10, S-11, S-12, S-14, S-15; B1.
#[test]
fn every_hostile_leaf_is_refused_for_its_own_reason() {
    let pki = Pki::new();
    for Hostile { name, leaf, reason } in hostile_leaves() {
        let (chain, _) = pki.chain(&leaf);
        let found = reasons(&pki.refusal(&chain));
        assert!(found.contains(reason), "{name}: {found}");
    }
}

// S-15, T-3: no SHA-1, no weak key.
#[test]
fn weak_keys_and_signatures_are_refused_by_name() {
    let root = fixture("root");
    let bundles = crate::pki::bundles_of(&root);
    verify(&[fixture("good")], &bundles, &Revocations::empty(), NOW).expect("the good fixture is good");
    for (name, reason) in HOSTILE_FIXTURES {
        let error = verify(&[fixture(name)], &bundles, &Revocations::empty(), NOW).unwrap_err();
        let found = reasons(&error);
        assert!(found.contains(reason), "{name}: {found}");
    }
}

// S-10: other names may stand beside the one URI. S-12: extended key usage may be missing. S-11: names need not
// be critical when there is a subject.
#[test]
fn leaves_with_less_or_more_than_usual_are_accepted() {
    let pki = Pki::new();
    let unusual = [
        Leaf::but(|leaf| leaf.purposes = None),
        Leaf::but(|leaf| leaf.names.push((2, b"web.shop.svc".to_vec()))),
        Leaf::but(|leaf| leaf.names.push((7, vec![10, 0, 0, 1]))),
        Leaf::but(|leaf| {
            leaf.subject = Some("web".into());
            leaf.names_critical = false;
        }),
        Leaf::but(|leaf| leaf.key_usage = Some((true, DIGITAL_SIGNATURE | KEY_ENCIPHERMENT))),
        Leaf::but(|leaf| {
            leaf.more
                .push(extension(&[1, 3, 6, 1, 4, 1, 99], false, tlv(5, &[])))
        }),
    ];
    for leaf in unusual {
        let (chain, _) = pki.chain(&leaf);
        let peer = verify(&chain, &pki.bundles, &Revocations::empty(), NOW).unwrap();
        assert_eq!(peer.id().as_str(), WEB);
    }
}

// S-4: an ID of 2,048 bytes is accepted.
#[test]
fn the_longest_id_is_accepted() {
    let pki = Pki::new();
    let long = format!("spiffe://shop.local/{}", "a".repeat(2048 - 20));
    let (chain, _) = pki.chain(&named(&long));
    let peer = verify(&chain, &pki.bundles, &Revocations::empty(), NOW).unwrap();
    assert_eq!(peer.id().as_str(), long);
}

// S-14: an authority's certificate is no credential, although it chains to the anchor.
#[test]
fn an_authority_is_no_peer() {
    let pki = Pki::new();
    assert!(matches!(
        pki.refusal(&[pki.signer.der()]),
        VerifyError::Leaf { .. }
    ));
    assert!(matches!(pki.refusal(&[pki.root.der()]), VerifyError::Leaf { .. }));
}

// S-11: a certificate is judged to its last byte.
#[test]
fn bytes_after_a_certificate_are_refused() {
    let pki = Pki::new();
    let (chain, _) = pki.chain(&Leaf::new(WEB));
    let mut longer = chain[0].to_vec();
    longer.push(0);
    let error = check_leaf(&CertificateDer::from(longer)).unwrap_err();
    assert_eq!(
        reasons(&error),
        "the leaf certificate cannot be read: 1 bytes follow it"
    );
}

#[test]
fn a_peer_identity_tells_what_was_verified() {
    let pki = Pki::new();
    let (chain, key) = pki.chain(&Leaf::new(WEB));
    let peer = verify(&chain, &pki.bundles, &Revocations::empty(), NOW).unwrap();
    assert_eq!(peer.serial().to_string(), "11".repeat(16));
    assert_eq!(peer.key_fingerprint(), key.public_key().fingerprint());
    assert_eq!(peer.lifetime().not_after(), NOW.plus(HOUR));
    assert_eq!(peer.valid(), peer.lifetime());
    assert_eq!(peer.path().links.len(), 2);
    assert_eq!(peer.bundle_sequence(), 1);
    let bundle = pki.bundles.of(&peer.id().trust_domain()).unwrap();
    assert_eq!(peer.path().anchor, bundle.anchors()[0].fingerprint());
    assert_eq!(peer.path().links[1].issuer, bundle.anchors()[0].key_fingerprint());
}
