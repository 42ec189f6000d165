//! Paths: what may stand between a leaf and its anchor, and how much work a chain may cause.

use std::time::{Duration, Instant};

use ferrule_identity::path::MAX_NAMESAKES;
use ferrule_identity::{Bundles, Revocations, TrustBundle, VerifyError, verify};
use rcgen::{CertificateParams, GeneralSubtree, IsCa, KeyUsagePurpose, NameConstraints};
use rustls_pki_types::CertificateDer;

use crate::pki::{Authority, AuthoritySpec, HOUR, Leaf, NOW, Pki, WEB, domain, key, reasons, tlv};

type Chain = Vec<CertificateDer<'static>>;

/// A chain that must be refused, the root that is trusted, and words of the reason.
pub(crate) struct HostileChain {
    pub(crate) name: &'static str,
    pub(crate) root: CertificateDer<'static>,
    pub(crate) chain: Chain,
    pub(crate) reason: &'static str,
}

fn dns(permitted: &str) -> NameConstraints {
    NameConstraints {
        permitted_subtrees: vec![GeneralSubtree::DnsName(permitted.into())],
        excluded_subtrees: Vec::new(),
    }
}

/// A leaf below one authority that `spec` describes, below a root.
fn below(name: &'static str, spec: AuthoritySpec, leaf: &Leaf, reason: &'static str) -> HostileChain {
    let root = Authority::root("Root");
    let signer = spec.below(&root);
    HostileChain {
        name,
        root: root.der(),
        chain: vec![signer.issue(leaf).0, signer.der()],
        reason,
    }
}

/// Every chain here must be refused in both directions.
pub(crate) fn hostile_chains() -> Vec<HostileChain> {
    let spec = || AuthoritySpec::new("Signer");
    let good = Leaf::new(WEB);
    let with_dns = Leaf::but(|leaf| leaf.names.push((2, b"web.elsewhere.test".to_vec())));
    let past = (NOW.minus(3 * HOUR), NOW.minus(HOUR));
    let uri_constraint = tlv(0x30, &tlv(0xa0, &tlv(0x30, &tlv(0x86, b"shop.local"))));
    vec![
        below(
            "a DNS name outside the constraints",
            spec().constraints(dns("shop.local")),
            &with_dns,
            "lies outside the name constraints",
        ),
        below(
            "name constraints on URIs",
            spec().extension(&[2, 5, 29, 30], true, uri_constraint),
            &good,
            "name constraints on URIs, which are not supported",
        ),
        below(
            "an expired authority",
            spec().life(past.0, past.1),
            &good,
            "certificate 1 of the chain (the leaf is 0) expired",
        ),
        below(
            "an authority of tomorrow",
            spec().life(NOW.plus(HOUR), NOW.plus(3 * HOUR)),
            &good,
            "certificate 1 of the chain (the leaf is 0) is valid from",
        ),
        below(
            "an authority without keyCertSign",
            spec().change(|params| params.key_usages = vec![KeyUsagePurpose::DigitalSignature]),
            &good,
            "keyCertSign is missing",
        ),
        below(
            "an authority without key usage",
            spec().change(|params| params.key_usages.clear()),
            &good,
            "keyCertSign is missing",
        ),
        below(
            "an issuer that is no authority",
            spec().change(|params| params.is_ca = IsCa::ExplicitNoCa),
            &good,
            "one that is not an authority's",
        ),
        below(
            "an issuer without basic constraints",
            spec().change(|params| params.is_ca = IsCa::NoCa),
            &good,
            "one that is not an authority's",
        ),
        below(
            "an authority for servers only",
            spec().change(|params| {
                params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth];
            }),
            &good,
            "extended key usages that do not allow this use",
        ),
        below(
            "an authority without authority key identifier",
            spec().change(|params| params.use_authority_key_identifier_extension = false),
            &good,
            "no authority key identifier",
        ),
        below(
            "an authority with policy constraints",
            spec().extension(&[2, 5, 29, 36], false, tlv(0x30, &tlv(0x80, &[0]))),
            &good,
            "policy constraints",
        ),
        path_too_long(),
        forged(),
        unknown_root(),
        loop_of_two(),
        loop_to_itself(),
    ]
}

fn path_too_long() -> HostileChain {
    let root = Authority::root("Root");
    let first = AuthoritySpec::new("First").path_length(0).below(&root);
    let second = first.below("Second");
    HostileChain {
        name: "a path longer than allowed",
        root: root.der(),
        chain: vec![second.issue(&Leaf::new(WEB)).0, second.der(), first.der()],
        reason: "longer than an issuer in it allows",
    }
}

fn forged() -> HostileChain {
    let (root, stranger) = (Authority::root("Root"), Authority::root("Root"));
    HostileChain {
        name: "a root's name with another key",
        root: root.der(),
        chain: vec![stranger.issue(&Leaf::new(WEB)).0],
        reason: "does not match the key of the issuer",
    }
}

fn unknown_root() -> HostileChain {
    let stranger = Authority::root("Stranger");
    HostileChain {
        name: "a root that nobody trusts, sent along",
        root: Authority::root("Root").der(),
        chain: vec![stranger.issue(&Leaf::new(WEB)).0, stranger.der()],
        reason: "none of the trusted authorities",
    }
}

/// Two authorities that vouch for each other, and for nobody that we know.
fn loop_of_two() -> HostileChain {
    let (a, b) = (Authority::root("A"), Authority::root("B"));
    let again = |name: &str, by: &Authority| AuthoritySpec::new(name).below(by);
    let (a_by_b, b_by_a) = (again("A", &b), again("B", &a));
    HostileChain {
        name: "two authorities in a loop",
        root: Authority::root("Root").der(),
        chain: vec![a_by_b.issue(&Leaf::new(WEB)).0, a_by_b.der(), b_by_a.der()],
        reason: "none of the trusted authorities",
    }
}

fn loop_to_itself() -> HostileChain {
    let own = Authority::root("Own");
    let chain = vec![own.issue(&Leaf::new(WEB)).0, own.der(), own.der()];
    HostileChain {
        name: "an authority that vouches for itself",
        root: Authority::root("Root").der(),
        chain,
        reason: "none of the trusted authorities",
    }
}

// S-13, S-15; B1.
#[test]
fn every_hostile_chain_is_refused_for_its_own_reason() {
    for hostile in hostile_chains() {
        let bundles = crate::pki::bundles_of(&hostile.root);
        let error = verify(&hostile.chain, &bundles, &Revocations::empty(), NOW)
            .err()
            .unwrap_or_else(|| panic!("{} was accepted", hostile.name));
        let found = reasons(&error);
        assert!(found.contains(hostile.reason), "{}: {found}", hostile.name);
    }
}

// S-15, S-24; B10: an authority of one trust domain says nothing about another.
#[test]
fn a_foreign_authority_cannot_vouch_for_our_ids() {
    let (ours, theirs) = (Authority::root("Ours"), Authority::root("Theirs"));
    let both = Bundles::from_iter([ours.bundle("shop.local"), theirs.bundle("bank.local")]);
    let by_us = ours.issue(&Leaf::new("spiffe://bank.local/ns/bank/sa/ledger")).0;
    let by_them = theirs.issue(&Leaf::new(WEB)).0;
    for leaf in [by_us, by_them] {
        let error = verify(&[leaf], &both, &Revocations::empty(), NOW).unwrap_err();
        assert_eq!(error.reason(), "unknown_authority", "{error}");
    }
    let proper = theirs
        .issue(&Leaf::new("spiffe://bank.local/ns/bank/sa/ledger"))
        .0;
    verify(&[proper], &both, &Revocations::empty(), NOW).expect("each domain's own authority is good");
}

// S-15: a cross-signed authority gives two paths; one good one is enough, whichever comes first.
#[test]
fn the_good_path_is_found_beside_a_bad_one() {
    let old = Authority::root("Old root");
    let new = Authority::root("New root");
    let expired = AuthoritySpec::new("Signer").life(NOW.minus(3 * HOUR), NOW.minus(HOUR));
    let shared =
        || ferrule_identity::PrivateKey::from_pkcs8_der(&SHARED.with(|key| key.to_pkcs8_der())).unwrap();
    let by_old = expired.with_key(shared(), &old);
    let by_new = AuthoritySpec::new("Signer").with_key(shared(), &new);
    // Our own rules object to this one, after webpki was content with it.
    let unfit = AuthoritySpec::new("Signer")
        .change(|params: &mut CertificateParams| params.key_usages.clear())
        .with_key(shared(), &new);
    let leaf = by_new.issue(&Leaf::new(WEB)).0;
    let bundle = TrustBundle::new(domain("shop.local"), 1, None, &[old.der(), new.der()], NOW).unwrap();
    let bundles = Bundles::from_iter([bundle]);
    let chains = [
        vec![leaf.clone(), by_old.der(), by_new.der()],
        vec![leaf.clone(), by_new.der(), by_old.der()],
        vec![leaf.clone(), unfit.der(), by_new.der()],
    ];
    for chain in chains {
        verify(&chain, &bundles, &Revocations::empty(), NOW).expect("one of the paths is good");
    }
    let error = verify(&[leaf, unfit.der()], &bundles, &Revocations::empty(), NOW).unwrap_err();
    assert!(
        reasons(&error).contains("keyCertSign is missing"),
        "{}",
        reasons(&error)
    );
}

// B12: a peer that was verified under a root stays when another path leads from what it showed to one that is left.
#[test]
fn a_peer_whose_root_has_gone_is_looked_for_under_the_others() {
    let (old, new) = (Authority::root("Old root"), Authority::root("New root"));
    let shared =
        || ferrule_identity::PrivateKey::from_pkcs8_der(&SHARED.with(|key| key.to_pkcs8_der())).unwrap();
    let by_old = AuthoritySpec::new("Signer").with_key(shared(), &old);
    let by_new = AuthoritySpec::new("Signer").with_key(shared(), &new);
    let leaf = by_old.issue(&Leaf::new(WEB)).0;
    let of = |sequence, roots: &[_]| {
        let bundle = TrustBundle::new(domain("shop.local"), sequence, None, roots, NOW).unwrap();
        Bundles::from_iter([bundle])
    };
    let (both, one) = (of(1, &[old.der(), new.der()]), of(2, &[new.der()]));
    let none = Revocations::empty();
    let cross_signed = [leaf.clone(), by_old.der(), by_new.der()];
    let peer = verify(&cross_signed, &of(1, &[old.der()]), &none, NOW).unwrap();
    let again = peer.verify_again(&one, &none, NOW).expect("the other path");
    assert_eq!((again.id(), again.bundle_sequence()), (peer.id(), 2));
    assert_ne!(again.path().anchor, peer.path().anchor);
    // Its certificate has ended since, which is for others to judge.
    let later = NOW.plus(20 * HOUR);
    assert!(peer.lifetime().not_after() < later);
    peer.verify_again(&one, &none, later).unwrap();
    // Without the other path there is none.
    let plain = verify(&[leaf, by_old.der()], &both, &none, NOW).unwrap();
    let error = plain.verify_again(&one, &none, NOW).unwrap_err();
    assert_eq!(error.reason(), "unknown_authority", "{error}");
}

thread_local! {
    static SHARED: ferrule_identity::PrivateKey = key();
}

// B8: two hundred certificates are refused before one of them is looked at.
#[test]
fn a_chain_of_200_certificates_is_refused_at_once() {
    let pki = Pki::new();
    let (leaf, _) = pki.signer.issue(&Leaf::new(WEB));
    let mut chain = vec![leaf];
    let mut last = Authority::root("0");
    for n in 1..200 {
        last = last.below(&n.to_string());
        chain.push(last.der());
    }
    let start = Instant::now();
    let error = pki.refusal(&chain);
    assert!(
        start.elapsed() < Duration::from_millis(5),
        "{:?}",
        start.elapsed()
    );
    assert!(reasons(&error).contains("200 certificates, more than 10"));
    assert_eq!(error.reason(), "chain_too_large");
}

// B8: nor are more bytes than a handshake carries.
#[test]
fn a_chain_of_more_than_64_kib_is_refused_at_once() {
    let pki = Pki::new();
    let error = pki.refusal(&[CertificateDer::from(vec![0x30; 64 * 1024 + 1])]);
    assert!(reasons(&error).contains("65537 bytes, more than 65536"));
    assert!(matches!(pki.refusal(&[]), VerifyError::Chain { .. }));
}

// B8: authorities of one name, each with its own key, make every order of them a possible path.
#[test]
fn a_chain_of_namesakes_costs_little() {
    let pki = Pki::new();
    let authorities: Vec<_> = (0..9).map(|_| Authority::root("Same")).collect();
    let leaf = authorities[0].issue(&Leaf::new(WEB)).0;
    let of = |count: usize| -> Chain {
        std::iter::once(leaf.clone())
            .chain(authorities.iter().take(count).map(Authority::der))
            .collect()
    };
    assert!(reasons(&pki.refusal(&of(9))).contains("9 certificates of one subject"));
    let start = Instant::now();
    assert_eq!(pki.refusal(&of(MAX_NAMESAKES)).reason(), "unknown_authority");
    assert!(
        start.elapsed() < Duration::from_millis(250),
        "{:?}",
        start.elapsed()
    );
}

// B8: two names that vouch for each other, four keys each: the widest search that the limits allow a peer.
#[test]
fn the_widest_search_costs_little() {
    let pki = Pki::new();
    let (a, b) = (Authority::root("A"), Authority::root("B"));
    let ring: Vec<_> = (0..MAX_NAMESAKES)
        .flat_map(|_| {
            [
                AuthoritySpec::new("A").below(&b),
                AuthoritySpec::new("B").below(&a),
            ]
        })
        .collect();
    let mut chain = vec![ring[0].issue(&Leaf::new(WEB)).0];
    chain.extend(ring.iter().map(Authority::der));
    let start = Instant::now();
    assert_eq!(pki.refusal(&chain).reason(), "chain_too_large");
    assert!(
        start.elapsed() < Duration::from_millis(250),
        "{:?}",
        start.elapsed()
    );
}

// The anchor's end counts although webpki does not look at it.
#[test]
fn an_anchor_that_expired_since_it_was_read_is_not_trusted() {
    let soon = NOW.plus(HOUR);
    let root = AuthoritySpec::new("Root").life(NOW.minus(HOUR), soon).root();
    let leaf = Leaf::but(|leaf| leaf.life = (NOW.minus(HOUR), NOW.plus(5 * HOUR)));
    let chain = [root.issue(&leaf).0];
    let bundles = root.bundles();
    let peer = verify(&chain, &bundles, &Revocations::empty(), NOW).unwrap();
    assert_eq!(peer.valid().not_after(), soon);
    let error = verify(&chain, &bundles, &Revocations::empty(), soon.plus(HOUR)).unwrap_err();
    assert!(
        reasons(&error).contains("the trust anchor expired"),
        "{}",
        reasons(&error)
    );
}
