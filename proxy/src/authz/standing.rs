//! Decides whether a peer that was verified once is still to be trusted.

use ferrule_identity::tls::TrustSnapshot;
use ferrule_identity::{PeerIdentity, Timestamp};

use crate::closed::{CloseReason, Closed};

/// Whether `peer` may stay, judged by `trust` at `now`: its identity and every certificate of its path unrevoked,
/// the anchor of its path, or of another one from the chain that it showed, still in the bundle of its trust domain,
/// and `end` not reached.
///
/// # Errors
/// How the connection has to end.
pub fn check(
    peer: &PeerIdentity,
    trust: &TrustSnapshot,
    now: Timestamp,
    end: Timestamp,
) -> Result<(), Closed> {
    let no = |reason, detail: String| Err(Closed { reason, detail });
    let id = peer.id();
    if trust.revocations.revokes(id) {
        return no(CloseReason::Revoked, format!("the identity {id} is revoked"));
    }
    for link in &peer.path().links {
        if let Some(how) = trust.revocations.judge(link) {
            let serial = &link.serial;
            return no(
                CloseReason::Revoked,
                format!("certificate {serial} of {id} is revoked {how}"),
            );
        }
    }
    let Some(bundle) = trust.bundles.about(id) else {
        let detail = format!("there is no bundle for {} any more", id.trust_domain());
        return no(CloseReason::UnknownTrustDomain, detail);
    };
    if bundle.fingerprint() != peer.bundle_fingerprint()
        && !bundle
            .anchors()
            .iter()
            .any(|anchor| anchor.fingerprint() == peer.path().anchor)
        && peer
            .verify_again(&trust.bundles, &trust.revocations, now)
            .is_err()
    {
        let detail = format!("{id} was believed because of an authority that is not trusted any more");
        return no(CloseReason::UnknownAuthority, detail);
    }
    if now > end {
        let not_after = peer.lifetime().not_after();
        let detail = format!("the certificate of {id} ended at {not_after}");
        return no(CloseReason::Expired, detail);
    }
    Ok(())
}
