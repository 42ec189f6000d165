//! Keeps the newest trust bundle in a host's folder, so that whoever starts there later knows the CA's newest root.

use std::convert::Infallible;
use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ferrule_daemon::clock::Clock;
use ferrule_daemon::logging::Chain;
use ferrule_identity::{Timestamp, TrustBundle, TrustDomain};
use tokio::sync::watch;
use tracing::warn;

use crate::Credentials;
use crate::join::{HOST_BUNDLE_FILE, HOST_FILE};
use crate::store::{self, PRIVATE, StoreError};

/// Whether a host's folder has a bundle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Remembered {
    /// It has that one now, or had one that is as new.
    Yes,
    /// Another process writes at this moment: try again a moment later.
    Busy,
}

/// Puts `bundle` in the place of the one in the host's `folder`, unless that one is as new. A host that starts again
/// after its root was replaced could not believe the CA by the bundle that it joined with.
///
/// # Errors
/// When the folder cannot be used; the old bundle is then still there.
pub fn remember(folder: &Path, bundle: &TrustBundle, now: Timestamp) -> Result<Remembered, RememberError> {
    let failed = |source| RememberError::Folder {
        path: folder.to_owned(),
        source,
    };
    // Every program of this host that uses the CA shares the folder.
    let turn = File::open(folder.join(HOST_FILE)).map_err(failed)?;
    match turn.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Ok(Remembered::Busy),
        Err(TryLockError::Error(error)) => return Err(failed(error)),
    }
    let path = folder.join(HOST_BUNDLE_FILE);
    let text = fs::read_to_string(&path).map_err(failed)?;
    let held = TrustBundle::from_jwks(bundle.trust_domain().clone(), &text, now);
    // One that cannot be used any more, because all of its roots have ended, is no better than an old one.
    if held.is_ok_and(|held| held.sequence() >= bundle.sequence()) {
        return Ok(Remembered::Yes);
    }
    store::replace(&path, bundle.to_jwks().as_bytes(), PRIVATE)
        .map(|()| Remembered::Yes)
        .map_err(|source| RememberError::Store { source })
}

/// Remembers whatever bundle comes with the newest credentials, for ever. What cannot be written is said once, and
/// hurts nobody before a start after a rotation of the root.
pub(crate) async fn follow(
    folder: PathBuf,
    trust_domain: TrustDomain,
    mut newest: watch::Receiver<Option<Arc<Credentials>>>,
    clock: Clock,
) -> Infallible {
    let mut said = None;
    loop {
        let held = newest.borrow_and_update().clone();
        if let Some(bundle) = held.and_then(|held| held.trust.bundles.of(&trust_domain).cloned()) {
            let (folder, now) = (folder.clone(), Timestamp::from_unix(clock.unix()));
            // It waits for the disk, which connections should not.
            let done = tokio::task::spawn_blocking(move || remember(&folder, &bundle, now)).await;
            match done {
                Ok(Ok(Remembered::Yes)) | Err(_) => {}
                Ok(Ok(Remembered::Busy)) => {
                    tokio::time::sleep(TRY_AGAIN).await;
                    newest.mark_changed();
                }
                Ok(Err(error)) => {
                    let error = Chain(&error).to_string();
                    if said.as_ref() != Some(&error) {
                        warn!(error, "the newest trust bundle is not kept in the host's folder");
                        said = Some(error);
                    }
                }
            }
        }
        if newest.changed().await.is_err() {
            return std::future::pending().await;
        }
    }
}

/// How soon somebody else has written.
const TRY_AGAIN: Duration = Duration::from_secs(1);

/// Why the newest bundle is not kept.
#[derive(Debug, thiserror::Error)]
pub enum RememberError {
    /// The host's folder cannot be read.
    #[error("cannot use the host's folder {path}", path = path.display())]
    Folder {
        /// Which.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The bundle cannot be written.
    #[error("cannot keep the newest trust bundle")]
    Store {
        /// Which file, and why.
        source: StoreError,
    },
}

#[cfg(test)]
mod tests;
