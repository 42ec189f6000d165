//! Verifies the signatures of certificates, those by an anchor's key without reading that key again.

use std::sync::Arc;

use rustls_pki_types::{AlgorithmIdentifier, InvalidSignature, SignatureVerificationAlgorithm};

use crate::{KeyAlgorithm, PublicKey};

/// The algorithms with which certificates may be signed: nothing with SHA-1, RSA from 2,048 bits on.
pub(crate) static SIGNATURE_ALGORITHMS: [&dyn SignatureVerificationAlgorithm; ALGORITHMS] = [
    webpki::aws_lc_rs::ECDSA_P256_SHA256,
    webpki::aws_lc_rs::ECDSA_P256_SHA384,
    webpki::aws_lc_rs::ECDSA_P384_SHA256,
    webpki::aws_lc_rs::ECDSA_P384_SHA384,
    webpki::aws_lc_rs::ED25519,
    webpki::aws_lc_rs::RSA_PKCS1_2048_8192_SHA256,
    webpki::aws_lc_rs::RSA_PKCS1_2048_8192_SHA384,
    webpki::aws_lc_rs::RSA_PKCS1_2048_8192_SHA512,
    webpki::aws_lc_rs::RSA_PSS_2048_8192_SHA256_LEGACY_KEY,
    webpki::aws_lc_rs::RSA_PSS_2048_8192_SHA384_LEGACY_KEY,
    webpki::aws_lc_rs::RSA_PSS_2048_8192_SHA512_LEGACY_KEY,
];

/// The algorithms of [`SIGNATURE_ALGORITHMS`], two of which know some keys already: reading a key takes a tenth of the
/// time of a check, and those of anchors check one certificate after another.
#[derive(Debug, Clone)]
pub(crate) struct KnownKeys {
    p256: Known,
    p384: Known,
}

impl KnownKeys {
    /// Knows `keys`; any other key is read when it is needed.
    pub(crate) fn new(keys: impl IntoIterator<Item = PublicKey>) -> Self {
        let keys: Arc<[PublicKey]> = keys.into_iter().collect();
        let known = |algorithm, kind| Known {
            algorithm,
            kind,
            keys: Arc::clone(&keys),
        };
        Self {
            p256: known(webpki::aws_lc_rs::ECDSA_P256_SHA256, KeyAlgorithm::EcdsaP256),
            p384: known(webpki::aws_lc_rs::ECDSA_P384_SHA384, KeyAlgorithm::EcdsaP384),
        }
    }

    /// All algorithms, in the order of [`SIGNATURE_ALGORITHMS`].
    pub(crate) fn algorithms(&self) -> [&dyn SignatureVerificationAlgorithm; ALGORITHMS] {
        std::array::from_fn(|at| -> &dyn SignatureVerificationAlgorithm {
            match at {
                P256_SHA256 => &self.p256,
                P384_SHA384 => &self.p384,
                _ => SIGNATURE_ALGORITHMS[at],
            }
        })
    }
}

impl Default for KnownKeys {
    fn default() -> Self {
        Self::new([])
    }
}

/// One algorithm, with keys that were read before.
#[derive(Debug, Clone)]
struct Known {
    algorithm: &'static dyn SignatureVerificationAlgorithm,
    /// The keys that it is for, with their own digest.
    kind: KeyAlgorithm,
    keys: Arc<[PublicKey]>,
}

impl SignatureVerificationAlgorithm for Known {
    fn verify_signature(
        &self,
        public_key: &[u8],
        message: &[u8],
        signature: &[u8],
    ) -> Result<(), InvalidSignature> {
        let known = self
            .keys
            .iter()
            .find(|key| key.algorithm() == self.kind && key.raw() == public_key);
        match known {
            Some(key) => key.verify(message, signature).map_err(|_| InvalidSignature),
            None => self.algorithm.verify_signature(public_key, message, signature),
        }
    }

    fn public_key_alg_id(&self) -> AlgorithmIdentifier {
        self.algorithm.public_key_alg_id()
    }

    fn signature_alg_id(&self) -> AlgorithmIdentifier {
        self.algorithm.signature_alg_id()
    }
}

const ALGORITHMS: usize = 11;

/// The places of the two in [`SIGNATURE_ALGORITHMS`].
const P256_SHA256: usize = 0;
const P384_SHA384: usize = 3;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::PrivateKey;

    /// What is known changes nothing but the time that it takes.
    #[test]
    fn known_and_unknown_keys_are_held_to_the_same() {
        for kind in [KeyAlgorithm::EcdsaP256, KeyAlgorithm::EcdsaP384] {
            let [known, unknown] = [(); 2].map(|()| PrivateKey::generate(kind).unwrap());
            let keys = KnownKeys::new([known.public_key().clone()]);
            let algorithms = keys.algorithms();
            let names = algorithms.map(|algorithm| algorithm.signature_alg_id());
            for (name, plain) in names.iter().zip(SIGNATURE_ALGORITHMS) {
                assert_eq!(*name, plain.signature_alg_id());
            }
            for key in [&known, &unknown] {
                let signature = key.sign(b"message").unwrap();
                for (algorithm, plain) in algorithms.iter().zip(SIGNATURE_ALGORITHMS) {
                    for (message, signature) in [
                        (b"message", &signature[..]),
                        (b"another", &signature[..]),
                        (b"message", &signature[1..]),
                        (b"message", &[]),
                    ] {
                        let raw = key.public_key().raw();
                        let answer = algorithm.verify_signature(raw, message, signature).is_ok();
                        assert_eq!(answer, plain.verify_signature(raw, message, signature).is_ok());
                    }
                }
                let place = if kind == KeyAlgorithm::EcdsaP256 {
                    P256_SHA256
                } else {
                    P384_SHA384
                };
                let raw = key.public_key().raw();
                let answer = algorithms[place].verify_signature(raw, b"message", &signature);
                assert!(answer.is_ok());
            }
        }
    }
}
