//! Hears the requests to stop that come from outside the program.

use std::io;

use tokio::signal::unix::{self, SignalKind};
use tokio::sync::mpsc;

/// A request to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// SIGTERM: from a supervisor.
    Terminate,
    /// SIGINT: Ctrl-C.
    Interrupt,
    /// A request through the program's own interface, such as the admin socket.
    Asked,
}

/// The stream of requests to stop: the system's signals, together with those that [`Asking`] adds.
#[derive(Debug)]
pub struct Signals {
    system: Option<(unix::Signal, unix::Signal)>,
    asked: mpsc::Receiver<Signal>,
    asking: Asking,
}

impl Signals {
    /// Hears SIGTERM and SIGINT from now on, in place of their default action, which ends the process.
    ///
    /// # Errors
    /// When the system refuses the handlers.
    ///
    /// # Panics
    /// Outside a tokio runtime with I/O.
    pub fn system() -> Result<Self, SignalError> {
        let hear = |kind, name| unix::signal(kind).map_err(|source| SignalError::Hear { name, source });
        let system = (
            hear(SignalKind::terminate(), "SIGTERM")?,
            hear(SignalKind::interrupt(), "SIGINT")?,
        );
        Ok(Self {
            system: Some(system),
            ..Self::without_system()
        })
    }

    /// Hears only what [`Asking`] sends: for programs that run inside another one, as in `ferrule up` or a test.
    pub fn without_system() -> Self {
        let (sender, asked) = mpsc::channel(QUEUE);
        Self {
            system: None,
            asked,
            asking: Asking(sender),
        }
    }

    /// A sender of requests to this stream.
    pub fn asking(&self) -> Asking {
        self.asking.clone()
    }

    /// The next request. Nothing is lost when this is dropped before it ends.
    pub async fn next(&mut self) -> Signal {
        let Self { system, asked, .. } = self;
        let asked = async {
            match asked.recv().await {
                Some(signal) => signal,
                // Not reached: `self` holds a sender.
                None => std::future::pending().await,
            }
        };
        let Some((terminate, interrupt)) = system else {
            return asked.await;
        };
        tokio::select! {
            Some(()) = terminate.recv() => Signal::Terminate,
            Some(()) = interrupt.recv() => Signal::Interrupt,
            signal = asked => signal,
        }
    }
}

/// Adds requests to the stream of [`Signals`]; cheap to clone.
#[derive(Debug, Clone)]
pub struct Asking(mpsc::Sender<Signal>);

impl Asking {
    /// Asks the program to stop. A request that finds [`QUEUE`] others waiting is not needed, and is dropped.
    pub fn send(&self, signal: Signal) {
        let _ = self.0.try_send(signal);
    }
}

/// The system's signals cannot be heard.
#[derive(Debug, thiserror::Error)]
pub enum SignalError {
    /// A handler was refused.
    #[error("cannot listen for {name}")]
    Hear {
        /// The signal.
        name: &'static str,
        /// The system's answer.
        source: io::Error,
    },
}

/// Requests that wait to be heard: the first stops the program, the second cuts it short, more change nothing.
pub const QUEUE: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_request_from_inside_arrives_beside_the_systems() {
        let mut signals = Signals::system().unwrap();
        signals.asking().send(Signal::Asked);
        assert_eq!(signals.next().await, Signal::Asked);
    }

    #[tokio::test]
    async fn requests_arrive_in_order_and_too_many_are_dropped() {
        let mut signals = Signals::without_system();
        let asking = signals.asking();
        asking.send(Signal::Terminate);
        for _ in 0..10 {
            asking.send(Signal::Interrupt);
        }
        assert_eq!(signals.next().await, Signal::Terminate);
        assert_eq!(signals.next().await, Signal::Interrupt);
    }
}
