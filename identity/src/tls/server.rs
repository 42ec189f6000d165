//! Verifies the server of our own control plane by the name that it is called by.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::verify_tls13_signature;
use rustls::{DigitallySignedStruct, PeerIncompatible, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use super::TrustCell;
use super::peer::borrowed;
use super::profile::{HANDSHAKE_SIGNATURES, timestamp};
use super::refusal::to_rustls;
use crate::bundle::TrustBundle;
use crate::verify::{MAX_CHAIN_CERTIFICATES, verify_server_name};
use crate::{Fingerprint, Revocations, Timestamp, TrustDomain, VerifyError};

/// Accepts a server when [`verify_server_name`] does. A workload's certificate is refused, whatever its names.
#[derive(Debug)]
pub struct ServerVerifier {
    trust_domain: TrustDomain,
    anchors: AnchorsFrom,
}

#[derive(Debug)]
enum AnchorsFrom {
    Trust(Arc<TrustCell>),
    Root(Fingerprint),
}

impl ServerVerifier {
    /// Trusts the bundle of `trust_domain` that lies in `trust` at the time of each handshake.
    pub const fn new(trust_domain: TrustDomain, trust: Arc<TrustCell>) -> Self {
        Self {
            trust_domain,
            anchors: AnchorsFrom::Trust(trust),
        }
    }

    /// For the first contact, before there is a bundle: trusts the root whose certificate has the SHA-256 `root`.
    /// The server has to send it at the end of its chain.
    pub const fn pinned(trust_domain: TrustDomain, root: Fingerprint) -> Self {
        Self {
            trust_domain,
            anchors: AnchorsFrom::Root(root),
        }
    }

    fn judge(
        &self,
        chain: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        now: Timestamp,
    ) -> Result<(), VerifyError> {
        match &self.anchors {
            AnchorsFrom::Trust(trust) => {
                let trust = trust.load();
                let bundle = trust
                    .bundles
                    .of(&self.trust_domain)
                    .ok_or_else(|| VerifyError::NoBundle {
                        trust_domain: self.trust_domain.clone(),
                    })?;
                verify_server_name(chain, bundle, &trust.revocations, name, now)
            }
            AnchorsFrom::Root(root) => {
                let mut offered = chain.iter().take(MAX_CHAIN_CERTIFICATES);
                let pinned = offered
                    .find(|certificate| Fingerprint::of(certificate) == *root)
                    .ok_or(VerifyError::RootNotSent { root: *root })?;
                let bundle = TrustBundle::new(
                    self.trust_domain.clone(),
                    0,
                    None,
                    std::slice::from_ref(pinned),
                    now,
                )
                .map_err(|source| VerifyError::RootUnfit {
                    root: *root,
                    source: Box::new(source),
                })?;
                verify_server_name(chain, &bundle, &Revocations::empty(), name, now)
            }
        }
    }
}

impl ServerCertVerifier for ServerVerifier {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let chain: Vec<CertificateDer<'_>> = std::iter::once(leaf).chain(others).map(borrowed).collect();
        match self.judge(&chain, name, timestamp(now)) {
            Ok(()) => Ok(ServerCertVerified::assertion()),
            Err(error) => Err(to_rustls(&Arc::new(error))),
        }
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
