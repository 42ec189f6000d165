//! Makes the certificates that every program under load uses: one authority, a client, a server.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use ferrule_identity::{KeyAlgorithm, PrivateKey};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyUsagePurpose, SanType,
};
use time::OffsetDateTime;

/// The files of both ends.
#[derive(Debug, Clone)]
pub(crate) struct Certificates {
    pub(crate) client: Files,
    pub(crate) server: Files,
    /// Whom both trust.
    pub(crate) bundle: PathBuf,
}

/// A certificate and its key, P-256, as files.
#[derive(Debug, Clone)]
pub(crate) struct Files {
    /// The SPIFFE ID in it.
    pub(crate) id: &'static str,
    pub(crate) chain: PathBuf,
    pub(crate) key: PathBuf,
    /// Both in one file, for who wants that.
    pub(crate) both: PathBuf,
}

impl Certificates {
    /// Makes them in `folder`; they live for a day.
    pub(crate) fn make(folder: &Path) -> anyhow::Result<Self> {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "bench root");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        lives(&mut params);
        let root = CertifiedIssuer::self_signed(params, key()?).context("cannot sign a root")?;
        let bundle = folder.join("bundle.pem");
        write(&bundle, &root.pem())?;
        Ok(Self {
            client: files(folder, "client", CLIENT, &root)?,
            server: files(folder, "server", SERVER, &root)?,
            bundle,
        })
    }
}

fn files(
    folder: &Path,
    name: &str,
    id: &'static str,
    root: &CertifiedIssuer<'_, PrivateKey>,
) -> anyhow::Result<Files> {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.subject_alt_names = vec![SanType::URI(id.try_into().context("the name is no URI")?)];
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![
        ExtendedKeyUsagePurpose::ServerAuth,
        ExtendedKeyUsagePurpose::ClientAuth,
    ];
    params.use_authority_key_identifier_extension = true;
    lives(&mut params);
    let key = key()?;
    let chain = params
        .signed_by(&key, root)
        .context("cannot sign a certificate")?
        .pem();
    let key = key.to_pem();
    let at = |end: &str| folder.join(format!("{name}.{end}"));
    let files = Files {
        id,
        chain: at("pem"),
        key: at("key"),
        both: at("both.pem"),
    };
    write(&files.chain, &chain)?;
    write(&files.key, &key)?;
    write(&files.both, &format!("{chain}{}", key.as_str()))?;
    Ok(files)
}

fn lives(params: &mut CertificateParams) {
    let now = OffsetDateTime::now_utc();
    params.not_before = now - Duration::from_secs(60);
    params.not_after = now + Duration::from_secs(86_400);
}

fn key() -> anyhow::Result<PrivateKey> {
    PrivateKey::generate(KeyAlgorithm::EcdsaP256).context("cannot make a key")
}

fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

pub(crate) const TRUST_DOMAIN: &str = "bench.local";
const CLIENT: &str = "spiffe://bench.local/ns/bench/sa/client";
const SERVER: &str = "spiffe://bench.local/ns/bench/sa/server";
