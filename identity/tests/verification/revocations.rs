//! Revocations: by identity, by certificate, by authority, by list.

use ferrule_identity::path::Link;
use ferrule_identity::{
    Crl, CrlError, DenyList, Fingerprint, PeerIdentity, Revocations, SerialNumber, VerifyError, verify,
};
use rcgen::{CertificateRevocationListParams, KeyIdMethod, KeyUsagePurpose, RevokedCertParams};

use crate::pki::{Authority, AuthoritySpec, HOUR, Leaf, NOW, Pki, WEB, id, instant, reasons};

fn judge(pki: &Pki, revocations: &Revocations) -> Result<PeerIdentity, VerifyError> {
    let (chain, _) = pki.chain(&Leaf::new(WEB));
    verify(&chain, &pki.bundles, revocations, NOW)
}

fn denied(list: DenyList) -> Revocations {
    Revocations::new(7, list, Vec::new())
}

fn key_of(authority: &Authority) -> Fingerprint {
    Fingerprint::of(&rcgen::PublicKeyData::subject_public_key_info(authority.0.key()))
}

fn serial() -> SerialNumber {
    SerialNumber::from_magnitude(&[0x11; 16]).unwrap()
}

#[test]
fn a_revoked_identity_is_refused_whatever_it_shows() {
    let pki = Pki::new();
    let list = DenyList {
        identities: [id(WEB)].into(),
        ..DenyList::default()
    };
    let error = judge(&pki, &denied(list)).unwrap_err();
    assert!(matches!(error, VerifyError::IdentityRevoked { .. }));
    assert_eq!(error.reason(), "revoked");
}

#[test]
fn a_serial_number_counts_only_with_its_issuer() {
    let pki = Pki::new();
    let list = |issuer| DenyList {
        certificates: [Link {
            issuer,
            serial: serial(),
        }]
        .into(),
        ..DenyList::default()
    };
    let error = judge(&pki, &denied(list(key_of(&pki.signer)))).unwrap_err();
    assert_eq!(error.reason(), "revoked");
    assert!(
        reasons(&error).contains("the leaf certificate with the serial number 1111"),
        "{}",
        reasons(&error)
    );
    let peer = judge(&pki, &denied(list(key_of(&pki.root)))).expect("the root issued no such number");
    assert_eq!(peer.revocation_generation(), 7);
}

#[test]
fn a_revoked_authority_takes_everything_below_it_along() {
    let pki = Pki::new();
    for key in [key_of(&pki.signer), key_of(&pki.root)] {
        let list = DenyList {
            authorities: [key].into(),
            ..DenyList::default()
        };
        assert_eq!(judge(&pki, &denied(list)).unwrap_err().reason(), "revoked");
    }
}

fn crl_params(serial: &[u8]) -> CertificateRevocationListParams {
    CertificateRevocationListParams {
        this_update: instant(NOW.minus(HOUR)),
        next_update: instant(NOW.plus(HOUR)),
        crl_number: 5_u64.into(),
        issuing_distribution_point: None,
        revoked_certs: vec![RevokedCertParams {
            serial_number: serial.to_vec().into(),
            revocation_time: instant(NOW.minus(HOUR)),
            reason_code: None,
            invalidity_date: None,
        }],
        key_identifier_method: KeyIdMethod::Sha256,
    }
}

fn read(
    params: &CertificateRevocationListParams,
    by: &Authority,
    among: &[&Authority],
) -> Result<Crl, CrlError> {
    let crl = params.signed_by(&by.0).unwrap();
    let issuers: Vec<_> = among.iter().map(|issuer| issuer.der()).collect();
    Crl::from_der(crl.der(), &issuers, NOW)
}

#[test]
fn a_list_revokes_what_its_issuer_signed() {
    let pki = Pki::new();
    let among = [&pki.root, &pki.signer];
    let crl = read(&crl_params(&[0x11; 16]), &pki.signer, &among).unwrap();
    let error = judge(&pki, &Revocations::new(1, DenyList::default(), vec![crl])).unwrap_err();
    assert!(
        reasons(&error).contains("by its issuer's revocation list"),
        "{}",
        reasons(&error)
    );

    // Another number, or another issuer's list, changes nothing; nor does having no list at all.
    let other = read(&crl_params(&[0x12; 16]), &pki.signer, &among).unwrap();
    let roots = read(&crl_params(&[0x11; 16]), &pki.root, &among).unwrap();
    judge(
        &pki,
        &Revocations::new(1, DenyList::default(), vec![other, roots]),
    )
    .unwrap();
}

#[test]
fn a_list_that_cannot_be_trusted_is_refused_when_it_is_read() {
    let pki = Pki::new();
    let good = crl_params(&[0x11; 16]);
    let with = |change: fn(&mut CertificateRevocationListParams)| {
        let mut params = good.clone();
        change(&mut params);
        read(&params, &pki.signer, &[&pki.signer])
    };
    let expired = with(|it| it.next_update = instant(NOW.minus(HOUR / 2)));
    assert!(matches!(expired, Err(CrlError::Expired { .. })), "{expired:?}");
    let early = with(|it| it.this_update = instant(NOW.plus(HOUR / 2)));
    assert!(matches!(early, Err(CrlError::NotYetValid { .. })), "{early:?}");
    let partial = with(|it| {
        it.issuing_distribution_point = Some(rcgen::CrlIssuingDistributionPoint {
            distribution_point: rcgen::CrlDistributionPoint {
                uris: vec!["http://crl.shop.test/users".into()],
            },
            scope: Some(rcgen::CrlScope::UserCertsOnly),
        });
    });
    assert!(matches!(partial, Err(CrlError::Partial)), "{partial:?}");
    let unknown = read(&good, &pki.signer, &[&pki.root]);
    assert!(
        matches!(unknown, Err(CrlError::UnknownIssuer { .. })),
        "{unknown:?}"
    );
    // The issuer's name with another key.
    let forged = read(&good, &Authority::root("Signer"), &[&pki.signer]);
    assert!(matches!(forged, Err(CrlError::Signature)), "{forged:?}");
    let signs_certificates_only = AuthoritySpec::new("Signer")
        .change(|it| it.key_usages = vec![KeyUsagePurpose::KeyCertSign])
        .below(&pki.root);
    let crl = good
        .signed_by(&Permissive(&signs_certificates_only).issuer())
        .unwrap();
    let refused = Crl::from_der(crl.der(), &[signs_certificates_only.der()], NOW);
    assert!(matches!(refused, Err(CrlError::MayNotSign)), "{refused:?}");
    let malformed = Crl::from_der(&[0x30, 0], &[pki.signer.der()], NOW);
    assert!(
        matches!(malformed, Err(CrlError::Malformed { .. })),
        "{malformed:?}"
    );
}

/// An authority whose certificate does not let it sign lists, and that does so all the same.
struct Permissive<'a>(&'a Authority);

impl Permissive<'_> {
    fn issuer(&self) -> rcgen::Issuer<'static, ferrule_identity::PrivateKey> {
        let key = ferrule_identity::PrivateKey::from_pkcs8_der(&self.0.0.key().to_pkcs8_der()).unwrap();
        rcgen::Issuer::new(AuthoritySpec::new("Signer").params, key)
    }
}
