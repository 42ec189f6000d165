//! Waits for states, never for time.

use std::fmt::Debug;
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

/// Measures again while the machine may have had too much to do: until one figure is below `limit`.
///
/// # Panics
/// When none of `tries` is; with all of them.
pub fn once_below<T: PartialOrd + Debug>(limit: &T, tries: usize, mut measure: impl FnMut(usize) -> T) {
    let mut measured = Vec::new();
    while measured.last().is_none_or(|last| last >= limit) {
        let at = measured.len();
        assert!(at < tries, "none is below {limit:?}: {measured:?}");
        measured.push(measure(at));
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
