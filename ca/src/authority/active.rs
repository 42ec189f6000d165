//! Holds a signing certificate together with its key, ready to sign.

use std::fmt;
use std::sync::Arc;

use ferrule_identity::{Bundles, Lifetime, TrustBundle, TrustDomain, pem};
use rustls_pki_types::CertificateDer;

use super::certificate::AuthorityCertificate;
use super::root::{self, RootError};
use super::signer::Signer;
use crate::x509::IssuedBy;

/// A signing certificate whose key is at hand. Everything that is the same for each leaf is prepared once.
pub struct ActiveSigner {
    authority: String,
    certificate: AuthorityCertificate,
    signer: Arc<dyn Signer>,
    /// This certificate and those between it and the root.
    chain: Vec<CertificateDer<'static>>,
    /// The same in PEM.
    chain_pem: String,
    /// When everything above a leaf is valid, the root included.
    lifetime: Lifetime,
    /// This certificate as the only anchor.
    own: Bundles,
}

impl ActiveSigner {
    /// Prepares to sign below `chain`, whose first certificate is for the key of `signer`; `lifetime` is when all
    /// of the chain is valid.
    pub(crate) fn new(
        trust_domain: &TrustDomain,
        certificate: AuthorityCertificate,
        chain: Vec<CertificateDer<'static>>,
        signer: Arc<dyn Signer>,
        lifetime: Lifetime,
    ) -> Result<Self, RootError> {
        if certificate.key != *signer.public_key() {
            return Err(RootError::OtherKey {
                what: "signing certificate",
            });
        }
        // Its dates count when a leaf is verified; here it only has to be read.
        let begin = certificate.lifetime.not_before();
        let anchor = std::slice::from_ref(&certificate.der);
        let own = TrustBundle::new(trust_domain.clone(), 0, None, anchor, begin)
            .map_err(|source| RootError::Bundle { source })?;
        Ok(Self {
            authority: certificate.authority().to_string(),
            chain_pem: root::chain_text(&chain),
            own: Bundles::from_iter([own]),
            certificate,
            signer,
            chain,
            lifetime,
        })
    }

    /// The key identifier by which the ledger and revocations name it, in hexadecimal.
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// When everything above a leaf is valid, the root included.
    pub const fn lifetime(&self) -> Lifetime {
        self.lifetime
    }

    /// The chain of `leaf`: it, then the certificates below the root.
    pub fn chain(&self, leaf: CertificateDer<'static>) -> Vec<CertificateDer<'static>> {
        std::iter::once(leaf).chain(self.chain.iter().cloned()).collect()
    }

    /// The same in PEM.
    pub fn chain_pem(&self, leaf: &CertificateDer<'_>) -> String {
        let mut text = pem::write(pem::CERTIFICATE, leaf).to_string();
        text.push_str(&self.chain_pem);
        text
    }

    /// Its part in whatever it signs.
    pub(crate) fn issued_by(&self) -> IssuedBy<'_> {
        IssuedBy {
            signer: self.signer.as_ref(),
            name: &self.certificate.subject,
            key_id: &self.certificate.key_id,
        }
    }

    /// A bundle that trusts this certificate and nothing else: what it signed is verified with one signature.
    pub(crate) const fn own_bundle(&self) -> &Bundles {
        &self.own
    }
}

impl fmt::Debug for ActiveSigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ActiveSigner({} valid {})", self.authority, self.lifetime)
    }
}
