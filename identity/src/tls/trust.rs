//! Hands whom to trust to handshakes, as it is at their time.

use std::sync::{Arc, PoisonError, RwLock};

use crate::{Bundles, Revocations};

/// Whom to trust at one time. A value.
#[derive(Debug, Clone, Default)]
pub struct TrustSnapshot {
    /// Whose authorities are trusted.
    pub bundles: Bundles,
    /// What is refused all the same.
    pub revocations: Revocations,
}

/// The place where the newest [`TrustSnapshot`] lies. Who changes it stores a whole new one; each handshake
/// loads the one that is there when the peer's certificate arrives.
#[derive(Debug, Default)]
pub struct TrustCell(RwLock<Arc<TrustSnapshot>>);

impl TrustCell {
    /// A place with `snapshot` in it.
    pub fn new(snapshot: TrustSnapshot) -> Self {
        Self(RwLock::new(Arc::new(snapshot)))
    }

    /// What lies there now.
    pub fn load(&self) -> Arc<TrustSnapshot> {
        // Nothing can panic while it holds the lock; and were it so, the snapshot would still be a whole one.
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Puts what `change` makes of the snapshot that lies there in its place, with nobody in between; true when it made
    /// another one.
    ///
    /// # Errors
    /// When `change` gives one; then nothing changes.
    pub fn update<E>(
        &self,
        change: impl FnOnce(&TrustSnapshot) -> Result<Option<TrustSnapshot>, E>,
    ) -> Result<bool, E> {
        let mut place = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let new = change(&place)?;
        let is_new = new.is_some();
        if let Some(new) = new {
            *place = Arc::new(new);
        }
        Ok(is_new)
    }

    /// Puts `snapshot` in the place of the last one, for handshakes from now on.
    pub fn store(&self, snapshot: TrustSnapshot) {
        let new = Arc::new(snapshot);
        let mut place = self.0.write().unwrap_or_else(PoisonError::into_inner);
        *place = new;
    }
}
