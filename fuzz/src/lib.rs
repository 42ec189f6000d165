//! Makes valid input and bends it, so that the fuzzer gets past the first byte of formats it cannot invent.

use std::sync::LazyLock;

use ferrule_identity::{
    Bundles, Crl, PrivateKey, Revocations, Timestamp, TrustBundle, TrustDomain, verify, verify_server_name,
};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType, ExtendedKeyUsagePurpose,
    IsCa, Issuer, KeyIdMethod, KeyUsagePurpose, RevokedCertParams, SanType, SerialNumber, date_time_ymd,
};
use rustls_pki_types::{CertificateDer, ServerName};

/// An authority, one workload's certificate, one server's, and a revocation list.
pub struct Pki {
    /// The authority's certificate, self-signed.
    pub root: CertificateDer<'static>,
    /// The certificate of `spiffe://shop.local/ns/shop/sa/web`.
    pub leaf: CertificateDer<'static>,
    /// A serving certificate for `ca.shop` and 10.0.0.1.
    pub server: CertificateDer<'static>,
    /// A list that revokes the serial number 7 and no other.
    pub crl: Vec<u8>,
    /// The authority as the only one of `shop.local`.
    pub bundle: TrustBundle,
    /// That bundle alone.
    pub bundles: Bundles,
}

/// The time at which everything of [`PKI`] is valid: 2026-11-22.
pub const NOW: Timestamp = Timestamp::from_unix(1_795_305_600);

/// The same in every run.
pub static PKI: LazyLock<Pki> = LazyLock::new(make);

/// `good` with some of its bytes replaced: each three bytes of `edits` are a position (modulo the length) and
/// the byte to put there. What is left over of `edits` is appended.
pub fn bend(good: &[u8], edits: &[u8]) -> Vec<u8> {
    let mut bent = good.to_vec();
    let triples = edits.chunks_exact(3);
    let rest = triples.remainder().to_vec();
    for triple in triples {
        let at = usize::from(u16::from_be_bytes([triple[0], triple[1]])) % bent.len();
        bent[at] = triple[2];
    }
    bent.extend_from_slice(&rest);
    bent
}

fn make() -> Pki {
    // Ed25519 signs without chance, so that a finding can be run again.
    let root_key = ed25519(1);
    let mut root = params("Shop root");
    root.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    root.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let root_certificate = root.self_signed(&root_key).expect("a root");
    let issuer = Issuer::from_params(&root, &root_key);

    let mut leaf = params("web");
    leaf.subject_alt_names = vec![
        SanType::URI("spiffe://shop.local/ns/shop/sa/web".try_into().expect("ASCII")),
        SanType::DnsName("web.shop".try_into().expect("ASCII")),
    ];
    leaf.extended_key_usages = vec![
        ExtendedKeyUsagePurpose::ServerAuth,
        ExtendedKeyUsagePurpose::ClientAuth,
    ];
    let mut server = params("ca");
    server.subject_alt_names = vec![
        SanType::DnsName("ca.shop".try_into().expect("ASCII")),
        SanType::IpAddress([10, 0, 0, 1].into()),
    ];
    server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let sign = |params: &mut CertificateParams, seed| {
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.use_authority_key_identifier_extension = true;
        let certificate = params.signed_by(&ed25519(seed), &issuer).expect("a certificate");
        certificate.der().clone()
    };
    let crl = CertificateRevocationListParams {
        this_update: date_time_ymd(2026, 11, 21),
        next_update: date_time_ymd(2027, 11, 21),
        crl_number: SerialNumber::from(1),
        issuing_distribution_point: None,
        revoked_certs: vec![RevokedCertParams {
            serial_number: SerialNumber::from(7),
            revocation_time: date_time_ymd(2026, 11, 20),
            reason_code: None,
            invalidity_date: None,
        }],
        key_identifier_method: KeyIdMethod::Sha256,
    };
    let root = root_certificate.der().clone();
    let shop = TrustDomain::parse("shop.local").expect("a trust domain");
    let bundle = TrustBundle::new(shop, 1, None, &[root.clone()], NOW).expect("a bundle");
    let pki = Pki {
        leaf: sign(&mut leaf, 2),
        server: sign(&mut server, 3),
        crl: crl.signed_by(&issuer).expect("a list").der().to_vec(),
        bundles: Bundles::from_iter([bundle.clone()]),
        bundle,
        root,
    };
    // What is to be bent must be good, or the targets would look at nothing.
    let (none, issuers) = (Revocations::empty(), [pki.root.clone()]);
    let name = ServerName::try_from("ca.shop").expect("a name");
    verify(&[pki.leaf.clone()], &pki.bundles, &none, NOW).expect("a good leaf");
    verify_server_name(&[pki.server.clone()], &pki.bundle, &none, &name, NOW).expect("a good server");
    Crl::from_der(&pki.crl, &issuers, NOW).expect("a good list");
    pki
}

fn params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = date_time_ymd(2026, 11, 21);
    params.not_after = date_time_ymd(2027, 11, 21);
    params
}

/// The key whose seed is `seed`, thirty-two times: no secret, and the same in every run.
pub fn ed25519(seed: u8) -> PrivateKey {
    let mut der = vec![0x30, 46, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 34, 4, 32];
    der.extend_from_slice(&[seed; 32]);
    PrivateKey::from_pkcs8_der(&der).expect("an Ed25519 key")
}

/// The P-256 key whose scalar is `seed`, thirty-two times.
pub fn p256(seed: u8) -> PrivateKey {
    let mut der = vec![0x30, 49, 2, 1, 1, 4, 32];
    der.extend_from_slice(&[seed; 32]);
    der.extend_from_slice(&[0xa0, 10, 6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7]);
    PrivateKey::from_sec1_der(&der).expect("a P-256 key")
}
