//! Describes the command line of `ferrule bench`.

use std::net::SocketAddr;
use std::time::Duration;

use clap::{Args, Subcommand};
use ferrule_document::parse_duration;

/// Measure what Ferrule costs at your own place: with it and without it, in turn
#[derive(Debug, Subcommand)]
#[command(after_long_help = "\
Example, between two hosts:
  far$ ferrule bench serve --listen 0.0.0.0:7000
  near$ ferrule bench run --direct 192.0.2.7:7000 --through 127.0.0.1:7001

where 127.0.0.1:7001 is an upstream of the sidecar beside you that leads to port 7000 there.")]
pub(crate) enum Bench {
    Serve(Serve),
    Run(Run),
}

/// Be the far end, until you stop it
#[derive(Debug, Args)]
#[command(after_long_help = "\
Example:
  ferrule bench serve --listen 127.0.0.1:7000

Whoever reaches it may make it send and receive without end: let nobody reach it whom you do not know.")]
pub(crate) struct Serve {
    /// Where to listen
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub(super) listen: SocketAddr,
}

/// Be the near end: put load on both ways and compare them
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  ferrule bench run --direct 192.0.2.7:7000 --through 127.0.0.1:7001
  ferrule bench run --direct far:7000 --through 127.0.0.1:7001 --sidecar $(pidof ferrule-proxy) --output json")]
pub(crate) struct Run {
    /// The far end, reached without Ferrule
    #[arg(long, value_name = "HOST:PORT")]
    pub(super) direct: String,
    /// The far end, reached through Ferrule
    #[arg(long, value_name = "HOST:PORT")]
    pub(super) through: String,
    /// The process of a sidecar on this host, whose memory and CPU time are to be told; may be given several times
    #[arg(long, value_name = "PID")]
    pub(super) sidecar: Vec<u32>,
    /// How often each measurement is taken, both ways in turn
    #[arg(long, value_name = "NUMBER", default_value = "5", value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub(super) rounds: u16,
    /// How long each of them goes on
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = parse_duration)]
    pub(super) time: Duration,
}
