//! Passes the lines of connections on to whoever looks on, for as long as they keep up.

use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use ferrule_daemon::metrics::Counter;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::mpsc::{Receiver, Sender, channel};

/// Where lines are passed on; cheap to clone, all clones are the same tap. While nobody looks on it costs one look
/// at a number.
#[derive(Debug, Clone)]
pub struct Tap(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    watching: AtomicUsize,
    watchers: Mutex<Vec<Watcher>>,
    dropped: Counter,
}

#[derive(Debug)]
struct Watcher {
    lines: Sender<Bytes>,
    /// Lines that found no room since the last that did.
    missed: u64,
}

impl Tap {
    /// A tap at which nobody is yet; lines that a watcher is too slow for are counted in `dropped`.
    pub fn new(dropped: Counter) -> Self {
        Self(Arc::new(Inner {
            watching: AtomicUsize::new(0),
            watchers: Mutex::default(),
            dropped,
        }))
    }

    /// Looks on from now: up to [`WAITING_LINES`] wait to be taken, further ones are dropped, and a line says how
    /// many are missing. None when [`WATCHERS`] do so already.
    pub fn watch(&self) -> Option<Receiver<Bytes>> {
        let mut watchers = self.watchers();
        // Who left is noticed at the next line, which may be long after.
        watchers.retain(|watcher| !watcher.lines.is_closed());
        let free = watchers.len() < WATCHERS;
        let watched = free.then(|| {
            let (lines, watched) = channel(WAITING_LINES);
            watchers.push(Watcher { lines, missed: 0 });
            watched
        });
        self.0.watching.store(watchers.len(), Ordering::Relaxed);
        watched
    }

    /// Passes a line on to those who look on; it is made only when there are any. Never waits for them.
    pub fn pass<L: fmt::Display>(&self, line: impl FnOnce() -> L) {
        if self.0.watching.load(Ordering::Relaxed) == 0 {
            return;
        }
        let line = Bytes::from(format!("{}\n", line()));
        let mut watchers = self.watchers();
        watchers.retain_mut(|watcher| watcher.take(&line, &self.0.dropped));
        self.0.watching.store(watchers.len(), Ordering::Relaxed);
    }

    fn watchers(&self) -> MutexGuard<'_, Vec<Watcher>> {
        // A list is whole between its calls, so a panic elsewhere cannot have left it torn.
        self.0.watchers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Watcher {
    /// Whether the watcher is still there.
    fn take(&mut self, line: &Bytes, dropped: &Counter) -> bool {
        if self.missed > 0 {
            let said = format!("{{\"event\":\"missed\",\"lines\":{}}}\n", self.missed);
            if self.lines.try_send(said.into()).is_ok() {
                self.missed = 0;
            }
        }
        match self.lines.try_send(line.clone()) {
            Ok(()) => true,
            Err(TrySendError::Closed(_)) => false,
            Err(TrySendError::Full(_)) => {
                self.missed += 1;
                dropped.inc();
                true
            }
        }
    }
}

/// How many lines wait for one watcher.
pub const WAITING_LINES: usize = 1024;

/// How many may look on at once.
pub const WATCHERS: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    fn text(watched: &mut Receiver<Bytes>) -> String {
        String::from_utf8(watched.try_recv().unwrap().to_vec()).unwrap()
    }

    #[test]
    fn lines_are_made_only_for_somebody() {
        let tap = Tap::new(Counter::default());
        tap.pass(|| -> &str { unreachable!("nobody looks on") });
        let mut watched = tap.watch().unwrap();
        tap.pass(|| "one");
        assert_eq!(text(&mut watched), "one\n");
        drop(watched);
        tap.pass(|| "to a watcher who has left");
        tap.pass(|| -> &str { unreachable!("nobody looks on any more") });
    }

    #[test]
    fn a_slow_watcher_misses_lines_and_learns_how_many() {
        let dropped = Counter::default();
        let tap = Tap::new(dropped.clone());
        let mut slow = tap.watch().unwrap();
        for number in 0..WAITING_LINES + 3 {
            tap.pass(|| number);
        }
        assert_eq!(dropped.get(), 3);
        for number in 0..WAITING_LINES {
            assert_eq!(text(&mut slow), format!("{number}\n"));
        }
        tap.pass(|| "again");
        assert_eq!(text(&mut slow), "{\"event\":\"missed\",\"lines\":3}\n");
        assert_eq!(text(&mut slow), "again\n");
    }

    #[test]
    fn only_some_may_look_on_at_once() {
        let tap = Tap::new(Counter::default());
        let watching: Vec<_> = (0..WATCHERS).map(|_| tap.watch().unwrap()).collect();
        assert!(tap.watch().is_none());
        drop(watching);
        assert!(tap.watch().is_some());
    }
}
