//! Reads a program's command line.

use std::ffi::OsString;
use std::process::ExitCode;

use crate::settings::EXIT_BAD_SETTINGS;

/// Reads `arguments`, the program's own name first. What they ask to see instead (help, the version) goes to standard
/// output, what is wrong with them to standard error.
///
/// # Errors
/// The code to end with at once: 0 after help and version, [`EXIT_BAD_SETTINGS`] for bad usage.
pub fn read<C, A>(arguments: A) -> Result<C, ExitCode>
where
    C: clap::Parser,
    A: IntoIterator<Item = OsString>,
{
    C::try_parse_from(arguments).map_err(|error| {
        // Nobody is left to tell if the terminal is gone.
        let _ = error.print();
        if error.use_stderr() {
            ExitCode::from(EXIT_BAD_SETTINGS)
        } else {
            ExitCode::SUCCESS
        }
    })
}

/// The commands whose long help shows no example, by their whole names. Each program's test wants none.
pub fn without_example(mut whole: clap::Command) -> Vec<String> {
    fn look(command: &clap::Command, above: &str, found: &mut Vec<String>) {
        let name = format!("{above}{}", command.get_name());
        let help = command.clone().render_long_help().to_string();
        if !help.contains("Example") {
            found.push(name.clone());
        }
        for below in command
            .get_subcommands()
            .filter(|below| below.get_name() != "help")
        {
            look(below, &format!("{name} "), found);
        }
    }
    // Built as a whole first, so that each subcommand knows the arguments that all of them take.
    whole.build();
    let mut found = Vec::new();
    look(&whole, "", &mut found);
    found
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory as _, Parser};

    use super::*;

    #[derive(Debug, Parser)]
    #[command(version)]
    struct Cli {
        #[arg(long)]
        port: u16,
    }

    fn code(arguments: &[&str]) -> String {
        let arguments = std::iter::once("program").chain(arguments.iter().copied());
        format!("{:?}", read::<Cli, _>(arguments.map(OsString::from)).unwrap_err())
    }

    #[test]
    fn bad_usage_ends_with_64_and_help_with_0() {
        for wrong in [
            &[][..],
            &["--port"],
            &["--port", "x"],
            &["--no"],
            &["--port", "1", "more"],
        ] {
            assert_eq!(code(wrong), format!("{:?}", ExitCode::from(64)), "{wrong:?}");
        }
        for asked in ["--help", "--version"] {
            assert_eq!(code(&[asked]), format!("{:?}", ExitCode::SUCCESS), "{asked}");
        }
        let whole = ["program", "--port", "80"].map(OsString::from);
        assert_eq!(read::<Cli, _>(whole).unwrap().port, 80);
    }

    #[test]
    fn a_command_without_an_example_is_named() {
        let below = clap::Command::new("below").after_long_help("Example: program below");
        let bare = below.clone().name("bare").after_long_help(None::<&str>);
        let whole = Cli::command().name("program").subcommands([below, bare]);
        assert_eq!(without_example(whole), ["program", "program bare"]);
    }
}
