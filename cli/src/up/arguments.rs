//! Describes the command line of `ferrule up`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

/// `ferrule up`.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  ferrule up                 runs examples/shop
  ferrule up mesh.yaml
  ferrule up --capture explicit mesh.yaml

Ctrl-C stops everything in order and leaves nothing running; again, at once.")]
pub(crate) struct Up {
    /// The mesh: a document of kind Mesh, and rules, which may also lie in policies/ beside it [default:
    /// examples/shop/mesh.yaml]
    #[arg(value_name = "FILE")]
    pub(super) file: Option<PathBuf>,
    /// How connections come to the sidecars; auto captures them where the system lets us
    #[arg(long, value_enum, default_value_t, value_name = "WAY")]
    pub(super) capture: Way,
}

/// How connections come to the sidecars of `ferrule up`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum Way {
    /// Transparent where that is possible, otherwise explicit
    #[default]
    Auto,
    /// Each workload in a network namespace of its own, where the kernel redirects its connections
    Transparent,
    /// The applications call listeners of the sidecars
    Explicit,
}
