//! Turns a refusal into the alert that the peer sees, the reason kept where rustls can keep it.

use std::error::Error as StdError;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustls::{CertificateError, OtherError};
use rustls_pki_types::UnixTime;

use crate::path::PathError;
use crate::{Timestamp, VerifyError};

/// The error that makes rustls send the fitting alert: certificate_expired, certificate_revoked, unknown_ca,
/// unsupported_certificate, bad_certificate, decrypt_error; certificate_unknown for everything that has no alert
/// of its own, and then [`refusal`] finds the [`VerifyError`] inside.
pub(super) fn to_rustls(error: &Arc<VerifyError>) -> rustls::Error {
    let certificate = match error.as_ref() {
        VerifyError::NoBundle { .. } | VerifyError::RootNotSent { .. } => CertificateError::UnknownIssuer,
        VerifyError::IdentityRevoked { .. } => CertificateError::Revoked,
        VerifyError::Chain { source }
        | VerifyError::Path { source, .. }
        | VerifyError::Server { source, .. } => from_path(source).unwrap_or_else(|| other(error)),
        VerifyError::Leaf { .. }
        | VerifyError::RootUnfit { .. }
        | VerifyError::Unexpected { .. }
        | VerifyError::ServerName { .. } => other(error),
    };
    certificate.into()
}

fn from_path(error: &PathError) -> Option<CertificateError> {
    Some(match error {
        PathError::Expired { not_after, now, .. } => CertificateError::ExpiredContext {
            time: unix_time(*now),
            not_after: unix_time(*not_after),
        },
        PathError::NotYetValid { not_before, now, .. } => CertificateError::NotValidYetContext {
            time: unix_time(*now),
            not_before: unix_time(*not_before),
        },
        PathError::Revoked { .. } => CertificateError::Revoked,
        PathError::UnknownIssuer => CertificateError::UnknownIssuer,
        PathError::Signature => CertificateError::BadSignature,
        PathError::Purpose => CertificateError::InvalidPurpose,
        _ => return None,
    })
}

fn other(error: &Arc<VerifyError>) -> CertificateError {
    CertificateError::Other(OtherError(Arc::new(Carried(Arc::clone(error)))))
}

/// The [`VerifyError`] that lies in `error` or in what it stems from, such as the `io::Error` of a failed
/// handshake. Expired, revoked and unknown authorities have none, but a rustls error that says so; an
/// [`Outcome`](super::Outcome) has the reason in every case.
pub fn refusal<'e>(error: &'e (dyn StdError + 'static)) -> Option<&'e VerifyError> {
    let mut next = Some(error);
    while let Some(current) = next {
        if let Some(rustls::Error::InvalidCertificate(CertificateError::Other(OtherError(inner)))) =
            current.downcast_ref()
        {
            return inner.downcast_ref::<Carried>().map(|carried| carried.0.as_ref());
        }
        next = match current.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            Some(inner) => Some(inner),
            None => current.source(),
        };
    }
    None
}

/// A shared error, as rustls wants to own one.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Carried(#[source] Arc<VerifyError>);

fn unix_time(time: Timestamp) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(u64::try_from(time.unix()).unwrap_or(0)))
}
