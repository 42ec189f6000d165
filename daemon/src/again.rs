//! Decides how long to wait before a server that serves many is tried again.

use std::time::Duration;

use crate::backoff::{Backoff, Jitter};

/// How a try ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// Nobody took a connection at any of its addresses.
    Away,
    /// Somebody did, and it came to nothing.
    Broken,
}

/// The failures in a row, of each kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Failures {
    away: u32,
    broken: u32,
    /// The waits for one that answers and cannot serve.
    patience: Backoff,
}

impl Failures {
    /// None yet; one that answers and cannot serve is given time by `patience`.
    pub const fn new(patience: Backoff) -> Self {
        Self {
            away: 0,
            broken: 0,
            patience,
        }
    }

    /// A try went well.
    pub const fn none(&mut self) {
        (self.away, self.broken) = (0, 0);
    }

    /// Somebody took a connection: the next time that nobody does is the first one.
    pub const fn found(&mut self) {
        self.away = 0;
    }

    /// How many there are, of both kinds.
    pub const fn count(&self) -> u32 {
        self.away.saturating_add(self.broken)
    }

    /// One more; how long to wait now, a tenth of a second at least.
    ///
    /// To find nobody costs a packet, so whoever is away is looked for every second, and soon found when it is back. One
    /// that answers and cannot serve may have too much to do: it is given ever more time, and no less because it was away
    /// in between.
    pub fn wait(&mut self, failure: Failure, jitter: Jitter) -> Duration {
        let wait = match failure {
            Failure::Away => {
                self.away = self.away.saturating_add(1);
                AWAY.delay(self.away, jitter)
            }
            Failure::Broken => {
                self.broken = self.broken.saturating_add(1);
                self.patience.delay(self.broken, jitter)
            }
        };
        wait.max(LEAST)
    }
}

const AWAY: Backoff = Backoff::new(Duration::from_millis(250), Duration::from_secs(1));

const LEAST: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use super::*;

    const LATEST: fn() -> Jitter = || Jitter::new(1.0);

    fn failures() -> Failures {
        Failures::new(Backoff::new(Duration::from_secs(1), Duration::from_secs(30)))
    }

    /// The longest waits after `times` failures of one kind.
    fn waits(failures: &mut Failures, failure: Failure, times: usize) -> Vec<u128> {
        (0..times)
            .map(|_| failures.wait(failure, LATEST()).as_millis())
            .collect()
    }

    #[test]
    fn whoever_is_away_is_looked_for_every_second() {
        let mut failures = failures();
        assert_eq!(
            waits(&mut failures, Failure::Away, 5),
            [250, 500, 1000, 1000, 1000]
        );
        assert_eq!(failures.count(), 5);
        failures.none();
        assert_eq!(failures.count(), 0);
        assert_eq!(failures.wait(Failure::Away, LATEST()).as_millis(), 250);
        let least = failures.wait(Failure::Away, Jitter::new(0.0));
        assert_eq!(least.as_millis(), 100, "never in a tight loop");
    }

    // One that comes and goes, and never serves, is not hurried by being away in between.
    #[test]
    fn whoever_cannot_serve_is_given_ever_more_time() {
        let mut failures = failures();
        let doubling = [1000, 2000, 4000, 8000, 16_000, 30_000, 30_000];
        assert_eq!(waits(&mut failures, Failure::Broken, 7), doubling);
        waits(&mut failures, Failure::Away, 10);
        assert_eq!(failures.wait(Failure::Broken, LATEST()).as_millis(), 30_000);
    }

    // A thousand clients whose server went at one moment, and came back at another.
    #[test]
    fn a_thousand_clients_do_not_come_back_at_once() {
        let mut coming = [0_u32; 10];
        let back = Duration::from_secs(20);
        for _ in 0..1_000 {
            let mut failures = failures();
            let mut now = failures.wait(Failure::Broken, Jitter::random());
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
