//! Takes news of trust into a [`TrustCell`], from whoever brings them first: the CA, the directory.

use ferrule_identity::tls::{TrustCell, TrustSnapshot};
use ferrule_identity::{BundleError, DenyList, Revocations, TrustBundle};

/// Takes `bundle` in the place of the one that is held for its trust domain; true when it says anything new.
///
/// # Errors
/// When it is older than the one that is held, or says something else under the same number.
pub fn take_bundle(cell: &TrustCell, bundle: TrustBundle) -> Result<bool, BundleError> {
    cell.update(|held| {
        let same = |old: &TrustBundle| {
            old.fingerprint() == bundle.fingerprint() && old.sequence() >= bundle.sequence()
        };
        if held
            .bundles
            .of(bundle.trust_domain())
            .is_some_and(|old| same(old))
        {
            return Ok(None);
        }
        let mut bundles = held.bundles.clone();
        bundles.insert(bundle)?;
        Ok(Some(TrustSnapshot {
            bundles,
            revocations: held.revocations.clone(),
        }))
    })
}

/// Takes the deny list of that number; true when it is newer than the one that is held.
///
/// # Errors
/// When it is older.
pub fn take_deny_list(cell: &TrustCell, generation: u64, list: DenyList) -> Result<bool, Rollback> {
    cell.update(|held| {
        let known = held.revocations.generation();
        if generation < known {
            return Err(Rollback {
                known,
                offered: generation,
            });
        }
        if generation == known {
            return Ok(None);
        }
        let crls = held.revocations.crls().to_vec();
        Ok(Some(TrustSnapshot {
            bundles: held.bundles.clone(),
            revocations: Revocations::new(generation, list, crls),
        }))
    })
}

/// A deny list of the past.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the deny list {offered} is older than {known}, which we have; was the CA restored from a backup?")]
pub struct Rollback {
    /// The number of the one that is held.
    pub known: u64,
    /// The number of the one that was offered.
    pub offered: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn denying(id: &str) -> DenyList {
        DenyList {
            identities: [id.parse().unwrap()].into(),
            ..DenyList::default()
        }
    }

    // Whoever brings the news, an older list never takes the place of a newer one.
    #[test]
    fn a_deny_list_never_goes_back() {
        let cell = TrustCell::default();
        let (one, two) = ("spiffe://a.test/one", "spiffe://a.test/two");
        assert_eq!(take_deny_list(&cell, 2, denying(two)), Ok(true));
        assert_eq!(take_deny_list(&cell, 2, denying(two)), Ok(false));
        let past = Rollback { known: 2, offered: 1 };
        assert_eq!(take_deny_list(&cell, 1, denying(one)), Err(past));
        assert!(cell.load().revocations.revokes(&two.parse().unwrap()));
        assert!(!cell.load().revocations.revokes(&one.parse().unwrap()));
    }
}
