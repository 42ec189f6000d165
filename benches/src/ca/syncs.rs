//! Counts how often a process makes its files durable, where the kernel's tracing lets us.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::Context as _;

/// `perf`, counting the calls that wait for the disk.
#[derive(Debug)]
pub(crate) struct Counting {
    perf: Child,
    file: std::path::PathBuf,
}

impl Counting {
    /// Begins to count those of process `id`; `None` where there is no `perf`, or it may not.
    pub(crate) fn begin(id: u32, folder: &Path) -> Option<Self> {
        let file = folder.join("perf.csv");
        let mut command = Command::new("perf");
        command
            .args(["stat", "-x", ",", "-e", CALLS, "-p", &id.to_string(), "-o"])
            .arg(&file);
        let perf = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .ok()?;
        // It is attached once it has opened its file.
        for _ in 0..100 {
            std::thread::sleep(std::time::Duration::from_millis(5));
            if file.exists() {
                return Some(Self { perf, file });
            }
        }
        None
    }

    /// Ends the count, and gives it; `None` where `perf` could not count.
    pub(crate) fn end(mut self) -> anyhow::Result<Option<f64>> {
        let _ = Command::new("kill")
            .args(["-INT", &self.perf.id().to_string()])
            .status();
        self.perf.wait().context("cannot wait for perf")?;
        let text = std::fs::read_to_string(&self.file).unwrap_or_default();
        let counts: Vec<f64> = text
            .lines()
            .filter_map(|line| line.split(',').next()?.parse().ok())
            .collect();
        Ok((!counts.is_empty()).then(|| counts.iter().sum()))
    }
}

const CALLS: &str = "syscalls:sys_enter_fsync,syscalls:sys_enter_fdatasync";
