//! Runs a program under measurement, which the kernel keeps account of.

use std::fs;
use std::io::{Read as _, Write as _};
use std::iter::Sum;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// A program that runs until it is stopped; dropping it kills it.
#[derive(Debug)]
pub struct Running {
    name: String,
    child: Child,
}

impl Running {
    /// Starts `command`, whose output goes to the files `NAME.out` and `NAME.err` in `folder`, as it would to a journal.
    ///
    /// # Errors
    /// When the program, or the files of its output, cannot be made.
    pub fn start(name: &str, mut command: Command, folder: &Path) -> anyhow::Result<Self> {
        let file = |end: &str| {
            let path = folder.join(format!("{name}.{end}"));
            fs::File::create(&path).with_context(|| format!("cannot write {}", path.display()))
        };
        let child = command
            .stdin(Stdio::null())
            .stdout(file("out")?)
            .stderr(file("err")?)
            .spawn()
            .with_context(|| format!("cannot start {}", command.get_program().display()))?;
        Ok(Self {
            name: name.to_owned(),
            child,
        })
    }

    /// Its process number.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The last that it wrote to standard error, whose file is in `folder`.
    pub fn last_words(&self, folder: &Path) -> String {
        let said = fs::read_to_string(folder.join(format!("{}.err", self.name))).unwrap_or_default();
        let lines: Vec<&str> = said.lines().rev().take(3).collect();
        let lines: Vec<&str> = lines.into_iter().rev().map(str::trim).collect();
        lines.join(" / ")
    }

    /// How it ended, if it has.
    ///
    /// # Errors
    /// When the system does not tell.
    pub fn ended(&mut self) -> anyhow::Result<Option<ExitStatus>> {
        self.child.try_wait().context("cannot ask for the program's end")
    }

    /// Waits until somebody listens on `address`.
    ///
    /// # Errors
    /// When it ends before, or nobody listens after 20 seconds.
    pub fn listens(&mut self, address: SocketAddr) -> anyhow::Result<()> {
        let begun = Instant::now();
        while TcpStream::connect_timeout(&address, PATIENCE).is_err() {
            if let Some(status) = self
                .child
                .try_wait()
                .context("cannot ask for the program's end")?
            {
                bail!("{} has ended: {status}", self.name);
            }
            ensure!(
                begun.elapsed() < PATIENCE,
                "{} does not listen on {address} after {PATIENCE:?}",
                self.name
            );
            std::thread::sleep(LOOK_AGAIN);
        }
        Ok(())
    }

    /// Kills it without a warning, and waits until it is gone.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn kill(mut self) -> anyhow::Result<()> {
        self.child
            .kill()
            .and_then(|()| self.child.wait())
            .map(drop)
            .with_context(|| format!("cannot kill {}", self.name))
    }

    /// Asks it to stop, and waits until it has.
    ///
    /// # Errors
    /// When it does not stop within 20 seconds.
    pub fn stop(mut self) -> anyhow::Result<()> {
        let asked = Command::new("kill")
            .arg(self.id().to_string())
            .status()
            .context("cannot run kill")?;
        ensure!(asked.success(), "cannot stop {}", self.name);
        let begun = Instant::now();
        while self
            .child
            .try_wait()
            .context("cannot ask for the program's end")?
            .is_none()
        {
            ensure!(
                begun.elapsed() < PATIENCE,
                "{} does not stop within {PATIENCE:?}",
                self.name
            );
            std::thread::sleep(LOOK_AGAIN);
        }
        Ok(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended already, which is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An address of this machine alone that nobody listens on at the moment.
///
/// # Errors
/// When the system gives none.
pub fn free_address() -> anyhow::Result<SocketAddr> {
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).context("cannot find a free port")?;
    Ok(listener.local_addr()?)
}

/// Lets this process, and those that it starts, have so many open files.
///
/// # Errors
/// When so many are more than the system allows.
pub fn allow_descriptors(wanted: u64) -> anyhow::Result<()> {
    let now = getrlimit(Resource::Nofile);
    if now.current.is_none_or(|current| current >= wanted) {
        return Ok(());
    }
    let more = Rlimit {
        current: Some(wanted),
        maximum: now.maximum.map(|maximum| maximum.max(wanted)),
    };
    let set = setrlimit(Resource::Nofile, more);
    ensure!(
        set.is_ok(),
        "{wanted} open files are needed, and no more than {} are allowed: ask for less, or `ulimit -n`",
        now.maximum.unwrap_or(0)
    );
    Ok(())
}

/// What a server at `address` answers to an HTTP request for `path`, without its head.
///
/// # Errors
/// When nobody answers within 20 seconds, or not in HTTP.
pub fn http_get(address: SocketAddr, path: &str) -> anyhow::Result<String> {
    let mut stream =
        TcpStream::connect_timeout(&address, PATIENCE).with_context(|| format!("cannot reach {address}"))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    write!(
        stream,
        "GET {path} HTTP/1.0\r\nhost: {address}\r\nconnection: close\r\n\r\n"
    )?;
    let mut answer = String::new();
    stream
        .read_to_string(&mut answer)
        .with_context(|| format!("cannot read {path} of {address}"))?;
    let (_, body) = answer
        .split_once("\r\n\r\n")
        .with_context(|| format!("{address} does not answer in HTTP"))?;
    Ok(body.to_owned())
}

/// The CPU time that process `id` has used so far, the kernel's part included.
///
/// The process's own figure counts threads that have ended, but whole ticks only; the sum over the threads that live
/// is exact to the nanosecond. The greater of the two never goes back, and misses neither.
///
/// # Errors
/// When no such process runs.
pub fn cpu(id: u32) -> anyhow::Result<Duration> {
    let whole = stat_cpu(Path::new(&format!("/proc/{id}/stat")))?;
    Ok(whole.max(living_threads_cpu(id)?))
}

/// The CPU time of those threads of process `id` that have not ended, to the nanosecond.
fn living_threads_cpu(id: u32) -> anyhow::Result<Duration> {
    let tasks = format!("/proc/{id}/task");
    let mut total = Duration::ZERO;
    for task in fs::read_dir(&tasks).with_context(|| format!("cannot read {tasks}"))? {
        // A thread that ends between the two readings is in the process's own figure.
        if let Ok(text) = fs::read_to_string(task?.path().join("schedstat")) {
            total += on_cpu(&text).with_context(|| format!("{tasks}: a schedstat is odd"))?;
        }
    }
    Ok(total)
}

/// The CPU time of this process.
///
/// # Errors
/// When the kernel does not tell.
pub fn own_cpu() -> anyhow::Result<Duration> {
    cpu(std::process::id())
}

/// The CPU time of the thread that asks, to the nanosecond.
///
/// # Errors
/// When the kernel does not tell.
pub fn own_thread_cpu() -> anyhow::Result<Duration> {
    let path = "/proc/thread-self/schedstat";
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {path}"))?;
    on_cpu(&text).with_context(|| format!("{path} is odd"))
}

/// The first figure of a `schedstat`: time on a CPU in nanoseconds (Linux, Documentation/scheduler/sched-stats).
fn on_cpu(schedstat: &str) -> Option<Duration> {
    let nanos = schedstat.split_whitespace().next()?;
    Some(Duration::from_nanos(nanos.parse().ok()?))
}

/// The CPU time of those threads of process `id` that are named `name`.
///
/// # Errors
/// When no such process runs.
pub fn thread_cpu(id: u32, name: &str) -> anyhow::Result<Duration> {
    let tasks = format!("/proc/{id}/task");
    let mut total = Duration::ZERO;
    for task in fs::read_dir(&tasks).with_context(|| format!("cannot read {tasks}"))? {
        let task = task?.path();
        if fs::read_to_string(task.join("comm"))?.trim_end() == name {
            total += stat_cpu(&task.join("stat"))?;
        }
    }
    Ok(total)
}

fn stat_cpu(path: &Path) -> anyhow::Result<Duration> {
    let stat = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    // proc_pid_stat(5): user and system time are fields 14 and 15, and the name in brackets is the second.
    let fields = stat.rsplit(')').next().unwrap_or_default();
    let ticks = fields.split_whitespace().skip(11).take(2).map(str::parse::<u64>);
    let ticks: u64 = ticks
        .sum::<Result<_, _>>()
        .with_context(|| format!("{} is odd", path.display()))?;
    Ok(Duration::from_millis(ticks * TICK_MILLIS))
}

/// What process `id` holds in memory.
#[derive(Debug, Clone, Copy, serde::Serialize)]
pub struct Memory {
    /// Now, in MiB.
    pub now: f64,
    /// The most so far, in MiB.
    pub peak: f64,
}

/// What process `id` holds in memory.
///
/// # Errors
/// When no such process runs.
pub fn memory(id: u32) -> anyhow::Result<Memory> {
    let path = format!("/proc/{id}/status");
    let status = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    let field = |name: &str| -> anyhow::Result<f64> {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<f64>().ok());
        Ok(kib.with_context(|| format!("{path} has no {name}"))? / 1024.0)
    };
    Ok(Memory {
        now: field("VmRSS:")?,
        peak: field("VmHWM:")?,
    })
}

/// What processes hold in memory, in KiB.
#[derive(Debug, Clone, Copy, Default)]
pub struct Held {
    /// All of it, also what they share with others.
    pub resident: f64,
    /// What is shared counted in parts (`Pss`, proc_pid_smaps(5)).
    pub proportional: f64,
}

impl Sum for Held {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), |sum, one| Self {
            resident: sum.resident + one.resident,
            proportional: sum.proportional + one.proportional,
        })
    }
}

/// What process `id` holds in memory now.
///
/// # Errors
/// When no such process runs, or it is another user's.
pub fn held(id: u32) -> anyhow::Result<Held> {
    let path = format!("/proc/{id}/smaps_rollup");
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    let field = |name: &str| -> anyhow::Result<f64> {
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok());
        kib.with_context(|| format!("{path} has no {name}"))
    };
    Ok(Held {
        resident: field("Rss:")?,
        proportional: field("Pss:")?,
    })
}

/// Process `id` and those that it started, as far as they run.
pub fn family(id: u32) -> Vec<u32> {
    let path = format!("/proc/{id}/task/{id}/children");
    let children = fs::read_to_string(path).unwrap_or_default();
    let children = children.split_whitespace().filter_map(|child| child.parse().ok());
    std::iter::once(id).chain(children.flat_map(family)).collect()
}

/// The processes that wanted a core in the last minute, on average.
pub fn load() -> f64 {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_whitespace()
        .next()
        .and_then(|first| first.parse().ok())
        .unwrap_or(f64::NAN)
}

/// USER_HZ, which is 100 on every platform that we build for.
const TICK_MILLIS: u64 = 10;

const PATIENCE: Duration = Duration::from_secs(20);
const LOOK_AGAIN: Duration = Duration::from_millis(5);
