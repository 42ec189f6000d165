//! Claims about the ledger in a file.

mod authorities;
mod issuing;
mod log;
mod opening;
mod revoking;
mod tokens;

use crate::ledger::{Conflict, LedgerError};

/// The conflict that an append ended with.
fn conflict<T: std::fmt::Debug>(result: Result<T, LedgerError>) -> Conflict {
    match result {
        Err(LedgerError::Conflict(conflict)) => conflict,
        other => panic!("no conflict: {other:?}"),
    }
}
