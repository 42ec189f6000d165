//! Judges one certificate by the rules of RFC 5280 that webpki leaves to its caller.

use x509_parser::extensions::{AuthorityKeyIdentifier, GeneralName, NameConstraints};
use x509_parser::time::ASN1Time;
use x509_parser::x509::X509Version;

use super::reading::{Extensions, Reading};
use crate::{KeyError, PublicKey, SerialError, SpiffeId};

/// What a certificate is in its chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// The first one, whose key the peer holds.
    Leaf,
    /// One between the leaf and the anchor.
    Intermediate,
    /// One that is trusted because we were told to.
    Anchor,
}

/// Judges everything about a certificate that needs neither its issuer nor the time; gives its key.
pub(crate) fn check(reading: &Reading<'_>, role: Role) -> Result<PublicKey, CertificateFault> {
    check_fields(reading)?;
    let key = reading.public_key()?;
    check_extensions(reading, &reading.extensions()?, role)?;
    Ok(key)
}

/// The part of [`check`] that looks at neither key nor extensions.
pub(crate) fn check_fields(reading: &Reading<'_>) -> Result<(), CertificateFault> {
    let certificate = &reading.certificate;
    if certificate.version() != X509Version::V3 {
        return Err(CertificateFault::Version);
    }
    reading.serial()?;
    // An anchor's own signature is never verified, so its algorithm cannot weaken a path; two that differ
    // are still the mark of a damaged certificate.
    if certificate.signature_algorithm != certificate.signature {
        return Err(CertificateFault::AlgorithmMismatch);
    }
    if certificate.issuer().iter().next().is_none() {
        return Err(CertificateFault::EmptyIssuer);
    }
    check_times(reading)
}

/// The part of [`check`] that looks at the extensions, which are those of `reading`.
pub(crate) fn check_extensions(
    reading: &Reading<'_>,
    extensions: &Extensions<'_, '_>,
    role: Role,
) -> Result<(), CertificateFault> {
    match role {
        Role::Leaf => check_leaf(extensions)?,
        Role::Intermediate | Role::Anchor => check_authority(reading, extensions)?,
    }
    check_key_ids(reading, extensions, role)?;
    check_names(reading, extensions)
}

/// RFC 5280 §4.1.2.5: one spelling of each date, and an order between the two.
fn check_times(reading: &Reading<'_>) -> Result<(), CertificateFault> {
    let validity = reading.certificate.validity();
    let spelt = |time: &ASN1Time| time.is_utctime() == (1950..2050).contains(&time.to_datetime().year());
    if !spelt(&validity.not_before) || !spelt(&validity.not_after) {
        return Err(CertificateFault::TimeForm);
    }
    reading.lifetime().map(drop)
}

/// RFC 5280 §4.2.1.1 and §4.2.1.2.
fn check_key_ids(
    reading: &Reading<'_>,
    extensions: &Extensions<'_, '_>,
    role: Role,
) -> Result<(), CertificateFault> {
    let certificate = &reading.certificate;
    let self_issued = certificate.issuer().as_raw() == certificate.subject().as_raw();
    match &extensions.subject_key_id {
        Some(id) if id.critical => return Err(CertificateFault::CriticalKeyId),
        Some(_) => {}
        None if role == Role::Leaf => {}
        None => return Err(CertificateFault::NoSubjectKeyId),
    }
    match &extensions.authority_key_id {
        Some(id) if id.critical => Err(CertificateFault::CriticalKeyId),
        Some(id) => check_authority_key_id(id.value, extensions, self_issued),
        // Only a self-signed certificate may leave it out: issuer and subject are then one.
        None if role == Role::Anchor && self_issued => Ok(()),
        None => Err(CertificateFault::NoAuthorityKeyId),
    }
}

/// The key's identifier must be there, issuer and serial number only together; one that the certificate issued
/// to itself names its own key.
fn check_authority_key_id(
    id: &AuthorityKeyIdentifier<'_>,
    extensions: &Extensions<'_, '_>,
    self_issued: bool,
) -> Result<(), CertificateFault> {
    let key = id
        .key_identifier
        .as_ref()
        .ok_or(CertificateFault::NoAuthorityKeyId)?;
    let own = extensions.subject_key_id.as_ref().map(|own| own.value);
    let pair = id.authority_cert_issuer.is_some() == id.authority_cert_serial.is_some();
    if !pair || (self_issued && own.is_some_and(|own| own != key.0)) {
        return Err(CertificateFault::AuthorityKeyIdMismatch);
    }
    Ok(())
}

/// RFC 5280 §4.1.2.6 and §4.2.1.6.
fn check_names(reading: &Reading<'_>, extensions: &Extensions<'_, '_>) -> Result<(), CertificateFault> {
    let nameless = reading.certificate.subject().iter().next().is_none();
    match &extensions.alternative_names {
        Some(names) if names.value.is_empty() => Err(CertificateFault::EmptyAlternativeNames),
        Some(names) if nameless && !names.critical => Err(CertificateFault::AlternativeNamesNotCritical),
        Some(names) => names.value.iter().try_for_each(check_name),
        None if nameless => Err(CertificateFault::NoName),
        None => Ok(()),
    }
}

/// A name must have the form that its type has: a text that another reader would take for another name is refused.
fn check_name(name: &GeneralName<'_>) -> Result<(), CertificateFault> {
    let well_formed = match name {
        GeneralName::DNSName(name) => is_dns_name(name),
        GeneralName::RFC822Name(name) => is_visible(name) && name.split('@').count() == 2,
        GeneralName::URI(name) => is_visible(name),
        GeneralName::IPAddress(octets) => matches!(octets.len(), 4 | 16),
        GeneralName::Invalid(..) => false,
        _ => true,
    };
    well_formed.then_some(()).ok_or(CertificateFault::MalformedName)
}

/// Labels of letters, digits and hyphens (RFC 5280 §4.2.1.6); the first may be a lone `*`.
fn is_dns_name(name: &str) -> bool {
    let labels = name.strip_prefix("*.").unwrap_or(name);
    let label = |label: &str| {
        (1..=63).contains(&label.len()) && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    // A last label of digits makes it an IPv4 address to many readers.
    let last = labels.rsplit('.').next().unwrap_or_default();
    labels.len() <= 253 && labels.split('.').all(label) && !last.bytes().all(|b| b.is_ascii_digit())
}

fn is_visible(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic())
}

/// What only an authority may have (RFC 5280 §4.2.1.9, §4.2.1.10). Whether a leaf is one, webpki asks.
fn check_leaf(extensions: &Extensions<'_, '_>) -> Result<(), CertificateFault> {
    if extensions.name_constraints.is_some() {
        return Err(CertificateFault::LeafNameConstraints);
    }
    let authority = extensions
        .basic_constraints
        .as_ref()
        .is_some_and(|it| it.value.ca);
    let signs = extensions
        .key_usage
        .as_ref()
        .is_some_and(|it| it.value.key_cert_sign());
    if signs && !authority {
        return Err(CertificateFault::LeafSigns);
    }
    Ok(())
}

/// RFC 5280 §4.2.1.3, §4.2.1.9 and §4.2.1.10: what makes a certificate an authority's.
fn check_authority(reading: &Reading<'_>, extensions: &Extensions<'_, '_>) -> Result<(), CertificateFault> {
    match &extensions.basic_constraints {
        Some(constraints) if !constraints.value.ca => return Err(CertificateFault::NotAuthority),
        Some(constraints) if !constraints.critical => {
            return Err(CertificateFault::BasicConstraintsNotCritical);
        }
        Some(_) => {}
        None => return Err(CertificateFault::NotAuthority),
    }
    match &extensions.key_usage {
        Some(usage) if !usage.value.key_cert_sign() => return Err(CertificateFault::MayNotSign),
        Some(_) => {}
        None => return Err(CertificateFault::MayNotSign),
    }
    if reading.certificate.subject().iter().next().is_none() {
        return Err(CertificateFault::EmptyAuthoritySubject);
    }
    match &extensions.name_constraints {
        Some(constraints) if !constraints.critical => Err(CertificateFault::NameConstraintsNotCritical),
        Some(constraints) => check_constraints(constraints.value),
        None => Ok(()),
    }
}

/// RFC 5280 §4.2.1.10: at least one subtree, and each of the form that its type has.
fn check_constraints(constraints: &NameConstraints<'_>) -> Result<(), CertificateFault> {
    let permitted = constraints.permitted_subtrees.as_deref().unwrap_or_default();
    let excluded = constraints.excluded_subtrees.as_deref().unwrap_or_default();
    if permitted.is_empty() && excluded.is_empty() {
        return Err(CertificateFault::MalformedNameConstraints);
    }
    for subtree in permitted.iter().chain(excluded) {
        let well_formed = match &subtree.base {
            // Empty means every name. A leading dot belongs to URIs and mail, not to DNS.
            GeneralName::DNSName(name) => name.is_empty() || (is_dns_name(name) && !name.starts_with('*')),
            GeneralName::RFC822Name(name) => name.split('@').count() <= 2 && !name.contains('*'),
            GeneralName::IPAddress(octets) => is_network(octets),
            GeneralName::URI(_) => return Err(CertificateFault::UriNameConstraints),
            GeneralName::Invalid(..) => false,
            _ => true,
        };
        if !well_formed {
            return Err(CertificateFault::MalformedNameConstraints);
        }
    }
    Ok(())
}

/// An address with its mask, whose ones come before its zeros.
fn is_network(octets: &[u8]) -> bool {
    let mask = match octets.len() {
        8 | 32 => &octets[octets.len() / 2..],
        _ => return false,
    };
    let ones: u32 = mask.iter().map(|octet| octet.count_ones()).sum();
    let leading = mask.iter().position(|octet| *octet != 0xff).map_or(ones, |at| {
        u32::try_from(at).unwrap_or(0) * 8 + mask[at].leading_ones()
    });
    ones == leading
}

/// Why a certificate is refused by itself, whatever chain it stands in.
#[derive(Debug, thiserror::Error)]
pub enum CertificateFault {
    /// Not DER of a certificate's shape.
    #[error("it is no certificate in DER")]
    Unreadable,
    /// Something follows the certificate.
    #[error("{bytes} bytes follow it")]
    TrailingBytes {
        /// How many.
        bytes: usize,
    },
    /// Not version 3 (RFC 5280 §4.1.2.1).
    #[error("its version is not 3")]
    Version,
    /// A serial number outside RFC 5280 §4.1.2.2.
    #[error("its serial number is not allowed")]
    Serial {
        /// The rule that it breaks.
        source: SerialError,
    },
    /// The signature algorithm inside is not the one outside (RFC 5280 §4.1.1.2).
    #[error("it names two different signature algorithms")]
    AlgorithmMismatch,
    /// No issuer's name (RFC 5280 §4.1.2.4).
    #[error("its issuer has no name")]
    EmptyIssuer,
    /// A date in the wrong one of its two forms (RFC 5280 §4.1.2.5).
    #[error("a date of its validity is not in the form for its year")]
    TimeForm,
    /// A validity that no instant is in.
    #[error("it ends before it begins")]
    EndsBeforeItBegins,
    /// A key that is weak, or of a kind that we do not trust.
    #[error("its public key is not accepted")]
    Key {
        /// What is wrong with the key.
        source: KeyError,
    },
    /// Another key than the one that it was made for.
    #[error("its public key is not the one that it was made for")]
    OtherKey,
    /// The same extension twice (RFC 5280 §4.2).
    #[error("it has the extension {oid} twice")]
    DuplicateExtension {
        /// The extension's dotted number.
        oid: String,
    },
    /// An extension whose content is not what its number says.
    #[error("its extension {oid} is malformed")]
    MalformedExtension {
        /// The extension's dotted number.
        oid: String,
    },
    /// A critical extension that we do not process (RFC 5280 §4.2).
    #[error("it has the critical extension {oid}, which is not known here")]
    UnknownCritical {
        /// The extension's dotted number.
        oid: String,
    },
    /// Policy constraints, which are critical by RFC 5280 §4.2.1.11, and not processed here.
    #[error("it has policy constraints, which are not supported")]
    PolicyConstraints,
    /// A key identifier that is marked critical (RFC 5280 §4.2.1.1, §4.2.1.2).
    #[error("a key identifier of it is marked critical")]
    CriticalKeyId,
    /// An authority without subject key identifier (RFC 5280 §4.2.1.2).
    #[error("it has no subject key identifier, which an authority must have")]
    NoSubjectKeyId,
    /// No authority key identifier, though it is not self-signed (RFC 5280 §4.2.1.1).
    #[error("it has no authority key identifier")]
    NoAuthorityKeyId,
    /// An authority key identifier that contradicts itself, or its own certificate (RFC 5280 §4.2.1.1).
    #[error("its authority key identifier is incomplete, or not its own though it is its own issuer")]
    AuthorityKeyIdMismatch,
    /// An alternative-name extension without a name (RFC 5280 §4.2.1.6).
    #[error("its subject alternative names are empty")]
    EmptyAlternativeNames,
    /// An empty subject, and alternative names that are not critical (RFC 5280 §4.1.2.6).
    #[error("its subject is empty, but its subject alternative names are not critical")]
    AlternativeNamesNotCritical,
    /// Neither a subject nor alternative names.
    #[error("it has neither a subject nor subject alternative names")]
    NoName,
    /// An alternative name that does not have the form of its type.
    #[error("a subject alternative name of it does not have the form of its type")]
    MalformedName,
    /// A leaf with name constraints (RFC 5280 §4.2.1.10).
    #[error("it has name constraints, which only an authority may have")]
    LeafNameConstraints,
    /// A leaf whose key usage has keyCertSign without cA (RFC 5280 §4.2.1.9).
    #[error("its key may sign certificates, but it is no authority's")]
    LeafSigns,
    /// An authority without subject (RFC 5280 §4.1.2.6).
    #[error("its subject is empty, which an authority's must not be")]
    EmptyAuthoritySubject,
    /// Not an authority's certificate (RFC 5280 §4.2.1.9).
    #[error("it is not an authority's: basic constraints with cA are missing")]
    NotAuthority,
    /// An authority's basic constraints are not critical (RFC 5280 §4.2.1.9).
    #[error("its basic constraints are not critical")]
    BasicConstraintsNotCritical,
    /// An authority whose key usage is missing, or lacks keyCertSign (RFC 5280 §4.2.1.3).
    #[error("its key may not sign certificates: key usage keyCertSign is missing")]
    MayNotSign,
    /// An authority with the ID of a workload (X509-SVID.md §3.2).
    #[error("it is an authority's, but names the workload {id}")]
    AuthorityWithPath {
        /// The ID.
        id: SpiffeId,
    },
    /// Name constraints that are not critical (RFC 5280 §4.2.1.10).
    #[error("its name constraints are not critical")]
    NameConstraintsNotCritical,
    /// Name constraints that are empty, or hold a name that is not of its form (RFC 5280 §4.2.1.10).
    #[error("its name constraints are malformed")]
    MalformedNameConstraints,
    /// Name constraints on URIs. The path builder does not evaluate them, and refuses every certificate with a
    /// SPIFFE ID below them.
    #[error(
        "it has name constraints on URIs, which are not supported: every SPIFFE ID below it would be refused; \
         have it issued without them"
    )]
    UriNameConstraints,
}
