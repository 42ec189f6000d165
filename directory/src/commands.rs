//! The command line of `ferrule-directory`.

use std::ffi::OsString;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use ferrule_daemon::clock::Clock;
use ferrule_daemon::command;
use ferrule_daemon::logging::{self, Chain};
use ferrule_daemon::metrics::Metrics;
use ferrule_daemon::settings::{EXIT_BAD_SETTINGS, environment};
use ferrule_daemon::signals::Signals;

use crate::app::{Served, Surroundings};
use crate::config::{self, Loaded};

/// Tells proxies who lives where and which rules apply.
#[derive(Debug, Parser)]
#[command(
    name = "ferrule-directory",
    version,
    after_long_help = "\
Example:
  ferrule-directory serve --config directory.yaml --check
  ferrule-directory serve --config directory.yaml

Ends with 0 when all is well, 1 when a part of it failed, 2 when it could not start, 64 for bad usage or settings."
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve proxies until told to stop
    Serve(Serve),
}

#[derive(Debug, Args)]
#[command(after_long_help = "Example:\n  ferrule-directory serve --config directory.yaml")]
struct Serve {
    /// The settings file (YAML); FERRULE_DIRECTORY__… variables are laid over it
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Read the settings, print what is in force with its origin, and end
    #[arg(long)]
    check: bool,
}

/// Runs the command that `arguments` name, the program's own name first.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli: Cli = match command::read(arguments) {
        Ok(cli) => cli,
        Err(code) => return code,
    };
    let Command::Serve(serve) = &cli.command;
    match serve_until_stopped(serve) {
        Ok(code) => code,
        Err(failure) => {
            let _ = writeln!(std::io::stderr(), "ferrule-directory: {}", Chain(&failure));
            ExitCode::from(match failure {
                Failure::Settings { .. } => EXIT_BAD_SETTINGS,
                Failure::Could { .. } => EXIT_COULD_NOT,
            })
        }
    }
}

fn serve_until_stopped(serve: &Serve) -> Result<ExitCode, Failure> {
    let Loaded { config, effective } =
        config::load(serve.config.as_deref(), environment()).map_err(|problems| Failure::Settings {
            message: format!("the settings cannot be used:\n{problems}"),
        })?;
    let effective = effective.render();
    if serve.check {
        writeln!(std::io::stdout(), "{}", effective.trim_end()).map_err(could_not("write the output"))?;
        return Ok(ExitCode::SUCCESS);
    }
    let metrics = Metrics::new();
    let clock = Clock::system();
    let logs = logging::start(
        config.log.format,
        config.log.filter.clone(),
        clock.clone(),
        &metrics,
    );
    let logs = logs.map_err(could_not("start the logs"))?;
    let levels = Some(logs.levels());
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    runtime.map_err(could_not("start"))?.block_on(async {
        let mut signals = Signals::system().map_err(could_not("listen for signals"))?;
        let surroundings = Surroundings {
            metrics,
            levels,
            clock,
            effective,
            asking: signals.asking(),
        };
        let served = Served::start(config, surroundings).map_err(could_not("start"))?;
        tracing::info!(address = %served.address(), "listening");
        Ok(served.run(&mut signals).await.exit_code())
    })
}

fn could_not<E>(what: &'static str) -> impl FnOnce(E) -> Failure
where
    E: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    move |source| Failure::Could {
        what,
        source: source.into(),
    }
}

/// Why nothing is served.
#[derive(Debug, thiserror::Error)]
enum Failure {
    /// Settings with faults.
    #[error("{message}")]
    Settings {
        /// Which.
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

/// It could not start.
const EXIT_COULD_NOT: u8 = 2;

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_well_formed_and_every_command_shows_an_example() {
        Cli::command().debug_assert();
        assert_eq!(command::without_example(Cli::command()), [""; 0]);
    }

    #[test]
    fn bad_settings_end_with_64() {
        let code = run(["ferrule-directory", "serve", "--check"].map(OsString::from));
        assert_eq!(format!("{code:?}"), format!("{:?}", ExitCode::from(64)));
    }
}
