//! Decides when an endpoint that fails is left out, when it is looked at again, when it is back.

use std::time::{Duration, Instant};

use super::choose::FULL;

/// How an attempt at an endpoint failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// It said no, or broke off: that costs a client next to nothing.
    Refused,
    /// It said nothing: each such attempt costs a client time.
    Silent,
}

/// The health of one endpoint, as one worker sees it. A value: what comes next is decided from what was and the time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    state: State,
    /// Failures in a row, a silent one for as much as it takes.
    strikes: u32,
    /// Ejections in a row, each of which makes the next look come later.
    times: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// In use, since then; warm from the start where there is no time.
    Used(Option<Instant>),
    /// Left out since then, to be looked at when it is time.
    Ejected { since: Instant, look: Instant },
}

/// What an endpoint turned into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// It is left out now.
    Ejected,
    /// It is in use again.
    Returned,
}

impl Health {
    /// An endpoint of a service that was unknown until now: all of its endpoints begin with their full share.
    pub const fn settled() -> Self {
        Self::used(None)
    }

    /// An endpoint that came to others at `now`: its share grows from little.
    pub const fn arrived(now: Instant) -> Self {
        Self::used(Some(now))
    }

    const fn used(since: Option<Instant>) -> Self {
        Self {
            state: State::Used(since),
            strikes: 0,
            times: 0,
        }
    }

    /// An attempt failed.
    pub fn failed(&mut self, how: Failure, now: Instant) -> Option<Turn> {
        self.strikes = self.strikes.saturating_add(match how {
            Failure::Refused => 1,
            Failure::Silent => STRIKES,
        });
        match self.state {
            State::Used(_) if self.strikes >= STRIKES => {
                self.state = State::Ejected {
                    since: now,
                    look: now + self.pause(),
                };
                self.times = self.times.saturating_add(1);
                Some(Turn::Ejected)
            }
            State::Used(_) => None,
            State::Ejected { since, .. } => {
                // It was tried because the others failed, too; or looked at, and is not back.
                self.state = State::Ejected {
                    since,
                    look: now + self.pause(),
                };
                self.times = self.times.saturating_add(1);
                None
            }
        }
    }

    /// An attempt succeeded, or a look.
    pub fn succeeded(&mut self, now: Instant) -> Option<Turn> {
        self.strikes = 0;
        match self.state {
            State::Used(since) => {
                // It has kept its promise for as long as it may have been away: the next time begins afresh.
                if since.is_none_or(|since| now.saturating_duration_since(since) > LONGEST_PAUSE) {
                    self.times = 0;
                }
                None
            }
            State::Ejected { .. } => {
                self.state = State::Used(Some(now));
                Some(Turn::Returned)
            }
        }
    }

    /// Whether it is time to look at it again; says so once for each time.
    pub fn look(&mut self, now: Instant) -> bool {
        match self.state {
            State::Ejected { since, look } if look <= now => {
                // What comes of this look sets the next one; should nothing come of it, there is another.
                let look = now + LONGEST_PAUSE;
                self.state = State::Ejected { since, look };
                true
            }
            _ => false,
        }
    }

    /// Since when it is left out.
    pub const fn ejected(&self) -> Option<Instant> {
        match self.state {
            State::Ejected { since, .. } => Some(since),
            State::Used(_) => None,
        }
    }

    /// How much of its share it gets at `now`, in percent, when it has all of it after `warming`.
    pub fn warmth(&self, now: Instant, warming: Duration) -> u32 {
        let State::Used(Some(since)) = self.state else {
            return FULL;
        };
        let age = now.saturating_duration_since(since).as_millis();
        let share = (age * u128::from(FULL)).checked_div(warming.as_millis());
        let share = share.and_then(|share| u32::try_from(share).ok()).unwrap_or(FULL);
        share.clamp(LEAST_SHARE, FULL)
    }

    /// The time until the next look: twice as long after each ejection, and never long.
    fn pause(&self) -> Duration {
        let factor = 1_u32.checked_shl(self.times).unwrap_or(u32::MAX);
        FIRST_PAUSE.saturating_mul(factor).min(LONGEST_PAUSE)
    }
}

/// So many failures in a row, and an endpoint is left out.
const STRIKES: u32 = 3;

/// The time from the first ejection to the first look.
const FIRST_PAUSE: Duration = Duration::from_millis(500);

/// The longest time from one look to the next: what has healed is back within it.
pub const LONGEST_PAUSE: Duration = Duration::from_secs(4);

/// The share that the coldest endpoint gets, in percent.
const LEAST_SHARE: u32 = 10;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const WARMING: Duration = Duration::from_secs(10);

    #[test]
    fn failures_in_a_row_eject_and_one_success_forgives() {
        let now = Instant::now();
        let mut health = Health::settled();
        assert_eq!(health.failed(Failure::Refused, now), None);
        assert_eq!(health.failed(Failure::Refused, now), None);
        assert_eq!(health.succeeded(now), None);
        assert_eq!(health.failed(Failure::Refused, now), None);
        assert_eq!(health.failed(Failure::Refused, now), None);
        assert_eq!(health.failed(Failure::Refused, now), Some(Turn::Ejected));
        assert_eq!(health.ejected(), Some(now));
        let mut silent = Health::settled();
        assert_eq!(silent.failed(Failure::Silent, now), Some(Turn::Ejected));
    }

    #[test]
    fn it_is_looked_at_again_soon_then_later_and_never_rarely() {
        let mut now = Instant::now();
        let mut health = Health::settled();
        health.failed(Failure::Silent, now);
        let mut pauses = Vec::new();
        for _ in 0..6 {
            let before = now;
            while !health.look(now) {
                now += Duration::from_millis(100);
            }
            assert!(!health.look(now), "once for each time");
            pauses.push((now - before).as_millis());
            health.failed(Failure::Silent, now);
        }
        assert_eq!(pauses, [500, 1000, 2000, 4000, 4000, 4000]);
    }

    #[test]
    fn what_has_returned_warms_up() {
        let now = Instant::now();
        let mut health = Health::settled();
        assert_eq!(health.warmth(now, WARMING), FULL);
        health.failed(Failure::Silent, now);
        assert_eq!(health.succeeded(now), Some(Turn::Returned));
        let after = |seconds| health.warmth(now + Duration::from_secs(seconds), WARMING);
        assert_eq!(
            [after(0), after(3), after(9), after(10), after(99)],
            [10, 30, 90, 100, 100]
        );
        assert_eq!(health.warmth(now, Duration::ZERO), FULL);
    }

    #[derive(Debug, Clone)]
    enum Step {
        Failed(bool),
        Succeeded,
        Look,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            any::<bool>().prop_map(Step::Failed),
            Just(Step::Succeeded),
            Just(Step::Look)
        ]
    }

    proptest! {
        // Whatever happens: only a failure ejects, only a success brings back, and while it is out there is always a
        // look to come within the longest pause.
        #[test]
        fn nothing_is_left_out_for_ever(steps in proptest::collection::vec((step(), 0..3000_u64), 0..60)) {
            let mut now = Instant::now();
            let mut health = Health::settled();
            for (step, passes) in steps {
                now += Duration::from_millis(passes);
                let before = health.ejected();
                let turn = match step {
                    Step::Failed(silent) => {
                        health.failed(if silent { Failure::Silent } else { Failure::Refused }, now)
                    }
                    Step::Succeeded => health.succeeded(now),
                    Step::Look => {
                        health.look(now);
                        None
                    }
                };
                match turn {
                    Some(Turn::Ejected) => prop_assert!(before.is_none() && health.ejected() == Some(now)),
                    Some(Turn::Returned) => prop_assert!(before.is_some() && health.ejected().is_none()),
                    None => prop_assert_eq!(before, health.ejected()),
                }
                let out = health.ejected().is_some();
                prop_assert_eq!(health.clone().look(now + LONGEST_PAUSE), out);
            }
        }
    }
}
