//! Tries the lists: who is on them, when they are signed anew, that others accept them.

use ferrule_identity::{Bundles, Crl, DenyList, Revocations, VerifyError, verify};
use x509_parser::prelude::{CertificateRevocationList, FromDer};

use super::*;
use crate::issue::Wanted;
use crate::lab::{Lab, WEB, caller, request};
use crate::ledger::event::{Event, Lifted, Revoked, Subject};
use crate::ledger::{Ledger, Serial};

const HALF_DAY: u64 = 12 * 3600;

fn lists() -> RevocationLists {
    RevocationLists::new(Duration::from_secs(24 * 3600))
}

async fn revoke(lab: &Lab, subject: Subject) {
    let event = Revoked {
        subject,
        reason: "stolen".into(),
        by: "test".into(),
    };
    lab.ca
        .ledger
        .append(vec![Event::from(event).into()])
        .await
        .unwrap();
}

async fn lift(lab: &Lab, subject: Subject) {
    let event = Lifted {
        subject,
        reason: "found".into(),
        by: "test".into(),
    };
    lab.ca
        .ledger
        .append(vec![Event::from(event).into()])
        .await
        .unwrap();
}

/// The one list there is.
async fn current(lab: &Lab, lists: &RevocationLists) -> Bytes {
    let revoked = lab.ca.ledger.revocations().await.unwrap();
    let view = lab.ca.authorities.view();
    let all = lists.current(view.list_signers(), &revoked, lab.now()).unwrap();
    assert_eq!(all.len(), 1);
    assert_eq!(all[0].0, view.active().unwrap().authority());
    all[0].1.clone()
}

/// The serial numbers on a list, and its number.
fn read(der: &[u8]) -> (Vec<String>, u128) {
    let (rest, list) = CertificateRevocationList::from_der(der).unwrap();
    assert!(rest.is_empty() && list.version().is_some_and(|version| version.0 == 1));
    assert!(list.next_update().is_some());
    let serial = |revoked: &x509_parser::prelude::RevokedCertificate<'_>| {
        Serial::from_be_bytes(revoked.raw_serial()).unwrap().to_string()
    };
    let serials = list.iter_revoked_certificates().map(serial).collect();
    let number = list.crl_number().unwrap().to_bytes_be();
    (
        serials,
        number
            .iter()
            .fold(0, |number, octet| number << 8 | u128::from(*octet)),
    )
}

#[tokio::test]
async fn an_empty_list_is_signed_once_and_again_at_half_of_its_life() {
    let (lab, lists) = (Lab::new().await, lists());
    let first = current(&lab, &lists).await;
    assert_eq!(read(&first).0, Vec::<String>::new());
    lab.advance(HALF_DAY - 1);
    assert_eq!(current(&lab, &lists).await, first);
    lab.advance(1);
    let second = current(&lab, &lists).await;
    assert_ne!(second, first);
    assert!(read(&second).1 > read(&first).1, "the number grows");
}

#[tokio::test]
async fn serials_and_identities_and_hosts_end_up_as_serial_numbers() {
    let (lab, lists) = (Lab::new().await, lists());
    let one = lab.issue("spiffe://shop.local/ns/shop/sa/one").await.unwrap();
    let web = [lab.issue(WEB).await.unwrap(), lab.issue(WEB).await.unwrap()];
    let empty = current(&lab, &lists).await;
    revoke(&lab, Subject::Serial(one.serial)).await;
    revoke(&lab, Subject::Identity(WEB.into())).await;
    let list = current(&lab, &lists).await;
    let mut expected = vec![
        one.serial.to_string(),
        web[0].serial.to_string(),
        web[1].serial.to_string(),
    ];
    expected.sort();
    assert_eq!(read(&list).0, expected);
    assert!(read(&list).1 > read(&empty).1);
    lift(&lab, Subject::Identity(WEB.into())).await;
    assert_eq!(read(&current(&lab, &lists).await).0, [one.serial.to_string()]);
}

/// The list that foreign verifiers fetch revokes by itself, without our deny list.
#[tokio::test]
async fn a_verifier_with_nothing_but_the_list_refuses_what_is_on_it() {
    let (lab, lists) = (Lab::new().await, lists());
    let issued = lab.issue(WEB).await.unwrap();
    let other = lab.issue("spiffe://shop.local/ns/shop/sa/other").await.unwrap();
    revoke(&lab, Subject::Serial(issued.serial)).await;
    let der = current(&lab, &lists).await;
    let issuer = &issued.chain[1];
    let crl = Crl::from_der(&der, std::slice::from_ref(issuer), lab.now()).unwrap();
    let revocations = Revocations::new(1, DenyList::default(), vec![crl]);
    let bundles = Bundles::from_iter([lab.bundle()]);
    let refused = verify(&issued.chain, &bundles, &revocations, lab.now()).unwrap_err();
    assert_eq!(VerifyError::reason(&refused), "revoked");
    assert!(verify(&other.chain, &bundles, &revocations, lab.now()).is_ok());
}

/// RFC 5280 §3.3.
#[tokio::test]
async fn a_certificate_that_ran_out_is_on_one_more_list() {
    let (lab, lists) = (Lab::new().await, lists());
    let wanted = Wanted {
        id: None,
        lifetime: Some(600),
    };
    let issued = lab
        .ca
        .issuer
        .issue(&caller(&[WEB]), &request(), &wanted)
        .await
        .unwrap();
    revoke(&lab, Subject::Serial(issued.serial)).await;
    assert_eq!(read(&current(&lab, &lists).await).0.len(), 1);
    lab.advance(HALF_DAY);
    let after_its_end = current(&lab, &lists).await;
    assert_eq!(read(&after_its_end).0, [issued.serial.to_string()]);
    lab.advance(HALF_DAY);
    assert_eq!(read(&current(&lab, &lists).await).0, Vec::<String>::new());
}

#[tokio::test]
async fn a_list_from_the_future_is_replaced_when_the_clock_goes_back() {
    let (lab, lists) = (Lab::new().await, lists());
    lab.advance(3600);
    let first = current(&lab, &lists).await;
    lab.hand.set(lab.now().unix() - 1800);
    assert_ne!(current(&lab, &lists).await, first);
}

#[tokio::test]
async fn a_retired_signing_certificate_keeps_its_list_until_its_last_leaf_ends() {
    let (lab, lists) = (Lab::new().await, lists());
    let issued = lab.issue(WEB).await.unwrap();
    revoke(&lab, Subject::Serial(issued.serial)).await;
    // Half of its ninety days, less an hour in which its last leaf begins.
    lab.advance(45 * 86_400);
    let late = lab.issue(WEB).await.unwrap();
    lab.ca.authorities.tend().await.unwrap();
    revoke(&lab, Subject::Serial(late.serial)).await;
    let revoked = lab.ca.ledger.revocations().await.unwrap();
    let view = lab.ca.authorities.view();
    let all = lists.current(view.list_signers(), &revoked, lab.now()).unwrap();
    assert_eq!(all.len(), 2);
    let old = all.iter().find(|(issuer, _)| *issuer == late.issuer).unwrap();
    assert_eq!(read(&old.1).0, [late.serial.to_string()]);
    assert_ne!(view.active().unwrap().authority(), late.issuer);
    lab.advance(HALF_DAY + 300);
    lab.ca.authorities.tend().await.unwrap();
    let view = lab.ca.authorities.view();
    let all = lists.current(view.list_signers(), &revoked, lab.now()).unwrap();
    assert_eq!(all.len(), 1);
}

/// A list as OpenSSL reads it.
#[tokio::test]
#[ignore = "needs openssl: tests/run"]
async fn openssl_refuses_what_is_on_the_list() {
    let (lab, lists) = (Lab::new().await, lists());
    let issued = lab.issue(WEB).await.unwrap();
    let file = |name: &str, content: &[u8]| {
        let path = lab.folder().join(name);
        std::fs::write(&path, content).unwrap();
        path.into_os_string().into_string().unwrap()
    };
    let (root, chain) = (
        file("root.pem", lab.bundle().to_pem().as_bytes()),
        file("chain.pem", issued.chain_pem.as_bytes()),
    );
    let at = lab.now().unix().to_string();
    for (revoked, accepted) in [(false, true), (true, false)] {
        if revoked {
            revoke(&lab, Subject::Serial(issued.serial)).await;
        }
        let list =
            ferrule_identity::pem::write(ferrule_identity::pem::X509_CRL, &current(&lab, &lists).await);
        let list = file("list.pem", list.as_bytes());
        let output = std::process::Command::new("openssl")
            .args([
                "verify",
                "-crl_check",
                "-attime",
                &at,
                "-CAfile",
                &root,
                "-untrusted",
                &chain,
            ])
            .args(["-CRLfile", &list, &chain])
            .output()
            .unwrap();
        assert_eq!(output.status.success(), accepted, "{output:?}");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(said.contains("certificate revoked"), revoked, "{said}");
    }
}
