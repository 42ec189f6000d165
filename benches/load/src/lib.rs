//! Makes the load that the cost of a path is measured with, at both of its ends.
//!
//! [`server`] answers at the far end. At the near end [`bulk`], [`amount`], [`requests`], [`openings`] and [`idle`] each put one
//! kind of load on a path and tell what came of it; [`runtime::run`] runs them. [`delays`] and [`spread`] make figures
//! of many samples. What lies between the two ends is none of this crate's business: it sees an address.

mod client;
pub mod delays;
mod lanes;
pub mod runtime;
pub mod server;
pub mod spread;
mod words;

pub use client::{amount, bulk, idle, openings, requests};

use std::io;
use std::time::Duration;

use ferrule_daemon::dial::DialError;

/// Reads how much CPU time the programs under load have used so far.
pub type Meter<'a> = &'a dyn Fn() -> io::Result<Duration>;

/// A meter for who has nothing to read.
///
/// # Errors
/// Never.
pub const fn no_meter() -> io::Result<Duration> {
    Ok(Duration::ZERO)
}

/// Why there is no figure.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The path lets no connection through.
    #[error("cannot open a connection")]
    Dial(#[from] DialError),
    /// A connection ended although it was needed.
    #[error("the path broke while {doing}")]
    Broken {
        /// What was done then.
        doing: &'static str,
        /// What the system says.
        source: io::Error,
    },
    /// Nothing moved any more.
    #[error("nothing moved for {limit:?} while {doing}")]
    Stuck {
        /// What was done then.
        doing: &'static str,
        /// How long it was waited for.
        limit: Duration,
    },
    /// The path was open, but nothing came through in the time that counts.
    #[error("nothing came through while {doing}")]
    Nothing {
        /// What was done then.
        doing: &'static str,
    },
    /// The CPU time of the programs under load cannot be read.
    #[error("cannot read the CPU time of what is measured")]
    Meter {
        /// What the system says.
        source: io::Error,
    },
    /// This program's own part did not run.
    #[error("cannot make load")]
    Runtime {
        /// What the system says.
        source: io::Error,
    },
}

impl LoadError {
    /// Whether anything came through, which every figure is of.
    fn unless_nothing(count: u64, doing: &'static str) -> Result<(), Self> {
        match count {
            0 => Err(Self::Nothing { doing }),
            _ => Ok(()),
        }
    }

    fn broken(doing: &'static str) -> impl Fn(io::Error) -> Self {
        move |source| Self::Broken { doing, source }
    }
}

/// How long a path may take for what takes no time on one that works.
const PATIENCE: Duration = Duration::from_secs(10);
