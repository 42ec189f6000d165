//! Reads one certificate whole, its extensions sorted by kind.

use rustls_pki_types::CertificateDer;
use x509_parser::certificate::X509Certificate;
use x509_parser::der_parser::der::parse_der;
use x509_parser::extensions::{
    AuthorityKeyIdentifier, BasicConstraints, ExtendedKeyUsage, GeneralName, KeyUsage, NameConstraints,
    ParsedExtension,
};
use x509_parser::prelude::FromDer;

use super::CertificateFault;
use crate::{Fingerprint, Lifetime, PublicKey, SerialNumber, Timestamp};

/// A certificate that x509-parser read to its last byte.
pub(crate) struct Reading<'a> {
    pub(crate) certificate: X509Certificate<'a>,
}

/// An extension that we understand, with its critical flag.
pub(crate) struct Marked<T> {
    pub(crate) critical: bool,
    pub(crate) value: T,
}

/// The extensions that our rules look at. Whatever else is there, is not critical.
#[derive(Default)]
pub(crate) struct Extensions<'c, 'a> {
    pub(crate) basic_constraints: Option<Marked<&'c BasicConstraints>>,
    pub(crate) key_usage: Option<Marked<&'c KeyUsage>>,
    pub(crate) extended_key_usage: Option<Marked<&'c ExtendedKeyUsage<'a>>>,
    pub(crate) alternative_names: Option<Marked<&'c [GeneralName<'a>]>>,
    pub(crate) name_constraints: Option<Marked<&'c NameConstraints<'a>>>,
    pub(crate) subject_key_id: Option<Marked<&'a [u8]>>,
    pub(crate) authority_key_id: Option<Marked<&'c AuthorityKeyIdentifier<'a>>>,
}

impl<'a> Reading<'a> {
    /// Reads `der`, which must hold one certificate with nothing after it.
    pub(crate) fn new(der: &'a CertificateDer<'_>) -> Result<Self, CertificateFault> {
        let (rest, certificate) =
            X509Certificate::from_der(der.as_ref()).map_err(|_| CertificateFault::Unreadable)?;
        if !rest.is_empty() {
            return Err(CertificateFault::TrailingBytes { bytes: rest.len() });
        }
        Ok(Self { certificate })
    }

    /// Sorts the extensions. A duplicate, a malformed or an unknown critical one is a fault.
    pub(crate) fn extensions<'c>(&'c self) -> Result<Extensions<'c, 'a>, CertificateFault> {
        let mut found = Extensions::default();
        let all = self.certificate.extensions();
        for (index, extension) in all.iter().enumerate() {
            let named = || extension.oid.to_id_string();
            if all[..index].iter().any(|earlier| earlier.oid == extension.oid) {
                return Err(CertificateFault::DuplicateExtension { oid: named() });
            }
            let malformed = || CertificateFault::MalformedExtension { oid: named() };
            let critical = extension.critical;
            match extension.parsed_extension() {
                ParsedExtension::ParseError { .. } => return Err(malformed()),
                ParsedExtension::BasicConstraints(value) => {
                    found.basic_constraints = Some(Marked { critical, value });
                }
                ParsedExtension::KeyUsage(value) => found.key_usage = Some(Marked { critical, value }),
                ParsedExtension::ExtendedKeyUsage(value) => {
                    found.extended_key_usage = Some(Marked { critical, value });
                }
                ParsedExtension::SubjectAlternativeName(value) => {
                    found.alternative_names = Some(Marked {
                        critical,
                        value: &value.general_names,
                    });
                }
                ParsedExtension::NameConstraints(value) => {
                    found.name_constraints = Some(Marked { critical, value });
                }
                ParsedExtension::SubjectKeyIdentifier(value) => {
                    found.subject_key_id = Some(Marked {
                        critical,
                        value: value.0,
                    });
                }
                ParsedExtension::AuthorityKeyIdentifier(value) => {
                    found.authority_key_id = Some(Marked { critical, value });
                }
                // RFC 5280 §4.2.1.11: always critical; we process no policies, so it is refused either way.
                ParsedExtension::PolicyConstraints(_) => {
                    return Err(CertificateFault::PolicyConstraints);
                }
                // webpki knows this one, and looks at it when it judges by a CRL.
                ParsedExtension::CRLDistributionPoints(_) => {}
                _ if critical => return Err(CertificateFault::UnknownCritical { oid: named() }),
                ParsedExtension::UnsupportedExtension { .. } => continue,
                _ => {}
            }
            // The parser stops at the end of the value that it knows; what follows would be read by nobody.
            match parse_der(extension.value) {
                Ok(([], _)) => {}
                _ => return Err(malformed()),
            }
        }
        Ok(found)
    }

    /// The serial number, positive and short enough.
    pub(crate) fn serial(&self) -> Result<SerialNumber, CertificateFault> {
        SerialNumber::from_der_content(self.certificate.raw_serial())
            .map_err(|source| CertificateFault::Serial { source })
    }

    /// The validity, from the first second to the last.
    pub(crate) fn lifetime(&self) -> Result<Lifetime, CertificateFault> {
        let validity = self.certificate.validity();
        Lifetime::new(
            Timestamp::from_unix(validity.not_before.timestamp()),
            Timestamp::from_unix(validity.not_after.timestamp()),
        )
        .ok_or(CertificateFault::EndsBeforeItBegins)
    }

    /// The SubjectPublicKeyInfo in DER.
    pub(crate) fn spki_der(&self) -> &[u8] {
        self.certificate.public_key().raw
    }

    /// The subject's key, of a kind that we trust.
    pub(crate) fn public_key(&self) -> Result<PublicKey, CertificateFault> {
        PublicKey::from_spki_der(self.spki_der()).map_err(|source| CertificateFault::Key { source })
    }

    /// The SHA-256 of the subject's key, whatever its kind.
    pub(crate) fn key_fingerprint(&self) -> Fingerprint {
        Fingerprint::of(self.spki_der())
    }
}

/// Foreign text, fit for a log line or an error: control characters escaped, cut at 256 characters.
pub(crate) fn printable(text: &str) -> String {
    let mut shown = String::new();
    for c in text.chars().take(MAX_PRINTED_CHARS) {
        if c.is_control() {
            shown.extend(c.escape_default());
        } else {
            shown.push(c);
        }
    }
    shown
}

/// How much of a foreign text is repeated.
const MAX_PRINTED_CHARS: usize = 256;
