//! Describes the command line.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::print::Format;

/// Mutual TLS, a verified identity on both sides, and a rule for every connection between workloads.
#[derive(Debug, Parser)]
#[command(
    name = "ferrule",
    version,
    after_long_help = "\
Example:
  ferrule policy check policies/

Ends with 0 when all is well, 1 when something was found wrong, 2 when it could not be looked at or done, 64 for bad \
usage or settings."
)]
pub struct Cli {
    /// What every command takes.
    #[command(flatten)]
    pub common: Common,
    /// What is to be done.
    #[command(subcommand)]
    pub command: Command,
}

/// What every command takes.
#[derive(Debug, Args)]
pub struct Common {
    /// How to print what was found
    #[arg(long, value_enum, default_value_t, global = true)]
    pub output: Format,
    /// Which running mesh: its trust domain or its state folder [default: the only one]
    #[arg(long, value_name = "NAME|FOLDER", global = true)]
    pub mesh: Option<PathBuf>,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Examine rules, and write those that traffic needs
    #[command(subcommand)]
    Policy(Policy),
    /// Steer the certificate authority: status, rotate, revoke, token, audit, backup, restore
    #[command(
        disable_help_flag = true,
        after_long_help = "Example:\n  ferrule ca status\n  ferrule ca rotate --help"
    )]
    Ca(Ca),
}

/// `ferrule policy`.
#[derive(Debug, Subcommand)]
#[command(after_long_help = "Example:\n  ferrule policy check policies/")]
pub enum Policy {
    /// Read rules as a sidecar would, and report every fault with its line and column
    #[command(after_long_help = "\
Examples:
  ferrule policy check policies/ mesh.yaml
  ferrule policy check --output json policies/")]
    Check {
        /// Files, and folders of files that end in .yaml or .yml
        #[arg(required = true, value_name = "FILE|FOLDER")]
        paths: Vec<PathBuf>,
    },
}

/// `ferrule ca`: the words of `ferrule-ca`, for the CA of a running mesh.
#[derive(Debug, Args)]
pub struct Ca {
    /// What ferrule-ca takes
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "COMMAND")]
    pub arguments: Vec<OsString>,
}
