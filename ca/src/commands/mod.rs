//! The commands of `ferrule-ca`, one file for each, and what they have in common.

mod audit;
mod backup;
mod cli;
mod fetch;
mod init;
mod issue;
mod print;
mod revoke;
mod rotate;
mod serve;
mod status;
mod token;

use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;

use ferrule_daemon::clock::Clock;
use ferrule_daemon::command;
use ferrule_daemon::logging::Chain;
use ferrule_daemon::settings::environment;

use crate::config::{self, Loaded};
use crate::instance::{Instance, InstanceError};

use cli::{Cli, Command, Common};

/// Runs the command that `arguments` name, the program's own name first. What a program may read goes to standard
/// output, what people should know to standard error.
///
/// Ends with 0 when all is well, 1 when something was found wrong or refused, 2 when it could not be looked at or done,
/// 64 for bad usage or settings.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    run_as(Called::default(), arguments)
}

/// Does what [`run`] does; whatever it says to type next begins as people have begun this time.
pub fn run_as(called: Called, arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let mut cli: Cli = match command::read(arguments) {
        Ok(cli) => cli,
        Err(code) => return code,
    };
    cli.common.called = called;
    match cli.command.run(&cli.common) {
        Ok(code) => code,
        Err(failure) => {
            let _ = writeln!(std::io::stderr(), "ferrule-ca: {}", Chain(&failure));
            failure.exit_code()
        }
    }
}

/// How people have called these commands.
#[derive(Debug, Clone, Copy)]
pub struct Called {
    /// The words before the command.
    pub program: &'static str,
    /// Whether these words alone lead to the CA, without `--config` or `--data`.
    pub finds_its_ca: bool,
}

impl Default for Called {
    fn default() -> Self {
        Self {
            program: "ferrule-ca",
            finds_its_ca: false,
        }
    }
}

impl Command {
    fn run(&self, common: &Common) -> Result<ExitCode, Failure> {
        match self {
            Self::Serve(serve) => serve::run(serve, common),
            Self::Restore(restore) => backup::restore(restore, common),
            Self::Audit(audit) => audit::run(audit, common),
            Self::Init(init) => in_runtime(init::run(init, common)),
            Self::Issue(issue) => in_runtime(issue::run(issue, common)),
            Self::Token(token) => in_runtime(token::run(token, common)),
            Self::Revoke(revoke) => in_runtime(revoke::run(revoke, common)),
            Self::Rotate(rotate) => in_runtime(rotate::run(rotate, common)),
            Self::Status => in_runtime(status::run(common)),
            Self::Backup(backup) => in_runtime(backup::backup(backup, common)),
            Self::Fetch(fetch) => in_runtime(fetch::run(fetch, common)),
        }
    }
}

/// Runs a command that is over soon on this thread.
fn in_runtime<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(Failure::could_not("start"))?.block_on(work)
}

/// The settings: file, environment, flags.
fn settings(common: &Common) -> Result<Loaded, Failure> {
    let flags = common.as_settings();
    let variables = environment().chain(flags);
    config::load(common.config.as_deref(), variables).map_err(|problems| Failure::Usage {
        message: format!("the settings cannot be used:\n{problems}"),
    })
}

/// The CA that is there already.
async fn open(common: &Common) -> Result<Instance, Failure> {
    let config = settings(common)?.config;
    Ok(Instance::open(config, Clock::system(), false).await?)
}

/// Prints the message that a program asked for.
fn print_json(message: &impl serde::Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(message).map_err(Failure::could_not("write JSON"))?;
    print_line(&text)
}

/// Prints a line on standard output.
fn print_line(text: &str) -> Result<(), Failure> {
    writeln!(std::io::stdout(), "{text}").map_err(Failure::could_not("write to standard output"))
}

/// Tells people something on standard error; nobody depends on it.
fn tell(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// How to type another command for this CA.
fn next(common: &Common, command: &str) -> String {
    let program = common.called.program;
    format!("{program} {command}{}", again(common))
}

/// How to name this CA in a command that is to be typed next.
fn again(common: &Common) -> String {
    if common.called.finds_its_ca {
        return String::new();
    }
    match (&common.config, &common.data) {
        (Some(config), _) => format!(" --config {}", config.display()),
        (None, Some(data)) => format!(" --data {}", data.display()),
        (None, None) => String::new(),
    }
}

/// Why a command did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// Bad usage or settings.
    #[error("{message}")]
    Usage {
        /// What to do about it.
        message: String,
    },
    /// The CA says no.
    #[error("{message}")]
    Refused {
        /// Why.
        message: String,
    },
    /// It could not be done.
    #[error("cannot {doing}")]
    CouldNot {
        /// What.
        doing: &'static str,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// There is no CA to work with.
    #[error(transparent)]
    Instance(#[from] InstanceError),
}

impl Failure {
    /// Turns an error into one that says what could not be done.
    fn could_not<E>(doing: &'static str) -> impl FnOnce(E) -> Self
    where
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        move |source| Self::CouldNot {
            doing,
            source: source.into(),
        }
    }

    /// A refusal in the words of `error`, with its causes.
    fn refused(error: &(dyn std::error::Error + 'static)) -> Self {
        Self::Refused {
            message: Chain(error).to_string(),
        }
    }

    fn exit_code(&self) -> ExitCode {
        ExitCode::from(match self {
            Self::Usage { .. } | Self::Instance(InstanceError::NoTrustDomain { .. }) => EXIT_USAGE,
            Self::Refused { .. } => EXIT_WRONG,
            Self::CouldNot { .. } | Self::Instance(_) => EXIT_COULD_NOT,
        })
    }
}

/// Something was found wrong, or refused.
const EXIT_WRONG: u8 = 1;

/// It could not be looked at or done.
const EXIT_COULD_NOT: u8 = 2;

const EXIT_USAGE: u8 = ferrule_daemon::settings::EXIT_BAD_SETTINGS;

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_shows_an_example() {
        assert_eq!(command::without_example(Cli::command()), [""; 0]);
    }
}
