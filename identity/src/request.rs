//! Asks for a certificate: the PKCS#10 request (RFC 2986), which proves that its maker holds the key.
//!
//! A request of ours names nobody: the authority alone decides what a certificate says. What a foreign request
//! asks for is still read in full, so that the authority can refuse what its caller is not entitled to.

mod asked;

use pkcs8::AlgorithmIdentifierRef;
use pkcs8::der::{self, Reader as _, SliceReader, Tag, asn1::BitStringRef};
use rcgen::{CertificateParams, DistinguishedName};
use x509_parser::certification_request::X509CertificationRequestInfo;
use x509_parser::error::X509Error;
use x509_parser::nom;
use x509_parser::prelude::FromDer;

use crate::key::{Digest, KeyAlgorithm, KeyError, PrivateKey, PublicKey};
use crate::pem::{self, PemError};

pub use asked::AskedNames;

/// A request whose proof of possession was checked: whoever made it holds the private half of
/// [`public_key`](Self::public_key).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SigningRequest {
    public_key: PublicKey,
    asked: AskedNames,
}

impl SigningRequest {
    /// The longest request that is read, in bytes of DER.
    pub const MAX_BYTES: usize = 16 * 1024;

    /// Makes a request in DER for a certificate over `key`, signed by it. It asks for no name.
    ///
    /// # Errors
    /// When the key does not sign.
    pub fn build(key: &PrivateKey) -> Result<Vec<u8>, RequestError> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        let request = params.serialize_request(key).map_err(RequestError::Build)?;
        Ok(request.der().to_vec())
    }

    /// As [`build`](Self::build), in PEM.
    ///
    /// # Errors
    /// As [`build`](Self::build).
    pub fn build_pem(key: &PrivateKey) -> Result<String, RequestError> {
        let der = Self::build(key)?;
        Ok(pem::write(pem::CERTIFICATE_REQUEST, &der).to_string())
    }

    /// Reads one request in DER with nothing after it, and checks its signature.
    ///
    /// # Errors
    /// When it is longer than [`MAX_BYTES`](Self::MAX_BYTES), is malformed, repeats an attribute or an
    /// extension, asks for more than [`AskedNames::MAX`] things, its key is not a [`PublicKey`], or the signature
    /// is not that key's, or made with anything weaker than SHA-256.
    pub fn from_der(der: &[u8]) -> Result<Self, RequestError> {
        if der.len() > Self::MAX_BYTES {
            return Err(RequestError::TooLong { bytes: der.len() });
        }
        let parts = Parts::read(der)?;
        let (rest, info) = X509CertificationRequestInfo::from_der(parts.info).map_err(unreadable)?;
        if !rest.is_empty() {
            return Err(RequestError::Truncated);
        }
        if info.version.0 != 0 {
            return Err(RequestError::Version {
                found: info.version.0,
            });
        }
        // The key first: a weak one is refused before any arithmetic is done with it.
        let public_key = PublicKey::from_spki_der(info.subject_pki.raw).map_err(RequestError::Key)?;
        let asked = AskedNames::read(&info)?;
        let digest = digest_of(parts.algorithm, public_key.algorithm())?;
        public_key
            .verify_with(digest, parts.info, parts.signature)
            .map_err(|source| RequestError::Possession { source })?;
        Ok(Self { public_key, asked })
    }

    /// Reads one request in PEM, with nothing around it.
    ///
    /// # Errors
    /// As [`from_der`](Self::from_der), or when the text is not one block `CERTIFICATE REQUEST`.
    pub fn from_pem(text: &str) -> Result<Self, RequestError> {
        let block = pem::read_one(text, pem::CERTIFICATE_REQUEST).map_err(RequestError::Pem)?;
        Self::from_der(block.der())
    }

    /// The key that the certificate is asked for.
    pub const fn public_key(&self) -> &PublicKey {
        &self.public_key
    }

    /// Everything else that the request asks for; nothing, when it was made here.
    pub const fn asked(&self) -> &AskedNames {
        &self.asked
    }
}

/// The three parts of a signed request (RFC 2986 §4.2). What the signature does not cover is read by a parser
/// that knows one spelling only, so that nobody can change a byte of a request unseen.
struct Parts<'a> {
    /// What is signed, its own header included.
    info: &'a [u8],
    algorithm: AlgorithmIdentifierRef<'a>,
    signature: &'a [u8],
}

impl<'a> Parts<'a> {
    fn read(der: &'a [u8]) -> Result<Self, RequestError> {
        let malformed = |source| RequestError::Malformed { source };
        let mut reader = SliceReader::new(der).map_err(malformed)?;
        let parts = reader
            .sequence(|reader| {
                let info = reader.tlv_bytes()?;
                let algorithm = reader.decode()?;
                let signature: BitStringRef<'_> = reader.decode()?;
                let signature = signature.as_bytes().ok_or_else(|| Tag::BitString.value_error())?;
                Ok(Self {
                    info,
                    algorithm,
                    signature,
                })
            })
            .map_err(malformed)?;
        match u32::from(reader.remaining_len()) {
            0 => Ok(parts),
            bytes => Err(RequestError::Trailing { bytes }),
        }
    }
}

/// The digest of a signature algorithm that goes with a key of kind `key`.
fn digest_of(signature: AlgorithmIdentifierRef<'_>, key: KeyAlgorithm) -> Result<Digest, RequestError> {
    let number = signature.oid.to_string();
    let Some((_, name, family, digest)) = SIGNATURES.iter().find(|(known, ..)| *known == number) else {
        let name = REFUSED_SIGNATURES
            .iter()
            .find(|(known, _)| *known == number)
            .map_or(number.clone(), |(_, name)| (*name).to_owned());
        return Err(RequestError::SignatureAlgorithm { name });
    };
    let fits = match family {
        Family::Ecdsa => matches!(key, KeyAlgorithm::EcdsaP256 | KeyAlgorithm::EcdsaP384),
        Family::Ed25519 => key == KeyAlgorithm::Ed25519,
        Family::Rsa => key.is_rsa(),
    };
    if !fits {
        return Err(RequestError::SignatureMismatch { name, key });
    }
    // RFC 8410 §3, RFC 5758 §3.2: absent. RFC 4055 §5: NULL, or absent.
    let plain = match signature.parameters {
        None => true,
        Some(parameters) => *family == Family::Rsa && parameters.is_null(),
    };
    if plain {
        Ok(*digest)
    } else {
        Err(RequestError::SignatureAlgorithm {
            name: format!("{name} with parameters"),
        })
    }
}

fn unreadable(error: nom::Err<X509Error>) -> RequestError {
    match error {
        nom::Err::Error(source) | nom::Err::Failure(source) => RequestError::Info { source },
        nom::Err::Incomplete(_) => RequestError::Truncated,
    }
}

/// The keys that a signature algorithm belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Family {
    Ecdsa,
    Ed25519,
    Rsa,
}

/// Why a request is refused.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// No request was made.
    #[error("cannot build the certificate request")]
    Build(#[source] rcgen::Error),
    /// The text is not PEM, or not the block that was wanted.
    #[error("cannot read the certificate request's PEM")]
    Pem(#[source] PemError),
    /// Longer than [`SigningRequest::MAX_BYTES`].
    #[error(
        "the certificate request is {bytes} bytes long, more than {}",
        SigningRequest::MAX_BYTES
    )]
    TooLong {
        /// Its length.
        bytes: usize,
    },
    /// Not a signed request in DER.
    #[error("cannot read the certificate request")]
    Malformed {
        /// What the DER reader says.
        source: der::Error,
    },
    /// The signed part is not what RFC 2986 §4.1 says.
    #[error("cannot read the signed part of the certificate request")]
    Info {
        /// What the reader says.
        source: X509Error,
    },
    /// The parts of the signed part do not fill it.
    #[error("the signed part of the certificate request has the wrong length")]
    Truncated,
    /// Something follows the request.
    #[error("{bytes} byte(s) follow the certificate request")]
    Trailing {
        /// How much.
        bytes: u32,
    },
    /// Not version 1, whose number is 0 (RFC 2986 §4.1).
    #[error("the certificate request has the version number {found} instead of 0")]
    Version {
        /// The number.
        found: u32,
    },
    /// The key is weak, unknown or malformed.
    #[error("the certificate request's key is refused")]
    Key(#[source] KeyError),
    /// A signature that is too weak, or unknown.
    #[error("certificate requests signed with {name} are not accepted")]
    SignatureAlgorithm {
        /// Its name, or its dotted number.
        name: String,
    },
    /// A signature algorithm that the request's own key cannot have used.
    #[error("the certificate request is signed with {name}, which does not go with its key of {key}")]
    SignatureMismatch {
        /// The signature algorithm's name.
        name: &'static str,
        /// The kind of the request's key.
        key: KeyAlgorithm,
    },
    /// The signature is not the key's: the maker has not shown that he holds it.
    #[error("the certificate request does not prove possession of its key")]
    Possession {
        /// What the check says.
        source: KeyError,
    },
    /// Something that may be there once is there again: a second place to hide a name.
    #[error("the certificate request has more than one {what}")]
    Repeated {
        /// What is repeated.
        what: String,
    },
    /// An extension that cannot be read to its end.
    #[error("cannot read what the certificate request asks for in {what}")]
    Asked {
        /// Where.
        what: String,
    },
    /// More names and extensions than [`AskedNames::MAX`].
    #[error("the certificate request asks for more than {} things", AskedNames::MAX)]
    TooMuchAsked,
}

/// The signatures that are accepted: number, name, keys, digest.
const SIGNATURES: [(&str, &str, Family, Digest); 7] = [
    (
        "1.2.840.10045.4.3.2",
        "ecdsa-with-SHA256",
        Family::Ecdsa,
        Digest::Sha256,
    ),
    (
        "1.2.840.10045.4.3.3",
        "ecdsa-with-SHA384",
        Family::Ecdsa,
        Digest::Sha384,
    ),
    (
        "1.2.840.10045.4.3.4",
        "ecdsa-with-SHA512",
        Family::Ecdsa,
        Digest::Sha512,
    ),
    ("1.3.101.112", "Ed25519", Family::Ed25519, Digest::Sha512),
    (
        "1.2.840.113549.1.1.11",
        "sha256WithRSAEncryption",
        Family::Rsa,
        Digest::Sha256,
    ),
    (
        "1.2.840.113549.1.1.12",
        "sha384WithRSAEncryption",
        Family::Rsa,
        Digest::Sha384,
    ),
    (
        "1.2.840.113549.1.1.13",
        "sha512WithRSAEncryption",
        Family::Rsa,
        Digest::Sha512,
    ),
];

/// What we refuse and can call by its name.
const REFUSED_SIGNATURES: [(&str, &str); 6] = [
    ("1.2.840.113549.1.1.4", "md5WithRSAEncryption"),
    ("1.2.840.113549.1.1.5", "sha1WithRSAEncryption"),
    ("1.2.840.113549.1.1.10", "RSASSA-PSS"),
    ("1.2.840.10045.4.1", "ecdsa-with-SHA1"),
    ("1.2.840.10045.4.3.1", "ecdsa-with-SHA224"),
    ("1.3.101.113", "Ed448"),
];

#[cfg(test)]
mod tests;
