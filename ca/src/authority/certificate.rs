//! Reads the certificate of an authority, ours or foreign, as far as signing with it needs.

use ferrule_identity::bundle::Anchor;
use ferrule_identity::path::CertificateFault;
use ferrule_identity::{Fingerprint, KeyError, Lifetime, PublicKey};
use rustls_pki_types::CertificateDer;
use x509_parser::extensions::ParsedExtension;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::x509::{Subject, X509Error};

/// An authority's certificate that keeps the rules for one: cA, keyCertSign, a strong key, nothing critical that is
/// unknown, no URI name constraints.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AuthorityCertificate {
    pub(crate) der: CertificateDer<'static>,
    pub(crate) key: PublicKey,
    pub(crate) lifetime: Lifetime,
    /// The subject for people.
    pub(crate) name: String,
    /// The subject as what it issues repeats it.
    pub(crate) subject: Subject,
    /// The key identifier that it gives itself.
    pub(crate) key_id: Vec<u8>,
    /// The issuer's key identifier, where it names one.
    pub(crate) issuer_key_id: Option<Vec<u8>>,
    issuer: Vec<u8>,
    raw_subject: Vec<u8>,
    /// How many authorities may be below it; `None` when there is no limit.
    pub(crate) path_length: Option<u32>,
    /// Whether its key may sign revocation lists.
    pub(crate) signs_lists: bool,
}

impl AuthorityCertificate {
    /// Reads and judges one certificate. The dates and the signature are left to whoever knows the time and the
    /// issuer.
    ///
    /// # Errors
    /// The rule that it breaks.
    pub(crate) fn read(der: &CertificateDer<'_>) -> Result<Self, AuthorityFault> {
        let anchor = Anchor::from_der(der).map_err(|source| match source {
            CertificateFault::UriNameConstraints => AuthorityFault::UriConstraints,
            source => AuthorityFault::Rule { source },
        })?;
        let (_, parsed) = X509Certificate::from_der(der).map_err(|_| AuthorityFault::Unreadable)?;
        let key = PublicKey::from_spki_der(parsed.public_key().raw)?;
        let mut read = Self {
            der: anchor.der().clone(),
            lifetime: anchor.lifetime(),
            name: anchor.subject().to_owned(),
            subject: Subject::from_der(parsed.subject().as_raw())?,
            key_id: Vec::new(),
            issuer_key_id: None,
            issuer: parsed.issuer().as_raw().to_vec(),
            raw_subject: parsed.subject().as_raw().to_vec(),
            path_length: None,
            signs_lists: false,
            key,
        };
        for extension in parsed.extensions() {
            match extension.parsed_extension() {
                ParsedExtension::SubjectKeyIdentifier(id) => read.key_id = id.0.to_vec(),
                ParsedExtension::AuthorityKeyIdentifier(id) => {
                    read.issuer_key_id = id.key_identifier.as_ref().map(|id| id.0.to_vec());
                }
                ParsedExtension::BasicConstraints(constraints) => {
                    read.path_length = constraints.path_len_constraint;
                }
                ParsedExtension::KeyUsage(usage) => read.signs_lists = usage.crl_sign(),
                _ => {}
            }
        }
        Ok(read)
    }

    /// The SHA-256 of the whole certificate.
    pub(crate) fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of(&self.der)
    }

    /// The SHA-256 of its public key, by which the ledger, the key's file and revocations name the authority.
    pub(crate) fn authority(&self) -> Fingerprint {
        self.key.fingerprint()
    }

    /// Whether it says that it issued itself.
    pub(crate) fn is_self_issued(&self) -> bool {
        self.issuer == self.raw_subject
    }

    /// Whether it says that `issuer` issued it. The signature is not looked at.
    pub(crate) fn names_as_issuer(&self, issuer: &Self) -> bool {
        let same_key = match &self.issuer_key_id {
            Some(id) => *id == issuer.key_id,
            None => true,
        };
        self.issuer == issuer.raw_subject && same_key
    }
}

/// Why a certificate is not one that this CA can sign with or below.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityFault {
    /// Not a certificate.
    #[error("it is no certificate")]
    Unreadable,
    /// A rule for authorities is broken.
    #[error("it breaks a rule for authorities")]
    Rule {
        /// The rule.
        source: CertificateFault,
    },
    /// It constrains URIs.
    #[error(
        "it has name constraints on URIs, and under those rustls refuses every SPIFFE ID, inside or outside of \
         them; ask for a certificate without"
    )]
    UriConstraints,
    /// Its key is weak or unknown.
    #[error("its key is not accepted")]
    Key(#[from] KeyError),
    /// Its subject cannot be repeated.
    #[error("its subject cannot be written as an issuer")]
    Subject(#[from] X509Error),
}
