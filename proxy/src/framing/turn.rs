//! Tells when connections that carry nothing have become old, because of what a worker learns.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Instant;

use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;

use super::warm::warm;
use crate::kit::Kit;

/// Counts the states of certificates, trust and stopping that a worker has seen. A connection that began in another
/// one than the present may finish its stream, and carries no further one.
#[derive(Debug, Default)]
pub struct Turn {
    number: Cell<u64>,
    passed: Notify,
}

impl Turn {
    /// The present one.
    pub const fn number(&self) -> u64 {
        self.number.get()
    }

    /// Ends when the present one is another than that of this number.
    pub async fn after(&self, number: u64) {
        loop {
            let passed = self.passed.notified();
            if self.number.get() != number {
                return;
            }
            passed.await;
        }
    }

    fn pass(&self) {
        self.number.set(self.number.get().wrapping_add(1));
        self.passed.notify_waiters();
    }
}

/// Passes on to the next turn when the own certificate or the state of trust is another, and when inbound connections
/// are to end; looks after the pool. For ever, beside the connections of a worker.
pub async fn mind(kit: &Rc<Kit>) {
    let (mut material, mut credentials) = (kit.material.clone(), kit.gate.credentials());
    let seen = |state: &mut watch::Receiver<_>| drop(state.borrow_and_update());
    seen(&mut material);
    credentials.mark_unchanged();
    let mut tick = tokio::time::interval(kit.pool.tick());
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut making = JoinSet::new();
    let (mut is_closing, mut is_shut) = (false, false);
    loop {
        tokio::select! {
            // A source that ended leaves its last word in force.
            Ok(()) = material.changed() => seen(&mut material),
            Ok(()) = credentials.changed() => credentials.mark_unchanged(),
            () = kit.inbound.closing(), if !is_closing => is_closing = true,
            () = kit.outbound.closing(), if !is_shut => {
                is_shut = true;
                kit.pool.shut();
            }
            _ = tick.tick() => {
                let now = Instant::now();
                kit.pool.sweep(now);
                warm(kit, &mut making, now);
                continue;
            }
        }
        kit.turn.pass();
        kit.pool.retire();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn whoever_waits_for_another_turn_wakes_when_it_comes() {
        let turn = Turn::default();
        let before = turn.number();
        let waiting = async {
            turn.after(before).await;
            turn.number()
        };
        let (now, ()) = tokio::join!(waiting, async { turn.pass() });
        assert_ne!(now, before);
        // One that is old already does not wait.
        turn.after(before).await;
    }
}
