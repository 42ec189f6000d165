//! Reads certificate revocation lists that other authorities sign (RFC 5280 §5).

use std::collections::HashSet;

use rustls_pki_types::CertificateDer;
use webpki::{BorrowedCertRevocationList, EndEntityCert};
use x509_parser::extensions::ParsedExtension;
use x509_parser::prelude::FromDer;
use x509_parser::revocation_list::CertificateRevocationList;

use crate::path::reading::{Reading, printable};
use crate::path::{Link, SIGNATURE_ALGORITHMS};
use crate::{Fingerprint, SerialNumber, Timestamp};

/// A revocation list whose signature and dates were checked when it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Crl {
    issuer: Fingerprint,
    serials: HashSet<SerialNumber>,
    next_update: Timestamp,
}

impl Crl {
    /// Reads a list in DER that is current at `now`, and that one of `issuers` signed: the anchors of a bundle,
    /// or authorities' certificates below them. The list then speaks about what that one's key signed, and about
    /// nothing else, so that a list from a stranger does no harm.
    ///
    /// # Errors
    /// When it is longer than 16 MiB; is not a complete, direct list of version 2 with a number and a nextUpdate;
    /// is not current; or none of `issuers` has its issuer's name, a key that may sign lists and made the signature.
    pub fn from_der(der: &[u8], issuers: &[CertificateDer<'_>], now: Timestamp) -> Result<Self, CrlError> {
        if der.len() > MAX_CRL_BYTES {
            return Err(CrlError::TooLarge { bytes: der.len() });
        }
        // webpki's reader refuses what it cannot honour (deltas, indirect lists, unknown critical extensions);
        // x509-parser's gives the dates.
        let strict =
            BorrowedCertRevocationList::from_der(der).map_err(|source| CrlError::Malformed { source })?;
        let (_, list) = CertificateRevocationList::from_der(der).map_err(|_| CrlError::Unreadable)?;
        check_extensions(&list)?;
        let next_update = check_dates(&list, now)?;
        let issuer = find_signer(&list, issuers)?;
        let mut serials = HashSet::new();
        for revoked in &strict {
            let revoked = revoked.map_err(|source| CrlError::Malformed { source })?;
            // A number that no certificate may have matches none that we would accept.
            serials.extend(SerialNumber::from_der_content(revoked.serial_number).ok());
        }
        Ok(Self {
            issuer,
            serials,
            next_update,
        })
    }

    /// When the issuer promises a newer list.
    pub const fn next_update(&self) -> Timestamp {
        self.next_update
    }

    /// The key about whose certificates the list speaks.
    pub const fn issuer(&self) -> Fingerprint {
        self.issuer
    }

    /// Whether the list names `certificate`.
    pub fn revokes(&self, certificate: &Link) -> bool {
        self.issuer == certificate.issuer && self.serials.contains(&certificate.serial)
    }
}

fn check_extensions(list: &CertificateRevocationList<'_>) -> Result<(), CrlError> {
    let mut numbered = false;
    for extension in list.extensions() {
        match extension.parsed_extension() {
            ParsedExtension::CRLNumber(_) if extension.critical => return Err(CrlError::CriticalNumber),
            ParsedExtension::CRLNumber(_) => numbered = true,
            ParsedExtension::IssuingDistributionPoint(_) => return Err(CrlError::Partial),
            _ => {}
        }
    }
    numbered.then_some(()).ok_or(CrlError::NoNumber)
}

fn check_dates(list: &CertificateRevocationList<'_>, now: Timestamp) -> Result<Timestamp, CrlError> {
    let this_update = Timestamp::from_unix(list.last_update().timestamp());
    if now < this_update {
        return Err(CrlError::NotYetValid { this_update, now });
    }
    let next_update = list.next_update().ok_or(CrlError::Unreadable)?;
    let next_update = Timestamp::from_unix(next_update.timestamp());
    if now > next_update {
        return Err(CrlError::Expired { next_update, now });
    }
    Ok(next_update)
}

/// The key of the issuer that signed the list.
fn find_signer(
    list: &CertificateRevocationList<'_>,
    issuers: &[CertificateDer<'_>],
) -> Result<Fingerprint, CrlError> {
    let mut refused = CrlError::UnknownIssuer {
        issuer: printable(&list.issuer().to_string()),
    };
    for der in issuers {
        let Ok(reading) = Reading::new(der) else { continue };
        if reading.certificate.subject().as_raw() != list.issuer().as_raw() {
            continue;
        }
        let signed = EndEntityCert::try_from(der).is_ok_and(|issuer| {
            SIGNATURE_ALGORITHMS.iter().any(|algorithm| {
                issuer
                    .verify_signature(
                        *algorithm,
                        list.tbs_cert_list.as_ref(),
                        &list.signature_value.data,
                    )
                    .is_ok()
            })
        });
        if !signed {
            refused = CrlError::Signature;
            continue;
        }
        // RFC 5280 §6.3.3 (f): when there is a key usage, it must allow this.
        let usage = reading.extensions().map_err(|_| CrlError::MayNotSign)?.key_usage;
        if usage.is_some_and(|usage| !usage.value.crl_sign()) {
            return Err(CrlError::MayNotSign);
        }
        return Ok(reading.key_fingerprint());
    }
    Err(refused)
}

/// Why a revocation list is refused.
#[derive(Debug, thiserror::Error)]
pub enum CrlError {
    /// More bytes than are read.
    #[error("the revocation list has {bytes} bytes, more than {MAX_CRL_BYTES}")]
    TooLarge {
        /// How many it has.
        bytes: usize,
    },
    /// Not a list that can be honoured as a whole.
    #[error("the revocation list is malformed, or of a kind that is not supported")]
    Malformed {
        /// What the reader says.
        source: webpki::Error,
    },
    /// Not DER of a list's shape, or without nextUpdate.
    #[error("the revocation list cannot be read")]
    Unreadable,
    /// No number (RFC 5280 §5.2.3).
    #[error("the revocation list has no number")]
    NoNumber,
    /// A number that is marked critical (RFC 5280 §5.2.3).
    #[error("the revocation list's number is marked critical")]
    CriticalNumber,
    /// A list that covers only some of its issuer's certificates (RFC 5280 §5.2.5).
    #[error("the revocation list covers only a part of its issuer's certificates, which is not supported")]
    Partial,
    /// Not current yet.
    #[error("the revocation list begins at {this_update}, and it is only {now}")]
    NotYetValid {
        /// Its thisUpdate.
        this_update: Timestamp,
        /// Our time.
        now: Timestamp,
    },
    /// Not current any more.
    #[error("the revocation list ended at {next_update}, and it is {now}")]
    Expired {
        /// Its nextUpdate.
        next_update: Timestamp,
        /// Our time.
        now: Timestamp,
    },
    /// Nobody that we know issued it.
    #[error("the revocation list is from {issuer:?}, which is none of the given authorities")]
    UnknownIssuer {
        /// The issuer's name.
        issuer: String,
    },
    /// The issuer did not sign it.
    #[error("the revocation list's signature is not that of the issuer that it names")]
    Signature,
    /// The issuer's key usage lacks cRLSign.
    #[error("the issuer's key may not sign revocation lists")]
    MayNotSign,
}

/// The longest list that is read, in bytes; an entry has about 40.
const MAX_CRL_BYTES: usize = 16 * 1024 * 1024;
