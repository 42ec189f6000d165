//! Waits for states, never for time.

use std::time::{Duration, Instant, SystemTime};

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

/// The time of day, to be compared between processes of one machine: milliseconds since 1970.
#[allow(
    clippy::disallowed_methods,
    reason = "no part of a program: a test's own look at the clock"
)]
pub fn unix_milliseconds() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    u64::try_from(since.as_millis()).unwrap()
}
