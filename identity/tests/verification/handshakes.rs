//! The same rules in both directions of real handshakes, and what the settings switch off.

use std::sync::Arc;

use ferrule_identity::tls::{
    Expected, Outcome, PeerVerifier, Presented, TrustCell, TrustSnapshot, peer_client_config,
    peer_server_config, refusal,
};
use ferrule_identity::{DenyList, PrivateKey, Revocations, WorkloadCertificate};
use rustls::{AlertDescription, CertificateError, NamedGroup, ProtocolVersion};
use rustls_pki_types::CertificateDer;

use crate::chains::{HostileChain, hostile_chains};
use crate::leaves::{HOSTILE_FIXTURES, Hostile, hostile_leaves};
use crate::pki::{HOUR, Leaf, NOW, Pki, WEB, bundles_of, fixture, id, key, reasons};
use crate::shake::{Shaken, hostile_client, hostile_server, now, shake};

const API: &str = "spiffe://shop.local/ns/shop/sa/api";

fn cell(pki: &Pki) -> Arc<TrustCell> {
    Arc::new(TrustCell::new(TrustSnapshot {
        bundles: pki.bundles.clone(),
        revocations: Revocations::empty(),
    }))
}

fn presented(pki: &Pki, name: &str) -> Presented {
    let (chain, key) = pki.chain(&Leaf::new(name));
    let bundle = pki.bundles.iter().next().unwrap();
    Presented::workload(&WorkloadCertificate::new(chain, key, bundle, NOW).unwrap()).unwrap()
}

/// An honest end that trusts `trusted`, as server to a client that shows `chain`, and as client to such a server.
/// Both must refuse for `reason`, and both attackers must see an alert.
fn refuse_both_ways(
    name: &str,
    trusted: &CertificateDer<'_>,
    chain: &[CertificateDer<'static>],
    key: &PrivateKey,
    reason: &str,
) {
    let honest = Pki::new();
    let own = presented(&honest, API);
    let trust = Arc::new(TrustCell::new(TrustSnapshot {
        bundles: bundles_of(trusted),
        revocations: Revocations::empty(),
    }));
    let verifier = |outcome: &Outcome| {
        PeerVerifier::new(Arc::clone(&trust), Expected::Anyone).reporting_to(outcome.clone())
    };

    let outcome = Outcome::new();
    let server = peer_server_config(verifier(&outcome), &own, &[], now()).unwrap();
    let shaken = shake(hostile_client(chain.to_vec(), key), server, "shop.local");
    check_refusal(name, &outcome, reason, shaken.server.as_ref());
    assert!(
        matches!(shaken.client, Err(rustls::Error::AlertReceived(_))),
        "{name}: the client saw {:?}",
        shaken.client
    );

    let outcome = Outcome::new();
    let client = peer_client_config(verifier(&outcome), &own, &[], now()).unwrap();
    let shaken = shake(client, hostile_server(chain.to_vec(), key), "shop.local");
    check_refusal(name, &outcome, reason, shaken.client.as_ref());
    assert!(
        matches!(shaken.server, Err(rustls::Error::AlertReceived(_))),
        "{name}: the server saw {:?}",
        shaken.server
    );
}

fn check_refusal(name: &str, outcome: &Outcome, reason: &str, seen: Result<&(), &rustls::Error>) {
    let error = outcome.result().expect("the chain was judged").expect_err(name);
    let found = reasons(error);
    assert!(found.contains(reason), "{name}: {found}");
    let seen = seen.expect_err(name);
    assert!(
        matches!(seen, rustls::Error::InvalidCertificate(_)),
        "{name}: {seen}"
    );
    if let rustls::Error::InvalidCertificate(CertificateError::Other(_)) = seen {
        let carried = refusal(seen).expect("the reason lies in rustls' error");
        assert_eq!(reasons(carried), found, "{name}");
    }
}

// S-10, S-11, S-12, S-14, S-15 in both directions; B1.
#[test]
fn hostile_leaves_are_refused_in_both_directions() {
    let pki = Pki::new();
    for Hostile { name, leaf, reason } in hostile_leaves() {
        let (chain, key) = pki.chain(&leaf);
        refuse_both_ways(name, &pki.root.der(), &chain, &key, reason);
    }
}

// S-15 in both directions: SHA-1, RSA of 1,024 bits, wrong curves.
#[test]
fn weak_certificates_are_refused_in_both_directions() {
    let root = fixture("root");
    for (name, reason) in HOSTILE_FIXTURES {
        // The key is not the certificate's; the certificate is refused before anyone asks.
        refuse_both_ways(name, &root, &[fixture(name)], &key(), reason);
    }
}

// S-13, S-15 in both directions: path lengths, name constraints, loops, strangers.
#[test]
fn hostile_chains_are_refused_in_both_directions() {
    for HostileChain {
        name,
        root,
        chain,
        reason,
    } in hostile_chains()
    {
        refuse_both_ways(name, &root, &chain, &key(), reason);
    }
}

// B8 in both directions.
#[test]
fn a_long_chain_is_refused_in_both_directions() {
    let pki = Pki::new();
    let (mut chain, key) = pki.chain(&Leaf::new(WEB));
    chain.extend(std::iter::repeat_n(pki.signer.der(), 98));
    refuse_both_ways(
        "100 certificates",
        &pki.root.der(),
        &chain,
        &key,
        "100 certificates, more than 10",
    );
}

/// Two honest ends that trust one another.
fn honest(
    pki: &Pki,
    expected: Expected,
    client_alpn: &[&[u8]],
    server_alpn: &[&[u8]],
) -> (Shaken, Outcome, Outcome) {
    let trust = cell(pki);
    let (at_client, at_server) = (Outcome::new(), Outcome::new());
    let client = peer_client_config(
        PeerVerifier::new(Arc::clone(&trust), expected).reporting_to(at_client.clone()),
        &presented(pki, WEB),
        client_alpn,
        now(),
    )
    .unwrap();
    let server = peer_server_config(
        PeerVerifier::new(trust, Expected::Anyone).reporting_to(at_server.clone()),
        &presented(pki, API),
        server_alpn,
        now(),
    )
    .unwrap();
    (shake(client, server, "shop.local"), at_client, at_server)
}

// T-1, T-4, T-5, C-3.
#[test]
fn honest_ends_agree_on_the_best_and_leave_nothing_to_resume() {
    let pki = Pki::new();
    let (shaken, at_client, at_server) = honest(&pki, Expected::one(id(API)), &[], &[]);
    shaken.client.unwrap();
    shaken.server.unwrap();
    assert_eq!(at_client.result().unwrap().unwrap().id(), &id(API));
    assert_eq!(at_server.result().unwrap().unwrap().id(), &id(WEB));
    assert_eq!(
        shaken.client_end.protocol_version(),
        Some(ProtocolVersion::TLSv1_3)
    );
    let group = shaken.server_end.negotiated_key_exchange_group().unwrap().name();
    assert_eq!(group, NamedGroup::X25519MLKEM768);
    let suite = shaken.server_end.negotiated_cipher_suite().unwrap().suite();
    assert_eq!(suite, rustls::CipherSuite::TLS13_AES_256_GCM_SHA384);
    assert_eq!(shaken.client_end.tls13_tickets_received(), 0);
}

// B9: a certificate in order is not enough when another one was expected.
#[test]
fn a_client_refuses_every_workload_but_the_expected_one() {
    let pki = Pki::new();
    let (shaken, at_client, _) = honest(&pki, Expected::one(id(WEB)), &[], &[]);
    let error = shaken.client.unwrap_err();
    let carried = refusal(&error).unwrap();
    assert_eq!(
        carried.to_string(),
        format!("the peer is {API}, and not the one that was expected ({WEB})")
    );
    assert_eq!(
        at_client.result().unwrap().unwrap_err().reason(),
        "unexpected_identity"
    );
    let wrapped = std::io::Error::new(std::io::ErrorKind::InvalidData, error);
    assert!(refusal(&wrapped).is_some(), "found inside an io::Error too");

    let (shaken, ..) = honest(&pki, Expected::Only([id(WEB), id(API)].into()), &[], &[]);
    shaken.client.unwrap();
    let (shaken, ..) = honest(&pki, Expected::Only([].into()), &[], &[]);
    shaken.client.unwrap_err();
}

// T-6: a client that names only other protocols is turned away; one that names none is served.
#[test]
fn protocols_must_meet() {
    let pki = Pki::new();
    let (shaken, ..) = honest(
        &pki,
        Expected::Anyone,
        &[b"ferrule/1"],
        &[b"ferrule/1", b"ferrule-raw"],
    );
    assert_eq!(shaken.server_end.alpn_protocol(), Some(&b"ferrule/1"[..]));
    let (shaken, ..) = honest(&pki, Expected::Anyone, &[b"h2"], &[b"ferrule/1"]);
    assert_eq!(
        shaken.client,
        Err(rustls::Error::AlertReceived(
            AlertDescription::NoApplicationProtocol
        ))
    );
    let (shaken, ..) = honest(&pki, Expected::Anyone, &[], &[b"ferrule/1"]);
    shaken.server.unwrap();
}

/// The alert that a client sees from a server that trusts `snapshot`.
fn alert(snapshot: TrustSnapshot, pki: &Pki, leaf: &Leaf) -> AlertDescription {
    let verifier = PeerVerifier::new(Arc::new(TrustCell::new(snapshot)), Expected::Anyone);
    let server = peer_server_config(verifier, &presented(&Pki::new(), API), &[], now()).unwrap();
    let (chain, key) = pki.chain(leaf);
    match shake(hostile_client(chain, &key), server, "shop.local").client {
        Err(rustls::Error::AlertReceived(alert)) => alert,
        other => panic!("no alert, but {other:?}"),
    }
}

#[test]
fn each_refusal_has_the_fitting_alert() {
    let pki = Pki::new();
    let trusting = |revocations| TrustSnapshot {
        bundles: pki.bundles.clone(),
        revocations,
    };
    let plain = || trusting(Revocations::empty());
    let expired = Leaf::but(|leaf| leaf.life = (NOW.minus(2 * HOUR), NOW.minus(HOUR)));
    assert_eq!(
        alert(plain(), &pki, &expired),
        AlertDescription::CertificateExpired
    );
    let denied = DenyList {
        identities: [id(WEB)].into(),
        ..DenyList::default()
    };
    let revoked = trusting(Revocations::new(1, denied, Vec::new()));
    let good = Leaf::new(WEB);
    assert_eq!(alert(revoked, &pki, &good), AlertDescription::CertificateRevoked);
    assert_eq!(
        alert(TrustSnapshot::default(), &pki, &good),
        AlertDescription::UnknownCA
    );
    let two = Leaf::but(|leaf| leaf.names.push((6, b"spiffe://shop.local/x".to_vec())));
    assert_eq!(alert(plain(), &pki, &two), AlertDescription::CertificateUnknown);
}

// S-15, B12: what changes in the cell counts from the next handshake on.
#[test]
fn new_trust_applies_to_the_next_handshake() {
    let pki = Pki::new();
    let trust = cell(&pki);
    let client = peer_client_config(
        PeerVerifier::new(cell(&pki), Expected::Anyone),
        &presented(&pki, WEB),
        &[],
        now(),
    )
    .unwrap();
    let server = peer_server_config(
        PeerVerifier::new(Arc::clone(&trust), Expected::Anyone),
        &presented(&pki, API),
        &[],
        now(),
    )
    .unwrap();
    shake(client.clone(), server.clone(), "shop.local")
        .server
        .unwrap();
    let denied = DenyList {
        identities: [id(WEB)].into(),
        ..DenyList::default()
    };
    trust.store(TrustSnapshot {
        bundles: pki.bundles.clone(),
        revocations: Revocations::new(2, denied, Vec::new()),
    });
    let shaken = shake(client, server, "shop.local");
    assert_eq!(
        shaken.server.unwrap_err(),
        rustls::Error::InvalidCertificate(CertificateError::Revoked)
    );
}

#[test]
fn a_client_without_certificate_is_refused() {
    let pki = Pki::new();
    let server = peer_server_config(
        PeerVerifier::new(cell(&pki), Expected::Anyone),
        &presented(&pki, API),
        &[],
        now(),
    )
    .unwrap();
    let mut client = hostile_client(vec![pki.root.der()], &key());
    client.client_auth_cert_resolver = Arc::new(Nothing);
    let shaken = shake(client, server, "shop.local");
    assert_eq!(shaken.server.unwrap_err(), rustls::Error::NoCertificatesPresented);
}

// A chain that is in order proves nothing without the key.
#[test]
fn a_stolen_chain_without_its_key_is_refused() {
    let pki = Pki::new();
    let (chain, _) = pki.chain(&Leaf::new(WEB));
    let server = peer_server_config(
        PeerVerifier::new(cell(&pki), Expected::Anyone),
        &presented(&pki, API),
        &[],
        now(),
    )
    .unwrap();
    let shaken = shake(hostile_client(chain, &key()), server, "shop.local");
    assert_eq!(
        shaken.server.unwrap_err(),
        rustls::Error::InvalidCertificate(CertificateError::BadSignature)
    );
}

// One outcome belongs to one handshake: a second one must not be taken for the first one's peer.
#[test]
fn a_verifier_for_one_handshake_refuses_a_second() {
    let pki = Pki::new();
    let outcome = Outcome::new();
    let verifier = PeerVerifier::new(cell(&pki), Expected::Anyone).reporting_to(outcome);
    let server = peer_server_config(verifier, &presented(&pki, API), &[], now()).unwrap();
    let (chain, key) = pki.chain(&Leaf::new(WEB));
    let client = hostile_client(chain, &key);
    shake(client.clone(), server.clone(), "shop.local")
        .server
        .unwrap();
    let again = shake(client, server, "shop.local").server.unwrap_err();
    assert!(matches!(again, rustls::Error::General(_)), "{again}");
}

// Settings that many handshakes share tell each of them who its own peer is, and nobody else; without anybody who
// collects, the handshake fails.
#[test]
fn shared_settings_report_to_the_handshake_that_runs() {
    let pki = Pki::new();
    let verifier = PeerVerifier::new(cell(&pki), Expected::Anyone).reporting();
    let server = peer_server_config(verifier, &presented(&pki, API), &[], now()).unwrap();
    let client = |id: &str| {
        let (chain, key) = pki.chain(&Leaf::new(id));
        hostile_client(chain, &key)
    };
    let (one, two, outer) = (Outcome::new(), Outcome::new(), Outcome::new());
    outer.collect(|| {
        let shaken = one.collect(|| shake(client(WEB), server.clone(), "shop.local"));
        shaken.server.unwrap();
        let shaken = two.collect(|| shake(client(API), server.clone(), "shop.local"));
        shaken.server.unwrap();
        assert!(outer.result().is_none());
        // Whoever collected before does so again.
        shake(client(WEB), server.clone(), "shop.local").server.unwrap();
        assert_eq!(outer.result().unwrap().unwrap().id(), &id(WEB));
    });
    assert_eq!(one.result().unwrap().unwrap().id(), &id(WEB));
    assert_eq!(two.result().unwrap().unwrap().id(), &id(API));
    let taken = one.collect(|| shake(client(API), server.clone(), "shop.local"));
    assert!(matches!(taken.server.unwrap_err(), rustls::Error::General(_)));
    let unheard = shake(client(WEB), server, "shop.local").server.unwrap_err();
    assert!(matches!(unheard, rustls::Error::General(_)), "{unheard}");
}

#[derive(Debug)]
struct Nothing;

impl rustls::client::ResolvesClientCert for Nothing {
    fn resolve(
        &self,
        _hints: &[&[u8]],
        _schemes: &[rustls::SignatureScheme],
    ) -> Option<Arc<rustls::sign::CertifiedKey>> {
        None
    }

    fn has_certs(&self) -> bool {
        false
    }
}
