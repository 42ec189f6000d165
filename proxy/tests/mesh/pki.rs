//! Makes an authority with the certificates of workloads, as files.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ferrule_identity::{KeyAlgorithm, PrivateKey};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyUsagePurpose, SanType,
};
use time::OffsetDateTime;

/// An authority of its own.
pub(crate) struct Authority(CertifiedIssuer<'static, PrivateKey>);

/// A workload's certificate, its key and whom it trusts, as files.
#[derive(Clone)]
pub(crate) struct Files {
    pub(crate) chain: PathBuf,
    pub(crate) key: PathBuf,
    pub(crate) bundle: PathBuf,
}

fn key() -> PrivateKey {
    PrivateKey::generate(KeyAlgorithm::EcdsaP256).unwrap()
}

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "test root");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.not_before = OffsetDateTime::now_utc() - Duration::from_secs(3600);
        params.not_after = OffsetDateTime::now_utc() + Duration::from_secs(86_400);
        Self(CertifiedIssuer::self_signed(params, key()).unwrap())
    }

    pub(crate) fn pem(&self) -> String {
        self.0.pem()
    }

    /// Writes what the workload `id` needs into `folder`; its certificate lives for `life` from now.
    pub(crate) fn files(&self, folder: &Path, name: &str, id: &str, life: Duration) -> Files {
        let files = Files {
            chain: folder.join(format!("{name}.pem")),
            key: folder.join(format!("{name}.key")),
            bundle: folder.join(format!("{name}.bundle.pem")),
        };
        fs::write(&files.bundle, self.pem()).unwrap();
        self.renew(&files, id, life);
        files
    }

    /// Writes another certificate with another key in the place of the old ones.
    pub(crate) fn renew(&self, files: &Files, id: &str, life: Duration) {
        let now = OffsetDateTime::now_utc();
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
        params.not_before = now - Duration::from_secs(60);
        params.not_after = now + life;
        let key = key();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        fs::write(&files.chain, certificate.pem()).unwrap();
        fs::write(&files.key, key.to_pem().as_bytes()).unwrap();
    }
}
