//! Verifies the workload at the other end of a handshake, be it client or server.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::verify_tls13_signature;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, PeerIncompatible, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use super::profile::{HANDSHAKE_SIGNATURES, timestamp};
use super::refusal::to_rustls;
use super::{Outcome, TrustCell};
use crate::{PeerIdentity, SpiffeId, Verified, VerifyError, verify};

/// Which workloads may be at the other end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expected {
    /// Any whose certificate is in order; whether it is let in is decided after the handshake.
    Anyone,
    /// This one.
    One(SpiffeId),
    /// These, and no other; none at all when the set is empty.
    Only(BTreeSet<SpiffeId>),
}

impl Expected {
    /// Exactly this one.
    pub const fn one(id: SpiffeId) -> Self {
        Self::One(id)
    }

    fn check(&self, found: &SpiffeId) -> Result<(), VerifyError> {
        match self {
            Self::Anyone => Ok(()),
            Self::One(id) if id == found => Ok(()),
            Self::Only(ids) if ids.contains(found) => Ok(()),
            Self::One(_) | Self::Only(_) => Err(VerifyError::Unexpected {
                found: found.clone(),
                expected: self.to_string(),
            }),
        }
    }
}

impl fmt::Display for Expected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ids = match self {
            Self::Anyone => return f.write_str("anyone"),
            Self::One(id) => return id.fmt(f),
            Self::Only(ids) => ids,
        };
        match ids.first() {
            None => f.write_str("nobody"),
            Some(one) if ids.len() == 1 => one.fmt(f),
            Some(one) => write!(f, "{one} or one of {} others", ids.len() - 1),
        }
    }
}

/// Accepts a peer when [`verify`](verify()) does, and when it is one of those that are expected. Works at either end.
/// The name that a client calls a server by plays no part: a workload's name is its SPIFFE ID.
#[derive(Debug)]
pub struct PeerVerifier {
    trust: Arc<TrustCell>,
    expected: Expected,
    verified: Option<Arc<Verified>>,
    reports: Reports,
    optional: bool,
}

/// Whom a verifier tells what it found, besides rustls.
#[derive(Debug)]
enum Reports {
    Nobody,
    /// The one handshake that it is made for.
    To(Outcome),
    /// Whichever handshake it is asked for.
    Collected,
}

impl PeerVerifier {
    /// A verifier that looks into `trust` at each handshake.
    pub const fn new(trust: Arc<TrustCell>, expected: Expected) -> Self {
        Self {
            trust,
            expected,
            verified: None,
            reports: Reports::Nobody,
            optional: false,
        }
    }

    /// The same with results that are kept in `verified` and used again.
    pub fn remembering(self, verified: Arc<Verified>) -> Self {
        Self {
            verified: Some(verified),
            ..self
        }
    }

    /// The same for one handshake, whose result goes to `outcome`.
    pub fn reporting_to(self, outcome: Outcome) -> Self {
        Self {
            reports: Reports::To(outcome),
            ..self
        }
    }

    /// The same for any number of handshakes, each of whose steps runs within [`Outcome::collect`]; it refuses elsewhere.
    pub fn reporting(self) -> Self {
        Self {
            reports: Reports::Collected,
            ..self
        }
    }

    /// The same for a server that also serves clients without a certificate. One that is shown must be in order.
    pub(super) fn optional(self) -> Self {
        Self {
            optional: true,
            ..self
        }
    }

    fn judge(
        &self,
        leaf: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), rustls::Error> {
        let result = self.peer(leaf, others, now).map_err(Arc::new);
        let answer = result.as_ref().map(drop).map_err(to_rustls);
        let outcome = match &self.reports {
            Reports::Nobody => return answer,
            Reports::To(outcome) => Some(outcome.clone()),
            Reports::Collected => Outcome::collecting(),
        };
        if outcome.is_some_and(|outcome| outcome.fill(result)) {
            return answer;
        }
        Err(rustls::Error::General(
            "a verifier for one handshake was used for another".to_owned(),
        ))
    }

    fn peer(
        &self,
        leaf: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<PeerIdentity, VerifyError> {
        let chain: Vec<CertificateDer<'_>> = std::iter::once(leaf).chain(others).map(borrowed).collect();
        let trust = self.trust.load();
        let (bundles, revocations, now) = (&trust.bundles, &trust.revocations, timestamp(now));
        let peer = match &self.verified {
            Some(verified) => verified.verify(&chain, bundles, revocations, now)?,
            None => verify(&chain, bundles, revocations, now)?,
        };
        self.expected.check(peer.id())?;
        Ok(peer)
    }
}

impl ClientCertVerifier for PeerVerifier {
    fn client_auth_mandatory(&self) -> bool {
        !self.optional
    }

    /// None: the authorities that we trust are nobody's business before they show who they are.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        self.judge(leaf, others, now)
            .map(|()| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _leaf: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(PeerIncompatible::Tls12NotOfferedOrEnabled.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, leaf, signature, &HANDSHAKE_SIGNATURES)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        HANDSHAKE_SIGNATURES.supported_schemes()
    }
}

impl ServerCertVerifier for PeerVerifier {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        self.judge(leaf, others, now)
            .map(|()| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        ClientCertVerifier::verify_tls12_signature(self, message, leaf, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, leaf, signature, &HANDSHAKE_SIGNATURES)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        HANDSHAKE_SIGNATURES.supported_schemes()
    }
}

/// The same certificate, not copied.
pub(super) fn borrowed<'c>(certificate: &'c CertificateDer<'_>) -> CertificateDer<'c> {
    CertificateDer::from(certificate.as_ref())
}
