//! Why a command did not do what it was asked.

use std::process::ExitCode;

use crate::cluster::kubectl::KubectlError;
use crate::sidecar::SocketError;
use crate::state::StateError;

/// Why a command did not do what it was asked. What was looked at and found wrong is no failure: it is printed, and
/// the command ends with [`EXIT_WRONG`].
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// Bad usage or settings; the message says what to do.
    #[error("{message}")]
    Usage {
        /// What is wrong, and the next step.
        message: String,
    },
    /// What was to be looked at is not there; the message says what to do.
    #[error("{message}")]
    Missing {
        /// What is missing, and the next step.
        message: String,
    },
    /// It could not be done.
    #[error("cannot {doing}")]
    CouldNot {
        /// What, with its object.
        doing: String,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The mesh that is meant is not there.
    #[error(transparent)]
    State(#[from] StateError),
    /// A debug socket did not answer.
    #[error(transparent)]
    Socket(#[from] SocketError),
    /// A cluster has not been asked.
    #[error(transparent)]
    Kubectl(#[from] KubectlError),
}

impl Failure {
    /// Turns an error into one that says what could not be done.
    pub fn could_not<E>(doing: impl Into<String>) -> impl FnOnce(E) -> Self
    where
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        move |source| Self::CouldNot {
            doing: doing.into(),
            source: source.into(),
        }
    }

    /// The code that a program ends with.
    pub fn exit_code(&self) -> ExitCode {
        ExitCode::from(match self {
            Self::Usage { .. } | Self::State(StateError::Several { .. }) => EXIT_USAGE,
            Self::Missing { .. } | Self::CouldNot { .. } => EXIT_COULD_NOT,
            Self::State(_) | Self::Socket(_) | Self::Kubectl(_) => EXIT_COULD_NOT,
        })
    }
}

/// Something was found wrong.
pub const EXIT_WRONG: u8 = 1;

/// It could not be looked at or done.
pub const EXIT_COULD_NOT: u8 = 2;

/// Bad usage or settings.
pub const EXIT_USAGE: u8 = ferrule_daemon::settings::EXIT_BAD_SETTINGS;
