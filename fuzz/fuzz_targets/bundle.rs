//! Reads any text as a trust bundle: PEM, a SPIFFE bundle, a map of them; bends good ones.
#![no_main]

use std::sync::LazyLock;

use ferrule_fuzz::{NOW, PKI, bend};
use ferrule_identity::{Bundles, TrustBundle, TrustDomain};
use libfuzzer_sys::fuzz_target;

static JWKS: LazyLock<String> = LazyLock::new(|| PKI.bundle.to_jwks());
static MAP: LazyLock<String> =
    LazyLock::new(|| format!(r#"{{"trust_domains": {{"shop.local": {}}}}}"#, *JWKS));
static PEM: LazyLock<String> = LazyLock::new(|| PKI.bundle.to_pem());

fuzz_target!(|data: &[u8]| {
    let Some((how, rest)) = data.split_first() else {
        return;
    };
    let good = match how % 4 {
        0 => None,
        1 => Some(&*PEM),
        2 => Some(&*JWKS),
        _ => Some(&*MAP),
    };
    let bytes = good.map_or_else(|| rest.to_vec(), |good| bend(good.as_bytes(), rest));
    let Ok(text) = String::from_utf8(bytes) else {
        return;
    };
    let shop = TrustDomain::parse("shop.local").expect("a trust domain");
    if let Ok(bundle) = TrustBundle::from_pem(shop.clone(), &text, NOW) {
        check(&bundle);
        assert!(!bundle.anchors().is_empty() && bundle.sequence() == 0);
    }
    if let Ok(bundle) = TrustBundle::from_jwks(shop, &text, NOW) {
        check(&bundle);
    }
    if let Ok(bundles) = Bundles::from_map(&text, NOW) {
        for bundle in bundles.iter() {
            check(bundle);
            assert_eq!(bundle.refresh_hint(), None);
            assert!(bundles.of(bundle.trust_domain()).is_some());
        }
    }
});

/// What is written is read as the same bundle, and takes its own place.
fn check(bundle: &TrustBundle) {
    let domain = bundle.trust_domain().clone();
    let again = TrustBundle::from_jwks(domain.clone(), &bundle.to_jwks(), NOW).expect("what we write");
    assert_eq!(again.fingerprint(), bundle.fingerprint());
    assert_eq!(again.sequence(), bundle.sequence());
    assert_eq!(again.refresh_hint(), bundle.refresh_hint());
    if !bundle.anchors().is_empty() {
        let again = TrustBundle::from_pem(domain, &bundle.to_pem(), NOW).expect("what we write");
        assert_eq!(again.fingerprint(), bundle.fingerprint());
    }
    let mut bundles = Bundles::new();
    bundles.insert(bundle.clone()).expect("the first one");
    bundles.insert(again).expect("the same one");
}
