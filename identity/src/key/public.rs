//! Reads public keys that are strong enough to trust.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
use aws_lc_rs::signature::{self, ParsedPublicKey, UnparsedPublicKey, VerificationAlgorithm};
use pkcs8::der::Decode;
use pkcs8::{ObjectIdentifier, SubjectPublicKeyInfoRef};
use x509_parser::prelude::FromDer;
use x509_parser::public_key::PublicKey as ParsedKey;
use x509_parser::x509::SubjectPublicKeyInfo;

use super::{Fingerprint, KeyAlgorithm, KeyError};

/// A public key that was checked: a known algorithm, strong enough, a valid point or modulus, and encoded in
/// the one way that DER allows. Equal keys are equal bytes. Cheap to clone.
#[derive(Clone)]
pub struct PublicKey {
    algorithm: KeyAlgorithm,
    spki: Arc<[u8]>,
    /// Where in `spki` the key's own bytes begin, past the wrapping.
    raw_at: usize,
    /// The same key as the library reads it once for all signatures with the kind's own digest: reading it takes a
    /// tenth of the time of a check.
    parsed: Arc<ParsedPublicKey>,
}

impl PartialEq for PublicKey {
    fn eq(&self, other: &Self) -> bool {
        self.spki == other.spki
    }
}

impl Eq for PublicKey {}

impl Hash for PublicKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.spki.hash(state);
    }
}

impl PublicKey {
    /// Reads a SubjectPublicKeyInfo in DER (RFC 5280 §4.1.2.7) with nothing after it.
    ///
    /// # Errors
    /// When it is longer than 2,048 bytes, is not DER, has an algorithm, curve or RSA size that is not in
    /// [`KeyAlgorithm`], an RSA exponent that is even or below 65,537, or a point that is not on its curve.
    pub fn from_spki_der(der: &[u8]) -> Result<Self, KeyError> {
        if der.len() > MAX_SPKI_BYTES {
            return Err(KeyError::TooLong {
                bytes: der.len(),
                limit: MAX_SPKI_BYTES,
            });
        }
        if let Some((algorithm, raw_at)) = plain_point(der) {
            let parsed = ParsedPublicKey::new(verification(algorithm, default_digest(algorithm)), der)
                .map_err(|_| KeyError::Rejected { what: "public key" })?;
            return Ok(Self::checked(algorithm, der, raw_at, parsed));
        }
        let info = SubjectPublicKeyInfoRef::from_der(der).map_err(|source| KeyError::Malformed {
            what: "public key",
            source,
        })?;
        let curve = info
            .algorithm
            .parameters
            .and_then(|parameters| parameters.decode_as::<ObjectIdentifier>().ok());
        let algorithm = match known_algorithm(info.algorithm.oid, curve)? {
            Some(algorithm) => algorithm,
            None => rsa_strength(der)?,
        };
        let raw = info.subject_public_key.as_bytes().ok_or(KeyError::NotCanonical)?;
        // Checks the point, then writes the key anew: a second spelling of the same key (a compressed point,
        // a missing NULL) would give it a second fingerprint.
        let parsed = ParsedPublicKey::new(verification(algorithm, default_digest(algorithm)), der)
            .map_err(|_| KeyError::Rejected { what: "public key" })?;
        let canonical: PublicKeyX509Der<'_> = parsed
            .as_der()
            .map_err(|_| KeyError::Rejected { what: "public key" })?;
        if canonical.as_ref() != der {
            return Err(KeyError::NotCanonical);
        }
        Ok(Self::checked(algorithm, der, der.len() - raw.len(), parsed))
    }

    fn checked(algorithm: KeyAlgorithm, der: &[u8], raw_at: usize, parsed: ParsedPublicKey) -> Self {
        Self {
            algorithm,
            spki: der.into(),
            raw_at,
            parsed: Arc::new(parsed),
        }
    }

    /// The SubjectPublicKeyInfo in DER.
    pub fn spki_der(&self) -> &[u8] {
        &self.spki
    }

    /// The key's own bytes: what the wrapping calls the subject's public key.
    pub(crate) fn raw(&self) -> &[u8] {
        &self.spki[self.raw_at..]
    }

    /// The kind of key.
    pub const fn algorithm(&self) -> KeyAlgorithm {
        self.algorithm
    }

    /// The SHA-256 of [`spki_der`](Self::spki_der).
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of(&self.spki)
    }

    /// Checks a signature of the kind that [`PrivateKey::sign`](super::PrivateKey::sign) makes.
    ///
    /// # Errors
    /// [`KeyError::Signature`] when it was not made over `message` by this key.
    pub fn verify(&self, message: &[u8], signature: &[u8]) -> Result<(), KeyError> {
        self.verify_with(default_digest(self.algorithm), message, signature)
    }

    /// Checks a signature that was made with `digest`; Ed25519 has one of its own and ignores it.
    pub(crate) fn verify_with(
        &self,
        digest: Digest,
        message: &[u8],
        signature: &[u8],
    ) -> Result<(), KeyError> {
        let checked = if digest == default_digest(self.algorithm) {
            self.parsed.verify_sig(message, signature)
        } else {
            UnparsedPublicKey::new(verification(self.algorithm, digest), &self.spki)
                .verify(message, signature)
        };
        checked.map_err(|_| KeyError::Signature)
    }
}

impl rcgen::PublicKeyData for PublicKey {
    fn der_bytes(&self) -> &[u8] {
        self.raw()
    }

    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        self.algorithm.rcgen()
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({} {})", self.algorithm, self.fingerprint())
    }
}

/// The digest inside a signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Digest {
    Sha256,
    Sha384,
    Sha512,
}

/// The algorithm that an identifier names, or `None` for RSA, whose strength lies in the key itself.
///
/// # Errors
/// Names what is not in [`KeyAlgorithm`].
pub(super) fn known_algorithm(
    oid: ObjectIdentifier,
    curve: Option<ObjectIdentifier>,
) -> Result<Option<KeyAlgorithm>, KeyError> {
    match (oid, curve) {
        (RSA, _) => Ok(None),
        (ED25519, _) => Ok(Some(KeyAlgorithm::Ed25519)),
        (EC, Some(P256)) => Ok(Some(KeyAlgorithm::EcdsaP256)),
        (EC, Some(P384)) => Ok(Some(KeyAlgorithm::EcdsaP384)),
        (EC, Some(other)) => Err(KeyError::Curve { name: name_of(other) }),
        (EC, None) => Err(KeyError::Curve {
            name: "without a name".into(),
        }),
        (other, _) => Err(KeyError::Algorithm { name: name_of(other) }),
    }
}

/// The curve of an uncompressed point in the one wrapping that DER and RFC 5480 allow, and where the point begins.
/// Such a key has no second spelling: the library takes no coordinate that is not below the field's prime.
fn plain_point(der: &[u8]) -> Option<(KeyAlgorithm, usize)> {
    let of = |(algorithm, wrapping, point): &(KeyAlgorithm, &[u8], usize)| {
        let fits = der.len() == wrapping.len() + point && der.starts_with(wrapping);
        // The wrapping ends with the mark of an uncompressed point, which is the point's own first octet.
        fits.then_some((*algorithm, wrapping.len() - 1))
    };
    PLAIN_POINTS.iter().find_map(of)
}

/// The kind of RSA key that the SubjectPublicKeyInfo `der` holds, judged by its size and its exponent.
fn rsa_strength(der: &[u8]) -> Result<KeyAlgorithm, KeyError> {
    let rejected = KeyError::Rejected {
        what: "RSA public key",
    };
    let Ok((_, info)) = SubjectPublicKeyInfo::from_der(der) else {
        return Err(rejected);
    };
    let Ok(ParsedKey::RSA(key)) = info.parsed() else {
        return Err(rejected);
    };
    let bits = bits_of(key.modulus);
    let algorithm = match bits {
        2048 => KeyAlgorithm::Rsa2048,
        3072 => KeyAlgorithm::Rsa3072,
        4096 => KeyAlgorithm::Rsa4096,
        _ => return Err(KeyError::RsaSize { bits }),
    };
    let exponent = significant(key.exponent);
    let value = exponent.iter().try_fold(0_u64, |value, byte| {
        Some(value.checked_mul(256)? + u64::from(*byte))
    });
    match value {
        Some(value) if value % 2 == 1 && (MIN_EXPONENT..=MAX_EXPONENT).contains(&value) => Ok(algorithm),
        _ => Err(KeyError::RsaExponent),
    }
}

fn bits_of(number: &[u8]) -> usize {
    match significant(number) {
        [] => 0,
        [first, rest @ ..] => (8 - first.leading_zeros() as usize) + 8 * rest.len(),
    }
}

/// A big-endian number without its leading zeros.
fn significant(number: &[u8]) -> &[u8] {
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    &number[zeros..]
}

/// The digest that goes with a kind of key when it signs.
pub(super) const fn default_digest(algorithm: KeyAlgorithm) -> Digest {
    match algorithm {
        KeyAlgorithm::EcdsaP384 => Digest::Sha384,
        _ => Digest::Sha256,
    }
}

fn verification(algorithm: KeyAlgorithm, digest: Digest) -> &'static dyn VerificationAlgorithm {
    match (algorithm, digest) {
        (KeyAlgorithm::Ed25519, _) => &signature::ED25519,
        (KeyAlgorithm::EcdsaP256, Digest::Sha256) => &signature::ECDSA_P256_SHA256_ASN1,
        (KeyAlgorithm::EcdsaP256, Digest::Sha384) => &signature::ECDSA_P256_SHA384_ASN1,
        (KeyAlgorithm::EcdsaP256, Digest::Sha512) => &signature::ECDSA_P256_SHA512_ASN1,
        (KeyAlgorithm::EcdsaP384, Digest::Sha256) => &signature::ECDSA_P384_SHA256_ASN1,
        (KeyAlgorithm::EcdsaP384, Digest::Sha384) => &signature::ECDSA_P384_SHA384_ASN1,
        (KeyAlgorithm::EcdsaP384, Digest::Sha512) => &signature::ECDSA_P384_SHA512_ASN1,
        (_, Digest::Sha256) => &signature::RSA_PKCS1_2048_8192_SHA256,
        (_, Digest::Sha384) => &signature::RSA_PKCS1_2048_8192_SHA384,
        (_, Digest::Sha512) => &signature::RSA_PKCS1_2048_8192_SHA512,
    }
}

/// A name for an identifier that is refused; the dotted number when we have none.
fn name_of(oid: ObjectIdentifier) -> String {
    let number = oid.to_string();
    REFUSED_NAMES
        .iter()
        .find(|(known, _)| *known == number)
        .map_or(number, |(_, name)| (*name).to_owned())
}

/// What stands before the two coordinates of an uncompressed point, and how many octets these have (RFC 5480 §2).
const PLAIN_POINTS: [(KeyAlgorithm, &[u8], usize); 2] = [
    (
        KeyAlgorithm::EcdsaP256,
        b"\x30\x59\x30\x13\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07\x03\x42\x00\x04",
        64,
    ),
    (
        KeyAlgorithm::EcdsaP384,
        b"\x30\x76\x30\x10\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x05\x2b\x81\x04\x00\x22\x03\x62\x00\x04",
        96,
    ),
];

/// The longest SubjectPublicKeyInfo that is read, in bytes; one of RSA-4096 has 550.
const MAX_SPKI_BYTES: usize = 2048;

/// FIPS 186-5 §A.1.1: the exponent is odd, and greater than 2^16.
const MIN_EXPONENT: u64 = 65_537;

/// Larger exponents make a signature slow to check; aws-lc stops here, too.
const MAX_EXPONENT: u64 = (1 << 33) - 1;

const RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
const EC: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
const ED25519: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.112");
const P256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");
const P384: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.132.0.34");

/// What we refuse and can call by its name.
const REFUSED_NAMES: [(&str, &str); 10] = [
    ("1.2.840.10040.4.1", "DSA"),
    ("1.2.840.113549.1.1.10", "RSASSA-PSS"),
    ("1.3.101.110", "X25519"),
    ("1.3.101.111", "X448"),
    ("1.3.101.113", "Ed448"),
    ("1.2.840.10045.3.1.1", "P-192"),
    ("1.3.132.0.33", "P-224"),
    ("1.3.132.0.35", "P-521"),
    ("1.3.132.0.10", "secp256k1"),
    ("1.3.36.3.3.2.8.1.1.7", "brainpoolP256r1"),
];
