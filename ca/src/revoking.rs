//! Takes trust away, and gives it back, on the record.

use ferrule_identity::{SpiffeId, SpiffeIdError};
use ferrule_wire::ca::RevocationSubject;

use crate::ledger::event::{Event, Lifted, Revoked, Subject};
use crate::ledger::serial::SerialError;
use crate::ledger::{Conflict, Ledger, LedgerError, Serial};

/// Reads what a revocation names.
///
/// # Errors
/// When an identity is no SPIFFE ID, a serial number no serial number, or a host's name no name.
pub fn subject(written: &RevocationSubject) -> Result<Subject, RevokeError> {
    Ok(match written {
        RevocationSubject::Identity(id) => {
            let id = SpiffeId::parse(id).map_err(|source| RevokeError::Identity { source })?;
            Subject::Identity(id.to_string())
        }
        RevocationSubject::Serial(serial) => {
            let serial: Serial = serial.parse().map_err(|source| RevokeError::Serial { source })?;
            Subject::Serial(serial)
        }
        RevocationSubject::Host(host) if is_name(host) => Subject::Host(host.clone()),
        RevocationSubject::Host(_) => return Err(RevokeError::Host),
    })
}

/// Records that `by` revokes `subject`, or lifts its revocation, for `reason`. Gives the number of the deny list that
/// the change is part of.
///
/// # Errors
/// When the reason is empty or long, the subject is unknown, revoked already or not revoked, or the ledger does not
/// take the row.
pub async fn change(
    ledger: &dyn Ledger,
    subject: Subject,
    reason: &str,
    by: &str,
    lift: bool,
) -> Result<u64, RevokeError> {
    let chars = reason.chars().count();
    if !(1..=MAX_REASON_CHARS).contains(&chars) || reason.chars().any(char::is_control) {
        return Err(RevokeError::Reason);
    }
    let (reason, by) = (reason.to_owned(), by.to_owned());
    let event: Event = match lift {
        true => Lifted { subject, reason, by }.into(),
        false => Revoked { subject, reason, by }.into(),
    };
    match ledger.append(vec![event.into()]).await {
        Ok(appended) => Ok(appended.generations.revocations),
        Err(LedgerError::Conflict(conflict)) => Err(RevokeError::Conflict { source: conflict }),
        Err(source) => Err(RevokeError::Ledger { source }),
    }
}

/// Whether `name` may be that of a host: letters, digits, dots, hyphens and underscores, 1 to 253 of them.
pub fn is_name(name: &str) -> bool {
    (1..=253).contains(&name.len())
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'))
}

/// Why nothing was revoked or lifted.
#[derive(Debug, thiserror::Error)]
pub enum RevokeError {
    /// No SPIFFE ID.
    #[error("the identity is no SPIFFE ID")]
    Identity {
        /// The rule that it breaks.
        source: SpiffeIdError,
    },
    /// No serial number.
    #[error("the serial number cannot be read")]
    Serial {
        /// What is wrong.
        source: SerialError,
    },
    /// No name of a host.
    #[error("the host's name may have letters, digits, dots, hyphens and underscores, up to 253 of them")]
    Host,
    /// No reason, or a novel.
    #[error("the reason must have 1 to {MAX_REASON_CHARS} characters and no control characters")]
    Reason,
    /// It contradicts what holds.
    #[error(transparent)]
    Conflict {
        /// What holds.
        source: Conflict,
    },
    /// The ledger did not take it.
    #[error("the ledger does not take the change")]
    Ledger {
        /// The cause.
        source: LedgerError,
    },
}

impl RevokeError {
    /// The stable word for it.
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Identity { .. } | Self::Serial { .. } | Self::Host => "subject_invalid",
            Self::Reason => "reason_invalid",
            Self::Conflict {
                source: Conflict::AlreadyRevoked { .. },
            } => "already_revoked",
            Self::Conflict {
                source: Conflict::NotRevoked { .. },
            } => "not_revoked",
            Self::Conflict {
                source: Conflict::HostUnknown { .. },
            } => "subject_unknown",
            Self::Conflict { .. } | Self::Ledger { .. } => "ledger_unavailable",
        }
    }
}

const MAX_REASON_CHARS: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subject_is_checked() {
        let identity = RevocationSubject::Identity("spiffe://shop.local/a".to_owned());
        assert_eq!(
            subject(&identity).unwrap(),
            Subject::Identity("spiffe://shop.local/a".to_owned())
        );
        for (bad, word) in [
            (
                RevocationSubject::Identity("spiffe://shop.local".to_owned()),
                "subject_invalid",
            ),
            (RevocationSubject::Serial("xyz".to_owned()), "subject_invalid"),
            (RevocationSubject::Serial(String::new()), "subject_invalid"),
            (RevocationSubject::Host("web\n1".to_owned()), "subject_invalid"),
            (RevocationSubject::Host(String::new()), "subject_invalid"),
        ] {
            assert_eq!(subject(&bad).unwrap_err().word(), word, "{bad:?}");
        }
    }
}
