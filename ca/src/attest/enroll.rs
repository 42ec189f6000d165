//! Trades a join token for a host key, once.

use std::sync::Arc;

use ferrule_identity::{RequestError, SigningRequest, Timestamp};
use ferrule_wire::JoinSecret;

use crate::ledger::event::{HostEnrolled, TokenUsed};
use crate::ledger::{Conflict, Ledger, LedgerError, TokenState};

/// Enrols hosts in the ledger.
#[derive(Debug)]
pub struct Enroller {
    ledger: Arc<dyn Ledger>,
}

/// A host that is on record from now on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Enrolled {
    /// Its name: that of its token.
    pub host: String,
    /// What it may ask for.
    pub identities: Vec<String>,
}

impl Enroller {
    /// Enrols hosts in `ledger`.
    pub fn new(ledger: Arc<dyn Ledger>) -> Self {
        Self { ledger }
    }

    /// Enrols the public key of `csr` under the name of the join token whose secret is `secret`, and uses the token
    /// up in the same append: of any number of callers with one token, one succeeds.
    ///
    /// # Errors
    /// When the token is unknown, used, expired, revoked or void, or the request is no good; a token is not used up
    /// by a request that is refused.
    pub async fn enroll(&self, secret: &str, csr: &str, now: Timestamp) -> Result<Enrolled, EnrollError> {
        let secret: JoinSecret = secret.parse().map_err(|_| EnrollError::Malformed)?;
        let token = self.ledger.token_by_secret(secret.hash()).await;
        let token = token
            .map_err(|source| EnrollError::Ledger { source })?
            .ok_or(EnrollError::Unknown)?;
        let spent = |why| EnrollError::Spent {
            token: token.token.clone(),
            why,
        };
        match &token.state {
            TokenState::Used { .. } => return Err(spent(Spent::Used)),
            TokenState::Revoked => return Err(spent(Spent::Revoked)),
            TokenState::Void => return Err(spent(Spent::Void)),
            TokenState::Outstanding if token.expires < now => return Err(spent(Spent::Expired)),
            TokenState::Outstanding => {}
        }
        let request = SigningRequest::from_pem(csr).map_err(|source| EnrollError::Request {
            token: token.token.clone(),
            source,
        })?;
        let host = token.token.clone();
        let used = TokenUsed {
            token: token.token.clone(),
            host: host.clone(),
        };
        let enrolled = HostEnrolled {
            host: host.clone(),
            key: request.public_key().clone(),
            identities: token.identities.clone(),
            token: token.token.clone(),
        };
        match self.ledger.append(vec![used.into(), enrolled.into()]).await {
            Ok(_) => Ok(Enrolled {
                host,
                identities: token.identities,
            }),
            Err(LedgerError::Conflict(conflict)) => Err(match conflict {
                Conflict::TokenUsed { .. } => spent(Spent::Used),
                Conflict::TokenExpired { .. } => spent(Spent::Expired),
                Conflict::TokenRevoked { .. } => spent(Spent::Revoked),
                Conflict::TokenVoid { .. } => spent(Spent::Void),
                Conflict::HostExists { .. } => EnrollError::HostExists { host },
                Conflict::HostKeyExists { .. } => EnrollError::KeyExists { host },
                other => EnrollError::Ledger {
                    source: LedgerError::Conflict(other),
                },
            }),
            Err(source) => Err(EnrollError::Ledger { source }),
        }
    }
}

/// Why a genuine token is of no use any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spent {
    /// A host was enrolled with it.
    Used,
    /// Its time is over.
    Expired,
    /// It was revoked.
    Revoked,
    /// The CA was restored from a backup since.
    Void,
}

impl std::fmt::Display for Spent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Used => "was used before",
            Self::Expired => "has expired",
            Self::Revoked => "was revoked",
            Self::Void => "was made void when the CA was restored from a backup",
        })
    }
}

/// Why a host is not enrolled.
#[derive(Debug, thiserror::Error)]
pub enum EnrollError {
    /// Not 32 bytes in base64url.
    #[error("the join token's secret is malformed; was it copied whole?")]
    Malformed,
    /// No such token was ever made here.
    #[error("this CA knows no such join token")]
    Unknown,
    /// The token is genuine and cannot be used any more.
    #[error("the join token {token} {why}; make another with: ferrule-ca token create")]
    Spent {
        /// The token's name.
        token: String,
        /// Why.
        why: Spent,
    },
    /// The request is no good.
    #[error("the request with the join token {token} is refused")]
    Request {
        /// The token's name.
        token: String,
        /// What is wrong with it.
        source: RequestError,
    },
    /// The name is taken.
    #[error("a host {host} is enrolled already")]
    HostExists {
        /// The name.
        host: String,
    },
    /// The key is taken.
    #[error("another host is enrolled with the key that {host} shows; make a key of its own for each host")]
    KeyExists {
        /// The host that was to be enrolled.
        host: String,
    },
    /// The ledger cannot be read or written; nothing was enrolled.
    #[error("cannot record the enrolment")]
    Ledger {
        /// The cause.
        source: LedgerError,
    },
}

impl EnrollError {
    /// The stable word for it.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Malformed => "join_token_malformed",
            Self::Unknown => "join_token_unknown",
            Self::Spent { why: Spent::Used, .. } => "join_token_used",
            Self::Spent {
                why: Spent::Expired, ..
            } => "join_token_expired",
            Self::Spent {
                why: Spent::Revoked, ..
            } => "join_token_revoked",
            Self::Spent { why: Spent::Void, .. } => "join_token_void",
            Self::Request { source, .. } => request_word(source),
            Self::HostExists { .. } => "host_exists",
            Self::KeyExists { .. } => "host_key_exists",
            Self::Ledger { .. } => "ledger_unavailable",
        }
    }

    /// The name of the token that the caller holds, where it has shown to hold one.
    pub fn token(&self) -> Option<&str> {
        match self {
            Self::Spent { token, .. } | Self::Request { token, .. } => Some(token),
            Self::HostExists { host } | Self::KeyExists { host } => Some(host),
            Self::Malformed | Self::Unknown | Self::Ledger { .. } => None,
        }
    }
}

/// The stable word for a request that is refused.
pub fn request_word(error: &RequestError) -> &'static str {
    match error {
        RequestError::Possession { .. }
        | RequestError::SignatureAlgorithm { .. }
        | RequestError::SignatureMismatch { .. } => "csr_signature",
        RequestError::Key(_) => "key_not_accepted",
        _ => "csr_invalid",
    }
}
