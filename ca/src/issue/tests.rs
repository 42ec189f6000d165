//! Tries the whole way of a certificate: asked for, signed, recorded, verified by others.

use std::collections::HashSet;
use std::process::Command;
use std::time::Duration;

use ferrule_identity::{
    Bundles, CertificateInfo, KeyAlgorithm, PrivateKey, Revocations, SigningRequest, verify,
    verify_server_name,
};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::*;
use crate::authority::signer::FileSigner;
use crate::config::Config;
use crate::crypto::CryptoProfile;
use crate::lab::{Lab, WEB, caller, id, request, request_with};
use crate::ledger::event::{Revoked, Subject};
use crate::x509::{self, Subject as Name, Use};

const API: &str = "spiffe://shop.local/ns/shop/sa/api";

fn bundles(lab: &Lab) -> Bundles {
    Bundles::from_iter([lab.bundle()])
}

/// A request that was made to deceive: it asks for `extensions` in the way of a real one.
fn asking_for(extensions: Vec<x509_cert::ext::Extension>) -> SigningRequest {
    let key = FileSigner::new(PrivateKey::generate(KeyAlgorithm::EcdsaP256).unwrap());
    SigningRequest::from_der(&x509::request(Name::empty(), extensions, &key).unwrap()).unwrap()
}

async fn ask(lab: &Lab, request: &SigningRequest, wanted_id: &str) -> Result<Issued, IssueError> {
    let wanted = Wanted {
        id: Some(id(wanted_id)),
        lifetime: None,
    };
    lab.ca.issuer.issue(&caller(&[WEB]), request, &wanted).await
}

#[tokio::test]
async fn what_is_issued_is_what_a_peer_accepts() {
    let lab = Lab::new().await;
    let request = request();
    let issued = ask(&lab, &request, WEB).await.unwrap();
    let peer = verify(&issued.chain, &bundles(&lab), &Revocations::empty(), lab.now()).unwrap();
    assert_eq!(peer.id().as_str(), WEB);
    assert_eq!(peer.issuer().to_string(), issued.issuer);
    assert_eq!(peer.key_fingerprint(), request.public_key().fingerprint());
    assert_eq!(peer.serial().to_string(), issued.serial.to_string());
    assert_eq!(peer.lifetime(), issued.lifetime);
    assert_eq!(issued.lifetime.left(lab.now()), Duration::from_secs(12 * 3600));
    assert_eq!(
        lab.now().since(issued.lifetime.not_before()),
        Duration::from_secs(300)
    );
    assert_eq!(issued.renew_at.since(lab.now()), Duration::from_secs(4 * 3600));
    let recorded = lab.ca.ledger.certificate(issued.serial).await.unwrap().unwrap();
    assert_eq!(recorded.id, WEB);
}

/// The profile of DESIGN §4 and S-10 to S-12, read by a parser that is not ours.
#[tokio::test]
async fn a_leaf_has_our_profile_and_nothing_else() {
    let lab = Lab::new().await;
    let issued = lab.issue(WEB).await.unwrap();
    let (rest, leaf) = X509Certificate::from_der(&issued.chain[0]).unwrap();
    assert!(rest.is_empty());
    assert_eq!(leaf.version().0, 2);
    assert_eq!(leaf.subject().iter().count(), 0);
    assert!(leaf.raw_serial().len() >= 16 && leaf.raw_serial().len() <= 17 && leaf.raw_serial()[0] < 0x80);
    let usage = leaf.key_usage().unwrap().unwrap();
    assert!(
        usage.critical && usage.value.flags == 1,
        "digitalSignature alone: {:?}",
        usage.value
    );
    let purposes = leaf.extended_key_usage().unwrap().unwrap().value;
    assert!(purposes.server_auth && purposes.client_auth && !purposes.any && purposes.other.is_empty());
    let constraints = leaf.basic_constraints().unwrap().unwrap();
    assert!(constraints.critical && !constraints.value.ca && constraints.value.path_len_constraint.is_none());
    let names = leaf.subject_alternative_name().unwrap().unwrap();
    assert!(names.critical && names.value.general_names.len() == 1);
    let mut present: Vec<String> = leaf.extensions().iter().map(|e| e.oid.to_id_string()).collect();
    present.sort();
    let expected = [
        "2.5.29.14",
        "2.5.29.15",
        "2.5.29.17",
        "2.5.29.19",
        "2.5.29.35",
        "2.5.29.37",
    ];
    assert_eq!(present, expected);
}

/// S-13: the certificate that signs.
#[tokio::test]
async fn a_signing_certificate_has_its_profile() {
    let lab = Lab::new().await;
    let issued = lab.issue(WEB).await.unwrap();
    assert_eq!(
        issued.chain.len(),
        2,
        "leaf and signing certificate, without the root"
    );
    let (_, signing) = X509Certificate::from_der(&issued.chain[1]).unwrap();
    let constraints = signing.basic_constraints().unwrap().unwrap();
    assert!(constraints.critical && constraints.value.ca);
    assert_eq!(constraints.value.path_len_constraint, Some(0));
    let usage = signing.key_usage().unwrap().unwrap();
    assert!(
        usage.critical && usage.value.flags == (1 << 5 | 1 << 6),
        "{:?}",
        usage.value
    );
    let info = CertificateInfo::from_der(&issued.chain[1]).unwrap();
    assert_eq!(info.uris, ["spiffe://shop.local"]);
    assert!(
        info.subject.contains("shop.local") && info.subject.contains("Ferrule signing"),
        "{}",
        info.subject
    );
    assert!(signing.name_constraints().unwrap().is_none());
}

/// A1: every way to write another one's name into a request.
#[tokio::test]
async fn a1_another_name_is_refused_and_both_are_on_record() {
    let lab = Lab::new().await;
    assert!(matches!(
        ask(&lab, &request(), API).await,
        Err(IssueError::Refused(_))
    ));
    let dns = ServerName::try_from("api.shop.svc").unwrap();
    for asked in [
        asking_for(vec![x509::uri_name(API, true).unwrap()]),
        asking_for(vec![x509::server_names(&[dns]).unwrap()]),
    ] {
        let error = ask(&lab, &asked, WEB).await.unwrap_err();
        assert_eq!(error.word(), "request_asks_too_much");
    }
    let refusals = lab.refusals().await;
    let words: Vec<&str> = refusals.iter().map(|refused| refused.reason.as_str()).collect();
    assert_eq!(
        words,
        ["not_entitled", "request_asks_too_much", "request_asks_too_much"]
    );
    assert!(
        refusals[0].detail.contains(API) && refusals[0].detail.contains(WEB),
        "{:?}",
        refusals[0]
    );
    assert_eq!(
        refusals[0].caller.as_deref(),
        Some("serviceaccount shop/web pod web-1")
    );
    assert!(
        refusals[1].detail.contains(API) && refusals[1].detail.contains(WEB),
        "{:?}",
        refusals[1]
    );
    assert_eq!(lab.ca.ledger.live().await.unwrap().certificates, 0);
}

/// A2: the powers of an authority.
#[tokio::test]
async fn a2_a_request_for_an_authority_is_refused() {
    let lab = Lab::new().await;
    let key = PrivateKey::generate(KeyAlgorithm::EcdsaP256).unwrap();
    let wanted = x509::use_extensions(Use::Authority { path_length: None }, key.public_key()).unwrap();
    let error = ask(&lab, &asking_for(wanted), WEB).await.unwrap_err();
    assert!(error.to_string().contains("CA:TRUE"), "{error}");
    // The usages of a peer are what it gets anyway; its request's other fields are not even looked at.
    let wanted = x509::use_extensions(Use::Peer, key.public_key()).unwrap();
    assert!(ask(&lab, &asking_for(wanted), WEB).await.is_ok());
}

/// A4: the issuer's end caps every life.
#[tokio::test]
async fn a4_no_certificate_outlives_its_issuer() {
    let lab = Lab::configured(short_lived).await;
    let ends = lab.ca.authorities.active_signer().unwrap().lifetime().not_after();
    lab.advance(3 * 3600);
    let issued = lab.issue(WEB).await.unwrap();
    assert_eq!(issued.lifetime.not_after(), ends);
    lab.advance(3600 - 30);
    let error = lab.issue(WEB).await.unwrap_err();
    assert_eq!(error.word(), "ca_ends_too_soon");
}

/// Signing certificates and roots of four hours.
fn short_lived(config: &mut Config) {
    config.root.lifetime = Duration::from_secs(4 * 3600);
    config.signing.lifetime = Duration::from_secs(4 * 3600);
}

/// A13 and the CA's own clock: outside of its own life it issues nothing, and says both times.
#[tokio::test]
async fn a13_a_ca_that_is_not_valid_now_refuses_to_issue() {
    let lab = Lab::configured(short_lived).await;
    let life = lab.ca.authorities.active_signer().unwrap().lifetime();
    for now in [life.not_before().unix() - 1, life.not_after().unix() + 1] {
        lab.hand.set(now);
        let error = lab.issue(WEB).await.unwrap_err();
        assert_eq!(error.word(), "ca_not_valid");
        let text = error.to_string();
        assert!(text.contains(&life.not_after().to_string()), "{text}");
        assert!(text.contains(&Timestamp::from_unix(now).to_string()), "{text}");
    }
    lab.hand.set(life.not_after().unix() - 3600);
    assert!(
        lab.issue(WEB).await.is_ok(),
        "it heals by itself when the clock is right again"
    );
}

/// Also after a restart: that the chain is not valid now is no reason not to start.
#[tokio::test]
async fn a13_a_ca_that_has_ended_still_starts_and_says_so() {
    let lab = Lab::configured(short_lived).await;
    lab.advance(5 * 3600);
    let lab = lab.restarted().await;
    assert_eq!(lab.issue(WEB).await.unwrap_err().word(), "ca_not_valid");
}

#[tokio::test]
async fn a_revoked_identity_gets_nothing_until_it_is_lifted() {
    let lab = Lab::new().await;
    let subject = Subject::Identity(WEB.into());
    let revoked = Revoked {
        subject: subject.clone(),
        reason: "stolen".into(),
        by: "test".into(),
    };
    lab.ca.ledger.append(vec![revoked.into()]).await.unwrap();
    assert_eq!(lab.issue(WEB).await.unwrap_err().word(), "identity_revoked");
    assert!(lab.issue(API).await.is_ok());
    assert_eq!(lab.refusals().await[0].reason, "identity_revoked");
    let lifted = event::Lifted {
        subject,
        reason: "found".into(),
        by: "test".into(),
    };
    lab.ca.ledger.append(vec![lifted.into()]).await.unwrap();
    assert!(lab.issue(WEB).await.is_ok());
}

#[tokio::test]
async fn evidence_of_an_unknown_host_is_no_evidence() {
    let lab = Lab::new().await;
    let caller = Attested {
        host: Some("gone".into()),
        ..caller(&[WEB])
    };
    let error = lab
        .ca
        .issuer
        .issue(&caller, &request(), &Wanted::default())
        .await
        .unwrap_err();
    assert_eq!(error.word(), "host_revoked");
}

#[tokio::test]
async fn nothing_leaves_that_is_not_recorded() {
    let lab = Lab::new().await;
    lab.ca.ledger.close().await.unwrap();
    assert_eq!(lab.issue(WEB).await.unwrap_err().word(), "ledger_unavailable");
}

#[tokio::test]
async fn a_ca_without_a_root_says_what_to_do() {
    let lab = Lab::rootless(|_| {}).await;
    let error = lab.issue(WEB).await.unwrap_err();
    assert_eq!(error.word(), "no_signer");
    assert!(error.to_string().contains("init"), "{error}");
}

#[tokio::test]
async fn a_serving_certificate_serves_its_names_and_is_no_peer() {
    let lab = Lab::new().await;
    let key = PrivateKey::generate(KeyAlgorithm::EcdsaP256).unwrap();
    let names: Vec<ServerName<'static>> = ["ca.shop.local", "127.0.0.1", "::1"]
        .map(|name| ServerName::try_from(name).unwrap())
        .to_vec();
    let issued = lab
        .ca
        .issuer
        .issue_serving(&names, key.public_key())
        .await
        .unwrap();
    assert_eq!(issued.name, "ca.shop.local,127.0.0.1,::1");
    for name in &names {
        verify_server_name(
            &issued.chain,
            &lab.bundle(),
            &Revocations::empty(),
            name,
            lab.now(),
        )
        .unwrap();
    }
    assert!(verify(&issued.chain, &bundles(&lab), &Revocations::empty(), lab.now()).is_err());
    let error = lab
        .ca
        .issuer
        .issue_serving(&[], key.public_key())
        .await
        .unwrap_err();
    assert_eq!(error.word(), "bad_serving_name");
}

#[tokio::test]
async fn cnsa1_is_p384_from_the_root_to_the_leaf() {
    let lab = Lab::configured(|config| {
        config.crypto = CryptoProfile::Cnsa1;
        config.signing.algorithm = KeyAlgorithm::EcdsaP384;
        config.root.algorithm = KeyAlgorithm::EcdsaP384;
    })
    .await;
    let issued = ask(&lab, &request_with(KeyAlgorithm::EcdsaP384), WEB)
        .await
        .unwrap();
    let mut all = issued.chain.clone();
    all.extend(lab.ca.authorities.view().trusted_roots());
    for der in &all {
        let (_, certificate) = X509Certificate::from_der(der).unwrap();
        assert_eq!(
            certificate.signature_algorithm.algorithm.to_id_string(),
            "1.2.840.10045.4.3.3"
        );
    }
    let error = ask(&lab, &request(), WEB).await.unwrap_err();
    assert_eq!(error.word(), "key_not_accepted");
}

#[tokio::test]
async fn no_two_certificates_share_a_serial_number() {
    let lab = Lab::new().await;
    let mut serials = HashSet::new();
    for _ in 0..64 {
        assert!(serials.insert(lab.issue(WEB).await.unwrap().serial));
    }
    assert_eq!(lab.ca.ledger.live().await.unwrap().certificates, 64);
}

/// Chains under roots of every kind, judged by OpenSSL.
#[tokio::test]
#[ignore = "needs openssl: tests/run"]
async fn openssl_agrees_with_every_kind_of_root() {
    for (root, signing) in [
        (KeyAlgorithm::EcdsaP256, KeyAlgorithm::EcdsaP256),
        (KeyAlgorithm::EcdsaP384, KeyAlgorithm::EcdsaP384),
        (KeyAlgorithm::Ed25519, KeyAlgorithm::Ed25519),
        (KeyAlgorithm::Rsa3072, KeyAlgorithm::EcdsaP256),
        (KeyAlgorithm::Rsa4096, KeyAlgorithm::EcdsaP384),
    ] {
        let lab = Lab::configured(|config| {
            config.root.algorithm = root;
            config.signing.algorithm = signing;
        })
        .await;
        let issued = lab.issue(WEB).await.unwrap();
        let name = ServerName::try_from("ca.shop.local").unwrap();
        let key = PrivateKey::generate(KeyAlgorithm::EcdsaP256).unwrap();
        let serving = lab
            .ca
            .issuer
            .issue_serving(&[name], key.public_key())
            .await
            .unwrap();
        let file = |name: &str, text: &str| {
            let path = lab.folder().join(name);
            std::fs::write(&path, text).unwrap();
            path.into_os_string().into_string().unwrap()
        };
        let (trusted, chain) = (
            file("root.pem", &lab.bundle().to_pem()),
            file("chain.pem", &issued.chain_pem),
        );
        let serving = file("serving.pem", &serving.chain_pem);
        let at = lab.now().unix().to_string();
        let common = [
            "verify",
            "-x509_strict",
            "-attime",
            &at,
            "-CAfile",
            &trusted,
            "-untrusted",
        ];
        for purpose in ["sslclient", "sslserver"] {
            openssl(&[&common[..], &[&chain, "-purpose", purpose, &chain]].concat());
        }
        let hostname = [
            &serving,
            "-purpose",
            "sslserver",
            "-verify_hostname",
            "ca.shop.local",
            &serving,
        ];
        openssl(&[&common[..], &hostname].concat());
        let text = openssl(&["x509", "-in", &chain, "-noout", "-text"]);
        assert!(text.contains(&format!("URI:{WEB}")), "{text}");
    }
}

fn openssl(arguments: &[&str]) -> String {
    let output = Command::new("openssl").args(arguments).output().unwrap();
    let (out, err) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert!(output.status.success(), "openssl {arguments:?}: {out}{err}");
    out.into_owned()
}
