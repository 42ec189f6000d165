//! Names every way in which a connection ends.

use std::fmt;

use ferrule_identity::VerifyError;

use crate::forward::relay::{Leg, RelayError};
use crate::framing::exchange::OpenError;
use crate::net::dial::DialError;

/// Why a connection ended, or was never let in: the word in the log line and in the metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum CloseReason {
    /// Both sides said that they were done.
    Finished,
    /// Nobody knows where the connection was going, or nobody is known to live there, or it is the proxy itself.
    UnknownDestination,
    /// A limit on connections was reached, or this system has nothing left for one.
    Busy,
    /// There is no certificate to show yet.
    NotReady,
    /// No rule allows it, or a rule denies it.
    Denied,
    /// It came in clear where TLS is demanded.
    Plaintext,
    /// The peer did not finish the TLS handshake in time.
    HandshakeTimeout,
    /// The TLS handshake failed for another reason than a certificate.
    HandshakeFailed,
    /// The peer's certificate breaks a rule, or cannot be verified.
    BadCertificate,
    /// No authority that we trust has signed the peer's certificate.
    UnknownAuthority,
    /// The peer belongs to a trust domain that we have no bundle for.
    UnknownTrustDomain,
    /// The peer's certificate is not valid any more.
    Expired,
    /// The peer, its certificate or its authority is revoked.
    Revoked,
    /// The peer is somebody else than the one who lives at the destination.
    UnexpectedIdentity,
    /// The peer refused us with a TLS alert.
    RefusedByPeer,
    /// Nobody answered at the destination.
    Unreachable,
    /// The client reset the connection, or its TLS stream stopped without saying that it was over.
    ClientReset,
    /// The other end reset the connection, or its TLS stream stopped without saying that it was over.
    UpstreamReset,
    /// Nothing moved for too long after one side had finished.
    HalfClosed,
    /// The program ended, or somebody asked for the connection's end.
    Cut,
}

/// On whose account a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blame {
    /// Nobody's: it was over.
    Nobody,
    /// The side that opened it.
    Client,
    /// The side that it was opened to.
    Upstream,
    /// The rules, or the state of trust.
    Policy,
    /// This proxy.
    Us,
}

impl CloseReason {
    /// Every reason, in the order of the documentation.
    pub const ALL: [Self; 20] = [
        Self::Finished,
        Self::UnknownDestination,
        Self::Busy,
        Self::NotReady,
        Self::Denied,
        Self::Plaintext,
        Self::HandshakeTimeout,
        Self::HandshakeFailed,
        Self::BadCertificate,
        Self::UnknownAuthority,
        Self::UnknownTrustDomain,
        Self::Expired,
        Self::Revoked,
        Self::UnexpectedIdentity,
        Self::RefusedByPeer,
        Self::Unreachable,
        Self::ClientReset,
        Self::UpstreamReset,
        Self::HalfClosed,
        Self::Cut,
    ];

    /// The word for it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Finished => "finished",
            Self::UnknownDestination => "unknown_destination",
            Self::Busy => "busy",
            Self::NotReady => "not_ready",
            Self::Denied => "denied",
            Self::Plaintext => "plaintext",
            Self::HandshakeTimeout => "handshake_timeout",
            Self::HandshakeFailed => "handshake_failed",
            Self::BadCertificate => "bad_certificate",
            Self::UnknownAuthority => "unknown_authority",
            Self::UnknownTrustDomain => "unknown_trust_domain",
            Self::Expired => "expired",
            Self::Revoked => "revoked",
            Self::UnexpectedIdentity => "unexpected_identity",
            Self::RefusedByPeer => "refused_by_peer",
            Self::Unreachable => "unreachable",
            Self::ClientReset => "client_reset",
            Self::UpstreamReset => "upstream_reset",
            Self::HalfClosed => "half_closed",
            Self::Cut => "cut",
        }
    }

    /// On whose account.
    pub const fn blame(self) -> Blame {
        match self {
            Self::Finished => Blame::Nobody,
            Self::Plaintext
            | Self::HandshakeTimeout
            | Self::HandshakeFailed
            | Self::ClientReset
            | Self::HalfClosed => Blame::Client,
            Self::Unreachable | Self::UpstreamReset | Self::RefusedByPeer | Self::UnexpectedIdentity => {
                Blame::Upstream
            }
            Self::UnknownDestination
            | Self::Denied
            | Self::BadCertificate
            | Self::UnknownAuthority
            | Self::UnknownTrustDomain
            | Self::Expired
            | Self::Revoked => Blame::Policy,
            Self::Busy | Self::NotReady | Self::Cut => Blame::Us,
        }
    }

    /// The reason for a peer that was not believed.
    pub fn of_refusal(error: &VerifyError) -> Self {
        match error.reason() {
            "expired" => Self::Expired,
            "revoked" => Self::Revoked,
            "unknown_authority" => Self::UnknownAuthority,
            "unknown_trust_domain" => Self::UnknownTrustDomain,
            "unexpected_identity" => Self::UnexpectedIdentity,
            _ => Self::BadCertificate,
        }
    }

    /// The reason when a connection could not be dialled.
    pub const fn of_dial(error: &DialError) -> Self {
        match error {
            DialError::Shortage { .. } => Self::Busy,
            DialError::Timeout { .. } | DialError::Refused { .. } => Self::Unreachable,
        }
    }

    /// The reason when a stream could not be opened on a connection that is secured.
    pub const fn of_opening(error: &OpenError) -> Self {
        match error {
            OpenError::Refused { .. } => Self::RefusedByPeer,
            OpenError::Timeout { .. } => Self::HandshakeTimeout,
            OpenError::Application { .. } => Self::ClientReset,
            _ if error.is_alert() => Self::RefusedByPeer,
            OpenError::Broken { .. } | OpenError::Reset { .. } | OpenError::Ended | OpenError::Left => {
                Self::UpstreamReset
            }
            OpenError::OutOfTurn | OpenError::Protocol(_) => Self::HandshakeFailed,
        }
    }

    /// The reason for the end of a relay whose client is at the leg `client`.
    pub fn of_relay(error: &RelayError, client: Leg) -> Self {
        match error {
            RelayError::Broken { leg, .. } if *leg == client => Self::ClientReset,
            // Only the outer leg carries TLS. To whoever looks, a stream that was cut is one that was reset.
            RelayError::Truncated | RelayError::Reset { .. } if client == Leg::Outer => Self::ClientReset,
            RelayError::Broken { .. } | RelayError::Truncated | RelayError::Reset { .. } => {
                Self::UpstreamReset
            }
            RelayError::Protocol {
                source: rustls::Error::AlertReceived(_),
            } => Self::RefusedByPeer,
            RelayError::Protocol { .. } | RelayError::Framing { .. } => Self::HandshakeFailed,
            RelayError::HalfClosed { .. } => Self::HalfClosed,
        }
    }
}

impl Blame {
    /// The word for it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Nobody => "nobody",
            Self::Client => "client",
            Self::Upstream => "upstream",
            Self::Policy => "policy",
            Self::Us => "us",
        }
    }
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// How a connection ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Closed {
    /// Why.
    pub reason: CloseReason,
    /// More about it for the log, in words; empty when the reason says all.
    pub detail: String,
}

impl Closed {
    /// An end that needs no more words.
    pub const fn plainly(reason: CloseReason) -> Self {
        Self {
            reason,
            detail: String::new(),
        }
    }

    /// An end with its cause.
    pub fn because(reason: CloseReason, error: &(dyn std::error::Error + 'static)) -> Self {
        Self {
            reason,
            detail: ferrule_daemon::logging::Chain(error).to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_reason_has_a_word_of_its_own() {
        let words: BTreeSet<&str> = CloseReason::ALL.iter().map(|reason| reason.word()).collect();
        assert_eq!(words.len(), CloseReason::ALL.len());
        assert!(
            words
                .iter()
                .all(|word| word.bytes().all(|byte| byte == b'_' || byte.is_ascii_lowercase()))
        );
    }

    #[test]
    fn a_reset_is_told_by_its_side() {
        let error = RelayError::Broken {
            leg: Leg::Inner,
            source: std::io::ErrorKind::ConnectionReset.into(),
        };
        assert_eq!(
            CloseReason::of_relay(&error, Leg::Inner),
            CloseReason::ClientReset
        );
        assert_eq!(
            CloseReason::of_relay(&error, Leg::Outer),
            CloseReason::UpstreamReset
        );
        assert_eq!(
            CloseReason::of_relay(&RelayError::Truncated, Leg::Outer),
            CloseReason::ClientReset
        );
    }
}
