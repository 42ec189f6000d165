//! Signs a leaf, then judges it as a peer would before it may leave.

use ferrule_identity::{Bundles, Lifetime, PublicKey, Revocations, Timestamp, verify, verify_server_name};
use rustls_pki_types::CertificateDer;

use super::IssueError;
use super::template::{Profile, random_serial};
use crate::authority::ActiveSigner;
use crate::ledger::Serial;
use crate::x509;

/// A leaf that peers accept, and that nobody has recorded yet.
#[derive(Debug)]
pub(super) struct Signed {
    pub(super) leaf: CertificateDer<'static>,
    pub(super) serial: Serial,
}

/// Signs the leaf that `profile` describes with `signer`.
///
/// # Errors
/// When it cannot be built, or breaks a rule of its peers.
pub(super) fn sign(
    profile: &Profile,
    key: &PublicKey,
    lifetime: Lifetime,
    signer: &ActiveSigner,
    now: Timestamp,
) -> Result<Signed, IssueError> {
    let signed = draft(profile, key, lifetime, signer)?;
    check(profile, &signed.leaf, signer.own_bundle(), now)?;
    Ok(signed)
}

/// Signs the leaf, which nobody has judged yet.
///
/// # Errors
/// When it cannot be built.
pub(super) fn draft(
    profile: &Profile,
    key: &PublicKey,
    lifetime: Lifetime,
    signer: &ActiveSigner,
) -> Result<Signed, IssueError> {
    let serial = random_serial().ok_or(IssueError::Random)?;
    let leaf = profile
        .fields(key, serial, lifetime)
        .and_then(|fields| x509::certificate(fields, signer.issued_by()))
        .map_err(|source| IssueError::Build {
            name: profile.name(),
            source,
        })?;
    Ok(Signed { leaf, serial })
}

/// Verifies the new leaf against the certificate that signed it. What lies above that one is the same for every
/// leaf, and was verified against the published roots when the signer was taken into use.
pub(super) fn check(
    profile: &Profile,
    leaf: &CertificateDer<'static>,
    own: &Bundles,
    now: Timestamp,
) -> Result<(), IssueError> {
    let refused = |source: Box<dyn std::error::Error + Send + Sync>| IssueError::Unverifiable {
        name: profile.name(),
        source,
    };
    let chain = std::slice::from_ref(leaf);
    let none = Revocations::empty();
    match profile {
        Profile::Workload(id) => {
            let peer = verify(chain, own, &none, now).map_err(|source| refused(source.into()))?;
            if peer.id() == id {
                Ok(())
            } else {
                Err(refused(format!("it names {}", peer.id()).into()))
            }
        }
        Profile::Serving(names) => own.iter().try_for_each(|bundle| {
            names.iter().try_for_each(|name| {
                verify_server_name(chain, bundle, &none, name, now).map_err(|source| refused(source.into()))
            })
        }),
    }
}
