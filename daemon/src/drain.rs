//! Lets open connections finish before the program ends.

use std::pin::Pin;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::caught::caught;

/// One direction of traffic on its way out: whether it still takes new connections, whether the open ones may go
/// on, and how many there are.
///
/// Cheap to clone; all clones are the same drain. [`crate::stop::Program::stop`] moves it from phase to phase.
#[derive(Debug, Clone)]
pub struct Drain {
    closing: CancellationToken,
    cut: CancellationToken,
    connections: TaskTracker,
}

/// How far a [`Drain`] has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// New connections are taken.
    Running,
    /// No new connection is taken; the open ones finish.
    Closing,
    /// The open ones end now.
    Cut,
}

impl Drain {
    /// A drain that is running, with nothing open.
    pub fn new() -> Self {
        Self {
            closing: CancellationToken::new(),
            cut: CancellationToken::new(),
            connections: TaskTracker::new(),
        }
    }

    /// How far it has come.
    pub fn phase(&self) -> Phase {
        if self.cut.is_cancelled() {
            Phase::Cut
        } else if self.closing.is_cancelled() {
            Phase::Closing
        } else {
            Phase::Running
        }
    }

    /// Runs one connection on the current runtime, counted as open until it ends.
    ///
    /// The connection itself watches [`Drain::cut`] and ends, saying why, when that comes. A panic ends this
    /// connection alone; it is logged.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn spawn(&self, connection: impl Future<Output = ()> + Send + 'static) {
        // On the heap once: each layer that a future is moved through would hold room for a copy of it. And one kind of
        // task for all connections, whose code is there once.
        let connection: Pin<Box<dyn Future<Output = ()> + Send>> = Box::pin(connection);
        self.connections.spawn(told(connection));
    }

    /// As [`Drain::spawn`], for a connection that stays on this thread.
    ///
    /// # Panics
    /// Outside a tokio `LocalSet` or `LocalRuntime`.
    pub fn spawn_local(&self, connection: impl Future<Output = ()> + 'static) {
        let connection: Pin<Box<dyn Future<Output = ()>>> = Box::pin(connection);
        self.connections.spawn_local(told(connection));
    }

    /// How many connections are open.
    pub fn open(&self) -> usize {
        self.connections.len()
    }

    /// Ends when no new connection may be taken any more. An accept loop waits for this beside the listener.
    pub async fn closing(&self) {
        self.closing.cancelled().await;
    }

    /// Ends when the open connections must end now.
    pub async fn cut(&self) {
        self.cut.cancelled().await;
    }

    /// No new connections from now on.
    pub fn close(&self) {
        self.closing.cancel();
    }

    /// Ends the open connections now, and takes no new ones.
    pub fn cut_now(&self) {
        self.closing.cancel();
        self.cut.cancel();
    }

    /// Ends at a moment when nothing is open, at once when that is so already.
    pub async fn empty(&self) {
        // A closed tracker still takes tasks; closing it only lets `wait` return.
        self.connections.close();
        self.connections.wait().await;
    }
}

/// Runs a connection of whatever kind, and logs its panic.
async fn told<F: Future<Output = ()> + ?Sized>(connection: Pin<Box<F>>) {
    if let Err(panic) = caught(connection).await {
        tracing::error!(panic, "a connection's task panicked");
    }
}

impl Default for Drain {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_drain_is_empty_once_its_last_connection_has_ended() {
        let drain = Drain::new();
        drain.empty().await;
        let (end, ended) = tokio::sync::oneshot::channel::<()>();
        drain.spawn(async move {
            let _ = ended.await;
        });
        assert_eq!(drain.open(), 1);
        end.send(()).unwrap();
        drain.empty().await;
        assert_eq!(drain.open(), 0);
    }

    #[tokio::test]
    async fn a_panic_ends_one_connection_alone() {
        let drain = Drain::new();
        let (end, ended) = tokio::sync::oneshot::channel::<()>();
        drain.spawn(async { panic!("torn") });
        drain.spawn(async move {
            let _ = ended.await;
        });
        while drain.open() > 1 {
            tokio::task::yield_now().await;
        }
        assert_eq!(drain.phase(), Phase::Running);
        end.send(()).unwrap();
        drain.empty().await;
    }

    #[test]
    fn cutting_also_closes() {
        let drain = Drain::new();
        drain.close();
        assert_eq!(drain.phase(), Phase::Closing);
        drain.cut_now();
        assert_eq!(drain.phase(), Phase::Cut);
    }
}
