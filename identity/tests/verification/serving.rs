//! The control plane's own servers, known by name.

use std::sync::Arc;

use ferrule_identity::tls::{
    Expected, Outcome, PeerVerifier, Presented, ServerVerifier, TlsError, TrustCell, TrustSnapshot,
    control_client_config, control_server_config,
};
use ferrule_identity::{
    Fingerprint, PrivateKey, Revocations, VerifyError, WorkloadCertificate, verify, verify_server_name,
};
use rustls::CertificateError;
use rustls_pki_types::{CertificateDer, ServerName};

use crate::pki::{HOUR, Leaf, NOW, Pki, SERVER_AUTH, WEB, domain, id, reasons};
use crate::shake::{hostile_server, now, shake};

const CA: &str = "ca.shop.test";

fn check(pki: &Pki, leaf: &Leaf, name: &str) -> Result<(), VerifyError> {
    let (chain, _) = pki.chain(leaf);
    let name = ServerName::try_from(name).unwrap();
    verify_server_name(
        &chain,
        pki.bundles.iter().next().unwrap(),
        &Revocations::empty(),
        &name,
        NOW,
    )
}

#[test]
fn a_serving_certificate_is_good_for_its_names_alone() {
    let pki = Pki::new();
    let leaf = Leaf {
        names: vec![(2, CA.as_bytes().to_vec()), (7, vec![127, 0, 0, 1])],
        ..Leaf::serving(CA)
    };
    check(&pki, &leaf, CA).unwrap();
    check(&pki, &leaf, "127.0.0.1").unwrap();
    for other in ["evil.test", "127.0.0.2", "sub.ca.shop.test"] {
        let error = check(&pki, &leaf, other).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("the server's certificate is not for {other}")
        );
    }
    let old = Leaf {
        life: (NOW.minus(2 * HOUR), NOW.minus(HOUR)),
        ..leaf
    };
    assert_eq!(check(&pki, &old, CA).unwrap_err().reason(), "expired");
}

// S-10, S-12: neither profile is taken for the other.
#[test]
fn workloads_are_no_servers_and_servers_no_peers() {
    let pki = Pki::new();
    let (chain, _) = pki.chain(&Leaf::serving(CA));
    verify(&chain, &pki.bundles, &Revocations::empty(), NOW).expect_err("a server is no peer");

    let workload_with_name = Leaf::but(|leaf| leaf.names.push((2, CA.as_bytes().to_vec())));
    let error = check(&pki, &workload_with_name, CA).unwrap_err();
    assert!(
        reasons(&error).contains("not one for serving"),
        "{}",
        reasons(&error)
    );
    let with_id = Leaf::but(|leaf| {
        leaf.names.push((2, CA.as_bytes().to_vec()));
        leaf.purposes = Some(vec![SERVER_AUTH]);
    });
    let error = check(&pki, &with_id, CA).unwrap_err();
    assert!(
        reasons(&error).contains("1 URI names instead of none"),
        "{}",
        reasons(&error)
    );
    let for_anything = Leaf {
        purposes: None,
        ..Leaf::serving(CA)
    };
    check(&pki, &for_anything, CA).expect_err("a server's purpose must be said");
}

fn cell(pki: &Pki) -> Arc<TrustCell> {
    Arc::new(TrustCell::new(TrustSnapshot {
        bundles: pki.bundles.clone(),
        revocations: Revocations::empty(),
    }))
}

/// What the CA shows: the leaf, its signer, and the root for whoever has only a fingerprint.
fn serving(pki: &Pki) -> (Vec<CertificateDer<'static>>, PrivateKey) {
    let (mut chain, key) = pki.chain(&Leaf::serving(CA));
    chain.push(pki.root.der());
    (chain, key)
}

fn server(pki: &Pki, outcome: &Outcome) -> rustls::ServerConfig {
    let (chain, key) = serving(pki);
    let bundle = pki.bundles.iter().next().unwrap();
    let name = ServerName::try_from(CA).unwrap();
    let own = Presented::serving(chain, &key, bundle, &[name], NOW).unwrap();
    let verifier = PeerVerifier::new(cell(pki), Expected::Anyone).reporting_to(outcome.clone());
    control_server_config(verifier, &own, &[], now()).unwrap()
}

#[test]
fn a_client_may_come_without_certificate_or_with_its_own() {
    let pki = Pki::new();
    let trusting = || ServerVerifier::new(domain("shop.local"), cell(&pki));

    let outcome = Outcome::new();
    let client = control_client_config(trusting(), None, &[], now()).unwrap();
    let shaken = shake(client, server(&pki, &outcome), CA);
    shaken.client.unwrap();
    shaken.server.unwrap();
    assert!(outcome.result().is_none());

    let (chain, key) = pki.chain(&Leaf::new(WEB));
    let own = WorkloadCertificate::new(chain, key, pki.bundles.iter().next().unwrap(), NOW).unwrap();
    let own = Presented::workload(&own).unwrap();
    let outcome = Outcome::new();
    let client = control_client_config(trusting(), Some(&own), &[], now()).unwrap();
    shake(client, server(&pki, &outcome), CA).server.unwrap();
    assert_eq!(outcome.result().unwrap().unwrap().id(), &id(WEB));
}

#[test]
fn a_server_under_another_name_or_authority_is_refused() {
    let pki = Pki::new();
    let trusting = |pki: &Pki| ServerVerifier::new(domain("shop.local"), cell(pki));
    let client = control_client_config(trusting(&pki), None, &[], now()).unwrap();
    shake(client, server(&pki, &Outcome::new()), "other.test")
        .client
        .unwrap_err();
    let client = control_client_config(trusting(&Pki::new()), None, &[], now()).unwrap();
    shake(client, server(&pki, &Outcome::new()), CA)
        .client
        .unwrap_err();
    let (chain, key) = pki.chain(&Leaf::new(WEB));
    let client = control_client_config(trusting(&pki), None, &[], now()).unwrap();
    shake(client, hostile_server(chain, &key), "shop.local")
        .client
        .expect_err("a workload is not the control plane");
}

// The first contact: a host knows nothing but the root's fingerprint from its join token.
#[test]
fn the_roots_fingerprint_is_enough_for_a_first_contact() {
    let pki = Pki::new();
    let client = |root| {
        let verifier = ServerVerifier::pinned(domain("shop.local"), root);
        control_client_config(verifier, None, &[], now()).unwrap()
    };
    let right = Fingerprint::of(&pki.root.der());
    shake(client(right), server(&pki, &Outcome::new()), CA)
        .client
        .unwrap();

    let wrong = Fingerprint::of(&Pki::new().root.der());
    let refused = shake(client(wrong), server(&pki, &Outcome::new()), CA)
        .client
        .expect_err("another root");
    assert_eq!(
        refused,
        rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer)
    );
    // A root that is merely sent along vouches for nobody.
    let stranger = Pki::new();
    let (mut chain, key) = stranger.chain(&Leaf::serving(CA));
    chain.push(pki.root.der());
    shake(client(right), hostile_server(chain, &key), CA)
        .client
        .expect_err("the root did not sign this");
}

#[test]
fn a_serving_certificate_that_clients_refuse_is_not_taken() {
    let pki = Pki::new();
    let bundle = pki.bundles.iter().next().unwrap();
    let name = || ServerName::try_from("other.test").unwrap();
    let (chain, key) = serving(&pki);
    let error = Presented::serving(chain.clone(), &key, bundle, &[name()], NOW).unwrap_err();
    assert!(matches!(error, TlsError::Serving { .. }));
    let error = Presented::serving(chain, &crate::pki::key(), bundle, &[], NOW).unwrap_err();
    assert!(matches!(error, TlsError::OtherKey));
    let (chain, key) = pki.chain(&Leaf::new(WEB));
    Presented::serving(chain, &key, bundle, &[], NOW).expect_err("a workload's certificate");
}
