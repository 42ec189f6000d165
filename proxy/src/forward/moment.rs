//! Lets connections wait for a moment without a timer for each.

use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::sleep;

/// The clock of those of one worker that wait for a moment.
///
/// A timer that ends before all others makes the runtime wake itself, which takes two system calls and a turn. Here all that
/// wait share one, and while nobody waits there is none.
#[derive(Debug, Default)]
pub struct Moments {
    begun: Notify,
    tick: Notify,
}

impl Moments {
    /// Ends after one to two milliseconds, while [`run`](Self::run) goes on.
    pub async fn pass(&self) {
        self.begun.notify_one();
        // The first tick may be about to come.
        self.tick.notified().await;
        self.tick.notified().await;
    }

    /// Keeps the time. Never ends.
    pub async fn run(&self) {
        loop {
            self.begun.notified().await;
            // As many as whoever waits now needs; who comes meanwhile is remembered, and the next ones follow at once.
            for _ in 0..2 {
                sleep(TICK).await;
                self.tick.notify_waiters();
            }
        }
    }
}

const TICK: Duration = Duration::from_millis(1);

#[cfg(test)]
mod tests {
    use tokio::time::{Instant, timeout};

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
            // The time goes on until those who had waited would have been served, and no longer.
            sleep(TICK * 5).await;
            assert!(
                timeout(Duration::from_secs(60), moments.tick.notified())
                    .await
                    .is_err()
            );
            moments.pass().await;
        };
        tokio::select! {
            () = three => {}
            () = moments.run() => {}
        }
        let alone = Moments::default();
        let silent = timeout(Duration::from_secs(60), alone.run()).await;
        assert!(silent.is_err());
    }
}
