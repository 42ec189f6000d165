//! Lets connections wait for a moment without a timer for each.

use std::cell::Cell;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::sleep;

/// The clock of those of one worker that wait for a moment.
///
/// A timer that ends before all others makes the runtime wake itself, which takes two system calls and a turn. Here all that
/// wait share one, and while nobody waits there is none.
#[derive(Debug, Default)]
pub struct Moments {
    waiting: Cell<usize>,
    begun: Notify,
    tick: Notify,
}

/// Somebody who waits; dropping it says that they do not any more.
struct Waiting<'m>(&'m Cell<usize>);

impl Moments {
    /// Ends after one to two milliseconds, while [`run`](Self::run) goes on.
    pub async fn pass(&self) {
        let before = self.waiting.get();
        self.waiting.set(before + 1);
        let _waiting = Waiting(&self.waiting);
        if before == 0 {
            self.begun.notify_one();
        }
        // The first tick may be about to come.
        self.tick.notified().await;
        self.tick.notified().await;
    }

    /// Keeps the time. Never ends.
    pub async fn run(&self) {
        loop {
            if self.waiting.get() == 0 {
                self.begun.notified().await;
            }
            sleep(TICK).await;
            self.tick.notify_waiters();
        }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get().saturating_sub(1));
    }
}

const TICK: Duration = Duration::from_millis(1);

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_moment_is_over_soon_for_each_and_nobody_is_waited_for_in_vain() {
        let moments = Moments::default();
        let began = Instant::now();
        let three = async {
            moments.pass().await;
            tokio::join!(moments.pass(), moments.pass());
            tokio::select! {
                biased;
                () = moments.pass() => {}
                () = async {} => {}
            }
            assert!(
                (TICK..=TICK * 6).contains(&began.elapsed()),
                "{:?}",
                began.elapsed()
            );
            assert_eq!(moments.waiting.get(), 0);
            sleep(Duration::from_secs(60)).await;
            moments.pass().await;
        };
        tokio::select! {
            () = three => {}
            () = moments.run() => {}
        }
        assert_eq!(moments.waiting.get(), 0);
        let alone = Moments::default();
        let silent = tokio::time::timeout(Duration::from_secs(60), alone.run()).await;
        assert!(silent.is_err());
    }
}
