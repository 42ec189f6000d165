//! Names the kinds of keys that certificates may have.

use std::fmt;
use std::str::FromStr;

use super::KeyError;

/// A kind of key: the algorithm with its curve or size. Everything else is refused by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum KeyAlgorithm {
    /// ECDSA on NIST P-256, signing with SHA-256; the default for workloads.
    EcdsaP256,
    /// ECDSA on NIST P-384, signing with SHA-384; the `cnsa` profile.
    EcdsaP384,
    /// Ed25519 (RFC 8410).
    Ed25519,
    /// RSA of 2,048 bits: read, because authorities of others have it, and never made.
    Rsa2048,
    /// RSA of 3,072 bits, signing with PKCS#1 v1.5 and SHA-256.
    Rsa3072,
    /// RSA of 4,096 bits, signing with PKCS#1 v1.5 and SHA-256.
    Rsa4096,
}

impl KeyAlgorithm {
    /// Every kind of key that is made here, in the order in which messages list them.
    pub const MADE: [Self; 5] = [
        Self::EcdsaP256,
        Self::EcdsaP384,
        Self::Ed25519,
        Self::Rsa3072,
        Self::Rsa4096,
    ];

    /// The name in settings, such as `p256` or `rsa-3072`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::EcdsaP256 => "p256",
            Self::EcdsaP384 => "p384",
            Self::Ed25519 => "ed25519",
            Self::Rsa2048 => "rsa-2048",
            Self::Rsa3072 => "rsa-3072",
            Self::Rsa4096 => "rsa-4096",
        }
    }

    /// Whether it is RSA of any size.
    pub const fn is_rsa(self) -> bool {
        matches!(self, Self::Rsa2048 | Self::Rsa3072 | Self::Rsa4096)
    }

    /// The certificate signature algorithm that keys of this kind sign with, as rcgen names it.
    pub fn rcgen(self) -> &'static rcgen::SignatureAlgorithm {
        match self {
            Self::EcdsaP256 => &rcgen::PKCS_ECDSA_P256_SHA256,
            Self::EcdsaP384 => &rcgen::PKCS_ECDSA_P384_SHA384,
            Self::Ed25519 => &rcgen::PKCS_ED25519,
            Self::Rsa2048 | Self::Rsa3072 | Self::Rsa4096 => &rcgen::PKCS_RSA_SHA256,
        }
    }
}

impl FromStr for KeyAlgorithm {
    type Err = KeyError;

    /// Reads the name of a kind of key that is made here; `rsa-2048` is not among them.
    fn from_str(name: &str) -> Result<Self, KeyError> {
        Self::MADE
            .into_iter()
            .find(|algorithm| algorithm.as_str() == name)
            .ok_or_else(|| KeyError::AlgorithmName {
                name: name.chars().take(MAX_QUOTED_CHARS).collect(),
            })
    }
}

impl fmt::Display for KeyAlgorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How much of a wrong name an error repeats, in characters.
const MAX_QUOTED_CHARS: usize = 40;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_that_is_printed_is_read() {
        for algorithm in KeyAlgorithm::MADE {
            assert_eq!(algorithm.to_string().parse::<KeyAlgorithm>().unwrap(), algorithm);
        }
    }

    #[test]
    fn other_names_are_refused() {
        for name in ["", "P256", "rsa-2048", "rsa", "p521", "ed448"] {
            let error = name.parse::<KeyAlgorithm>().unwrap_err();
            assert!(matches!(error, KeyError::AlgorithmName { .. }), "{name}: {error}");
        }
    }
}
