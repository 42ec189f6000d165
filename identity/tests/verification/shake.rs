//! Runs one TLS handshake in memory.

use std::sync::Arc;

use ferrule_identity::PrivateKey;
use ferrule_identity::tls::{self, Now};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, ServerConfig, ServerConnection, SignatureScheme,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use crate::pki::NOW;

/// How each end saw the handshake.
pub(crate) struct Shaken {
    pub(crate) client: Result<(), rustls::Error>,
    pub(crate) server: Result<(), rustls::Error>,
    pub(crate) client_end: ClientConnection,
    pub(crate) server_end: ServerConnection,
}

/// Hands each end's bytes to the other until neither has any.
pub(crate) fn shake(client: ClientConfig, server: ServerConfig, name: &str) -> Shaken {
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let mut shaken = Shaken {
        client: Ok(()),
        server: Ok(()),
        client_end: ClientConnection::new(Arc::new(client), name).unwrap(),
        server_end: ServerConnection::new(Arc::new(server)).unwrap(),
    };
    loop {
        let (mut to_server, mut to_client) = (Vec::new(), Vec::new());
        while shaken.client_end.wants_write() {
            shaken.client_end.write_tls(&mut to_server).unwrap();
        }
        while shaken.server_end.wants_write() {
            shaken.server_end.write_tls(&mut to_client).unwrap();
        }
        if to_server.is_empty() && to_client.is_empty() {
            return shaken;
        }
        let mut bytes = to_server.as_slice();
        while !bytes.is_empty() && shaken.server.is_ok() {
            shaken.server_end.read_tls(&mut bytes).unwrap();
            shaken.server = shaken.server_end.process_new_packets().map(drop);
        }
        let mut bytes = to_client.as_slice();
        while !bytes.is_empty() && shaken.client.is_ok() {
            shaken.client_end.read_tls(&mut bytes).unwrap();
            shaken.client = shaken.client_end.process_new_packets().map(drop);
        }
    }
}

pub(crate) fn now() -> Arc<dyn Now> {
    Arc::new(|| NOW)
}

/// A resolver that shows anything, whether the key fits or not.
fn shows(chain: Vec<CertificateDer<'static>>, key: &PrivateKey) -> Arc<SingleCertAndKey> {
    let signer = any_supported_type(&key.to_rustls()).unwrap();
    Arc::new(SingleCertAndKey::from(CertifiedKey::new(chain, signer)))
}

/// A client that shows `chain` and believes everybody.
pub(crate) fn hostile_client(chain: Vec<CertificateDer<'static>>, key: &PrivateKey) -> ClientConfig {
    ClientConfig::builder_with_provider(tls::provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Credulous))
        .with_client_cert_resolver(shows(chain, key))
}

/// A server that shows `chain` and asks nobody who they are.
pub(crate) fn hostile_server(chain: Vec<CertificateDer<'static>>, key: &PrivateKey) -> ServerConfig {
    ServerConfig::builder_with_provider(tls::provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(shows(chain, key))
}

#[derive(Debug)]
pub(crate) struct Credulous;

impl ServerCertVerifier for Credulous {
    fn verify_server_cert(
        &self,
        _leaf: &CertificateDer<'_>,
        _others: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _leaf: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _leaf: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        tls::provider()
            .signature_verification_algorithms
            .supported_schemes()
    }
}
