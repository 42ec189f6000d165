//! Signs a leaf, then judges it as a peer would before it may leave.

use ferrule_identity::{
    Bundles, Lifetime, PublicKey, Revocations, Timestamp, verify_made, verify_server_name,
};
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
    check(profile, key, &signed.leaf, signer.own_bundle(), now)?;
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
    key: &PublicKey,
    leaf: &CertificateDer<'static>,
    own: &Bundles,
    now: Timestamp,
) -> Result<(), IssueError> {
    let refused = |source: Box<dyn std::error::Error + Send + Sync>| IssueError::Unverifiable {
        name: profile.name(),
        source,
    };
    let chain = std::slice::from_ref(leaf);
    match profile {
        Profile::Workload(id) => {
            let named = verify_made(leaf, key, own, now).map_err(|source| refused(source.into()))?;
            if named == *id {
                Ok(())
            } else {
                Err(refused(format!("it names {named}").into()))
            }
        }
        Profile::Serving(names) => own.iter().try_for_each(|bundle| {
            names.iter().try_for_each(|name| {
                verify_server_name(chain, bundle, &Revocations::empty(), name, now)
                    .map_err(|source| refused(source.into()))
            })
        }),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use ferrule_daemon::logging::Chain;
    use ferrule_identity::{KeyAlgorithm, PrivateKey, SpiffeId};

    use super::*;
    use crate::lab::{Lab, START};

    fn workload(name: &str) -> Profile {
        let id = format!("spiffe://shop.local/ns/shop/sa/{name}");
        Profile::Workload(SpiffeId::parse(&id).unwrap())
    }

    fn key() -> PublicKey {
        let key = PrivateKey::generate(KeyAlgorithm::EcdsaP256).unwrap();
        key.public_key().clone()
    }

    /// Each of these is what a fault on the way to the signature, or in it, would make.
    #[tokio::test]
    async fn a_leaf_that_peers_would_refuse_does_not_leave() {
        let (lab, stranger) = (Lab::new().await, Lab::new().await);
        let now = Timestamp::from_unix(START);
        let signer = lab.ca.authorities.active_signer().unwrap();
        let hour = Duration::from_secs(3600);
        let lifetime = crate::issue::template::leaf_life(hour, signer.lifetime(), now).unwrap();
        let (web, own) = (key(), signer.own_bundle());
        let leaf = draft(&workload("web"), &web, lifetime, &signer).unwrap().leaf;
        check(&workload("web"), &web, &leaf, own, now).unwrap();

        let refused = |profile: &Profile, key: &PublicKey, leaf: &CertificateDer<'static>, now| {
            let error = check(profile, key, leaf, own, now).unwrap_err();
            Chain(&error).to_string()
        };
        let named = refused(&workload("api"), &web, &leaf, now);
        assert!(
            named.contains("it names spiffe://shop.local/ns/shop/sa/web"),
            "{named}"
        );
        let keyed = refused(&workload("web"), &key(), &leaf, now);
        assert!(keyed.contains("not the one that it was made for"), "{keyed}");
        let ended = refused(&workload("web"), &web, &leaf, now.plus(2 * hour));
        assert!(ended.contains("expired"), "{ended}");
        let signer = stranger.ca.authorities.active_signer().unwrap();
        let foreign = draft(&workload("web"), &web, lifetime, &signer).unwrap().leaf;
        refused(&workload("web"), &web, &foreign, now);
        for at in 0..leaf.len() {
            let mut bent = leaf.to_vec();
            bent[at] ^= 1;
            refused(&workload("web"), &web, &bent.into(), now);
        }
    }
}
