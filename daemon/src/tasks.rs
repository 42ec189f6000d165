//! Runs the named tasks that a program cannot do without.

use std::collections::BTreeMap;
use std::error::Error;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::caught::caught;

/// The essential tasks of a program: the first that fails, panics or ends unasked is the end of all.
///
/// Cheap to clone; all clones hold the same tasks.
#[derive(Debug, Clone)]
pub struct Tasks(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    tracker: TaskTracker,
    stopping: CancellationToken,
    may_end: AtomicBool,
    running: Mutex<BTreeMap<&'static str, usize>>,
    failure: watch::Sender<Option<Arc<TaskError>>>,
}

impl Tasks {
    /// No task yet.
    pub fn new() -> Self {
        Self(Arc::new(Inner {
            tracker: TaskTracker::new(),
            stopping: CancellationToken::new(),
            may_end: AtomicBool::new(false),
            running: Mutex::default(),
            failure: watch::Sender::new(None),
        }))
    }

    /// Starts an essential task on the current runtime.
    ///
    /// An error, a panic, or an end while nobody has asked the tasks to stop is a [`TaskError`] for
    /// [`Tasks::failed`]. The name says what the task does, such as `renewal`.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn spawn<F, E>(&self, name: &'static str, future: F)
    where
        F: Future<Output = Result<(), E>> + Send + 'static,
        E: Into<Box<dyn Error + Send + Sync>> + 'static,
    {
        // On the heap first: each layer that a future is moved through would hold room for a copy of it.
        let future = Box::pin(future);
        self.begin(name, Box::pin(async move { future.await.map_err(Into::into) }));
    }

    /// One kind of task for all, whose code is there once.
    fn begin(&self, name: &'static str, work: Work) {
        *self.running().entry(name).or_default() += 1;
        let tasks = self.clone();
        self.0.tracker.spawn(async move {
            let outcome = caught(work).await;
            tasks.ended(name, outcome);
        });
    }

    /// Waits for the first failure; for ever when there is none. A failure that has already happened is
    /// returned at once, to everyone who asks.
    pub async fn failed(&self) -> Arc<TaskError> {
        let mut failure = self.0.failure.subscribe();
        loop {
            if let Some(failure) = failure.borrow_and_update().clone() {
                return failure;
            }
            // The sender lives in `self`, so this ends only by a change.
            let _ = failure.changed().await;
        }
    }

    /// The first failure, if there has been one.
    pub fn failure(&self) -> Option<Arc<TaskError>> {
        self.0.failure.borrow().clone()
    }

    /// Ends when the tasks are asked to stop. A task waits for this beside its work, and then returns `Ok`.
    pub async fn stopping(&self) {
        self.0.stopping.cancelled().await;
    }

    /// A token that is cancelled when the tasks are asked to stop.
    pub fn stop_token(&self) -> CancellationToken {
        self.0.stopping.child_token()
    }

    /// From now on a task may end without this being a failure. Nothing is asked to.
    pub fn let_end(&self) {
        self.0.may_end.store(true, Ordering::Release);
    }

    /// Asks every task to stop. From now on a task may end without this being a failure.
    pub fn ask_to_stop(&self) {
        self.let_end();
        self.0.stopping.cancel();
    }

    /// Asks every task to stop, then waits for them to end, `limit` at most.
    ///
    /// # Errors
    /// The names of the tasks that were still running at the limit; they go on until the runtime is dropped.
    pub async fn stop(&self, limit: Duration) -> Result<(), StillRunning> {
        self.ask_to_stop();
        self.0.tracker.close();
        match tokio::time::timeout(limit, self.0.tracker.wait()).await {
            Ok(()) => Ok(()),
            Err(_) => Err(StillRunning {
                names: self.running().keys().copied().collect(),
                limit,
            }),
        }
    }

    fn ended(&self, name: &'static str, outcome: Result<Outcome, String>) {
        let failure = match outcome {
            Ok(Ok(())) if self.0.may_end.load(Ordering::Acquire) => None,
            Ok(Ok(())) => Some(TaskError::Ended { task: name }),
            Ok(Err(source)) => Some(TaskError::Failed { task: name, source }),
            Err(message) => Some(TaskError::Panicked { task: name, message }),
        };
        if let Some(failure) = failure {
            self.0.failure.send_if_modified(|first| {
                let is_first = first.is_none();
                first.get_or_insert_with(|| Arc::new(failure));
                is_first
            });
        }
        let mut running = self.running();
        if let Some(count) = running.get_mut(name) {
            *count -= 1;
            if *count == 0 {
                running.remove(name);
            }
        }
    }

    fn running(&self) -> MutexGuard<'_, BTreeMap<&'static str, usize>> {
        // Counts are whole after every statement, so a panic elsewhere cannot have left them torn.
        self.0.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How a task ends by itself.
type Outcome = Result<(), Box<dyn Error + Send + Sync>>;

/// What a task does, of whatever kind.
type Work = Pin<Box<dyn Future<Output = Outcome> + Send>>;

impl Default for Tasks {
    fn default() -> Self {
        Self::new()
    }
}

/// Why an essential task is no more.
#[derive(Debug, thiserror::Error)]
pub enum TaskError {
    /// The task returned an error.
    #[error("task {task} failed")]
    Failed {
        /// The task's name.
        task: &'static str,
        /// What it returned.
        source: Box<dyn Error + Send + Sync>,
    },
    /// The task panicked.
    #[error("task {task} panicked: {message}")]
    Panicked {
        /// The task's name.
        task: &'static str,
        /// What the panic said.
        message: String,
    },
    /// The task returned while it was still needed.
    #[error("task {task} ended without being asked to")]
    Ended {
        /// The task's name.
        task: &'static str,
    },
}

/// Some tasks did not end when they were asked to.
#[derive(Debug, thiserror::Error)]
#[error("tasks still running after {limit:?}: {}", names.join(", "))]
pub struct StillRunning {
    /// Their names, each once, in alphabetical order.
    pub names: Vec<&'static str>,
    /// How long they were waited for.
    pub limit: Duration,
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::io;

    use super::*;

    #[tokio::test]
    async fn the_first_failure_is_named() {
        let tasks = Tasks::new();
        let waiting = tasks.clone();
        tasks.spawn("patient", async move {
            waiting.stopping().await;
            Ok::<_, Infallible>(())
        });
        tasks.spawn("renewal", async { Err(io::Error::other("no disk")) });
        let failure = tasks.failed().await;
        assert_eq!(failure.to_string(), "task renewal failed");
        assert_eq!(failure.source().unwrap().to_string(), "no disk");
        tasks.stop(Duration::from_secs(5)).await.unwrap();
        assert_eq!(tasks.failure().unwrap().to_string(), "task renewal failed");
    }

    #[tokio::test]
    async fn a_panic_is_a_failure_with_its_message() {
        let tasks = Tasks::new();
        tasks.spawn("ledger", async {
            if tokio::task::id().to_string().is_empty() {
                return Ok::<_, Infallible>(());
            }
            panic!("page {} is torn", 7)
        });
        assert_eq!(
            tasks.failed().await.to_string(),
            "task ledger panicked: page 7 is torn"
        );
    }

    #[tokio::test]
    async fn an_unasked_end_is_a_failure() {
        let tasks = Tasks::new();
        tasks.spawn("watcher", async { Ok::<_, Infallible>(()) });
        assert_eq!(
            tasks.failed().await.to_string(),
            "task watcher ended without being asked to"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn an_end_after_the_request_is_none() {
        let tasks = Tasks::new();
        let token = tasks.stop_token();
        tasks.spawn("watcher", async move {
            token.cancelled().await;
            Ok::<_, Infallible>(())
        });
        tasks.stop(Duration::from_secs(5)).await.unwrap();
        assert!(tasks.failure().is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn who_does_not_stop_is_named() {
        let tasks = Tasks::new();
        tasks.spawn("deaf", std::future::pending::<Result<(), Infallible>>());
        tasks.spawn("deaf", std::future::pending::<Result<(), Infallible>>());
        let still = tasks.stop(Duration::from_secs(5)).await.unwrap_err();
        assert_eq!(still.to_string(), "tasks still running after 5s: deaf");
    }
}
