//! Knows whether the program is ready, and what is still missing when it is not.

use std::sync::Arc;

use tokio::sync::watch;

/// Readiness as a set of named latches: ready when none is held and nobody has said that the program is leaving.
///
/// Cheap to clone; all clones show the same state. A program without latches is ready at once, so latches are
/// made before the first look.
#[derive(Debug, Clone)]
pub struct Readiness(Arc<watch::Sender<State>>);

#[derive(Debug, Default)]
struct State {
    latches: Vec<(&'static str, bool)>,
    leaving: bool,
}

impl Readiness {
    /// A set without latches.
    pub fn new() -> Self {
        Self(Arc::new(watch::Sender::new(State::default())))
    }

    /// Adds a latch, held until [`Latch::release`] is called.
    ///
    /// The name is what a person reads who asks why the program is not ready, such as `certificate`.
    pub fn latch(&self, name: &'static str) -> Latch {
        let mut index = 0;
        self.0.send_modify(|state| {
            index = state.latches.len();
            state.latches.push((name, true));
        });
        Latch {
            readiness: self.clone(),
            index,
        }
    }

    /// Says that the program is leaving: it is not ready from now on, whatever its latches.
    pub fn leave(&self) {
        self.0.send_modify(|state| state.leaving = true);
    }

    /// Ready, or the names of what is missing in the order in which the latches were made; `stopping` when the
    /// program is leaving.
    pub fn check(&self) -> Result<(), Vec<&'static str>> {
        self.0.borrow().check()
    }

    /// Waits until the program is ready; for ever when it leaves before.
    pub async fn ready(&self) {
        self.wait(|state| state.check().is_ok()).await;
    }

    /// Waits until the program is not ready.
    pub async fn not_ready(&self) {
        self.wait(|state| state.check().is_err()).await;
    }

    async fn wait(&self, wanted: impl Fn(&State) -> bool) {
        // The sender lives in `self`, so the channel cannot close while this waits.
        let _ = self.0.subscribe().wait_for(|state| wanted(state)).await;
    }
}

impl Default for Readiness {
    fn default() -> Self {
        Self::new()
    }
}

impl State {
    fn check(&self) -> Result<(), Vec<&'static str>> {
        let held = self
            .latches
            .iter()
            .filter(|(_, held)| *held)
            .map(|(name, _)| *name);
        let missing: Vec<_> = self
            .leaving
            .then_some("stopping")
            .into_iter()
            .chain(held)
            .collect();
        if missing.is_empty() { Ok(()) } else { Err(missing) }
    }
}

/// One thing that must be there before the program is ready.
///
/// Dropping it changes nothing: a task that dies before it has what it waits for leaves the program not ready.
#[derive(Debug)]
pub struct Latch {
    readiness: Readiness,
    index: usize,
}

impl Latch {
    /// Says that the thing is there.
    pub fn release(&self) {
        self.set(false);
    }

    /// Says that the thing is missing, again.
    pub fn hold(&self) {
        self.set(true);
    }

    fn set(&self, held: bool) {
        self.readiness.0.send_if_modified(|state| {
            state
                .latches
                .get_mut(self.index)
                .is_some_and(|latch| std::mem::replace(&mut latch.1, held) != held)
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_when_the_last_latch_is_released() {
        let readiness = Readiness::new();
        let (bundle, listener) = (readiness.latch("bundle"), readiness.latch("listener"));
        assert_eq!(readiness.check(), Err(vec!["bundle", "listener"]));
        bundle.release();
        assert_eq!(readiness.check(), Err(vec!["listener"]));
        listener.release();
        assert_eq!(readiness.check(), Ok(()));
        bundle.hold();
        assert_eq!(readiness.check(), Err(vec!["bundle"]));
    }

    #[test]
    fn a_dropped_latch_stays_held() {
        let readiness = Readiness::new();
        drop(readiness.latch("certificate"));
        assert_eq!(readiness.check(), Err(vec!["certificate"]));
    }

    #[tokio::test]
    async fn whoever_leaves_is_not_ready() {
        let readiness = Readiness::new();
        readiness.ready().await;
        readiness.leave();
        readiness.not_ready().await;
        assert_eq!(readiness.check(), Err(vec!["stopping"]));
    }

    #[tokio::test]
    async fn a_waiter_learns_of_the_release() {
        let readiness = Readiness::new();
        let latch = readiness.latch("certificate");
        tokio::join!(readiness.ready(), async { latch.release() });
        assert_eq!(readiness.check(), Ok(()));
    }
}
