//! Decides how long to wait before the directory is tried again.

use std::time::Duration;

use ferrule_daemon::again;
use ferrule_daemon::backoff::{Backoff, Jitter};

/// How one connection to a directory ended, or why there was none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Failure {
    /// Nobody took a connection at any of its addresses.
    Away,
    /// Somebody did, and it came to nothing, or to an end; after so long.
    Broken {
        /// From the first attempt on.
        lasted: Duration,
    },
}

/// The failures in a row, of each kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Failures(again::Failures);

impl Default for Failures {
    fn default() -> Self {
        Self(again::Failures::new(PATIENCE))
    }
}

impl Failures {
    /// The connection ended in order.
    pub(super) const fn none(&mut self) {
        self.0.none();
    }

    /// One more; how long to wait now.
    pub(super) fn wait(&mut self, failure: Failure, jitter: Jitter) -> Duration {
        let failure = match failure {
            Failure::Away => again::Failure::Away,
            Failure::Broken { lasted } if lasted > STEADY => {
                self.0.none();
                again::Failure::Broken
            }
            Failure::Broken { .. } => {
                self.0.found();
                again::Failure::Broken
            }
        };
        self.0.wait(failure, jitter)
    }
}

/// How long a directory is left alone that answers, and not as it should.
const PATIENCE: Backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(15));

/// A connection that lasted so long is no failure of the one before.
const STEADY: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use super::*;

    const LATEST: fn() -> Jitter = || Jitter::new(1.0);
    const SHORT: Failure = Failure::Broken {
        lasted: Duration::from_millis(3),
    };

    /// The longest waits after `times` failures of one kind.
    fn waits(failures: &mut Failures, failure: Failure, times: usize) -> Vec<u128> {
        (0..times)
            .map(|_| failures.wait(failure, LATEST()).as_millis())
            .collect()
    }

    #[test]
    fn whoever_is_away_is_looked_for_every_second() {
        let mut failures = Failures::default();
        assert_eq!(
            waits(&mut failures, Failure::Away, 5),
            [250, 500, 1000, 1000, 1000]
        );
        failures.none();
        assert_eq!(failures.wait(Failure::Away, LATEST()).as_millis(), 250);
    }

    #[test]
    fn whoever_cannot_serve_is_given_ever_more_time() {
        let mut failures = Failures::default();
        let doubling = [500, 1000, 2000, 4000, 8000, 15_000, 15_000];
        assert_eq!(waits(&mut failures, SHORT, 7), doubling);
        let long = Failure::Broken {
            lasted: STEADY + Duration::from_millis(1),
        };
        assert_eq!(waits(&mut failures, long, 2), [500, 500]);
    }

    // A directory that comes and goes, and never serves, is not hurried by being away in between.
    #[test]
    fn being_away_in_between_forgives_nothing() {
        let mut failures = Failures::default();
        waits(&mut failures, SHORT, 4);
        waits(&mut failures, Failure::Away, 10);
        assert_eq!(failures.wait(SHORT, LATEST()).as_millis(), 8000);
        assert_eq!(failures.wait(Failure::Away, LATEST()).as_millis(), 250);
    }

    // A thousand proxies whose directory went at one moment, and came back at another.
    #[test]
    fn a_thousand_proxies_do_not_come_back_at_once() {
        let mut coming = [0_u32; 10];
        let back = Duration::from_secs(20);
        for _ in 0..1_000 {
            let mut failures = Failures::default();
            let mut now = failures.wait(SHORT, Jitter::random());
            while now < back {
                now += failures.wait(Failure::Away, Jitter::random());
            }
            let after = (now - back).as_millis();
            assert!(after <= 1000, "{after} ms after it is back");
            coming[usize::try_from(after / 100).unwrap().min(9)] += 1;
        }
        // Evenly, it would be a hundred in each tenth of a second; shorter waits are over sooner.
        assert!(coming.iter().all(|count| *count < 300), "{coming:?}");
    }
}
