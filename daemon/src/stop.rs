//! Stops a program in three steps: leaving, closing, cut.

mod settings;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use tracing::{error, info, warn};

use crate::drain::Drain;
use crate::logging::Chain;
use crate::ready::Readiness;
use crate::signals::Signals;
use crate::tasks::{TaskError, Tasks};

/// How long each step of a stop may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StopLimits {
    /// From "not ready" to the closing of the inbound listeners: those who send connections here learn of it in
    /// this time. 5 s unless set.
    pub leave: Duration,
    /// From there until what is still open is cut. 30 s unless set.
    pub deadline: Duration,
    /// From there until the program ends whatever does not end by itself. 2 s unless set.
    pub join: Duration,
}

impl Default for StopLimits {
    fn default() -> Self {
        Self {
            leave: Duration::from_secs(5),
            deadline: Duration::from_secs(30),
            join: Duration::from_secs(2),
        }
    }
}

/// The parts of a program that a stop touches.
#[derive(Debug, Clone)]
pub struct Program {
    /// What it cannot run without.
    pub tasks: Tasks,
    /// Connections that others open to it.
    pub inbound: Drain,
    /// Connections that its own application opens, taken for as long as inbound ones are open; `None` in a
    /// program that has no such direction.
    pub outbound: Option<Drain>,
    /// Whether it says that it is ready.
    pub readiness: Readiness,
    /// How long the steps may take.
    pub limits: StopLimits,
}

/// How a program came to its end.
#[derive(Debug)]
pub enum Ended {
    /// Asked to; every connection finished by itself.
    Clean,
    /// Asked to; this many connections were open when the deadline or a second request cut them.
    Cut {
        /// How many.
        connections: usize,
    },
    /// An essential task failed.
    Failed(Arc<TaskError>),
}

impl Ended {
    /// 0 for a stop that was asked for, cut or not; 1 after a failure.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::Clean | Self::Cut { .. } => ExitCode::SUCCESS,
            Self::Failed(_) => ExitCode::FAILURE,
        }
    }
}

impl Program {
    /// Runs until a signal or the failure of an essential task, then carries out the stop, and says how it ended.
    ///
    /// A failure stops the program by the same steps, so that open connections may finish. A signal during the
    /// stop cuts it short.
    pub async fn run(&self, signals: &mut Signals) -> Ended {
        let failure = tokio::select! {
            failure = self.tasks.failed() => Some(failure),
            signal = signals.next() => {
                info!(?signal, "stopping");
                None
            }
        };
        if let Some(failure) = &failure {
            error!(error = %Chain(failure.as_ref()), "stopping because an essential task is gone");
        }
        let ended = self.stop(signals).await;
        match failure.or_else(|| self.tasks.failure()) {
            Some(failure) => Ended::Failed(failure),
            None => ended,
        }
    }

    /// Carries out the stop: not ready; then, after a while, inbound closes and outbound goes on; then, when
    /// nothing is open in either direction or the deadline is reached, everything ends. A signal jumps to the end.
    pub async fn stop(&self, signals: &mut Signals) -> Ended {
        self.readiness.leave();
        // Accept loops end when their drain closes, which is no failure from here on.
        self.tasks.let_end();
        let finished = tokio::select! {
            () = self.leave_and_close() => true,
            () = tokio::time::sleep(self.limits.leave + self.limits.deadline) => false,
            signal = signals.next() => {
                info!(?signal, "asked again: cutting what is open");
                false
            }
        };
        let connections = self.open();
        for drain in self.drains() {
            if finished {
                drain.close();
            } else {
                drain.cut_now();
            }
        }
        self.join().await;
        if finished || connections == 0 {
            Ended::Clean
        } else {
            warn!(connections, "open connections were cut");
            Ended::Cut { connections }
        }
    }

    async fn leave_and_close(&self) {
        tokio::time::sleep(self.limits.leave).await;
        self.inbound.close();
        info!(connections = self.open(), "closed to new connections");
        self.inbound.empty().await;
        if let Some(outbound) = &self.outbound {
            // Inbound takes nothing new, so once this is empty too, both are.
            outbound.empty().await;
        }
    }

    async fn join(&self) {
        let all = async {
            for drain in self.drains() {
                drain.empty().await;
            }
        };
        if tokio::time::timeout(self.limits.join, all).await.is_err() {
            warn!(connections = self.open(), "connections did not end when cut");
        }
        if let Err(still) = self.tasks.stop(self.limits.join).await {
            warn!("{still}");
        }
    }

    fn drains(&self) -> impl Iterator<Item = &Drain> {
        std::iter::once(&self.inbound).chain(&self.outbound)
    }

    fn open(&self) -> usize {
        self.drains().map(Drain::open).sum()
    }
}

#[cfg(test)]
mod tests;
