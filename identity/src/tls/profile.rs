//! Fixes the algorithms of every handshake, besides where its time comes from.

use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use rustls::SignatureScheme;
use rustls::crypto::aws_lc_rs::{cipher_suite, default_provider, kx_group};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms};
use rustls::time_provider::TimeProvider;
use rustls_pki_types::UnixTime;

use crate::Timestamp;
use crate::path::SIGNATURE_ALGORITHMS;

/// Where the time comes from. A closure does: `Arc::new(move || clock.timestamp())`.
pub trait Now: Send + Sync {
    /// The time now.
    fn now(&self) -> Timestamp;
}

impl<F: Fn() -> Timestamp + Send + Sync> Now for F {
    fn now(&self) -> Timestamp {
        self()
    }
}

/// The algorithms of the mesh: key exchange X25519MLKEM768, X25519 or P-256; AES-256-GCM, AES-128-GCM or
/// ChaCha20-Poly1305; signatures without SHA-1, and without RSA PKCS#1 in handshakes. In this order.
pub fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    let make = || {
        Arc::new(CryptoProvider {
            cipher_suites: vec![
                cipher_suite::TLS13_AES_256_GCM_SHA384,
                cipher_suite::TLS13_AES_128_GCM_SHA256,
                cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
            ],
            kx_groups: vec![kx_group::X25519MLKEM768, kx_group::X25519, kx_group::SECP256R1],
            signature_verification_algorithms: HANDSHAKE_SIGNATURES,
            ..default_provider()
        })
    };
    Arc::clone(PROVIDER.get_or_init(make))
}

/// How peers may sign a handshake, the best liked first. `all` is for certificates.
pub(super) const HANDSHAKE_SIGNATURES: WebPkiSupportedAlgorithms = WebPkiSupportedAlgorithms {
    all: &SIGNATURE_ALGORITHMS,
    mapping: &[
        (
            SignatureScheme::ECDSA_NISTP256_SHA256,
            &[webpki::aws_lc_rs::ECDSA_P256_SHA256],
        ),
        (
            SignatureScheme::ECDSA_NISTP384_SHA384,
            &[webpki::aws_lc_rs::ECDSA_P384_SHA384],
        ),
        (SignatureScheme::ED25519, &[webpki::aws_lc_rs::ED25519]),
        (
            SignatureScheme::RSA_PSS_SHA512,
            &[webpki::aws_lc_rs::RSA_PSS_2048_8192_SHA512_LEGACY_KEY],
        ),
        (
            SignatureScheme::RSA_PSS_SHA384,
            &[webpki::aws_lc_rs::RSA_PSS_2048_8192_SHA384_LEGACY_KEY],
        ),
        (
            SignatureScheme::RSA_PSS_SHA256,
            &[webpki::aws_lc_rs::RSA_PSS_2048_8192_SHA256_LEGACY_KEY],
        ),
    ],
};

/// Our time in rustls' form.
pub(super) struct HandshakeTime(pub(super) Arc<dyn Now>);

impl TimeProvider for HandshakeTime {
    fn current_time(&self) -> Option<UnixTime> {
        let seconds = u64::try_from(self.0.now().unix()).ok()?;
        Some(UnixTime::since_unix_epoch(Duration::from_secs(seconds)))
    }
}

impl fmt::Debug for HandshakeTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HandshakeTime")
    }
}

/// rustls' time in our form.
pub(super) fn timestamp(time: UnixTime) -> Timestamp {
    Timestamp::from_unix(i64::try_from(time.as_secs()).unwrap_or(i64::MAX))
}
