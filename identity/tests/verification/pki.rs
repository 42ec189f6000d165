//! Makes authorities and certificates, good ones and bad ones.

use std::error::Error;
use std::time::Duration;

use ferrule_identity::{
    Bundles, KeyAlgorithm, PrivateKey, Revocations, SpiffeId, Timestamp, TrustBundle, TrustDomain,
    VerifyError, verify,
};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, CustomExtension, DistinguishedName, DnType, IsCa,
    KeyUsagePurpose, NameConstraints, SerialNumber,
};
use rustls_pki_types::CertificateDer;
use time::OffsetDateTime;

/// When everything here happens: 2027-12-28. The fixtures made by `data/make` are valid then.
pub(crate) const NOW: Timestamp = Timestamp::from_unix(1_830_000_000);
pub(crate) const HOUR: Duration = Duration::from_secs(3600);
pub(crate) const WEB: &str = "spiffe://shop.local/ns/shop/sa/web";

pub(crate) const SERVER_AUTH: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 3, 1];
pub(crate) const CLIENT_AUTH: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 3, 2];

pub(crate) const DIGITAL_SIGNATURE: u8 = 0x80;
pub(crate) const KEY_ENCIPHERMENT: u8 = 0x20;
pub(crate) const KEY_CERT_SIGN: u8 = 0x04;
pub(crate) const CRL_SIGN: u8 = 0x02;

pub(crate) fn domain(name: &str) -> TrustDomain {
    TrustDomain::parse(name).unwrap()
}

pub(crate) fn id(text: &str) -> SpiffeId {
    SpiffeId::parse(text).unwrap()
}

pub(crate) fn key() -> PrivateKey {
    PrivateKey::generate(KeyAlgorithm::EcdsaP256).unwrap()
}

pub(crate) fn instant(time: Timestamp) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(time.unix()).unwrap()
}

/// An error with everything that it stems from.
pub(crate) fn reasons(error: &(dyn Error + 'static)) -> String {
    std::iter::successors(Some(error), |error| (*error).source())
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(": ")
}

/// An authority with its certificate.
pub(crate) struct Authority(pub(crate) CertifiedIssuer<'static, PrivateKey>);

/// What an authority's certificate says.
pub(crate) struct AuthoritySpec {
    pub(crate) params: CertificateParams,
}

impl AuthoritySpec {
    pub(crate) fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.not_before = instant(NOW.minus(100 * 24 * HOUR));
        params.not_after = instant(NOW.plus(100 * 24 * HOUR));
        params.use_authority_key_identifier_extension = true;
        Self { params }
    }

    pub(crate) fn path_length(mut self, most: u8) -> Self {
        self.params.is_ca = IsCa::Ca(BasicConstraints::Constrained(most));
        self
    }

    pub(crate) fn constraints(mut self, constraints: NameConstraints) -> Self {
        self.params.name_constraints = Some(constraints);
        self
    }

    pub(crate) fn life(mut self, from: Timestamp, to: Timestamp) -> Self {
        self.params.not_before = instant(from);
        self.params.not_after = instant(to);
        self
    }

    pub(crate) fn extension(mut self, oid: &[u64], critical: bool, content: Vec<u8>) -> Self {
        self.params
            .custom_extensions
            .push(extension(oid, critical, content));
        self
    }

    pub(crate) fn change(mut self, change: impl FnOnce(&mut CertificateParams)) -> Self {
        change(&mut self.params);
        self
    }

    pub(crate) fn root(mut self) -> Authority {
        self.params.use_authority_key_identifier_extension = false;
        Authority(CertifiedIssuer::self_signed(self.params, key()).unwrap())
    }

    pub(crate) fn below(self, issuer: &Authority) -> Authority {
        self.with_key(key(), issuer)
    }

    pub(crate) fn with_key(self, key: PrivateKey, issuer: &Authority) -> Authority {
        Authority(CertifiedIssuer::signed_by(self.params, key, &issuer.0).unwrap())
    }
}

impl Authority {
    pub(crate) fn root(name: &str) -> Self {
        AuthoritySpec::new(name).root()
    }

    pub(crate) fn below(&self, name: &str) -> Self {
        AuthoritySpec::new(name).below(self)
    }

    pub(crate) fn der(&self) -> CertificateDer<'static> {
        self.0.der().clone()
    }

    pub(crate) fn bundle(&self, trust_domain: &str) -> TrustBundle {
        TrustBundle::new(domain(trust_domain), 1, None, &[self.der()], NOW).unwrap()
    }

    pub(crate) fn bundles(&self) -> Bundles {
        Bundles::from_iter([self.bundle("shop.local")])
    }

    /// A leaf with its key, the leaf alone.
    pub(crate) fn issue(&self, leaf: &Leaf) -> (CertificateDer<'static>, PrivateKey) {
        let key = key();
        let certificate = leaf.params().signed_by(&key, &self.0).unwrap();
        (certificate.der().clone(), key)
    }
}

/// A leaf in the making: as it should be, until something is changed.
#[derive(Clone)]
pub(crate) struct Leaf {
    /// The names, by their number among the forms of a GeneralName.
    pub(crate) names: Vec<(u8, Vec<u8>)>,
    pub(crate) names_critical: bool,
    pub(crate) subject: Option<String>,
    /// Critical or not, and the bits of the first octet.
    pub(crate) key_usage: Option<(bool, u8)>,
    pub(crate) purposes: Option<Vec<&'static [u8]>>,
    pub(crate) is_ca: bool,
    pub(crate) life: (Timestamp, Timestamp),
    pub(crate) more: Vec<CustomExtension>,
    pub(crate) serial: Vec<u8>,
    pub(crate) authority_key_id: bool,
}

impl Leaf {
    pub(crate) fn new(id: &str) -> Self {
        Self {
            names: vec![(6, id.as_bytes().to_vec())],
            names_critical: true,
            subject: None,
            key_usage: Some((true, DIGITAL_SIGNATURE)),
            purposes: Some(vec![SERVER_AUTH, CLIENT_AUTH]),
            is_ca: false,
            life: (NOW.minus(HOUR), NOW.plus(HOUR)),
            more: Vec::new(),
            serial: vec![0x11; 16],
            authority_key_id: true,
        }
    }

    /// The standard leaf with one thing changed.
    pub(crate) fn but(change: impl FnOnce(&mut Self)) -> Self {
        let mut leaf = Self::new(WEB);
        change(&mut leaf);
        leaf
    }

    pub(crate) fn serving(dns_name: &str) -> Self {
        Self {
            names: vec![(2, dns_name.as_bytes().to_vec())],
            purposes: Some(vec![SERVER_AUTH]),
            ..Self::new(WEB)
        }
    }

    fn params(&self) -> CertificateParams {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        if let Some(subject) = &self.subject {
            params.distinguished_name.push(DnType::CommonName, subject);
        }
        params.not_before = instant(self.life.0);
        params.not_after = instant(self.life.1);
        params.serial_number = Some(SerialNumber::from(self.serial.clone()));
        params.use_authority_key_identifier_extension = self.authority_key_id;
        let all = &mut params.custom_extensions;
        if !self.names.is_empty() {
            let names = self.names.iter().flat_map(|(form, text)| tlv(0x80 | form, text));
            all.push(extension(
                &[2, 5, 29, 17],
                self.names_critical,
                tlv(0x30, &names.collect::<Vec<_>>()),
            ));
        }
        if let Some((critical, bits)) = self.key_usage {
            let unused = u8::try_from(bits.trailing_zeros().min(7)).unwrap();
            all.push(extension(&[2, 5, 29, 15], critical, tlv(3, &[unused, bits])));
        }
        if let Some(purposes) = &self.purposes {
            let ids = purposes.iter().flat_map(|oid| tlv(6, oid));
            all.push(extension(
                &[2, 5, 29, 37],
                false,
                tlv(0x30, &ids.collect::<Vec<_>>()),
            ));
        }
        let constraints = if self.is_ca { tlv(1, &[0xff]) } else { Vec::new() };
        all.push(extension(&[2, 5, 29, 19], true, tlv(0x30, &constraints)));
        all.extend(self.more.iter().cloned());
        params
    }
}

pub(crate) fn extension(oid: &[u64], critical: bool, content: Vec<u8>) -> CustomExtension {
    let mut extension = CustomExtension::from_oid_content(oid, content);
    extension.set_criticality(critical);
    extension
}

/// DER: tag, length, value.
pub(crate) fn tlv(tag: u8, value: &[u8]) -> Vec<u8> {
    let length = value.len();
    let mut der = vec![tag];
    match length {
        0..0x80 => der.push(u8::try_from(length).unwrap()),
        0x80..0x100 => der.extend([0x81, u8::try_from(length).unwrap()]),
        _ => {
            der.push(0x82);
            der.extend(u16::try_from(length).unwrap().to_be_bytes());
        }
    }
    der.extend(value);
    der
}

/// Root, signing authority, and the bundle of the root for `shop.local`.
pub(crate) struct Pki {
    pub(crate) root: Authority,
    pub(crate) signer: Authority,
    pub(crate) bundles: Bundles,
}

impl Pki {
    pub(crate) fn new() -> Self {
        let root = Authority::root("Root");
        let signer = AuthoritySpec::new("Signer").path_length(0).below(&root);
        let bundles = root.bundles();
        Self {
            root,
            signer,
            bundles,
        }
    }

    /// The chain that a workload sends.
    pub(crate) fn chain(&self, leaf: &Leaf) -> (Vec<CertificateDer<'static>>, PrivateKey) {
        let (leaf, key) = self.signer.issue(leaf);
        (vec![leaf, self.signer.der()], key)
    }

    /// Why `chain` is refused.
    pub(crate) fn refusal(&self, chain: &[CertificateDer<'_>]) -> VerifyError {
        verify(chain, &self.bundles, &Revocations::empty(), NOW).expect_err("the chain must be refused")
    }
}

pub(crate) fn bundles_of(root: &CertificateDer<'_>) -> Bundles {
    let bundle = TrustBundle::new(domain("shop.local"), 1, None, std::slice::from_ref(root), NOW);
    Bundles::from_iter([bundle.unwrap()])
}

/// A fixture made by `data/make`.
pub(crate) fn fixture(name: &str) -> CertificateDer<'static> {
    let path = format!("{}/tests/data/{name}.pem", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(path).unwrap();
    let block = ferrule_identity::pem::read_one(&text, "CERTIFICATE").unwrap();
    CertificateDer::from(block.der().to_vec())
}
