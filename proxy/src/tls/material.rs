//! Holds what every handshake needs: the certificate to show, whom to trust, the time.

use std::sync::Arc;

use ferrule_daemon::clock::Clock;
use ferrule_identity::tls::{
    Expected, Now, Outcome, PeerVerifier, Presented, TlsError, TrustCell, peer_client_config,
    peer_server_config,
};
use ferrule_identity::{Lifetime, SerialNumber, SpiffeId, Timestamp, Verified, WorkloadCertificate};
use rustls::{ClientConfig, ServerConfig};

use crate::framing::OFFERED;

/// What handshakes need while one certificate is in use. Made anew for each certificate, shared by all workers.
pub struct Material {
    own: Presented,
    id: SpiffeId,
    serial: SerialNumber,
    lifetime: Lifetime,
    trust: Arc<TrustCell>,
    verified: Arc<Verified>,
    now: Arc<dyn Now>,
}

impl Material {
    /// Prepares `certificate` for handshakes; whom to trust is read from `trust` at each of them.
    ///
    /// # Errors
    /// When rustls does not take the certificate's key.
    pub fn new(
        certificate: &WorkloadCertificate,
        trust: Arc<TrustCell>,
        clock: Clock,
    ) -> Result<Self, TlsError> {
        Ok(Self {
            own: Presented::workload(certificate)?,
            id: certificate.id().clone(),
            serial: certificate.serial().clone(),
            lifetime: certificate.lifetime(),
            trust,
            verified: Arc::new(Verified::new(REMEMBERED)),
            now: Arc::new(move || Timestamp::from_unix(clock.unix())),
        })
    }

    /// Who shows it.
    pub const fn id(&self) -> &SpiffeId {
        &self.id
    }

    /// The certificate's serial number.
    pub const fn serial(&self) -> &SerialNumber {
        &self.serial
    }

    /// The certificate's life.
    pub const fn lifetime(&self) -> Lifetime {
        self.lifetime
    }

    /// Settings for one handshake as the side that is dialled, whose verification goes to `outcome`. Any identity
    /// that is in order passes; whether it is let in is the gate's business.
    ///
    /// # Errors
    /// When rustls does not take the settings.
    pub fn server(&self, outcome: &Outcome) -> Result<ServerConfig, TlsError> {
        let verifier = self.verifier(Expected::Anyone, outcome);
        let mut config = peer_server_config(verifier, &self.own, OFFERED, Arc::clone(&self.now))?;
        // The records after the handshake are `record`'s, which needs its secrets.
        config.enable_secret_extraction = true;
        Ok(config)
    }

    /// Settings for one handshake as the side that dials `expected`, whose verification goes to `outcome`.
    ///
    /// # Errors
    /// When rustls does not take the settings.
    pub fn client(&self, expected: SpiffeId, outcome: &Outcome) -> Result<ClientConfig, TlsError> {
        let verifier = self.verifier(Expected::one(expected), outcome);
        let mut config = peer_client_config(verifier, &self.own, OFFERED, Arc::clone(&self.now))?;
        config.enable_secret_extraction = true;
        Ok(config)
    }

    fn verifier(&self, expected: Expected, outcome: &Outcome) -> PeerVerifier {
        PeerVerifier::new(Arc::clone(&self.trust), expected)
            .remembering(Arc::clone(&self.verified))
            .reporting_to(outcome.clone())
    }
}

impl std::fmt::Debug for Material {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Material({}, {})", self.id, self.serial)
    }
}

/// Chains of peers that are remembered, so that their next connection costs no signatures but its own: at most 1 MiB.
const REMEMBERED: usize = 1_024;
