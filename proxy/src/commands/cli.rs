//! Describes the command line.

use std::num::NonZeroU16;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::redirect::plan::{AddressRange, DEFAULT_USER, PortRange};

/// A sidecar that wraps a workload's connections in mutual TLS, with a permit for every byte.
#[derive(Debug, Parser)]
#[command(
    name = "ferrule-proxy",
    version,
    after_long_help = "\
Example, with certificate files alone:
  ferrule-proxy run --config proxy.yaml --check
  ferrule-proxy run --config proxy.yaml

Ends with 0 when all is well, 1 when something was found wrong, 2 when it could not be looked at or done, 64 for bad \
usage or settings."
)]
pub(super) struct Cli {
    #[command(subcommand)]
    pub(super) command: Command,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Carry connections until told to stop
    Run(Run),
    /// Install, remove, check or print the rules that send connections through the sidecar
    Redirect(Redirect),
    /// Join standard input and output with the debug socket of a sidecar, for who can start a program beside it alone
    Control(Control),
}

#[derive(Debug, Args)]
#[command(after_long_help = "Example:\n  ferrule-proxy run --config proxy.yaml")]
pub(super) struct Run {
    /// The settings file (YAML); FERRULE_PROXY__… variables are laid over it
    #[arg(long, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
    /// The settings themselves (YAML or JSON), for who starts the program and has no file to give it
    #[arg(long, value_name = "TEXT", conflicts_with = "config")]
    pub(super) settings: Option<String>,
    /// Read the settings, print what is in force with its origin, and end
    #[arg(long)]
    pub(super) check: bool,
}

#[derive(Debug, Args)]
#[command(after_long_help = "\
Example, as `ferrule edges --cluster` starts it through kubectl exec, and speaks HTTP with it:
  ferrule-proxy control /var/run/ferrule/identity/proxy.sock

It ends when either side ends.")]
pub(super) struct Control {
    /// The debug socket: `admin.socket` of the sidecar's settings
    #[arg(value_name = "SOCKET")]
    pub(super) socket: PathBuf,
}

/// Send a workload's connections through the sidecar.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Example, in the network namespace of the workload, as somebody with CAP_NET_ADMIN:
  ferrule-proxy redirect print
  ferrule-proxy redirect install --exclude-outbound 53
  ferrule-proxy redirect check --exclude-outbound 53")]
pub(super) struct Redirect {
    #[command(subcommand)]
    pub(super) action: Action,
}

#[derive(Debug, Subcommand)]
pub(super) enum Action {
    /// Put the rules in force, in place of those that were there
    #[command(after_long_help = "Example:\n  ferrule-proxy redirect install --exclude-outbound 53")]
    Install(Plan),
    /// Take the rules away
    #[command(after_long_help = "Example:\n  ferrule-proxy redirect remove")]
    Remove {
        /// The program that is used [default: nft where it is installed]
        #[arg(long, value_enum)]
        tool: Option<ToolName>,
    },
    /// Compare what is in force with the rules; ends with 1 where they differ
    #[command(after_long_help = "Example:\n  ferrule-proxy redirect check --exclude-outbound 53")]
    Check(Plan),
    /// Print the rules
    #[command(after_long_help = "Example:\n  ferrule-proxy redirect print")]
    Print(Plan),
}

/// What the rules depend on.
#[derive(Debug, Args)]
pub(super) struct Plan {
    /// Where connections that the workload opens are sent
    #[arg(long, value_name = "PORT", default_value = "15001")]
    pub(super) outbound_port: NonZeroU16,
    /// Where connections to the workload are sent
    #[arg(long, value_name = "PORT", default_value = "15006")]
    pub(super) inbound_port: NonZeroU16,
    /// The port that is redirected even for the sidecar, so that it can meet itself
    #[arg(long, value_name = "PORT", default_value = "15002")]
    pub(super) proof_port: NonZeroU16,
    /// The user id whose connections are the sidecar's own
    #[arg(long, value_name = "UID", default_value_t = DEFAULT_USER, conflicts_with = "mark")]
    pub(super) user: u32,
    /// The socket mark of the sidecar's own connections, where user ids are not mapped
    #[arg(long, value_name = "MARK")]
    pub(super) mark: Option<u32>,
    /// Inbound ports that are not redirected, such as 22 or 8000-8100
    #[arg(
        long,
        value_name = "PORTS",
        value_delimiter = ',',
        default_value = "15020,15021"
    )]
    pub(super) exclude_inbound: Vec<PortRange>,
    /// Outbound destination ports that are not redirected
    #[arg(long, value_name = "PORTS", value_delimiter = ',')]
    pub(super) exclude_outbound: Vec<PortRange>,
    /// Outbound destinations that are not redirected, such as 10.0.0.0/8
    #[arg(long, value_name = "RANGES", value_delimiter = ',')]
    pub(super) exclude_ranges: Vec<AddressRange>,
    /// The program that is used [default: nft where it is installed]
    #[arg(long, value_enum)]
    pub(super) tool: Option<ToolName>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum ToolName {
    Nft,
    Iptables,
    IptablesLegacy,
}
