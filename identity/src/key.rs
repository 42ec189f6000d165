//! Holds private keys: makes, reads, writes, uses, wipes.

mod algorithm;
mod fingerprint;
mod public;
mod sealed;

use std::fmt;

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair,
    RSA_PKCS1_SHA256, RsaKeyPair,
};
use pkcs8::der::{self, Decode};
use pkcs8::{ObjectIdentifier, PrivateKeyInfo};
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use zeroize::Zeroizing;

pub use algorithm::KeyAlgorithm;
pub use fingerprint::Fingerprint;
pub(crate) use public::Digest;
pub use public::PublicKey;
pub use sealed::SealCost;

use crate::pem::{self, PemError, PemLimits};

/// A private key. Its bytes are wiped when it is dropped, it cannot be cloned, and it prints as `[redacted]`.
pub struct PrivateKey {
    /// The library's form of the key; it wipes its own memory.
    pair: Pair,
    /// The same key as PKCS#8, written by the library.
    pkcs8: Zeroizing<Vec<u8>>,
    public: PublicKey,
}

/// One key, as the library that signs with it holds it.
enum Pair {
    Ecdsa(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
    Rsa(RsaKeyPair),
}

impl PrivateKey {
    /// Makes a new key from the system's randomness. RSA takes up to seconds.
    ///
    /// # Errors
    /// When the library has no randomness, or is asked for [`KeyAlgorithm::Rsa2048`], which is not made.
    pub fn generate(algorithm: KeyAlgorithm) -> Result<Self, KeyError> {
        let failed = |_| KeyError::Generate { algorithm };
        Self::from_pair(match algorithm {
            KeyAlgorithm::EcdsaP256 => {
                Pair::Ecdsa(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).map_err(failed)?)
            }
            KeyAlgorithm::EcdsaP384 => {
                Pair::Ecdsa(EcdsaKeyPair::generate(&ECDSA_P384_SHA384_ASN1_SIGNING).map_err(failed)?)
            }
            KeyAlgorithm::Ed25519 => Pair::Ed25519(Ed25519KeyPair::generate().map_err(failed)?),
            KeyAlgorithm::Rsa3072 => Pair::Rsa(RsaKeyPair::generate(KeySize::Rsa3072).map_err(failed)?),
            KeyAlgorithm::Rsa4096 => Pair::Rsa(RsaKeyPair::generate(KeySize::Rsa4096).map_err(failed)?),
            KeyAlgorithm::Rsa2048 => return Err(KeyError::Generate { algorithm }),
        })
    }

    /// Reads an unencrypted PKCS#8 key (RFC 5958) with nothing after it.
    ///
    /// # Errors
    /// When it is longer than 16 KiB, is no such key, or its public half is not a [`PublicKey`].
    pub fn from_pkcs8_der(der: &[u8]) -> Result<Self, KeyError> {
        check_length(der)?;
        let info = PrivateKeyInfo::from_der(der).map_err(|source| KeyError::Malformed {
            what: "PKCS#8 private key",
            source,
        })?;
        let curve = info
            .algorithm
            .parameters
            .and_then(|parameters| parameters.decode_as::<ObjectIdentifier>().ok());
        let rejected = |_| KeyError::Rejected {
            what: "PKCS#8 private key",
        };
        Self::from_pair(match public::known_algorithm(info.algorithm.oid, curve)? {
            Some(KeyAlgorithm::EcdsaP256) => {
                Pair::Ecdsa(EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, der).map_err(rejected)?)
            }
            Some(KeyAlgorithm::EcdsaP384) => {
                Pair::Ecdsa(EcdsaKeyPair::from_pkcs8(&ECDSA_P384_SHA384_ASN1_SIGNING, der).map_err(rejected)?)
            }
            Some(KeyAlgorithm::Ed25519) => Pair::Ed25519(Ed25519KeyPair::from_pkcs8(der).map_err(rejected)?),
            _ => Pair::Rsa(RsaKeyPair::from_pkcs8(der).map_err(rejected)?),
        })
    }

    /// Reads an `ECPrivateKey` (RFC 5915), the form that older OpenSSL commands write, on P-256 or P-384.
    ///
    /// # Errors
    /// When it is longer than 16 KiB, or no such key.
    pub fn from_sec1_der(der: &[u8]) -> Result<Self, KeyError> {
        check_length(der)?;
        let pair = EcdsaKeyPair::from_private_key_der(&ECDSA_P256_SHA256_ASN1_SIGNING, der)
            .or_else(|_| EcdsaKeyPair::from_private_key_der(&ECDSA_P384_SHA384_ASN1_SIGNING, der))
            .map_err(|_| KeyError::Rejected {
                what: "SEC1 private key (P-256 or P-384)",
            })?;
        Self::from_pair(Pair::Ecdsa(pair))
    }

    /// Reads an `RSAPrivateKey` (RFC 8017 §A.1.2).
    ///
    /// # Errors
    /// When it is longer than 16 KiB, no such key, or its public half is not a [`PublicKey`].
    pub fn from_pkcs1_der(der: &[u8]) -> Result<Self, KeyError> {
        check_length(der)?;
        let pair = RsaKeyPair::from_der(der).map_err(|_| KeyError::Rejected {
            what: "PKCS#1 private key (RSA of 2,048 bits or more)",
        })?;
        Self::from_pair(Pair::Rsa(pair))
    }

    /// Reads one unencrypted key as PEM: `PRIVATE KEY` (PKCS#8), `EC PRIVATE KEY` (SEC1) or `RSA PRIVATE KEY`
    /// (PKCS#1). The `EC PARAMETERS` that OpenSSL writes before a key are skipped: the key repeats them.
    ///
    /// # Errors
    /// When the text is no PEM, holds anything else, or the key is refused.
    pub fn from_pem(text: &str) -> Result<Self, KeyError> {
        let limits = PemLimits {
            blocks: 2,
            ..PemLimits::ONE
        };
        let blocks = pem::read(text, limits).map_err(KeyError::Pem)?;
        let key = match blocks.as_slice() {
            [key] => key,
            [parameters, key] if parameters.label() == "EC PARAMETERS" && key.label() == SEC1 => key,
            _ => return Err(KeyError::SeveralBlocks),
        };
        match key.label() {
            pem::PRIVATE_KEY => Self::from_pkcs8_der(key.der()),
            SEC1 => Self::from_sec1_der(key.der()),
            PKCS1 => Self::from_pkcs1_der(key.der()),
            pem::ENCRYPTED_PRIVATE_KEY => Err(KeyError::Locked),
            other => Err(KeyError::Label {
                found: other.to_owned(),
            }),
        }
    }

    /// The key as unencrypted PKCS#8 in PEM; wiped when the value is dropped.
    pub fn to_pem(&self) -> Zeroizing<String> {
        pem::write(pem::PRIVATE_KEY, &self.pkcs8)
    }

    /// The key as unencrypted PKCS#8; wiped when the value is dropped.
    pub fn to_pkcs8_der(&self) -> Zeroizing<Vec<u8>> {
        self.pkcs8.clone()
    }

    /// The key in the form that rustls takes. The copy is rustls' own, and is not wiped by us.
    pub fn to_rustls(&self) -> PrivateKeyDer<'static> {
        PrivatePkcs8KeyDer::from(self.pkcs8.to_vec()).into()
    }

    /// The kind of key.
    pub const fn algorithm(&self) -> KeyAlgorithm {
        self.public.algorithm()
    }

    /// The public half.
    pub const fn public_key(&self) -> &PublicKey {
        &self.public
    }

    /// Signs `message`: ECDSA in ASN.1 form (SHA-256 on P-256, SHA-384 on P-384), Ed25519, or RSA PKCS#1 v1.5
    /// with SHA-256.
    ///
    /// # Errors
    /// When the library has no randomness.
    pub fn sign(&self, message: &[u8]) -> Result<Vec<u8>, KeyError> {
        let random = SystemRandom::new();
        let failed = |_| KeyError::Sign {
            algorithm: self.algorithm(),
        };
        match &self.pair {
            Pair::Ecdsa(pair) => Ok(pair.sign(&random, message).map_err(failed)?.as_ref().to_vec()),
            Pair::Ed25519(pair) => Ok(pair.try_sign(message).map_err(failed)?.as_ref().to_vec()),
            Pair::Rsa(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature)
                    .map_err(failed)?;
                Ok(signature)
            }
        }
    }

    /// Everything else follows from the pair: the public half, which must be one that we trust, and the PKCS#8.
    fn from_pair(pair: Pair) -> Result<Self, KeyError> {
        let rejected = |_| KeyError::Rejected { what: "private key" };
        let spki: PublicKeyX509Der<'_> = match &pair {
            Pair::Ecdsa(pair) => pair.public_key().as_der(),
            Pair::Ed25519(pair) => pair.public_key().as_der(),
            Pair::Rsa(pair) => pair.public_key().as_der(),
        }
        .map_err(rejected)?;
        let public = PublicKey::from_spki_der(spki.as_ref())?;
        let pkcs8 = match &pair {
            Pair::Ecdsa(pair) => pair.to_pkcs8v1().map_err(rejected)?.as_ref().to_vec(),
            Pair::Ed25519(pair) => pair.to_pkcs8v1().map_err(rejected)?.as_ref().to_vec(),
            Pair::Rsa(pair) => {
                let der: Pkcs8V1Der<'_> = pair.as_der().map_err(rejected)?;
                der.as_ref().to_vec()
            }
        };
        Ok(Self {
            pair,
            pkcs8: Zeroizing::new(pkcs8),
            public,
        })
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PrivateKey({} [redacted])", self.algorithm())
    }
}

impl rcgen::PublicKeyData for PrivateKey {
    fn der_bytes(&self) -> &[u8] {
        rcgen::PublicKeyData::der_bytes(&self.public)
    }

    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        self.public.algorithm().rcgen()
    }
}

impl rcgen::SigningKey for PrivateKey {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        Self::sign(self, message).map_err(|_| rcgen::Error::RemoteKeyError)
    }
}

fn check_length(der: &[u8]) -> Result<(), KeyError> {
    if der.len() > MAX_PRIVATE_BYTES {
        return Err(KeyError::TooLong {
            bytes: der.len(),
            limit: MAX_PRIVATE_BYTES,
        });
    }
    Ok(())
}

/// Why a key cannot be made, read or used. No message repeats a byte of a key.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// A setting names no kind of key that is made here.
    #[error("{name:?} is no key algorithm, only p256, p384, ed25519, rsa-3072 and rsa-4096")]
    AlgorithmName {
        /// The name, cut short.
        name: String,
    },
    /// No key was made.
    #[error("cannot make a key of {algorithm}")]
    Generate {
        /// The kind of key.
        algorithm: KeyAlgorithm,
    },
    /// Longer than any key that we accept.
    #[error("the key is {bytes} bytes long, more than {limit}")]
    TooLong {
        /// Its length.
        bytes: usize,
        /// The longest that is read.
        limit: usize,
    },
    /// Not DER of the right shape, or something follows it.
    #[error("cannot read the {what}")]
    Malformed {
        /// What was read.
        what: &'static str,
        /// What the DER reader says.
        source: der::Error,
    },
    /// Read, but not a valid key: a point off its curve, or halves that do not match.
    #[error("the {what} is not valid")]
    Rejected {
        /// What was read.
        what: &'static str,
    },
    /// An algorithm outside [`KeyAlgorithm`].
    #[error("keys of the algorithm {name} are not accepted")]
    Algorithm {
        /// Its name, or its dotted number.
        name: String,
    },
    /// A curve outside [`KeyAlgorithm`].
    #[error("keys on the curve {name} are not accepted, only P-256 and P-384")]
    Curve {
        /// Its name, or its dotted number.
        name: String,
    },
    /// A size outside [`KeyAlgorithm`].
    #[error("RSA keys of {bits} bits are not accepted, only of 2048, 3072 and 4096")]
    RsaSize {
        /// The modulus' length in bits.
        bits: usize,
    },
    /// An exponent that is even, below 65,537, or above 2^33.
    #[error("the RSA key's exponent is not an odd number from 65537 to 2^33")]
    RsaExponent,
    /// The key is valid and written in a way that DER or RFC 5480 does not allow.
    #[error("the public key is not in its one canonical encoding")]
    NotCanonical,
    /// The text is not PEM, or not the block that was wanted.
    #[error("cannot read the key's PEM")]
    Pem(#[source] PemError),
    /// More in the text than one key.
    #[error("the PEM text holds more than one key")]
    SeveralBlocks,
    /// A PEM block that is no private key.
    #[error("expected a private key, found the PEM block {found:?}")]
    Label {
        /// Its label.
        found: String,
    },
    /// The key is encrypted, and no passphrase was given.
    #[error("the private key is encrypted: it needs a passphrase")]
    Locked,
    /// An empty passphrase, which protects nothing.
    #[error("the passphrase is empty")]
    EmptyPassphrase,
    /// No key was encrypted.
    #[error("cannot encrypt the private key")]
    Encrypt,
    /// The file's encryption is none that we open.
    #[error("the private key is not encrypted with PBES2, AES-CBC, and scrypt or PBKDF2 with SHA-2")]
    Encryption,
    /// Parameters that scrypt cannot use, or that would take too much memory or time.
    #[error("the cost of the key's passphrase is out of range: 64 MiB or about a second is the most")]
    SealCost,
    /// The key did not open.
    #[error("the passphrase is wrong, or the encrypted private key is damaged")]
    Passphrase,
    /// Nothing was signed.
    #[error("cannot sign with the key of {algorithm}")]
    Sign {
        /// The kind of key.
        algorithm: KeyAlgorithm,
    },
    /// The signature is not this key's, or not of this message.
    #[error("the signature does not match the message and the key")]
    Signature,
    /// Not 64 hex digits in lower case.
    #[error("the fingerprint is not 64 hex digits in lower case")]
    Fingerprint,
}

/// The longest private key that is read, in bytes; one of RSA-4096 has 2,400.
const MAX_PRIVATE_BYTES: usize = 16 * 1024;

const SEC1: &str = "EC PRIVATE KEY";

const PKCS1: &str = "RSA PRIVATE KEY";

#[cfg(test)]
mod tests;
