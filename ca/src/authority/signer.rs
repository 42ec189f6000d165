//! Signs with a key that may lie elsewhere: a file today, a PKCS#11 token or a KMS tomorrow.

use std::fmt;

use ferrule_identity::{KeyError, PrivateKey, PublicKey};

/// A private key that can be used and not necessarily seen.
pub trait Signer: fmt::Debug + Send + Sync {
    /// The public half.
    fn public_key(&self) -> &PublicKey;

    /// Signs `message` in the way that goes with the key's kind: ECDSA in ASN.1 form (SHA-256 on P-256, SHA-384
    /// on P-384), Ed25519, RSA PKCS#1 v1.5 with SHA-256.
    ///
    /// # Errors
    /// When the key cannot be used.
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SignerError>;
}

/// A key in this process's memory, opened from an encrypted file or from the ledger.
#[derive(Debug)]
pub struct FileSigner(PrivateKey);

impl FileSigner {
    /// Signs with `key`.
    pub const fn new(key: PrivateKey) -> Self {
        Self(key)
    }
}

impl Signer for FileSigner {
    fn public_key(&self) -> &PublicKey {
        self.0.public_key()
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SignerError> {
        self.0.sign(message).map_err(|source| SignerError {
            source: Box::new(source),
        })
    }
}

impl From<KeyError> for SignerError {
    fn from(source: KeyError) -> Self {
        Self {
            source: Box::new(source),
        }
    }
}

/// The key could not be used.
#[derive(Debug, thiserror::Error)]
#[error("the signing key cannot be used")]
pub struct SignerError {
    /// What the key's holder reports.
    pub source: Box<dyn std::error::Error + Send + Sync>,
}
