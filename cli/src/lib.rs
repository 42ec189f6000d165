//! The user's hand: runs a mesh on this machine, looks into it, steers it.
//!
//! `arguments` describes the command line, one file for each command does it, [`mod@print`] lays out what was found for
//! people or programs. [`state`] is what a running mesh tells every command about itself. Nothing here decides who
//! may reach what: that is asked of the crates below.

mod arguments;
mod bench;
mod ca;
mod check;
mod cluster;
mod context;
mod diagnose;
mod edges;
mod example;
mod explain;
pub mod failure;
mod install;
mod join;
mod meant;
mod picture;
mod policy;
pub mod print;
mod proxy;
mod run;
pub mod sidecar;
mod sidecars;
pub mod state;
mod tap;
mod traffic;
mod up;
mod verify;

use std::ffi::OsString;
use std::io::Write as _;
use std::process::ExitCode;

use ferrule_daemon::command;
use ferrule_daemon::logging::Chain;

use arguments::{Cli, Command};
use context::Context;
use failure::Failure;

/// Runs the command that `arguments` name, the program's own name first. What a program may read goes to standard
/// output, what people should know to standard error.
///
/// Ends with 0 when all is well, 1 when something was found wrong, 2 when it could not be looked at or done, 64 for bad
/// usage or settings.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    if let [_, word, rest @ ..] = arguments.as_slice()
        && word == up::parts::WORD
    {
        return up::parts::run(rest);
    }
    let cli: Cli = match command::read(arguments) {
        Ok(cli) => cli,
        Err(code) => return code,
    };
    let context = Context::new(&cli.common);
    match dispatch(&cli.command, &context) {
        Ok(code) => code,
        Err(failure) => {
            let _ = writeln!(std::io::stderr(), "ferrule: {}", Chain(&failure));
            failure.exit_code()
        }
    }
}

fn dispatch(command: &Command, context: &Context) -> Result<ExitCode, Failure> {
    match command {
        Command::Diagnose(arguments) => diagnose::run(arguments, context),
        Command::Run(arguments) => run::run(arguments, context),
        Command::Join(arguments) => join::run(arguments, context),
        Command::Bench(bench) => bench::run(bench, context),
        Command::Check(arguments) => check::run(arguments, context),
        Command::Edges(watched) => edges::run(watched, context),
        Command::Tap(tap) => tap::run(tap, context),
        Command::Verify(arguments) => verify::run(arguments, context),
        Command::Proxy(arguments) => Ok(proxy::run(arguments)),
        Command::Explain(arguments) => explain::run(arguments, context),
        Command::Install(arguments) => install::install(arguments),
        Command::Upgrade(arguments) => install::upgrade(arguments),
        Command::Uninstall(arguments) => install::uninstall(arguments),
        Command::Up(up) => up::run(up, context),
        Command::Policy(policy) => policy::run(policy, context),
        Command::Ca(arguments) => ca::run(arguments, context),
        Command::Example(program) => example::run(program),
    }
}

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
