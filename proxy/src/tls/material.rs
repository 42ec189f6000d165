//! Holds what every handshake needs: the certificate to show, whom to trust, the time.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use ferrule_daemon::clock::Clock;
use ferrule_identity::tls::{
    Expected, Now, PeerVerifier, Presented, TlsError, TrustCell, peer_client_config, peer_server_config,
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
    server: Arc<ServerConfig>,
    /// By who is expected. Each open connection keeps the settings of its handshake: shared, they cost it nothing.
    clients: Mutex<HashMap<SpiffeId, Arc<ClientConfig>>>,
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
        let own = Presented::workload(certificate)?;
        let verified = Arc::new(Verified::new(REMEMBERED));
        let now: Arc<dyn Now> = Arc::new(move || Timestamp::from_unix(clock.unix()));
        // Any identity that is in order passes; whether it is let in is the gate's business.
        let verifier = verifier(&trust, Expected::Anyone, &verified);
        let mut server = peer_server_config(verifier, &own, OFFERED, Arc::clone(&now))?;
        // The records after the handshake are `record`'s, which needs its secrets.
        server.enable_secret_extraction = true;
        Ok(Self {
            own,
            id: certificate.id().clone(),
            serial: certificate.serial().clone(),
            lifetime: certificate.lifetime(),
            trust,
            verified,
            now,
            server: Arc::new(server),
            clients: Mutex::default(),
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

    /// Settings for handshakes as the side that is dialled, each of whose steps runs within
    /// [`Outcome::collect`](ferrule_identity::tls::Outcome::collect). Any identity that is in order passes; whether it is
    /// let in is the gate's business.
    pub fn server(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.server)
    }

    /// Settings for handshakes as the side that dials `expected`, each of whose steps runs within
    /// [`Outcome::collect`](ferrule_identity::tls::Outcome::collect).
    ///
    /// # Errors
    /// When rustls does not take the settings.
    pub fn client(&self, expected: &SpiffeId) -> Result<Arc<ClientConfig>, TlsError> {
        // A map is whole between its calls, so a panic elsewhere cannot have left it torn.
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = clients.get(expected) {
            return Ok(Arc::clone(known));
        }
        let verifier = verifier(&self.trust, Expected::one(expected.clone()), &self.verified);
        let mut config = peer_client_config(verifier, &self.own, OFFERED, Arc::clone(&self.now))?;
        config.enable_secret_extraction = true;
        let config = Arc::new(config);
        if clients.len() >= REMEMBERED {
            clients.clear();
        }
        clients.insert(expected.clone(), Arc::clone(&config));
        Ok(config)
    }
}

fn verifier(trust: &Arc<TrustCell>, expected: Expected, verified: &Arc<Verified>) -> PeerVerifier {
    PeerVerifier::new(Arc::clone(trust), expected)
        .remembering(Arc::clone(verified))
        .reporting()
}

impl std::fmt::Debug for Material {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Material({}, {})", self.id, self.serial)
    }
}

/// Peers that are remembered: their chains, so that their next connection costs no signatures but its own, and the
/// settings for dialling them. At most 1 MiB of each.
const REMEMBERED: usize = 1_024;
