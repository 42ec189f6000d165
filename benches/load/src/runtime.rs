//! Runs one end of a load on one thread.

use tokio::runtime::{Builder, LocalOptions, LocalRuntime};

use crate::LoadError;

/// Runs `work`, and what it starts, on the calling thread until it ends.
///
/// # Errors
/// When the system gives no event queue.
pub fn run<T>(work: impl Future<Output = T>) -> Result<T, LoadError> {
    Ok(new()?.block_on(work))
}

pub(crate) fn new() -> Result<LocalRuntime, LoadError> {
    let runtime = Builder::new_current_thread()
        .enable_all()
        .build_local(LocalOptions::default());
    runtime.map_err(|source| LoadError::Runtime { source })
}
