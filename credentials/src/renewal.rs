//! Decides when a certificate is renewed, and how long to wait after a failure: no clock, no socket.

use std::time::Duration;

use ferrule_daemon::backoff::{Backoff, Jitter};
use ferrule_identity::{Lifetime, Timestamp};

/// What the keeper knows when it asks what is next.
#[derive(Debug, Clone, Copy)]
pub struct Renewal {
    /// The life of the certificate that is in use, if there is one.
    pub life: Option<Lifetime>,
    /// When that certificate was issued by our own clock; a leaf's first second lies before it.
    pub issued: Timestamp,
    /// Failures in a row.
    pub failures: u32,
}

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Ask for a new certificate now.
    Now,
    /// Ask at this time; look again if the clock jumps.
    At(Timestamp),
    /// Ask again after this time, because the last try failed.
    After(Duration),
}

/// What to do at `now`: renew at a third of what was left of the life when it was issued, give or take a tenth of
/// that; after a failure try again, for ever, at longer and longer intervals, but at least every 15 s once less
/// than a fifth of the life is left or there is no valid certificate. `jitter` spreads those who would all come at
/// once.
pub fn next_step(state: &Renewal, now: Timestamp, jitter: Jitter) -> Step {
    if state.failures > 0 {
        return Step::After(retry(state, now, jitter));
    }
    let Some(life) = state.life.filter(|life| life.contains(now)) else {
        return Step::Now;
    };
    let usable = life.not_after().since(state.issued);
    let due = usable.mul_f64(SHARE_OF_LIFE * (1.0 - SPREAD + 2.0 * SPREAD * jitter.share()));
    let at = state.issued.plus(due);
    if at <= now { Step::Now } else { Step::At(at) }
}

fn retry(state: &Renewal, now: Timestamp, jitter: Jitter) -> Duration {
    let urgent = state.life.is_none_or(|life| {
        let whole = life.not_after().since(state.issued);
        life.left(now) < whole.mul_f64(URGENT_SHARE)
    });
    let cap = if urgent { URGENT_CAP } else { CALM_CAP };
    // Full jitter may draw next to nothing; a floor keeps a refusing CA from being asked in a tight loop.
    Backoff::new(FIRST_RETRY, cap)
        .delay(state.failures, jitter)
        .max(LEAST_RETRY)
}

/// A third of the life: two more tries of the same length remain.
const SHARE_OF_LIFE: f64 = 1.0 / 3.0;
/// Up to a tenth earlier or later.
const SPREAD: f64 = 0.1;
/// Below this share of the life a retry is urgent.
const URGENT_SHARE: f64 = 0.2;
const FIRST_RETRY: Duration = Duration::from_secs(1);
const LEAST_RETRY: Duration = Duration::from_millis(200);
const CALM_CAP: Duration = Duration::from_secs(150);
const URGENT_CAP: Duration = Duration::from_secs(15);

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_unix(seconds)
    }

    /// Issued at 1,000 with 900 s to go, back-dated by 100 s.
    fn state(failures: u32) -> Renewal {
        Renewal {
            life: Lifetime::new(at(900), at(1900)),
            issued: at(1000),
            failures,
        }
    }

    #[test]
    fn renews_at_a_third_of_the_life_give_or_take_a_tenth() {
        assert_eq!(
            next_step(&state(0), at(1000), Jitter::new(0.5)),
            Step::At(at(1300))
        );
        assert_eq!(
            next_step(&state(0), at(1000), Jitter::new(0.0)),
            Step::At(at(1270))
        );
        assert_eq!(
            next_step(&state(0), at(1000), Jitter::new(1.0)),
            Step::At(at(1330))
        );
        assert_eq!(next_step(&state(0), at(1300), Jitter::new(0.5)), Step::Now);
    }

    #[test]
    fn asks_at_once_without_a_valid_certificate() {
        let none = Renewal {
            life: None,
            ..state(0)
        };
        assert_eq!(next_step(&none, at(1000), Jitter::new(0.5)), Step::Now);
        assert_eq!(
            next_step(&state(0), at(2000), Jitter::new(0.5)),
            Step::Now,
            "after its end"
        );
        assert_eq!(
            next_step(&state(0), at(800), Jitter::new(0.5)),
            Step::Now,
            "the clock was set back"
        );
    }

    #[test]
    fn retries_for_ever_and_hurries_near_the_end() {
        let last = |failures, now| match next_step(&state(failures), at(now), Jitter::new(1.0)) {
            Step::After(wait) => wait.as_secs(),
            other => panic!("{other:?}"),
        };
        assert_eq!([last(1, 1300), last(2, 1300), last(3, 1300)], [1, 2, 4]);
        assert_eq!(last(1000, 1300), 150);
        assert_eq!(last(1000, 1721), 15, "less than a fifth is left");
        assert_eq!(last(1000, 5000), 15, "nothing is left");
        let least = next_step(&state(1), at(1300), Jitter::new(0.0));
        assert_eq!(least, Step::After(Duration::from_millis(200)));
    }
}
