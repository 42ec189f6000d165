//! Holds a workload's certificate to the leaf rules of X509-SVID.

use rustls_pki_types::CertificateDer;
use x509_parser::extensions::GeneralName;

use crate::path::CertificateFault;
use crate::path::reading::{Extensions, Reading};
use crate::{SpiffeId, SpiffeIdError};

/// The SPIFFE ID of `certificate`, once it keeps every rule that X509-SVID.md §2, §4 and §5 set for a leaf:
/// exactly one URI name, a SPIFFE ID with a path; no authority; key usage critical with digitalSignature and
/// without keyCertSign and cRLSign; extended key usage, if any, with both serverAuth and clientAuth.
///
/// Says nothing about who signed it: only [`verify`](crate::verify()) does.
///
/// # Errors
/// The first rule that it breaks.
pub fn check_leaf(certificate: &CertificateDer<'_>) -> Result<SpiffeId, LeafError> {
    let unreadable = |source| LeafError::Unreadable { source };
    let reading = Reading::new(certificate).map_err(unreadable)?;
    let extensions = reading.extensions().map_err(unreadable)?;
    check_extensions(&extensions)
}

/// [`check_leaf`] of a certificate that has been read, which is all in its extensions.
pub(crate) fn check_extensions(extensions: &Extensions<'_, '_>) -> Result<SpiffeId, LeafError> {
    check_usages(extensions)?;
    let purposes = extensions.extended_key_usage.as_ref();
    if let Some(purposes) =
        purposes.filter(|purposes| !purposes.value.server_auth || !purposes.value.client_auth)
    {
        return Err(LeafError::Purposes {
            server: purposes.value.server_auth,
            client: purposes.value.client_auth,
        });
    }
    spiffe_id(extensions)
}

/// Checks the leaf rules of our own control plane's serving certificates, which are no workload's: names of DNS
/// or IP and no URI, no authority, key usage as for a workload, extended key usage serverAuth and not clientAuth.
///
/// # Errors
/// The first rule that it breaks.
pub fn check_serving_leaf(certificate: &CertificateDer<'_>) -> Result<(), LeafError> {
    let unreadable = |source| LeafError::Unreadable { source };
    let reading = Reading::new(certificate).map_err(unreadable)?;
    let extensions = reading.extensions().map_err(unreadable)?;
    check_usages(&extensions)?;
    match &extensions.extended_key_usage {
        Some(purposes) if purposes.value.server_auth && !purposes.value.client_auth => {}
        _ => return Err(LeafError::NotServing),
    }
    match uri_names(&extensions).count() {
        0 => Ok(()),
        count => Err(LeafError::UriOnServing { count }),
    }
}

/// X509-SVID.md §4.1 and §4.3. The cA flag and the key usages are judged apart: either alone makes an authority.
fn check_usages(extensions: &Extensions<'_, '_>) -> Result<(), LeafError> {
    let constraints = extensions.basic_constraints.as_ref();
    if constraints.is_some_and(|constraints| constraints.value.ca) {
        return Err(LeafError::Authority);
    }
    let usage = extensions.key_usage.as_ref().ok_or(LeafError::NoKeyUsage)?;
    if usage.value.key_cert_sign() || usage.value.crl_sign() {
        return Err(LeafError::MaySign);
    }
    if !usage.critical {
        return Err(LeafError::KeyUsageNotCritical);
    }
    if !usage.value.digital_signature() {
        return Err(LeafError::NoDigitalSignature);
    }
    Ok(())
}

/// The one SPIFFE ID.
fn spiffe_id(extensions: &Extensions<'_, '_>) -> Result<SpiffeId, LeafError> {
    let mut names = uri_names(extensions);
    let (first, more) = (names.next().ok_or(LeafError::NoUri)?, names.count());
    if more > 0 {
        return Err(LeafError::SeveralUris { count: more + 1 });
    }
    let text = first.ok_or(LeafError::UriText)?;
    SpiffeId::parse(text).map_err(|source| LeafError::SpiffeId { source })
}

/// The URI names; `None` stands for one that is no text.
fn uri_names<'c>(extensions: &Extensions<'c, '_>) -> impl Iterator<Item = Option<&'c str>> {
    let names = extensions.alternative_names.as_ref().map(|names| names.value);
    names.unwrap_or_default().iter().filter_map(|name| match name {
        GeneralName::URI(text) => Some(Some(*text)),
        GeneralName::Invalid(tag, _) if tag.0 == URI_TAG => Some(None),
        _ => None,
    })
}

/// The number of the URI form in a GeneralName (RFC 5280 §4.2.1.6).
const URI_TAG: u32 = 6;

/// Why a certificate is not fit to be a leaf.
#[derive(Debug, thiserror::Error)]
pub enum LeafError {
    /// Not a certificate, or one with extensions that cannot be judged.
    #[error("the leaf certificate cannot be read")]
    Unreadable {
        /// What is wrong with it.
        source: CertificateFault,
    },
    /// An authority's certificate, which authenticates nobody (X509-SVID.md §3.2).
    #[error("the leaf certificate is an authority's (cA is true)")]
    Authority,
    /// No key usage (X509-SVID.md §4.3).
    #[error("the leaf certificate has no key usage")]
    NoKeyUsage,
    /// Key usage that is not critical (X509-SVID.md §4.3).
    #[error("the leaf certificate's key usage is not critical")]
    KeyUsageNotCritical,
    /// Key usage keyCertSign or cRLSign (X509-SVID.md §4.3).
    #[error("the leaf certificate's key may sign certificates or revocation lists")]
    MaySign,
    /// Key usage without digitalSignature (X509-SVID.md §4.3).
    #[error("the leaf certificate's key usage lacks digitalSignature")]
    NoDigitalSignature,
    /// Extended key usage without one of the two (X509-SVID.md §4.4).
    #[error(
        "the leaf certificate's extended key usage must have both serverAuth (there: {server}) and clientAuth \
         (there: {client})"
    )]
    Purposes {
        /// Whether serverAuth is there.
        server: bool,
        /// Whether clientAuth is there.
        client: bool,
    },
    /// No URI name (X509-SVID.md §2): a serving certificate, or a stranger's.
    #[error("the leaf certificate has no URI name, so it names no workload")]
    NoUri,
    /// More than one URI name (X509-SVID.md §2).
    #[error("the leaf certificate has {count} URI names instead of one")]
    SeveralUris {
        /// How many.
        count: usize,
    },
    /// A URI name that is no text.
    #[error("the leaf certificate's URI name is not UTF-8")]
    UriText,
    /// A URI name that is no workload's ID.
    #[error("the leaf certificate's URI name is no SPIFFE ID of a workload")]
    SpiffeId {
        /// The rule that it breaks.
        source: SpiffeIdError,
    },
    /// A workload's certificate, or one without purpose, in place of a serving certificate.
    #[error("the certificate is not one for serving: its extended key usage is not serverAuth alone")]
    NotServing,
    /// A serving certificate with a URI name.
    #[error("the serving certificate has {count} URI names instead of none")]
    UriOnServing {
        /// How many.
        count: usize,
    },
}
