//! Carries what a verifier found to whoever waits for the handshake.

use std::sync::{Arc, OnceLock};

use crate::{PeerIdentity, VerifyError};

/// A place for the result of one handshake's verification: the identity without a second verification, or the
/// reason of the refusal, which rustls' own error cannot always carry.
///
/// Give each connection an `Outcome`, and settings, of its own; a verifier whose outcome is taken refuses.
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

    /// Takes the result; `false` when there is one already.
    pub(super) fn fill(&self, result: Result<PeerIdentity, Arc<VerifyError>>) -> bool {
        self.0.set(result).is_ok()
    }
}
