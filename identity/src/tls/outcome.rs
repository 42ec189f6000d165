//! Carries what a verifier found to whoever waits for the handshake.

use std::cell::RefCell;
use std::sync::{Arc, OnceLock};

use crate::{PeerIdentity, VerifyError};

/// A place for the result of one handshake's verification: the identity without a second verification, or the
/// reason of the refusal, which rustls' own error cannot always carry.
///
/// Give each connection an `Outcome` of its own; a verifier whose outcome is taken refuses. It reaches the verifier with
/// settings that are that connection's own, too, or by [`collect`](Self::collect) where connections share theirs.
/// An identity in here is proven only once the handshake has completed.
#[derive(Debug, Clone, Default)]
pub struct Outcome(Arc<OnceLock<Result<PeerIdentity, Arc<VerifyError>>>>);

impl Outcome {
    /// A place without result.
    pub fn new() -> Self {
        Self::default()
    }

    /// The result, once the peer's certificate was judged; `None` before, or when there was none.
    pub fn result(&self) -> Option<Result<&PeerIdentity, &VerifyError>> {
        self.0
            .get()
            .map(|result| result.as_ref().map_err(|error| error.as_ref()))
    }

    /// The reason of the refusal, to be kept.
    pub fn refusal(&self) -> Option<Arc<VerifyError>> {
        self.0
            .get()
            .and_then(|result| result.as_ref().err().map(Arc::clone))
    }

    /// Runs one step of a handshake whose verifier reports to whoever collects
    /// ([`PeerVerifier::reporting`](super::PeerVerifier::reporting)): what it finds on this thread meanwhile comes here.
    pub fn collect<T>(&self, step: impl FnOnce() -> T) -> T {
        // Put back by whatever way the step ends.
        struct Before(Option<Outcome>);
        impl Drop for Before {
            fn drop(&mut self) {
                COLLECTING.set(self.0.take());
            }
        }
        let _before = Before(COLLECTING.replace(Some(self.clone())));
        step()
    }

    /// The one that collects on this thread now.
    pub(super) fn collecting() -> Option<Self> {
        COLLECTING.with_borrow(Clone::clone)
    }

    /// Takes the result; `false` when there is one already.
    pub(super) fn fill(&self, result: Result<PeerIdentity, Arc<VerifyError>>) -> bool {
        self.0.set(result).is_ok()
    }
}

thread_local! {
    static COLLECTING: RefCell<Option<Outcome>> = const { RefCell::new(None) };
}
