//! Writes what happens as lines of JSON or text, without ever holding up who says it.

mod line;
mod queue;
mod settings;
mod shown;

use std::fmt;
use std::io::Write;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use tracing_subscriber::filter::{ParseError, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::{Registry, reload};

pub use line::shown_time;
pub use settings::LogConfig;
pub use shown::{Chain, FOREIGN_BYTES, Foreign, shorten};

use crate::clock::Clock;
use crate::metrics::{Counter, Metrics};
use line::Lines;
use queue::Queue;

/// The form of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// One JSON object: `time`, `level`, `target`, `message`, then the event's own fields.
    #[default]
    Json,
    /// One line for people: time, level, target, message, then `name=value`.
    Text,
}

/// The name of a form that there is not.
#[derive(Debug, thiserror::Error)]
#[error("unknown log format {}: it is json or text", Foreign(.0))]
pub struct UnknownFormat(String);

impl FromStr for Format {
    type Err = UnknownFormat;

    fn from_str(text: &str) -> Result<Self, UnknownFormat> {
        match text {
            "json" => Ok(Self::Json),
            "text" => Ok(Self::Text),
            other => Err(UnknownFormat(shorten(other, FOREIGN_BYTES).into_owned())),
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Json => "json",
            Self::Text => "text",
        })
    }
}

/// Which events are written: a level, or levels for parts of the program, such as `info,ferrule_ca::api=debug`.
#[derive(Debug, Clone)]
pub struct Filter(Targets);

impl FromStr for Filter {
    type Err = LogError;

    fn from_str(text: &str) -> Result<Self, LogError> {
        let filter = || shorten(text, FOREIGN_BYTES).into_owned();
        if text.trim().is_empty() || text.len() > FILTER_BYTES {
            return Err(LogError::FilterLength { filter: filter() });
        }
        let targets = text.parse().map_err(|source| LogError::Filter {
            filter: filter(),
            source,
        })?;
        Ok(Self(targets))
    }
}

impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Starts the logs of this process: every event that `filter` lets through becomes a line on standard output, and
/// so does every panic.
///
/// Lines wait in a queue of [`QUEUE_BYTES`] for a thread of their own; when nobody reads the output, further ones
/// are dropped and counted in `ferrule_log_dropped_total`, and whoever logs never waits.
///
/// # Errors
/// When logs have been started before, or the thread cannot be.
pub fn start(format: Format, filter: Filter, clock: Clock, metrics: &Metrics) -> Result<Logging, LogError> {
    let dropped = metrics.counter(
        "log_dropped",
        "Log lines that were dropped because nobody took them",
    );
    let (logging, subscriber) = prepare(format, filter, clock, dropped, std::io::stdout())?;
    tracing::subscriber::set_global_default(subscriber).map_err(|_| LogError::Started)?;
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        let message = crate::caught::message(panic.payload());
        tracing::error!(place, message, "panic");
    }));
    Ok(logging)
}

/// Everything that [`start`] does short of making it the process's own.
pub(crate) fn prepare(
    format: Format,
    filter: Filter,
    clock: Clock,
    dropped: Counter,
    sink: impl Write + Send + 'static,
) -> Result<(Logging, impl tracing::Subscriber + Send + Sync), LogError> {
    let lines = Lines::new(format, clock);
    let noted = lines.clone();
    let note = move |count| noted.dropped(count);
    let queue =
        Queue::start(QUEUE_BYTES, sink, note, dropped).map_err(|source| LogError::Thread { source })?;
    let (levels, handle) = reload::Layer::new(filter.0);
    let subscriber = Registry::default()
        .with(levels)
        .with(line::Layer::new(lines, queue.clone()));
    let levels = Levels(Arc::new(handle));
    Ok((Logging { queue, levels }, subscriber))
}

/// The running logs. Dropping it writes what is still waiting, for [`FLUSH`] at most; events after that may be
/// lost, so it is the last thing that a program drops.
#[derive(Debug)]
pub struct Logging {
    queue: Queue,
    levels: Levels,
}

impl Logging {
    /// A handle to change what is written while the program runs.
    pub fn levels(&self) -> Levels {
        self.levels.clone()
    }

    /// Waits until everything that was logged before has been written, `limit` at most; says whether it was.
    pub fn flush(&self, limit: Duration) -> bool {
        self.queue.flush(limit)
    }
}

impl Drop for Logging {
    fn drop(&mut self) {
        self.queue.flush(FLUSH);
        self.queue.close();
    }
}

/// Changes which events are written; cheap to clone.
#[derive(Debug, Clone)]
pub struct Levels(Arc<reload::Handle<Targets, Registry>>);

impl Levels {
    /// The filter in force.
    ///
    /// # Errors
    /// When the logs are gone.
    pub fn current(&self) -> Result<Filter, LogError> {
        self.0
            .with_current(|targets| Filter(targets.clone()))
            .map_err(|_| LogError::Gone)
    }

    /// Puts `filter` in force, for all threads, at once.
    ///
    /// # Errors
    /// When the logs are gone.
    pub fn set(&self, filter: Filter) -> Result<(), LogError> {
        self.0.reload(filter.0).map_err(|_| LogError::Gone)
    }
}

/// What can go wrong with logs.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The filter cannot be read.
    #[error("cannot read the log filter {}", Foreign(filter))]
    Filter {
        /// The filter, cut where it is long.
        filter: String,
        /// What is wrong with it.
        source: ParseError,
    },
    /// The filter is empty, or longer than [`FILTER_BYTES`].
    #[error(
        "the log filter {} has no text or more than {FILTER_BYTES} bytes",
        Foreign(filter)
    )]
    FilterLength {
        /// The filter, cut where it is long.
        filter: String,
    },
    /// The logs of a process are started once.
    #[error("cannot start the logs: they have been started")]
    Started,
    /// The writing thread cannot be started.
    #[error("cannot start the thread that writes the logs")]
    Thread {
        /// The system's answer.
        source: std::io::Error,
    },
    /// The logs have ended.
    #[error("cannot change the log filter: the logs have ended")]
    Gone,
}

/// Lines that wait to be written, in bytes.
pub const QUEUE_BYTES: usize = 4 * 1024 * 1024;

/// The longest filter in bytes.
pub const FILTER_BYTES: usize = 1024;

/// How long the end of a program waits for its last lines.
pub const FLUSH: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests;
