//! Describes what is measured: a way from the near end to the far one, through programs or none.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::Serialize;

use crate::process::{self, Running};

/// A way from the near end to the far one.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Subject {
    /// One word.
    pub(crate) name: &'static str,
    /// What people call it.
    pub(crate) title: &'static str,
    /// What it does on the way: encryption, who is checked, what is remembered between connections.
    pub(crate) about: String,
    /// The version that the program tells.
    pub(crate) version: Option<String>,
    /// The programs on the way, the far one first: each finds the next one there when it starts.
    #[serde(skip)]
    pub(crate) parts: Vec<Part>,
    /// Where the near end dials.
    #[serde(skip)]
    pub(crate) entry: SocketAddr,
}

/// A program on the way.
#[derive(Debug, Clone)]
pub(crate) struct Part {
    pub(crate) program: PathBuf,
    pub(crate) arguments: Vec<OsString>,
    pub(crate) listens: SocketAddr,
}

impl Part {
    pub(crate) fn new<A: Into<OsString>>(
        program: &Path,
        arguments: impl IntoIterator<Item = A>,
        listens: SocketAddr,
    ) -> Self {
        Self {
            program: program.to_owned(),
            arguments: arguments.into_iter().map(Into::into).collect(),
            listens,
        }
    }

    /// Starts it; gives how long it took until it took a connection.
    fn start(&self, name: &str, folder: &Path) -> anyhow::Result<(Running, Duration)> {
        // Whoever ends this program, however hard, ends what it started.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL"]);
        command.arg(&self.program).args(&self.arguments);
        let begun = Instant::now();
        let mut running = Running::start(name, command, folder)?;
        while TcpStream::connect(self.listens).is_err() {
            if let Some(status) = running.ended()? {
                bail!("{name} ended: {status}; {}", running.last_words(folder));
            }
            if begun.elapsed() > PATIENCE {
                bail!("{name} does not listen on {} after {PATIENCE:?}", self.listens);
            }
            std::thread::sleep(LOOK_AGAIN);
        }
        Ok((running, begun.elapsed()))
    }
}

/// A subject whose programs run. Dropping it kills them.
#[derive(Debug)]
pub(crate) struct Open {
    pub(crate) entry: SocketAddr,
    running: Vec<Running>,
    ids: Vec<u32>,
    /// How long the near program took until it took a connection.
    pub(crate) start: Duration,
}

impl Open {
    /// Starts the programs of `subject`, whose output goes to files in `folder`.
    pub(crate) fn start(subject: &Subject, folder: &Path) -> anyhow::Result<Self> {
        let mut open = Self {
            entry: subject.entry,
            running: Vec::new(),
            ids: Vec::new(),
            start: Duration::ZERO,
        };
        for (number, part) in subject.parts.iter().enumerate() {
            let name = format!("{}-{number}", subject.name);
            let (running, start) = part
                .start(&name, folder)
                .with_context(|| format!("cannot start {}", part.program.display()))?;
            open.running.push(running);
            open.start = start;
        }
        open.count();
        Ok(open)
    }

    /// Finds the processes that the programs have started by now; some start theirs only after they listen.
    pub(crate) fn count(&mut self) {
        let families = self
            .running
            .iter()
            .flat_map(|running| process::family(running.id()));
        self.ids = families.collect();
    }

    /// The processes on the way, with those that they started.
    pub(crate) fn ids(&self) -> &[u32] {
        &self.ids
    }

    /// CPU time that they have used so far.
    pub(crate) fn cpu(&self) -> io::Result<Duration> {
        let used = self.ids.iter().map(|id| process::cpu(*id));
        used.sum::<anyhow::Result<_>>().map_err(io::Error::other)
    }

    /// What they hold in memory, in KiB.
    pub(crate) fn memory(&self) -> anyhow::Result<process::Held> {
        let held = self.ids.iter().map(|id| process::held(*id));
        held.sum::<anyhow::Result<_>>()
    }

    /// The most that each of them held in memory so far, added up, in MiB.
    pub(crate) fn peak(&self) -> anyhow::Result<f64> {
        let peaks = self.ids.iter().map(|id| Ok(process::memory(*id)?.peak));
        peaks.sum()
    }

    /// The size of their programs without symbols, in bytes, each counted once.
    pub(crate) fn size(&self, folder: &Path) -> anyhow::Result<u64> {
        let mut programs: Vec<PathBuf> = Vec::new();
        for id in &self.ids {
            let program = fs::read_link(format!("/proc/{id}/exe"))?;
            if !programs.contains(&program) {
                programs.push(program);
            }
        }
        let sizes = programs.iter().map(|program| stripped_size(program, folder));
        sizes.sum()
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        // Also what the programs have started, which would go on to listen for the next one.
        self.count();
        for id in self.ids.iter().filter_map(|id| i32::try_from(*id).ok()) {
            // It may have ended already.
            let _ = kill(Pid::from_raw(id), Signal::SIGKILL);
        }
    }
}

fn stripped_size(program: &Path, folder: &Path) -> anyhow::Result<u64> {
    let to = folder.join("stripped");
    let stripped = Command::new("strip").arg("-o").arg(&to).arg(program).output();
    let file = match stripped {
        Ok(done) if done.status.success() => &to,
        // What cannot be stripped here counts as it is.
        _ => program,
    };
    let size = fs::metadata(file)
        .with_context(|| format!("cannot look at {}", file.display()))?
        .len();
    // It may not have been made.
    let _ = fs::remove_file(&to);
    Ok(size)
}

/// Binds every thread of these processes to core 0, or frees them again.
pub(crate) fn bind(ids: &[u32], one: bool) -> anyhow::Result<()> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let mut set = CpuSet::new();
    for core in 0..if one { 1 } else { cores.max(CpuSet::count()) } {
        set.set(core).context("cannot name a core")?;
    }
    for id in ids {
        for task in fs::read_dir(format!("/proc/{id}/task"))? {
            let task = task?.file_name();
            let task: i32 = task
                .to_string_lossy()
                .parse()
                .context("a thread without a number")?;
            match sched_setaffinity(Pid::from_raw(task), &set) {
                // It may have ended meanwhile.
                Ok(()) | Err(nix::errno::Errno::ESRCH) => {}
                Err(error) => return Err(error).context("cannot bind a thread to a core"),
            }
        }
    }
    Ok(())
}

const PATIENCE: Duration = Duration::from_secs(20);
const LOOK_AGAIN: Duration = Duration::from_micros(200);
