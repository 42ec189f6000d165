//! Results that are kept: used again only where the verifier would say the same.

use std::sync::Arc;

use ferrule_identity::tls::{
    Expected, Outcome, PeerVerifier, Presented, TrustCell, TrustSnapshot, peer_server_config,
};
use ferrule_identity::{
    Bundles, DenyList, Revocations, TrustBundle, Verified, VerifyError, WorkloadCertificate, verify,
};

use crate::pki::{AuthoritySpec, HOUR, Leaf, NOW, Pki, WEB, domain, id};
use crate::shake::{hostile_client, now, shake};

fn none() -> Revocations {
    Revocations::empty()
}

#[test]
fn a_kept_result_is_what_the_verifier_says() {
    let pki = Pki::new();
    let (chain, _) = pki.chain(&Leaf::new(WEB));
    let verified = Verified::new(10);
    assert!(verified.is_empty());
    let said = verify(&chain, &pki.bundles, &none(), NOW).unwrap();
    for _ in 0..2 {
        assert_eq!(verified.verify(&chain, &pki.bundles, &none(), NOW).unwrap(), said);
        assert_eq!(verified.len(), 1);
    }
}

/// Everything by which one certificate can be denied.
fn denials(pki: &Pki) -> [DenyList; 4] {
    let (chain, _) = pki.chain(&Leaf::new(WEB));
    let peer = verify(&chain, &pki.bundles, &none(), NOW).unwrap();
    let links = &peer.path().links;
    assert_eq!(links.len(), 2, "the leaf and its signer");
    let certificate = |at: usize| DenyList {
        certificates: [links[at].clone()].into(),
        ..DenyList::default()
    };
    let identity = DenyList {
        identities: [peer.id().clone()].into(),
        ..DenyList::default()
    };
    let authority = DenyList {
        authorities: [peer.issuer()].into(),
        ..DenyList::default()
    };
    [identity, certificate(0), certificate(1), authority]
}

#[test]
fn a_revocation_ends_what_was_kept() {
    let pki = Pki::new();
    let (chain, _) = pki.chain(&Leaf::new(WEB));
    for list in denials(&pki) {
        // 1, as it should be; 0 from a publisher that has lost count.
        for generation in [1, 0] {
            let verified = Verified::new(10);
            verified.verify(&chain, &pki.bundles, &none(), NOW).unwrap();
            let denied = Revocations::new(generation, list.clone(), Vec::new());
            for _ in 0..2 {
                let error = verified.verify(&chain, &pki.bundles, &denied, NOW).unwrap_err();
                assert_eq!(error.reason(), "revoked", "{list:?}");
            }
            verified
                .verify(&chain, &pki.bundles, &none(), NOW)
                .expect("the result without revocations is still good without revocations");
        }
    }
}

#[test]
fn a_kept_result_names_the_revocations_that_it_was_judged_by() {
    let pki = Pki::new();
    let (chain, _) = pki.chain(&Leaf::new(WEB));
    let verified = Verified::new(10);
    for generation in [0, 7, 7, 3] {
        let revocations = Revocations::new(generation, DenyList::default(), Vec::new());
        let peer = verified.verify(&chain, &pki.bundles, &revocations, NOW).unwrap();
        assert_eq!(peer.revocation_generation(), generation);
    }
    assert_eq!(verified.len(), 1);
}

#[test]
fn a_handshake_does_not_go_by_what_another_has_verified_before_a_revocation() {
    let pki = Pki::new();
    let (chain, key) = pki.chain(&Leaf::new(WEB));
    let (own, own_key) = pki.chain(&Leaf::new("spiffe://shop.local/ns/shop/sa/api"));
    let bundle = pki.bundles.iter().next().unwrap();
    let own = WorkloadCertificate::new(own, own_key, bundle, NOW).unwrap();
    let own = Presented::workload(&own).unwrap();
    let snapshot = |revocations| TrustSnapshot {
        bundles: pki.bundles.clone(),
        revocations,
    };
    let trust = Arc::new(TrustCell::new(snapshot(none())));
    let verified = Arc::new(Verified::new(10));
    let meet = |expected: Expected| {
        let outcome = Outcome::new();
        let verifier = PeerVerifier::new(Arc::clone(&trust), expected)
            .remembering(Arc::clone(&verified))
            .reporting_to(outcome.clone());
        let server = peer_server_config(verifier, &own, &[], now()).unwrap();
        shake(hostile_client(chain.clone(), &key), server, "shop.local");
        outcome
            .result()
            .expect("the chain was judged")
            .map(drop)
            .map_err(VerifyError::reason)
    };
    meet(Expected::Anyone).unwrap();
    assert_eq!(verified.len(), 1);
    meet(Expected::Anyone).unwrap();
    let other = meet(Expected::one(id("spiffe://shop.local/ns/shop/sa/other"))).unwrap_err();
    assert_eq!(other, "unexpected_identity");
    let [list, ..] = denials(&pki);
    trust.store(snapshot(Revocations::new(1, list, Vec::new())));
    assert_eq!(meet(Expected::Anyone).unwrap_err(), "revoked");
    trust.store(snapshot(Revocations::new(2, DenyList::default(), Vec::new())));
    meet(Expected::Anyone).unwrap();
}

// A sidecar holds one for each open connection, mostly to the same few peers.
#[test]
fn connections_of_one_chain_share_what_it_proved() {
    let pki = Pki::new();
    let (chain, _) = pki.chain(&Leaf::new(WEB));
    let verified = Verified::new(10);
    let verify = || verified.verify(&chain, &pki.bundles, &none(), NOW).unwrap();
    let (first, second) = (verify(), verify());
    assert!(std::ptr::eq(first.id(), second.id()));
    assert_eq!(size_of_val(&first), size_of::<usize>());
}

#[test]
fn another_bundle_ends_what_was_kept() {
    let (pki, other) = (Pki::new(), Pki::new());
    let (chain, _) = pki.chain(&Leaf::new(WEB));
    let verified = Verified::new(10);
    verified.verify(&chain, &pki.bundles, &none(), NOW).unwrap();
    verified.verify(&chain, &other.bundles, &none(), NOW).unwrap_err();
    verified
        .verify(&chain, &Bundles::default(), &none(), NOW)
        .unwrap_err();
}

#[test]
fn an_authority_that_left_its_bundle_is_missed_at_once() {
    let (pki, next) = (Pki::new(), Pki::new());
    let (chain, _) = pki.chain(&Leaf::new(WEB));
    let of = |sequence, roots: &[_]| {
        let bundle = TrustBundle::new(domain("shop.local"), sequence, None, roots, NOW);
        Bundles::from_iter([bundle.unwrap()])
    };
    let both = of(2, &[pki.root.der(), next.root.der()]);
    let verified = Verified::new(10);
    let peer = verified.verify(&chain, &both, &none(), NOW).unwrap();
    assert_eq!(peer.bundle_sequence(), 2);
    let renumbered = of(3, &[pki.root.der(), next.root.der()]);
    let peer = verified.verify(&chain, &renumbered, &none(), NOW).unwrap();
    assert_eq!(peer.bundle_sequence(), 3);
    // Under a new number, and under the old one as well.
    for sequence in [4, 3] {
        let without = of(sequence, &[next.root.der()]);
        verified.verify(&chain, &without, &none(), NOW).unwrap_err();
    }
}

#[test]
fn time_ends_what_was_kept() {
    let pki = Pki::new();
    let (chain, _) = pki.chain(&Leaf::new(WEB));
    let verified = Verified::new(10);
    let valid = verified
        .verify(&chain, &pki.bundles, &none(), NOW)
        .unwrap()
        .valid();
    let second = std::time::Duration::from_secs(1);
    verified
        .verify(&chain, &pki.bundles, &none(), valid.not_after())
        .unwrap();
    for outside in [valid.not_before().minus(second), valid.not_after().plus(second)] {
        verified
            .verify(&chain, &pki.bundles, &none(), outside)
            .unwrap_err();
    }
}

#[test]
fn the_end_of_an_authority_ends_what_was_kept() {
    let mut pki = Pki::new();
    let ends = NOW.plus(HOUR / 2);
    let signer = AuthoritySpec::new("Signer").life(NOW.minus(HOUR), ends);
    pki.signer = signer.below(&pki.root);
    let (chain, _) = pki.chain(&Leaf::new(WEB));
    let verified = Verified::new(10);
    let peer = verified.verify(&chain, &pki.bundles, &none(), NOW).unwrap();
    assert_eq!(
        (peer.valid().not_after(), peer.lifetime().not_after()),
        (ends, NOW.plus(HOUR))
    );
    let after = ends.plus(std::time::Duration::from_secs(1));
    let error = verified.verify(&chain, &pki.bundles, &none(), after).unwrap_err();
    assert_eq!(error.reason(), "expired");
}

#[test]
fn another_chain_is_another_matter() {
    let pki = Pki::new();
    let (chain, _) = pki.chain(&Leaf::new(WEB));
    let verified = Verified::new(10);
    verified.verify(&chain, &pki.bundles, &none(), NOW).unwrap();
    let mut changed = chain.clone();
    let mut octets = changed[0].as_ref().to_vec();
    *octets.last_mut().unwrap() ^= 1;
    changed[0] = octets.into();
    verified.verify(&changed, &pki.bundles, &none(), NOW).unwrap_err();
    verified
        .verify(&chain[..1], &pki.bundles, &none(), NOW)
        .unwrap_err();
    assert_eq!(verified.len(), 1, "refusals are not kept");
}

#[test]
fn what_is_kept_is_bounded() {
    let pki = Pki::new();
    let verified = Verified::new(4);
    for _ in 0..20 {
        let (chain, _) = pki.chain(&Leaf::new(WEB));
        verified.verify(&chain, &pki.bundles, &none(), NOW).unwrap();
        assert!(verified.len() <= 4);
    }
}
