//! Shows the CA who is asking.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ferrule_identity::{KeyError, PrivateKey, SpiffeId, Timestamp, TrustDomain};
use ferrule_wire::ca::{self, host_statement};

/// What a workload has to show for itself.
#[derive(Debug, Clone)]
pub enum Evidence {
    /// The key that this host was enrolled with.
    HostKey {
        /// The host's name with the CA.
        host: String,
        /// The key.
        key: Arc<PrivateKey>,
    },
    /// A Kubernetes service-account token in a file, which the kubelet renews: it is read again at each try.
    KubernetesToken {
        /// The file.
        path: PathBuf,
    },
    /// The workload's own certificate, as long as it is valid. It cannot come back after expiry.
    Certificate,
}

impl Evidence {
    /// What to send with a request for `id`, at `now` by the CA's clock; `None` where the connection shows it.
    ///
    /// # Errors
    /// When a token cannot be read, or a key cannot sign.
    pub fn show(
        &self,
        trust_domain: &TrustDomain,
        id: &SpiffeId,
        csr: &str,
        now: Timestamp,
    ) -> Result<Option<ca::Evidence>, EvidenceError> {
        match self {
            Self::Certificate => Ok(None),
            Self::KubernetesToken { path } => Ok(Some(ca::Evidence::KubernetesToken { token: token(path)? })),
            Self::HostKey { host, key } => {
                let nonce = URL_SAFE_NO_PAD.encode(rand::random::<[u8; 16]>());
                let time = now.unix();
                let statement = host_statement(trust_domain.as_str(), host, time, &nonce, id.as_str(), csr)
                    .ok_or_else(|| EvidenceError::Host { host: host.clone() })?;
                let signature = key
                    .sign(&statement)
                    .map_err(|source| EvidenceError::Sign { source })?;
                Ok(Some(ca::Evidence::HostKey {
                    host: host.clone(),
                    time,
                    nonce,
                    signature: STANDARD.encode(signature),
                }))
            }
        }
    }
}

fn token(path: &Path) -> Result<String, EvidenceError> {
    let failed = |source| EvidenceError::Token {
        path: path.to_owned(),
        source,
    };
    let mut text = String::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(MAX_TOKEN_BYTES).read_to_string(&mut text))
        .map_err(failed)?;
    let token = text.trim();
    if token.is_empty() {
        return Err(failed(std::io::Error::new(
            std::io::ErrorKind::UnexpectedEof,
            "the file is empty",
        )));
    }
    Ok(token.to_owned())
}

/// Kubernetes' own tokens have one to two thousand bytes.
const MAX_TOKEN_BYTES: u64 = 16 * 1024;

/// Why there is nothing to show.
#[derive(Debug, thiserror::Error)]
pub enum EvidenceError {
    /// No token.
    #[error("cannot read the service-account token in {path}", path = path.display())]
    Token {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// A host's name that no CA gave.
    #[error("the host's name {host:?} has a line break in it")]
    Host {
        /// The name.
        host: String,
    },
    /// No signature.
    #[error("cannot sign with the host key")]
    Sign {
        /// Why.
        source: KeyError,
    },
}

#[cfg(test)]
mod tests {
    use ferrule_identity::KeyAlgorithm;

    use super::*;

    #[test]
    fn a_host_signs_what_it_asks_for_with_a_fresh_nonce() {
        let key = Arc::new(PrivateKey::generate(KeyAlgorithm::EcdsaP256).unwrap());
        let domain = TrustDomain::parse("shop.local").unwrap();
        let id = SpiffeId::workload(&domain, "shop", "web").unwrap();
        let evidence = Evidence::HostKey {
            host: "web-1".to_owned(),
            key: Arc::clone(&key),
        };
        let now = Timestamp::from_unix(1_000);
        let mut nonces = Vec::new();
        for _ in 0..2 {
            let shown = evidence.show(&domain, &id, "CSR", now).unwrap();
            let Some(ca::Evidence::HostKey {
                host,
                time,
                nonce,
                signature,
            }) = shown
            else {
                panic!()
            };
            let signed = host_statement("shop.local", &host, time, &nonce, id.as_str(), "CSR").unwrap();
            key.public_key()
                .verify(&signed, &STANDARD.decode(signature).unwrap())
                .unwrap();
            nonces.push(nonce);
        }
        assert_ne!(nonces[0], nonces[1]);
    }

    #[test]
    fn a_token_is_read_anew_each_time() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        let domain = TrustDomain::parse("shop.local").unwrap();
        let id = SpiffeId::workload(&domain, "shop", "web").unwrap();
        let evidence = Evidence::KubernetesToken { path: path.clone() };
        let show = || evidence.show(&domain, &id, "CSR", Timestamp::from_unix(0));
        assert!(show().is_err());
        for token in ["first", "second"] {
            std::fs::write(&path, format!("{token}\n")).unwrap();
            let shown = show().unwrap();
            assert_eq!(
                shown,
                Some(ca::Evidence::KubernetesToken {
                    token: token.to_owned()
                })
            );
        }
        std::fs::write(&path, " \n").unwrap();
        assert!(show().is_err());
    }
}
