//! Builds rustls' settings, so that nobody has to remember what must be off.

use std::sync::Arc;

use rustls::client::Resumption;
use rustls::client::danger::ServerCertVerifier;
use rustls::server::NoServerSessionStorage;
use rustls::version::TLS13;
use rustls::{ClientConfig, ServerConfig};

use super::profile::{HandshakeTime, Now, provider};
use super::{PeerVerifier, Presented, ServerVerifier, TlsError};

/// Settings for a server of the mesh: shows `own`, demands a certificate that `verifier` accepts. `alpn` are the
/// protocols that it offers, best first; a client that names only others is turned away.
///
/// # Errors
/// When rustls does not take the settings.
pub fn peer_server_config(
    verifier: PeerVerifier,
    own: &Presented,
    alpn: &[&[u8]],
    now: Arc<dyn Now>,
) -> Result<ServerConfig, TlsError> {
    let mut config = ServerConfig::builder_with_details(provider(), Arc::new(HandshakeTime(now)))
        .with_protocol_versions(&[&TLS13])
        .map_err(|source| TlsError::Settings { source })?
        .with_client_cert_verifier(Arc::new(verifier))
        .with_cert_resolver(own.resolver());
    // A resumed session would not be verified again, although its peer may have expired or been revoked.
    config.send_tls13_tickets = 0;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.max_early_data_size = 0;
    config.alpn_protocols = owned(alpn);
    Ok(config)
}

/// Settings for a server of the control plane: shows the serving certificate `own`; a client may show a
/// workload's certificate, which `verifier` then has to accept, or none.
///
/// # Errors
/// When rustls does not take the settings.
pub fn control_server_config(
    verifier: PeerVerifier,
    own: &Presented,
    alpn: &[&[u8]],
    now: Arc<dyn Now>,
) -> Result<ServerConfig, TlsError> {
    peer_server_config(verifier.optional(), own, alpn, now)
}

/// Settings for a client of the mesh: shows `own`, and talks to nobody but whom `verifier` expects.
///
/// # Errors
/// When rustls does not take the settings.
pub fn peer_client_config(
    verifier: PeerVerifier,
    own: &Presented,
    alpn: &[&[u8]],
    now: Arc<dyn Now>,
) -> Result<ClientConfig, TlsError> {
    client_config(Arc::new(verifier), Some(own), alpn, now)
}

/// Settings for a client of the control plane: knows the server by its name; shows `own` when it has a
/// workload's certificate already.
///
/// # Errors
/// When rustls does not take the settings.
pub fn control_client_config(
    verifier: ServerVerifier,
    own: Option<&Presented>,
    alpn: &[&[u8]],
    now: Arc<dyn Now>,
) -> Result<ClientConfig, TlsError> {
    client_config(Arc::new(verifier), own, alpn, now)
}

fn client_config(
    verifier: Arc<dyn ServerCertVerifier>,
    own: Option<&Presented>,
    alpn: &[&[u8]],
    now: Arc<dyn Now>,
) -> Result<ClientConfig, TlsError> {
    let builder = ClientConfig::builder_with_details(provider(), Arc::new(HandshakeTime(now)))
        .with_protocol_versions(&[&TLS13])
        .map_err(|source| TlsError::Settings { source })?
        // "Dangerous" is rustls' word for any verifier but its own; ours is the stricter one.
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let mut config = match own {
        Some(own) => builder.with_client_cert_resolver(own.resolver()),
        None => builder.with_no_client_auth(),
    };
    config.resumption = Resumption::disabled();
    config.enable_early_data = false;
    config.alpn_protocols = owned(alpn);
    Ok(config)
}

fn owned(alpn: &[&[u8]]) -> Vec<Vec<u8>> {
    alpn.iter().map(|protocol| protocol.to_vec()).collect()
}
