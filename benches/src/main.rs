//! The program `ferrule-benches`: measures Ferrule, each figure beside its yardstick in one run.

mod ca;
mod directory;
mod first;
mod idle;
mod overhead;
mod pieces;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use ferrule_measure::{ending, figures, process, programs};

#[derive(Debug, Parser)]
#[command(
    name = "ferrule-benches",
    version,
    about = "Measures Ferrule, each figure beside its yardstick in one run",
    after_long_help = "\
Ends with 0 when every target is met, 1 when one is missed, 2 when something could not be measured, 64 for bad usage."
)]
struct Cli {
    #[command(subcommand)]
    bench: Bench,
}

#[derive(Debug, Subcommand)]
enum Bench {
    /// The CA: issues a second, delays, a thousand proxies at once, step-ca beside it
    Ca(ca::Options),
    /// The directory: how fast a change reaches every proxy, and what a proxy costs
    Directory(directory::Options),
    /// How soon the first byte of a server that speaks first is there
    First(first::Options),
    /// Memory of idle connections, and what is left of it when they are gone
    Idle(idle::Options),
    /// The way through Ferrule beside no proxy, a plain one, and those of others
    Overhead(overhead::Options),
    /// Single steps of the way through Ferrule, such as judging ten thousand rules
    Pieces(pieces::Options),
    /// A proxy that only carries bytes
    #[command(hide = true)]
    Relay(overhead::Relay),
}

fn main() -> ExitCode {
    let cli: Cli = match ferrule_daemon::command::read(std::env::args_os()) {
        Ok(cli) => cli,
        Err(code) => return code,
    };
    let measured = match &cli.bench {
        Bench::Ca(options) => ca::run(options),
        Bench::Directory(options) => directory::run(options),
        Bench::First(options) => first::run(options),
        Bench::Idle(options) => idle::run(options),
        Bench::Overhead(options) => overhead::run(options),
        Bench::Pieces(options) => pieces::run(options),
        Bench::Relay(relay) => overhead::relay(relay).map(|()| true),
    };
    ending("ferrule-benches", measured)
}
