//! Holds the certificate that we show in handshakes.

use std::sync::Arc;

use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls_pki_types::{CertificateDer, ServerName};

use super::TlsError;
use crate::path::reading::Reading;
use crate::{
    PrivateKey, Revocations, Timestamp, TrustBundle, VerifyError, WorkloadCertificate, leaf,
    verify_server_name,
};

/// A certificate chain with its key, in the form that rustls shows. Making one costs about as much as a
/// signature; cloning nothing, so it is made once for each certificate.
#[derive(Debug, Clone)]
pub struct Presented(Arc<CertifiedKey>);

impl Presented {
    /// A workload's certificate, which has been checked.
    ///
    /// # Errors
    /// When rustls does not take the key.
    pub fn workload(certificate: &WorkloadCertificate) -> Result<Self, TlsError> {
        Self::take(certificate.chain_der().to_vec(), certificate.key())
    }

    /// A serving certificate of the control plane. It is checked as a client of `bundle` would check it that
    /// calls the server by each of `names`; with none, everything but the names is checked.
    ///
    /// # Errors
    /// When a client would refuse it, or the key is not its own.
    pub fn serving(
        chain: Vec<CertificateDer<'static>>,
        key: &PrivateKey,
        bundle: &TrustBundle,
        names: &[ServerName<'_>],
        now: Timestamp,
    ) -> Result<Self, TlsError> {
        let refused = |source| TlsError::Serving { source };
        for name in names {
            verify_server_name(&chain, bundle, &Revocations::empty(), name, now).map_err(refused)?;
        }
        let leaf = chain.first().ok_or(TlsError::OtherKey)?;
        leaf::check_serving_leaf(leaf).map_err(|source| refused(VerifyError::Leaf { source }))?;
        Self::take(chain, key)
    }

    fn take(chain: Vec<CertificateDer<'static>>, key: &PrivateKey) -> Result<Self, TlsError> {
        let own = chain
            .first()
            .and_then(|leaf| Reading::new(leaf).ok().map(|reading| reading.key_fingerprint()));
        if own != Some(key.public_key().fingerprint()) {
            return Err(TlsError::OtherKey);
        }
        let signer = any_supported_type(&key.to_rustls()).map_err(|source| TlsError::Key { source })?;
        Ok(Self(Arc::new(CertifiedKey::new(chain, signer))))
    }

    /// The resolver that shows this certificate to everyone.
    pub(super) fn resolver(&self) -> Arc<SingleCertAndKey> {
        Arc::new(SingleCertAndKey::from(Arc::clone(&self.0)))
    }
}
