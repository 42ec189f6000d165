//! The program `ferrule-cluster-benches`: measures Ferrule before a real API server of Kubernetes.

mod directory;
mod pods;
mod webhook;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use ferrule_measure::ending;

#[derive(Debug, Parser)]
#[command(
    name = "ferrule-cluster-benches",
    version,
    about = "Measures Ferrule before a real API server of Kubernetes",
    after_long_help = "\
Ends with 0 when every target is met, 1 when one is missed, 2 when something could not be measured, 64 for bad usage."
)]
struct Cli {
    #[command(subcommand)]
    bench: Bench,
}

#[derive(Debug, Subcommand)]
enum Bench {
    /// The directory with pods that no kubelet runs: memory, CPU time, how fast a change reaches every proxy
    Directory(directory::Options),
    /// What a sidecar's injection adds to making a pod, and the webhook's memory
    Webhook(webhook::Options),
}

fn main() -> ExitCode {
    let cli: Cli = match ferrule_daemon::command::read(std::env::args_os()) {
        Ok(cli) => cli,
        Err(code) => return code,
    };
    let measured = match &cli.bench {
        Bench::Directory(options) => directory::run(options),
        Bench::Webhook(options) => webhook::run(options),
    };
    ending("ferrule-cluster-benches", measured)
}
