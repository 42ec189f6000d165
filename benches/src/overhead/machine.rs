//! What the figures were taken on.

use std::fs;

use serde::Serialize;

use super::space::{Space, default_congestion};
use crate::process::load;

/// The machine, as far as it makes figures what they are.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Machine {
    pub(crate) processor: String,
    pub(crate) cores: usize,
    pub(crate) memory_gib: f64,
    pub(crate) kernel: String,
    /// Its own congestion control, whatever the run used.
    pub(crate) congestion: String,
    /// Why there was no network of the run's own; none where there was.
    pub(crate) shared_network: Option<String>,
    pub(crate) load_before: f64,
    pub(crate) load_after: f64,
}

impl Machine {
    /// Looks at it; to be called before the run.
    pub(crate) fn look(congestion: String, space: &Space) -> Self {
        Self {
            processor: field("/proc/cpuinfo", "model name").unwrap_or_else(|| "unknown".to_owned()),
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            memory_gib: field("/proc/meminfo", "MemTotal")
                .and_then(|text| text.trim_end_matches(" kB").parse::<f64>().ok())
                .map_or(0.0, |kib| (kib / 1024.0 / 1024.0 * 10.0).round() / 10.0),
            kernel: fs::read_to_string("/proc/sys/kernel/osrelease")
                .map_or_else(|_| "unknown".to_owned(), |text| text.trim().to_owned()),
            congestion,
            shared_network: space.shared.clone(),
            load_before: load(),
            load_after: 0.0,
        }
    }

    /// The congestion control of the machine, before the run has a network of its own.
    pub(crate) fn own_congestion() -> anyhow::Result<String> {
        default_congestion()
    }

    /// Notes what else it did meanwhile.
    pub(crate) fn done(mut self) -> Self {
        self.load_after = load();
        self
    }
}

fn field(path: &str, name: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    let line = text.lines().find(|line| line.starts_with(name))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}
