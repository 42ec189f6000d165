//! Holds a workload's own certificate: chain, key and identity, checked as one value.

mod info;

use std::sync::Arc;

use rustls_pki_types::CertificateDer;

pub use info::CertificateInfo;

use crate::bundle::{Bundles, TrustBundle};
use crate::pem::{self, PemError, PemLimits};
use crate::revocation::Revocations;
use crate::verify::{self, PeerIdentity, VerifyError};
use crate::{Lifetime, PrivateKey, SerialNumber, SpiffeId, Timestamp};

/// A certificate chain with its private key: what a workload shows. It was accepted by the same rules as a
/// peer's would be, so that a fault shows here, and not in a stranger's log. Cheap to clone.
#[derive(Debug, Clone)]
pub struct WorkloadCertificate {
    chain: Arc<[CertificateDer<'static>]>,
    key: Arc<PrivateKey>,
    identity: Arc<PeerIdentity>,
}

impl WorkloadCertificate {
    /// Takes `chain`, leaf first, and the leaf's `key`, when [`verify`](crate::verify()) accepts the chain with
    /// `bundle` at `now`.
    ///
    /// # Errors
    /// When it does not, or when the key is not the leaf's.
    pub fn new(
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKey,
        bundle: &TrustBundle,
        now: Timestamp,
    ) -> Result<Self, CertificateError> {
        let bundles = Bundles::from_iter([bundle.clone()]);
        let identity = verify::verify(&chain, &bundles, &Revocations::empty(), now)
            .map_err(|source| CertificateError::Refused { source })?;
        if key.public_key().fingerprint() != identity.key_fingerprint() {
            return Err(CertificateError::OtherKey {
                id: identity.id().clone(),
            });
        }
        Ok(Self {
            chain: chain.into(),
            key: Arc::new(key),
            identity: Arc::new(identity),
        })
    }

    /// As [`new`](Self::new), from PEM text: the leaf first, nothing but certificates.
    ///
    /// # Errors
    /// As [`new`](Self::new), or when the text is not strict PEM ([`pem`]).
    pub fn from_pem(
        chain: &str,
        key: PrivateKey,
        bundle: &TrustBundle,
        now: Timestamp,
    ) -> Result<Self, CertificateError> {
        Self::new(read_chain(chain)?, key, bundle, now)
    }

    /// Whose certificate it is.
    pub fn id(&self) -> &SpiffeId {
        self.identity.id()
    }

    /// The life of the leaf.
    pub fn lifetime(&self) -> Lifetime {
        self.identity.lifetime()
    }

    /// The leaf's serial number.
    pub fn serial(&self) -> &SerialNumber {
        self.identity.serial()
    }

    /// What a peer would learn from it.
    pub fn identity(&self) -> &PeerIdentity {
        &self.identity
    }

    /// The certificates, leaf first, without the anchor unless it was given.
    pub fn chain_der(&self) -> &[CertificateDer<'static>] {
        &self.chain
    }

    /// The certificates as PEM text.
    pub fn chain_pem(&self) -> String {
        write_chain(&self.chain)
    }

    /// The leaf's key.
    pub fn key(&self) -> &PrivateKey {
        &self.key
    }
}

/// Reads a chain from PEM text: one certificate or more, nothing else, in the order of the text.
///
/// # Errors
/// When the text is not strict PEM ([`pem`]), or holds more than 16 certificates.
pub fn read_chain(text: &str) -> Result<Vec<CertificateDer<'static>>, CertificateError> {
    let blocks = pem::read_all(text, pem::CERTIFICATE, PemLimits::CHAIN)
        .map_err(|source| CertificateError::Pem { source })?;
    Ok(blocks
        .iter()
        .map(|block| CertificateDer::from(block.der().to_vec()))
        .collect())
}

/// Writes a chain as PEM text, in its order.
pub fn write_chain(chain: &[CertificateDer<'_>]) -> String {
    chain
        .iter()
        .map(|certificate| pem::write(pem::CERTIFICATE, certificate).to_string())
        .collect()
}

/// Why a certificate cannot be used as our own.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// Not the PEM that we read.
    #[error("cannot read the certificate chain as PEM")]
    Pem {
        /// The line, and what is wrong there.
        source: PemError,
    },
    /// A peer would refuse it.
    #[error("peers would refuse the certificate")]
    Refused {
        /// For this reason.
        source: VerifyError,
    },
    /// The key is another one's.
    #[error("the private key is not the one of the certificate of {id}")]
    OtherKey {
        /// Whose certificate it is.
        id: SpiffeId,
    },
}
