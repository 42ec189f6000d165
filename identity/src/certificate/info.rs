//! Tells people what a certificate says.

use rustls_pki_types::CertificateDer;
use x509_parser::extensions::GeneralName;

use crate::path::CertificateFault;
use crate::path::reading::{Reading, printable};
use crate::{Fingerprint, Lifetime, SerialNumber};

/// What a certificate says about itself, for status pages and logs. Nothing here was verified. Texts are fit to
/// print: cut at 256 characters, control characters escaped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateInfo {
    /// The subject's name, such as `CN=Ferrule root`; empty when it has none.
    pub subject: String,
    /// The issuer's name.
    pub issuer: String,
    /// The serial number.
    pub serial: SerialNumber,
    /// The URI names, SPIFFE IDs among them.
    pub uris: Vec<String>,
    /// The DNS names.
    pub dns_names: Vec<String>,
    /// From its first second to its last.
    pub lifetime: Lifetime,
    /// Whether it says to be an authority's (cA).
    pub is_authority: bool,
    /// The SHA-256 of the whole certificate.
    pub fingerprint: Fingerprint,
    /// The SHA-256 of its public key.
    pub key: Fingerprint,
}

impl CertificateInfo {
    /// Reads a certificate in DER.
    ///
    /// # Errors
    /// When it cannot be read, or its extensions, its serial number or its dates make no sense.
    pub fn from_der(certificate: &CertificateDer<'_>) -> Result<Self, CertificateFault> {
        let reading = Reading::new(certificate)?;
        let extensions = reading.extensions()?;
        let (mut uris, mut dns_names) = (Vec::new(), Vec::new());
        for name in extensions.alternative_names.iter().flat_map(|names| names.value) {
            match name {
                GeneralName::URI(text) => uris.push(printable(text)),
                GeneralName::DNSName(text) => dns_names.push(printable(text)),
                _ => {}
            }
        }
        Ok(Self {
            subject: printable(&reading.certificate.subject().to_string()),
            issuer: printable(&reading.certificate.issuer().to_string()),
            serial: reading.serial()?,
            uris,
            dns_names,
            lifetime: reading.lifetime()?,
            is_authority: extensions.basic_constraints.is_some_and(|it| it.value.ca),
            fingerprint: Fingerprint::of(certificate),
            key: reading.key_fingerprint(),
        })
    }
}
