//! Holds lines until a thread of its own has written them, and drops them rather than wait.

use std::fmt;
use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::metrics::Counter;

/// A queue of lines, bounded in bytes; cheap to clone, all clones are the same queue.
#[derive(Clone)]
pub(super) struct Queue(Arc<Inner>);

struct Inner {
    limit: usize,
    dropped: Counter,
    state: Mutex<State>,
    filled: Condvar,
    written: Condvar,
}

#[derive(Default)]
struct State {
    waiting: Vec<u8>,
    /// Lines ever put in, and lines of those that have left again.
    pushed: u64,
    written: u64,
    /// Lines dropped since the log last said so.
    dropped: u64,
    /// How many wait for lines to be written.
    flushing: usize,
    closed: bool,
}

impl Queue {
    /// A queue of `limit` bytes whose thread writes to `sink`. Once there is room again, `note` makes the line that
    /// says how many were dropped.
    pub(super) fn start(
        limit: usize,
        sink: impl Write + Send + 'static,
        note: impl Fn(u64) -> String + Send + 'static,
        dropped: Counter,
    ) -> io::Result<Self> {
        let queue = Self(Arc::new(Inner {
            limit,
            dropped,
            state: Mutex::default(),
            filled: Condvar::new(),
            written: Condvar::new(),
        }));
        let inner = queue.0.clone();
        std::thread::Builder::new()
            .name("log".to_owned())
            .spawn(move || inner.write(sink, note))?;
        Ok(queue)
    }

    /// Puts `line`, which ends in a line feed, into the queue; without room for all of it, drops it.
    pub(super) fn push(&self, line: &str) {
        let mut state = self.0.state();
        if state.closed || state.waiting.len() + line.len() > self.0.limit {
            state.dropped += 1;
            drop(state);
            self.0.dropped.inc();
            return;
        }
        let was_empty = state.waiting.is_empty();
        state.waiting.extend_from_slice(line.as_bytes());
        state.pushed += 1;
        drop(state);
        if was_empty {
            self.0.filled.notify_one();
        }
    }

    /// Waits until all lines that are in the queue now have been written, `limit` at most; says whether they were.
    pub(super) fn flush(&self, limit: Duration) -> bool {
        let mut state = self.0.state();
        let last = state.pushed;
        state.flushing += 1;
        let waited = self
            .0
            .written
            .wait_timeout_while(state, limit, |state| state.written < last);
        let (mut state, waited) = waited.unwrap_or_else(PoisonError::into_inner);
        state.flushing -= 1;
        !waited.timed_out()
    }

    /// Ends the thread once it has written what is in the queue. Later lines are dropped.
    pub(super) fn close(&self) {
        self.0.state().closed = true;
        self.0.filled.notify_one();
    }
}

impl fmt::Debug for Queue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Queue")
    }
}

impl Inner {
    fn write(&self, mut sink: impl Write, note: impl Fn(u64) -> String) {
        let mut batch = Vec::new();
        loop {
            let state = self.state();
            let waited = self
                .filled
                .wait_while(state, |state| state.waiting.is_empty() && !state.closed);
            let mut state = waited.unwrap_or_else(PoisonError::into_inner);
            if state.waiting.is_empty() {
                return;
            }
            if !state.closed {
                // Lines come in crowds: to wake up and to write for each would cost more than the line.
                drop(state);
                std::thread::sleep(CROWD);
                state = self.state();
            }
            std::mem::swap(&mut state.waiting, &mut batch);
            let (lines, dropped) = (state.pushed, std::mem::take(&mut state.dropped));
            drop(state);

            let mut outcome = sink.write_all(&batch);
            if dropped > 0 && outcome.is_ok() {
                outcome = sink.write_all(note(dropped).as_bytes());
            }
            let outcome = outcome.and_then(|()| sink.flush());

            let mut state = self.state();
            if outcome.is_err() {
                // There is nowhere to say it but in the count.
                let lost = lines - state.written;
                self.dropped.inc_by(lost);
                state.dropped += lost + dropped;
            }
            state.written = lines;
            let is_awaited = state.flushing > 0;
            drop(state);
            if is_awaited {
                self.written.notify_all();
            }
            batch.clear();
            batch.shrink_to(KEEP);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing that holds the lock can panic half way.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How long lines are gathered before they are written.
const CROWD: Duration = Duration::from_millis(10);

/// How much memory stays with the queue after a burst, in bytes.
const KEEP: usize = 64 * 1024;
