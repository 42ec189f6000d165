//! A workload's own certificate, and what people are told about certificates.

use ferrule_identity::{CertificateInfo, PrivateKey, WorkloadCertificate};

use crate::pki::{HOUR, Leaf, NOW, Pki, WEB, id, key, reasons};

fn take(pki: &Pki, leaf: &Leaf) -> Result<WorkloadCertificate, ferrule_identity::CertificateError> {
    let (chain, key) = pki.chain(leaf);
    WorkloadCertificate::new(chain, key, pki.bundles.iter().next().unwrap(), NOW)
}

#[test]
fn a_good_certificate_tells_what_it_is() {
    let pki = Pki::new();
    let own = take(&pki, &Leaf::new(WEB)).unwrap();
    assert_eq!(own.id(), &id(WEB));
    assert_eq!(own.lifetime().not_after(), NOW.plus(HOUR));
    assert_eq!(own.serial().to_string(), "11".repeat(16));
    assert_eq!(own.chain_der().len(), 2);
    assert!(!format!("{own:?}").contains("PRIVATE"), "the key is not shown");

    let key = PrivateKey::from_pkcs8_der(&own.key().to_pkcs8_der()).unwrap();
    let bundle = pki.bundles.iter().next().unwrap();
    let again = WorkloadCertificate::from_pem(&own.chain_pem(), key, bundle, NOW).unwrap();
    assert_eq!(again.identity(), own.identity());
}

#[test]
fn what_a_peer_would_refuse_is_refused_at_home() {
    let pki = Pki::new();
    let two = Leaf::but(|leaf| leaf.names.push((6, b"spiffe://shop.local/other".to_vec())));
    let found = reasons(&take(&pki, &two).unwrap_err());
    assert!(found.starts_with("peers would refuse the certificate"), "{found}");
    let bundle = pki.bundles.iter().next().unwrap();
    let (chain, _) = pki.chain(&Leaf::new(WEB));
    let error = WorkloadCertificate::new(chain, key(), bundle, NOW).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("the private key is not the one of the certificate of {WEB}")
    );
    let error = WorkloadCertificate::from_pem("junk", key(), bundle, NOW).unwrap_err();
    assert!(reasons(&error).contains("line 1"), "{}", reasons(&error));
}

// E9: what a certificate says is fit for a log line.
#[test]
fn info_is_escaped_and_cut() {
    let pki = Pki::new();
    let leaf = Leaf::but(|leaf| {
        leaf.subject = Some(format!("\u{1b}[31m\n{}", "x".repeat(1000)));
        leaf.names.push((2, b"a\nb".to_vec()));
    });
    let info = CertificateInfo::from_der(&pki.signer.issue(&leaf).0).unwrap();
    assert!(info.subject.starts_with(r"CN=\u{1b}[31m\n"), "{}", info.subject);
    assert!(info.subject.len() < 300);
    assert_eq!(info.uris, [WEB]);
    assert_eq!(info.dns_names, [r"a\nb"]);
    assert_eq!(info.issuer, "CN=Signer");
    assert!(!info.is_authority);
    assert!(CertificateInfo::from_der(&pki.root.der()).unwrap().is_authority);
}
