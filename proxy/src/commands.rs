//! The commands of `ferrule-proxy`, one file for each, with what they have in common.

mod cli;
mod control;
mod redirect;
mod serve;

use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;

use ferrule_daemon::command;
use ferrule_daemon::logging::Chain;

use cli::{Cli, Command};

/// Runs the command that `arguments` name, the program's own name first. What a program may read goes to standard
/// output, what people should know to standard error.
///
/// Ends with 0 when all is well, 1 when something was found wrong, 2 when it could not be looked at or done, 64 for
/// bad usage or settings.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli: Cli = match command::read(arguments) {
        Ok(cli) => cli,
        Err(code) => return code,
    };
    let done = match &cli.command {
        Command::Run(run) => serve::run(run),
        Command::Redirect(redirect) => redirect::run(redirect),
        Command::Control(control) => control::run(control),
    };
    match done {
        Ok(code) => code,
        Err(failure) => {
            let _ = writeln!(std::io::stderr(), "ferrule-proxy: {}", Chain(&failure));
            match failure {
                Failure::Usage { .. } => ExitCode::from(EXIT_USAGE),
                Failure::Could { .. } => ExitCode::from(EXIT_COULD_NOT),
            }
        }
    }
}

/// Prints what a program may read.
fn print_line(text: &str) -> Result<(), Failure> {
    writeln!(std::io::stdout(), "{text}").map_err(Failure::could_not("write the output"))
}

/// Why a command came to nothing.
#[derive(Debug, thiserror::Error)]
enum Failure {
    /// Bad usage or settings.
    #[error("{message}")]
    Usage {
        /// What is wrong with them.
        message: String,
    },
    /// Something could not be done.
    #[error("cannot {what}")]
    Could {
        /// What.
        what: &'static str,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl Failure {
    fn could_not<E>(what: &'static str) -> impl FnOnce(E) -> Self
    where
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        move |source| Self::Could {
            what,
            source: source.into(),
        }
    }
}

/// Bad usage or settings.
const EXIT_USAGE: u8 = ferrule_daemon::settings::EXIT_BAD_SETTINGS;

/// It could not be looked at or done.
const EXIT_COULD_NOT: u8 = 2;

/// Something was found wrong.
const EXIT_FOUND: u8 = 1;

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_well_formed_and_every_command_shows_an_example() {
        Cli::command().debug_assert();
        assert_eq!(command::without_example(Cli::command()), [""; 0]);
    }
}
