//! Says why a bundle is refused.

use rustls_pki_types::CertificateDer;

use crate::path::CertificateFault;
use crate::path::reading::{Reading, printable};
use crate::pem::PemError;
use crate::{SpiffeIdError, Timestamp, TrustDomain};

/// Why a bundle, or a map of bundles, is refused. Entries and certificates are counted from 0.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// Not the PEM that we read.
    #[error("cannot read the bundle as PEM")]
    Pem {
        /// The line, and what is wrong there.
        source: PemError,
    },
    /// More bytes than are read.
    #[error("the bundle has {bytes} bytes, more than {limit}")]
    TooLarge {
        /// How many it has.
        bytes: usize,
        /// How many are read.
        limit: usize,
    },
    /// Not JSON, or JSON that has a key twice.
    #[error("cannot read the bundle as JSON")]
    Json {
        /// The line, and what is wrong there.
        source: serde_json::Error,
    },
    /// A part of the document is missing, or is not what it must be.
    #[error("the bundle's {what} is missing or not {expected}")]
    Shape {
        /// Which part.
        what: String,
        /// What it must be.
        expected: &'static str,
    },
    /// More anchors than are taken.
    #[error("the bundle has {count} certificates, more than 256")]
    TooMany {
        /// How many it has.
        count: usize,
    },
    /// A certificate that is not fit to be trusted.
    #[error("certificate {index} of the bundle ({subject}) cannot be a trust anchor")]
    Anchor {
        /// Its place.
        index: usize,
        /// Its subject, or that it has none.
        subject: String,
        /// The rule that it breaks.
        source: CertificateFault,
    },
    /// Nothing in the bundle is valid any more.
    #[error(
        "every certificate of the bundle has expired, the last ({subject}) at {not_after}, and it is {now}"
    )]
    AllExpired {
        /// The subject of the one that lasted longest.
        subject: String,
        /// Its last second.
        not_after: Timestamp,
        /// Our time.
        now: Timestamp,
    },
    /// A key of a bundle map that is no trust domain.
    #[error("{name:?} in the bundle map is no trust domain")]
    Name {
        /// The key, cut short.
        name: String,
        /// The rule that it breaks.
        source: SpiffeIdError,
    },
    /// One bundle of a map is refused, and with it the map.
    #[error("the bundle of {trust_domain} is refused")]
    InMap {
        /// Whose bundle.
        trust_domain: TrustDomain,
        /// Why.
        source: Box<BundleError>,
    },
    /// A bundle older than the one in use.
    #[error("the bundle of {trust_domain} goes back from number {held} to {offered}")]
    Rollback {
        /// Whose bundle.
        trust_domain: TrustDomain,
        /// The number of the one in use.
        held: u64,
        /// The number of the refused one.
        offered: u64,
    },
    /// Other anchors under the same number.
    #[error("the bundle of {trust_domain} changed, but kept the number {sequence}")]
    Renumber {
        /// Whose bundle.
        trust_domain: TrustDomain,
        /// The number.
        sequence: u64,
    },
}

impl BundleError {
    pub(super) fn anchor(index: usize, der: &CertificateDer<'_>, source: CertificateFault) -> Self {
        let subject = match Reading::new(der) {
            Ok(reading) => printable(&reading.certificate.subject().to_string()),
            Err(_) => "unreadable".to_owned(),
        };
        Self::Anchor {
            index,
            subject,
            source,
        }
    }

    pub(super) fn shape(what: impl Into<String>, expected: &'static str) -> Self {
        Self::Shape {
            what: what.into(),
            expected,
        }
    }
}
