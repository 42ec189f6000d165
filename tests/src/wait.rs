//! Waits for states, never for time.

use std::time::{Duration, Instant};

/// How long anything in a test may take before the test has failed; far more than it needs on a loaded machine.
pub const LIMIT: Duration = Duration::from_secs(60);

/// Looks until `look` finds something, and returns that.
///
/// # Panics
/// When [`LIMIT`] is over; `what` says what did not come.
pub fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + LIMIT;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < end, "not within {LIMIT:?}: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}
