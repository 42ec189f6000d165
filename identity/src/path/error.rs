//! Says why a chain leads to no trust anchor.

use std::fmt;

use rustls_pki_types::{CertificateDer, UnixTime};

use super::reading::Reading;
use super::rules::{self, Role};
use super::{CertificateFault, Link, MAX_CHAIN_BYTES, MAX_NAMESAKES};
use crate::revocation::Revoked;
use crate::{Lifetime, Timestamp};

/// Which certificate an error is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// The first of the chain.
    Leaf,
    /// Another one of the chain, the leaf counting as 0.
    Chain(usize),
    /// The trust anchor.
    Anchor,
    /// One that the path builder did not name.
    Unknown,
}

impl Place {
    pub(super) fn of(der: &CertificateDer<'_>, chain: &[CertificateDer<'_>]) -> Self {
        match chain.iter().position(|other| other == der) {
            Some(0) => Self::Leaf,
            Some(index) => Self::Chain(index),
            None => Self::Unknown,
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Leaf => f.write_str("the leaf certificate"),
            Self::Chain(index) => write!(f, "certificate {index} of the chain (the leaf is 0)"),
            Self::Anchor => f.write_str("the trust anchor"),
            Self::Unknown => f.write_str("a certificate of the chain"),
        }
    }
}

/// Why no path is accepted.
#[derive(Debug, thiserror::Error)]
pub enum PathError {
    /// No certificate at all.
    #[error("the chain is empty")]
    Empty,
    /// More certificates than we look at.
    #[error("the chain has {count} certificates, more than {most}")]
    TooMany {
        /// How many it has.
        count: usize,
        /// How many are looked at.
        most: usize,
    },
    /// More bytes than we look at.
    #[error("the chain has {bytes} bytes, more than {MAX_CHAIN_BYTES}")]
    TooLarge {
        /// How many it has.
        bytes: usize,
    },
    /// Many certificates of one subject, which make the number of possible paths explode.
    #[error("the chain has {count} certificates of one subject, more than {MAX_NAMESAKES}")]
    Namesakes {
        /// How many it has.
        count: usize,
    },
    /// A certificate breaks a rule by itself.
    #[error("{place} is refused")]
    Certificate {
        /// Which one.
        place: Place,
        /// The rule.
        source: CertificateFault,
    },
    /// The time lies past a certificate's end.
    #[error("{place} expired at {not_after}, and it is {now}")]
    Expired {
        /// Which one.
        place: Place,
        /// Its last second.
        not_after: Timestamp,
        /// Our time.
        now: Timestamp,
    },
    /// The time lies before a certificate's beginning.
    #[error("{place} is valid from {not_before} on, and it is only {now}; compare the clocks")]
    NotYetValid {
        /// Which one.
        place: Place,
        /// Its first second.
        not_before: Timestamp,
        /// Our time.
        now: Timestamp,
    },
    /// The certificates are never valid at one time.
    #[error("the certificates of the chain are never valid at the same time")]
    NeverValid,
    /// A certificate was revoked.
    #[error("{place} with the serial number {} was revoked {how}", link.serial)]
    Revoked {
        /// Which one.
        place: Place,
        /// Its name within its issuer.
        link: Link,
        /// By which kind of list.
        how: Revoked,
    },
    /// No anchor at the end of any path.
    #[error("the chain leads to none of the trusted authorities")]
    UnknownIssuer,
    /// Right name, wrong key.
    #[error("a signature in the chain does not match the key of the issuer that it names")]
    Signature,
    /// An algorithm that is not used here, such as SHA-1.
    #[error("a certificate of the chain is signed with an algorithm that is not accepted, such as SHA-1")]
    SignatureAlgorithm,
    /// Extended key usage is there and lacks what is needed.
    #[error("a certificate of the chain has extended key usages that do not allow this use")]
    Purpose,
    /// A name outside what an issuer may vouch for.
    #[error("a name in the chain lies outside the name constraints of an issuer")]
    NameConstraints,
    /// More certificates below an issuer than it allows.
    #[error("the chain is longer than an issuer in it allows")]
    PathLength,
    /// A certificate that is no authority's signed another.
    #[error("a certificate of the chain was signed by one that is not an authority's")]
    NotAuthority,
    /// An authority's certificate in the leaf's place.
    #[error("the leaf certificate is an authority's")]
    AuthorityAsLeaf,
    /// The search for a path took too many steps, or a path too many certificates.
    #[error("the search for a path took too many steps")]
    TooComplex,
    /// A time that no certificate can state.
    #[error("the time {now} lies before 1970")]
    BeforeEpoch {
        /// The time.
        now: Timestamp,
    },
    /// Whatever else webpki objects to.
    #[error("the path builder refuses the chain")]
    Builder {
        /// What it says.
        source: webpki::Error,
    },
}

impl PathError {
    pub(super) fn at(place: Place, source: CertificateFault) -> Self {
        Self::Certificate { place, source }
    }

    pub(super) fn from_webpki(error: webpki::Error, chain: &[CertificateDer<'_>], now: Timestamp) -> Self {
        use webpki::Error as E;
        match error {
            E::CertExpired { not_after, .. } => {
                let not_after = timestamp(not_after);
                Self::Expired {
                    place: place_where(chain, |life| life.not_after() == not_after),
                    not_after,
                    now,
                }
            }
            E::CertNotValidYet { not_before, .. } => {
                let not_before = timestamp(not_before);
                Self::NotYetValid {
                    place: place_where(chain, |life| life.not_before() == not_before),
                    not_before,
                    now,
                }
            }
            E::UnknownIssuer => Self::UnknownIssuer,
            E::InvalidSignatureForPublicKey => Self::Signature,
            E::UnsupportedSignatureAlgorithmContext(_)
            | E::UnsupportedSignatureAlgorithmForPublicKeyContext(_) => Self::SignatureAlgorithm,
            E::RequiredEkuNotFoundContext(_) | E::EmptyEkuExtension => Self::Purpose,
            E::NameConstraintViolation => uri_constraints(chain).unwrap_or(Self::NameConstraints),
            E::PathLenConstraintViolated => Self::PathLength,
            E::EndEntityUsedAsCa => Self::NotAuthority,
            E::CaUsedAsEndEntity => Self::AuthorityAsLeaf,
            E::MaximumNameConstraintComparisonsExceeded
            | E::MaximumPathBuildCallsExceeded
            | E::MaximumPathDepthExceeded
            | E::MaximumSignatureChecksExceeded => Self::TooComplex,
            source => Self::Builder { source },
        }
    }
}

/// The plain reason why webpki refuses every SPIFFE ID below an authority, if that is what happened.
fn uri_constraints(chain: &[CertificateDer<'_>]) -> Option<PathError> {
    chain.iter().skip(1).find_map(|der| {
        let fault = rules::check(&Reading::new(der).ok()?, Role::Intermediate).err()?;
        matches!(fault, CertificateFault::UriNameConstraints)
            .then(|| PathError::at(Place::of(der, chain), fault))
    })
}

/// Which certificate of `chain` has the life that webpki stumbled over.
fn place_where(chain: &[CertificateDer<'_>], holds: impl Fn(Lifetime) -> bool) -> Place {
    chain
        .iter()
        .find(|der| {
            Reading::new(der)
                .and_then(|reading| reading.lifetime())
                .is_ok_and(&holds)
        })
        .map_or(Place::Unknown, |der| Place::of(der, chain))
}

fn timestamp(time: UnixTime) -> Timestamp {
    Timestamp::from_unix(i64::try_from(time.as_secs()).unwrap_or(i64::MAX))
}
