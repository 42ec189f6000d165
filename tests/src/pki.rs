//! Makes an authority with the certificates of workloads, as files.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ferrule_identity::{CertificateInfo, KeyAlgorithm, PrivateKey, read_chain};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyIdMethod, KeyUsagePurpose, RevokedCertParams, SanType, SerialNumber,
};
use time::OffsetDateTime;

/// An authority of its own, whose root lives for a day.
pub struct Authority(CertifiedIssuer<'static, PrivateKey>);

/// A workload's certificate, its key and whom it trusts, as files.
#[derive(Debug, Clone)]
pub struct Files {
    /// The chain, leaf first.
    pub chain: PathBuf,
    /// The leaf's key.
    pub key: PathBuf,
    /// The roots.
    pub bundle: PathBuf,
    /// The revocation lists.
    pub crls: PathBuf,
}

impl Files {
    /// Those of that name in `folder`, there or not.
    pub fn at(folder: &Path, name: &str) -> Self {
        Self {
            chain: folder.join(format!("{name}.pem")),
            key: folder.join(format!("{name}.key")),
            bundle: folder.join(format!("{name}.bundle.pem")),
            crls: folder.join(format!("{name}.crl.pem")),
        }
    }

    /// The serial number of the certificate that is there now.
    pub fn serial(&self) -> SerialNumber {
        let chain = read_chain(&fs::read_to_string(&self.chain).unwrap()).unwrap();
        let info = CertificateInfo::from_der(&chain[0]).unwrap();
        SerialNumber::from_slice(&info.serial.der_content())
    }
}

fn key() -> PrivateKey {
    PrivateKey::generate(KeyAlgorithm::EcdsaP256).unwrap()
}

impl Authority {
    /// Makes one.
    #[allow(clippy::new_without_default, reason = "each one differs")]
    pub fn new() -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "test root");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.not_before = OffsetDateTime::now_utc() - Duration::from_secs(3600);
        params.not_after = OffsetDateTime::now_utc() + Duration::from_secs(86_400);
        Self(CertifiedIssuer::self_signed(params, key()).unwrap())
    }

    /// Its root in PEM.
    pub fn pem(&self) -> String {
        self.0.pem()
    }

    /// The revocation list of that number, with these serial numbers on it.
    pub fn crl(&self, number: u64, revoked: &[SerialNumber]) -> String {
        let now = OffsetDateTime::now_utc();
        let revoked = revoked.iter().map(|serial| RevokedCertParams {
            serial_number: serial.clone(),
            revocation_time: now,
            reason_code: None,
            invalidity_date: None,
        });
        let params = CertificateRevocationListParams {
            this_update: now - Duration::from_secs(60),
            next_update: now + Duration::from_secs(3600),
            crl_number: number.into(),
            issuing_distribution_point: None,
            revoked_certs: revoked.collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        params.signed_by(&self.0).unwrap().pem().unwrap()
    }

    /// Writes what the workload `id` needs into `folder`; its certificate lives for `life` from now.
    pub fn files(&self, folder: &Path, name: &str, id: &str, life: Duration) -> Files {
        let files = Files::at(folder, name);
        fs::write(&files.bundle, self.pem()).unwrap();
        fs::write(&files.crls, self.crl(1, &[])).unwrap();
        self.renew(&files, id, life);
        files
    }

    /// Writes another certificate with another key in the place of the old ones; it lives for `life` from now.
    pub fn renew(&self, files: &Files, id: &str, life: Duration) {
        self.renew_aged(files, id, Duration::from_secs(60), life + Duration::from_secs(60));
    }

    /// As [`Authority::renew`]; the certificate was made `age` ago, to live for `life` from then.
    pub fn renew_aged(&self, files: &Files, id: &str, age: Duration, life: Duration) {
        let made = OffsetDateTime::now_utc() - age;
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "workload");
        params.subject_alt_names = vec![SanType::URI(id.try_into().unwrap())];
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        params.use_authority_key_identifier_extension = true;
        params.not_before = made;
        params.not_after = made + life;
        let key = key();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        fs::write(&files.chain, certificate.pem()).unwrap();
        fs::write(&files.key, key.to_pem().as_bytes()).unwrap();
    }
}
