//! Runs step-ca and asks it for certificates with tokens of a JWK provisioner.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use ferrule_credentials::connection::Connection;
use ferrule_daemon::clock::Clock;
use ferrule_identity::tls::provider;
use http::Method;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, IsCa, KeyPair,
    KeyUsagePurpose, SanType,
};
use rustls::ClientConfig;
use rustls::pki_types::CertificateDer;
use serde_json::json;

use super::base64url;
use super::load::Ask;
use crate::process::{Running, free_address};

/// step-ca with a root, an intermediate and one provisioner, all made for the occasion.
pub(crate) struct StepCa {
    /// The process.
    pub(crate) running: Running,
    address: SocketAddr,
    tls: Arc<ClientConfig>,
    provisioner: EcdsaKeyPair,
    clock: Clock,
}

/// A request as `/1.0/sign` takes it, before it has a token.
pub(crate) struct StepAsker {
    csr: String,
    name: String,
    uri: String,
}

impl StepCa {
    /// Starts the program `step_ca` with its data in `folder`.
    pub(crate) fn start(step_ca: &Path, folder: &Path) -> anyhow::Result<Self> {
        let address = free_address()?;
        let root = CertifiedIssuer::self_signed(authority("Root", 1), KeyPair::generate()?)?;
        let intermediate = KeyPair::generate()?;
        let below = authority("Intermediate", 0).signed_by(&intermediate, &root)?;
        let write = |name: &str, text: &str| -> anyhow::Result<PathBuf> {
            let path = folder.join(name);
            std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
            Ok(path)
        };
        let provisioner = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING)
            .map_err(|_| anyhow!("cannot make the provisioner's key"))?;
        let point = provisioner
            .public_key()
            .as_ref()
            .get(1..65)
            .context("the key is no point")?;
        let (x, y) = point.split_at(32);
        let config = json!({
            "root": write("root.crt", &root.pem())?,
            "crt": write("intermediate.crt", &below.pem())?,
            "key": write("intermediate.key", &intermediate.serialize_pem())?,
            "address": address.to_string(),
            "dnsNames": ["127.0.0.1"],
            "logger": { "format": "json" },
            // As `step ca init` sets it up.
            "db": { "type": "badgerv2", "dataSource": folder.join("db") },
            "authority": {
                "provisioners": [{
                    "type": "JWK",
                    "name": PROVISIONER,
                    "key": {
                        "use": "sig", "kty": "EC", "kid": PROVISIONER, "crv": "P-256", "alg": "ES256",
                        "x": base64url(x), "y": base64url(y),
                    },
                }],
            },
        });
        let config = write("ca.json", &config.to_string())?;
        let mut command = Command::new(step_ca);
        command.arg(config).env("STEPPATH", folder);
        let mut running = Running::start("step-ca", command, folder)?;
        running.listens(address)?;
        let tls = client(root.der())?;
        Ok(Self {
            running,
            address,
            tls,
            provisioner,
            clock: Clock::system(),
        })
    }

    /// A connection to it.
    pub(crate) async fn connect(&self) -> anyhow::Result<Connection> {
        Ok(Connection::open(&self.address.to_string(), self.tls.clone()).await?)
    }

    /// `count` requests over different keys.
    pub(crate) fn askers(count: usize) -> anyhow::Result<Vec<StepAsker>> {
        let made = (0..count).map(|number| {
            let name = format!("workload-{number}");
            let uri = format!("spiffe://{}/ns/bench/sa/{name}", super::server::TRUST_DOMAIN);
            let mut params = CertificateParams::default();
            params.distinguished_name = DistinguishedName::new();
            params.distinguished_name.push(DnType::CommonName, name.clone());
            params.subject_alt_names = vec![SanType::URI(uri.as_str().try_into()?)];
            let csr = params.serialize_request(&KeyPair::generate()?)?.pem()?;
            Ok(StepAsker { csr, name, uri })
        });
        made.collect()
    }

    /// A request with a fresh token, which is good once.
    pub(crate) fn ask(&self, asker: &StepAsker) -> anyhow::Result<Ask> {
        let now = self.clock.unix();
        let header = json!({ "alg": "ES256", "kid": PROVISIONER, "typ": "JWT" });
        let claims = json!({
            "iss": PROVISIONER,
            "aud": format!("https://{}/1.0/sign", self.address),
            "sub": asker.name,
            "sans": [asker.uri],
            "iat": now, "nbf": now, "exp": now + 300,
            "jti": base64url(&rand::random::<[u8; 16]>()),
        });
        let signed = format!(
            "{}.{}",
            base64url(header.to_string().as_bytes()),
            base64url(claims.to_string().as_bytes())
        );
        let signature = self.provisioner.sign(&SystemRandom::new(), signed.as_bytes());
        let signature = signature.map_err(|_| anyhow!("cannot sign a token"))?;
        let token = format!("{signed}.{}", base64url(signature.as_ref()));
        let body = json!({ "csr": asker.csr, "ott": token }).to_string().into();
        Ok(Ask {
            method: Method::POST,
            path: "/1.0/sign",
            headers: Vec::new(),
            body,
        })
    }
}

fn authority(name: &str, below: u8) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(below));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.use_authority_key_identifier_extension = true;
    params
}

/// A client as ours in everything but whom it trusts.
fn client(root: &CertificateDer<'static>) -> anyhow::Result<Arc<ClientConfig>> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(root.clone())?;
    let builder =
        ClientConfig::builder_with_provider(provider()).with_protocol_versions(&[&rustls::version::TLS13])?;
    let mut tls = builder.with_root_certificates(roots).with_no_client_auth();
    tls.alpn_protocols = vec![b"http/1.1".to_vec()];
    tls.resumption = rustls::client::Resumption::disabled();
    Ok(Arc::new(tls))
}

/// How many rounds of step-ca, which is slower, have as many issues as one of ours.
pub(crate) const SHARE: usize = 5;

/// After this many issues its memory is read.
pub(crate) const READ_MEMORY_AFTER: usize = 12_000;

/// How long it gets to write down what it has answered.
pub(crate) const SETTLE: Duration = Duration::from_millis(200);

const PROVISIONER: &str = "bench";
