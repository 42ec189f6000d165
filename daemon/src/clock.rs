//! Tells the time, the system's or one set by hand.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::watch;

/// A source of wall-clock time that is cheap to clone; all clones of a manual clock show the same time.
///
/// The only reader of the system's clock in Ferrule, so that whatever depends on time can be tested.
#[derive(Clone)]
pub struct Clock(Source);

#[derive(Clone)]
enum Source {
    System,
    Manual(watch::Receiver<SystemTime>),
}

impl Clock {
    /// The system's clock.
    pub const fn system() -> Self {
        Self(Source::System)
    }

    /// A clock that stands at `unix` seconds after the epoch until its hand is moved.
    pub fn manual(unix: i64) -> (Self, Hand) {
        let (hand, face) = watch::channel(instant(unix));
        (Self(Source::Manual(face)), Hand(hand))
    }

    /// What time it is.
    pub fn now(&self) -> SystemTime {
        match &self.0 {
            Source::System => system_now(),
            Source::Manual(face) => *face.borrow(),
        }
    }

    /// Whole seconds since the Unix epoch, rounded down; negative before it.
    pub fn unix(&self) -> i64 {
        unix_of(self.now())
    }

    /// Ends once the clock shows `unix` seconds after the epoch or later, at once when it already does.
    ///
    /// By the system's clock it looks again at least every [`LOOK_AGAIN`], so that a machine that slept, or
    /// whose clock was set, wakes no later than that. By a manual clock it ends when the hand is moved there;
    /// once the [`Hand`] is gone, never.
    pub async fn sleep_until(&self, unix: i64) {
        let end = instant(unix);
        match &self.0 {
            Source::System => loop {
                let Ok(left) = end.duration_since(system_now()) else {
                    return;
                };
                if left.is_zero() {
                    return;
                }
                tokio::time::sleep(left.min(LOOK_AGAIN)).await;
            },
            Source::Manual(face) => wait_for(face.clone(), end).await,
        }
    }

    /// Ends when `duration` has passed.
    ///
    /// By the system's clock, when the machine has run for that long or the wall clock has moved by that much,
    /// whichever is first: a clock set back does not prolong the wait, and a machine that slept shortens it. By a
    /// manual clock, when its hand has been moved by that much; once the [`Hand`] is gone, never.
    pub async fn sleep(&self, duration: Duration) {
        let end = self.now().checked_add(duration);
        match &self.0 {
            Source::System => {
                let mut left = duration;
                while !left.is_zero() && end.is_none_or(|end| system_now() < end) {
                    let step = left.min(LOOK_AGAIN);
                    tokio::time::sleep(step).await;
                    left -= step;
                }
            }
            Source::Manual(face) => match end {
                Some(end) => wait_for(face.clone(), end).await,
                None => std::future::pending().await,
            },
        }
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Source::System => f.write_str("Clock(system)"),
            Source::Manual(_) => write!(f, "Clock(manual, {})", self.unix()),
        }
    }
}

/// Moves a manual clock.
#[derive(Debug)]
pub struct Hand(watch::Sender<SystemTime>);

impl Hand {
    /// Sets the clock to `unix` seconds after the epoch, forward or back.
    pub fn set(&self, unix: i64) {
        self.0.send_replace(instant(unix));
    }

    /// Moves the clock forward; to the end of time at most.
    pub fn advance(&self, by: Duration) {
        self.0
            .send_modify(|now| *now = now.checked_add(by).unwrap_or(*now));
    }
}

/// Whole seconds from the Unix epoch to `time`, rounded down.
pub(crate) fn unix_of(time: SystemTime) -> i64 {
    match time.duration_since(UNIX_EPOCH) {
        Ok(after) => i64::try_from(after.as_secs()).unwrap_or(i64::MAX),
        Err(before) => {
            let before = before.duration();
            let whole = before.as_secs() + u64::from(before.subsec_nanos() > 0);
            0_i64.saturating_sub_unsigned(whole)
        }
    }
}

#[allow(
    clippy::disallowed_methods,
    reason = "this is the clock that everything else reads"
)]
fn system_now() -> SystemTime {
    SystemTime::now()
}

/// The instant at `unix` seconds, brought into a range that every platform can represent.
fn instant(unix: i64) -> SystemTime {
    let unix = unix.clamp(-FAR, FAR);
    let distance = Duration::from_secs(unix.unsigned_abs());
    if unix >= 0 {
        UNIX_EPOCH + distance
    } else {
        UNIX_EPOCH - distance
    }
}

async fn wait_for(mut face: watch::Receiver<SystemTime>, end: SystemTime) {
    if face.wait_for(|now| *now >= end).await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// A thousand centuries in seconds: beyond any date, and well inside a 64-bit `time_t`.
const FAR: i64 = 100_000 * 366 * 86_400;

/// How long a wait by the system's clock goes without looking at the wall clock.
pub const LOOK_AGAIN: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manual_clock_shows_what_its_hand_was_set_to() {
        let (clock, hand) = Clock::manual(1_000);
        let copy = clock.clone();
        hand.advance(Duration::from_millis(1_500));
        assert_eq!(copy.unix(), 1_001);
        hand.set(-5);
        assert_eq!(clock.unix(), -5);
    }

    #[test]
    fn a_time_before_the_epoch_rounds_down() {
        assert_eq!(unix_of(UNIX_EPOCH - Duration::from_millis(1)), -1);
    }

    #[tokio::test]
    async fn a_sleeper_wakes_when_the_hand_passes_its_time() {
        let (clock, hand) = Clock::manual(1_000);
        let mut sleeper = started(clock.sleep_until(1_010)).await;
        hand.set(1_009);
        assert!(is_pending(&mut sleeper).await);
        hand.set(2_000);
        sleeper.await;
    }

    #[tokio::test]
    async fn a_manual_sleep_counts_from_where_the_hand_stood() {
        let (clock, hand) = Clock::manual(1_000);
        let mut sleeper = started(clock.sleep(Duration::from_secs(10))).await;
        hand.set(500);
        assert!(is_pending(&mut sleeper).await);
        hand.set(1_010);
        sleeper.await;
    }

    #[tokio::test]
    async fn nobody_wakes_when_the_hand_is_lost() {
        let (clock, hand) = Clock::manual(1_000);
        let mut sleeper = started(clock.sleep_until(1_010)).await;
        drop(hand);
        assert!(is_pending(&mut sleeper).await);
    }

    #[tokio::test(start_paused = true)]
    async fn a_system_sleep_lasts_as_long_as_asked() {
        let start = tokio::time::Instant::now();
        Clock::system().sleep(Duration::from_secs(100)).await;
        assert_eq!(start.elapsed().as_secs(), 100);
    }

    #[tokio::test(start_paused = true)]
    async fn a_time_already_passed_does_not_wait() {
        let start = tokio::time::Instant::now();
        Clock::system().sleep_until(1).await;
        Clock::system().sleep(Duration::ZERO).await;
        assert_eq!(start.elapsed(), Duration::ZERO);
    }

    type Boxed<'a> = std::pin::Pin<Box<dyn Future<Output = ()> + 'a>>;

    async fn started<'a>(future: impl Future<Output = ()> + 'a) -> Boxed<'a> {
        let mut future: Boxed<'a> = Box::pin(future);
        assert!(is_pending(&mut future).await);
        future
    }

    async fn is_pending(future: &mut Boxed<'_>) -> bool {
        std::future::poll_fn(|cx| std::task::Poll::Ready(future.as_mut().poll(cx).is_pending())).await
    }
}
