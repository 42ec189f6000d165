//! What holds for any input: round trips, and no panic.

use std::sync::OnceLock;
use std::time::Duration;

use ferrule_identity::certificate::{read_chain, write_chain};
use ferrule_identity::{Bundles, CertificateInfo, Crl, Revocations, SerialNumber, TrustBundle, verify};
use proptest::prelude::*;
use rustls_pki_types::CertificateDer;

use crate::pki::{Authority, Leaf, NOW, Pki, WEB, domain};

/// A few roots, made once: making keys for each case would take most of the time.
fn roots() -> &'static [CertificateDer<'static>] {
    static ROOTS: OnceLock<Vec<CertificateDer<'static>>> = OnceLock::new();
    ROOTS.get_or_init(|| {
        (0..6)
            .map(|n| Authority::root(&format!("Root {n}")).der())
            .collect()
    })
}

/// A chain that is accepted, and the bundles that accept it.
fn good() -> &'static (Vec<CertificateDer<'static>>, Bundles) {
    static GOOD: OnceLock<(Vec<CertificateDer<'static>>, Bundles)> = OnceLock::new();
    GOOD.get_or_init(|| {
        let pki = Pki::new();
        (pki.chain(&Leaf::new(WEB)).0, pki.bundles)
    })
}

fn same(a: &TrustBundle, b: &TrustBundle) -> bool {
    a.fingerprint() == b.fingerprint() && a.anchors().len() == b.anchors().len()
}

proptest! {
    #[test]
    fn a_bundle_survives_jwks(
        count in 0_usize..6,
        sequence in any::<u64>(),
        hint in proptest::option::of(any::<u32>()),
    ) {
        let hint = hint.map(|seconds| Duration::from_secs(seconds.into()));
        let bundle = TrustBundle::new(domain("shop.local"), sequence, hint, &roots()[..count], NOW).unwrap();
        let again = TrustBundle::from_jwks(domain("shop.local"), &bundle.to_jwks(), NOW).unwrap();
        prop_assert!(same(&bundle, &again));
        prop_assert_eq!(again.sequence(), sequence);
        prop_assert_eq!(again.refresh_hint(), hint);
    }

    #[test]
    fn a_bundle_survives_pem(count in 1_usize..6) {
        let bundle = TrustBundle::new(domain("shop.local"), 0, None, &roots()[..count], NOW).unwrap();
        let again = TrustBundle::from_pem(domain("shop.local"), &bundle.to_pem(), NOW).unwrap();
        prop_assert!(same(&bundle, &again));
        let chain = read_chain(&write_chain(&roots()[..count])).unwrap();
        prop_assert_eq!(&chain[..], &roots()[..count]);
    }

    #[test]
    fn a_serial_number_survives_text(octets in proptest::collection::vec(any::<u8>(), 1..20)) {
        prop_assume!(octets.iter().any(|octet| *octet != 0));
        let serial = SerialNumber::from_magnitude(&octets).unwrap();
        prop_assert_eq!(serial.to_string().parse::<SerialNumber>().unwrap(), serial.clone());
        prop_assert_eq!(SerialNumber::from_der_content(&serial.der_content()).unwrap(), serial);
    }

    // B1, B8: bytes are refused, whatever they are.
    #[test]
    fn no_bytes_make_the_verifier_panic(
        chain in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..200), 0..4),
    ) {
        let chain: Vec<_> = chain.into_iter().map(CertificateDer::from).collect();
        prop_assert!(verify(&chain, &good().1, &Revocations::empty(), NOW).is_err());
    }

    // No bit of a certificate is without meaning: with any other bytes, the chain is no longer accepted.
    #[test]
    fn a_changed_chain_is_refused(
        which in 0_usize..2,
        at in any::<prop::sample::Index>(),
        change in 1_u8..,
        cut in any::<bool>(),
    ) {
        let (chain, bundles) = good();
        let mut chain = chain.clone();
        let mut bytes = chain[which].to_vec();
        let at = at.index(bytes.len());
        if cut { bytes.truncate(at) } else { bytes[at] ^= change }
        chain[which] = CertificateDer::from(bytes);
        let _ = CertificateInfo::from_der(&chain[which]);
        let _ = Crl::from_der(&chain[which], &chain, NOW);
        prop_assert!(verify(&chain, bundles, &Revocations::empty(), NOW).is_err());
    }

    #[test]
    fn no_text_makes_a_bundle_reader_panic(text in ".{0,400}") {
        let _ = TrustBundle::from_jwks(domain("shop.local"), &text, NOW);
        let _ = TrustBundle::from_pem(domain("shop.local"), &text, NOW);
        prop_assert!(Bundles::from_map(&text, NOW).is_err());
    }
}
