//! The commands of `ferrule-injector`.

use std::ffi::OsString;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Args, Parser, Subcommand};
use ferrule_daemon::clock::Clock;
use ferrule_daemon::command;
use ferrule_daemon::logging::{self, Chain, Filter, Format};
use ferrule_daemon::metrics::Metrics;
use ferrule_daemon::settings::{EXIT_BAD_SETTINGS, environment};
use ferrule_daemon::signals::Signals;

use crate::app::{self, Surroundings};
use crate::cni::install;
use crate::config;

/// Puts sidecars into the pods of a Kubernetes cluster.
#[derive(Debug, Parser)]
#[command(
    name = "ferrule-injector",
    version,
    after_long_help = "\
Example:
  ferrule-injector webhook --config injector.yaml --check

Ends with 0 when all is well, 1 when something was found wrong, 2 when it could not be done, 64 for bad usage or \
settings."
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Webhook(Webhook),
    InstallCni(InstallCni),
}

/// Answer the API server's questions about pods and rules
#[derive(Debug, Args)]
#[command(after_long_help = "Example:\n  ferrule-injector webhook --config injector.yaml")]
struct Webhook {
    /// The settings file (YAML); FERRULE_INJECTOR__… variables are laid over it
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Read the settings, print what is in force with its origin, and end
    #[arg(long)]
    check: bool,
}

/// Keep the CNI plugin installed on this node, and take it away at the end
#[derive(Debug, Args)]
#[command(after_long_help = "\
Example, in the DaemonSet's pod:
  ferrule-injector install-cni --root / --programs /host/opt/cni --configuration /host/etc/cni/net.d")]
struct InstallCni {
    /// The root of the image, whose `bin` and `lib` are installed
    #[arg(long, value_name = "FOLDER", default_value = "/")]
    root: PathBuf,
    /// The node's CNI folder, which holds `bin`
    #[arg(long, value_name = "FOLDER", default_value = "/host/opt/cni")]
    programs: PathBuf,
    /// The node's folder of network configurations
    #[arg(long, value_name = "FOLDER", default_value = "/host/etc/cni/net.d")]
    configuration: PathBuf,
}

/// Runs the command that `arguments` name, the program's own name first.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli: Cli = match command::read(arguments) {
        Ok(cli) => cli,
        Err(code) => return code,
    };
    let done = match &cli.command {
        Command::Webhook(webhook) => serve(webhook),
        Command::InstallCni(paths) => keep_installed(paths),
    };
    done.unwrap_or_else(|error| {
        let _ = writeln!(std::io::stderr(), "ferrule-injector: {}", Chain(error.as_ref()));
        ExitCode::from(EXIT_COULD_NOT)
    })
}

fn serve(webhook: &Webhook) -> anyhow::Result<ExitCode> {
    let loaded = match config::load(webhook.config.as_deref(), environment()) {
        Ok(loaded) => loaded,
        Err(problems) => {
            let _ = writeln!(
                std::io::stderr(),
                "ferrule-injector: the settings cannot be used:\n{problems}"
            );
            return Ok(ExitCode::from(EXIT_BAD_SETTINGS));
        }
    };
    if webhook.check {
        writeln!(std::io::stdout(), "{}", loaded.effective.render().trim_end())?;
        return Ok(ExitCode::SUCCESS);
    }
    with_logs(&loaded.config.log.clone(), |surroundings, runtime| {
        runtime.block_on(async {
            let mut signals = Signals::system()?;
            let ended = app::run(loaded.config, surroundings, &mut signals).await?;
            Ok(ended.exit_code())
        })
    })
}

fn keep_installed(paths: &InstallCni) -> anyhow::Result<ExitCode> {
    let node = install::Node {
        root: paths.root.clone(),
        programs: paths.programs.clone(),
        configuration: paths.configuration.clone(),
    };
    with_logs("info", |surroundings, runtime| {
        runtime.block_on(async {
            let mut signals = Signals::system()?;
            install::keep(&node, &surroundings.clock, &mut signals).await?;
            Ok(ExitCode::SUCCESS)
        })
    })
}

fn with_logs(
    filter: &str,
    work: impl FnOnce(Surroundings, tokio::runtime::Runtime) -> anyhow::Result<ExitCode>,
) -> anyhow::Result<ExitCode> {
    let filter: Filter = filter.parse().context("log")?;
    let metrics = Metrics::new();
    let clock = Clock::system();
    let logs = logging::start(Format::Json, filter, clock.clone(), &metrics)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let surroundings = Surroundings {
        metrics,
        levels: Some(logs.levels()),
        clock,
    };
    work(surroundings, runtime)
}

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
}
