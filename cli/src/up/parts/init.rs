//! Keeps one application: starts it, asks after its health, ends with it, and leaves none of its processes behind.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::io::{self, BufRead as _, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl::{set_child_subreaper, set_pdeathsig};
use nix::sys::signal::{Signal, kill, killpg};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{Pid, sethostname};
use serde::{Deserialize, Serialize};

use super::{PartError, WORD, command};

/// What an application needs to be told about.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Spec {
    /// The program with its arguments.
    pub(crate) run: Vec<String>,
    /// Every variable.
    pub(crate) env: BTreeMap<String, String>,
    /// Where it works.
    pub(crate) folder: PathBuf,
    /// Who it runs as.
    pub(crate) user: Option<String>,
    /// What its view of the machine is; none where namespaces are forbidden.
    pub(crate) mounts: Option<Mounts>,
    /// What tells whether it is ready.
    pub(crate) health: Option<HealthSpec>,
}

/// What an application sees differently from the rest of the machine.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Mounts {
    /// The machine's name.
    pub(crate) name: String,
    /// What stands in place of /etc/hosts.
    pub(crate) hosts: PathBuf,
    /// What stands in place of /etc/resolv.conf.
    pub(crate) resolvers: PathBuf,
    /// A folder that is empty for it.
    pub(crate) hide: PathBuf,
    /// A folder within that one that it may read all the same.
    pub(crate) view: Option<PathBuf>,
}

/// A command that tells whether an application is ready.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct HealthSpec {
    /// The program with its arguments.
    pub(crate) run: Vec<String>,
    /// From the end of one check to the next.
    pub(crate) interval: Duration,
    /// How long one may take.
    pub(crate) timeout: Duration,
}

/// On which side of the namespaces this process is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// Before they are made.
    Outside,
    /// Process 1 within.
    Inside,
}

/// Runs the application of the file that `arguments` name. On standard input comes `stop` or `kill`, and its end
/// means `kill`; on standard output go `started`, `healthy` and `unhealthy`; standard error is the application's log.
pub(super) fn run(arguments: &[OsString], step: Step) -> Result<ExitCode, PartError> {
    let path = arguments.first().map(PathBuf::from).unwrap_or_default();
    let text = fs::read(&path).map_err(PartError::doing(format!("read {}", path.display())))?;
    let spec: Spec = serde_json::from_slice(&text)
        .map_err(|error| PartError::doing(format!("read {}", path.display()))(io::Error::other(error)))?;
    match (&spec.mounts, step) {
        (Some(_), Step::Outside) => {
            let spaces = CloneFlags::CLONE_NEWNS
                | CloneFlags::CLONE_NEWPID
                | CloneFlags::CLONE_NEWUTS
                | CloneFlags::CLONE_NEWIPC;
            unshare(spaces).map_err(PartError::doing("make the workload's namespaces"))?;
            let inside = command(false, "init-inside", [&path]).status();
            let status = inside.map_err(PartError::doing("start the workload's first process"))?;
            Ok(exit_code(status.code(), None))
        }
        (Some(mounts), Step::Inside) => {
            set_pdeathsig(Signal::SIGKILL).map_err(PartError::doing("be tied to its parent"))?;
            arrange(mounts)?;
            keep(&spec)
        }
        (None, _) => {
            set_child_subreaper(true).map_err(PartError::doing("adopt what the application leaves"))?;
            keep(&spec)
        }
    }
}

/// Shows the application the machine as it should see it.
fn arrange(mounts: &Mounts) -> Result<(), PartError> {
    let no = None::<&str>;
    sethostname(&mounts.name).map_err(PartError::doing("name the machine"))?;
    mount(Some(&mounts.hosts), "/etc/hosts", no, MsFlags::MS_BIND, no)
        .map_err(PartError::doing("put names into /etc/hosts"))?;
    // Where there is no such file, names are asked for nowhere.
    let _ = mount(
        Some(&mounts.resolvers),
        "/etc/resolv.conf",
        no,
        MsFlags::MS_BIND,
        no,
    );
    hide(mounts).map_err(PartError::doing("hide the state folder"))?;
    // Its own processes alone. Refused where /proc is already partly covered, as in containers; the processes of
    // others then show, and cannot be touched all the same.
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    let _ = mount(Some("proc"), "/proc", Some("proc"), flags, no);
    Ok(())
}

/// Covers the state folder. It has keys in it, and the application runs under the user id that they belong to.
fn hide(mounts: &Mounts) -> io::Result<()> {
    let no = None::<&str>;
    // Whoever stands in a folder finds it when its path is covered.
    if let Some(view) = &mounts.view {
        std::env::set_current_dir(view)?;
    }
    mount(
        Some("none"),
        &mounts.hide,
        Some("tmpfs"),
        MsFlags::empty(),
        Some("mode=0755,size=4k"),
    )?;
    if let Some(view) = &mounts.view {
        fs::create_dir_all(view)?;
        mount(Some("."), view, no, MsFlags::MS_BIND, no)?;
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC | MsFlags::MS_RDONLY;
        mount(no, view, no, MsFlags::MS_BIND | MsFlags::MS_REMOUNT | flags, no)?;
        std::env::set_current_dir("/")?;
    }
    Ok(())
}

/// What happens to a keeper.
enum Event {
    /// A line on standard input; none at its end.
    Asked(Option<String>),
    /// A child has ended.
    Reaped(Pid, Option<i32>, Option<Signal>),
}

/// Starts the application, and stays until it has ended.
fn keep(spec: &Spec) -> Result<ExitCode, PartError> {
    let app = start(spec, &spec.run)?;
    let app = Pid::from_raw(app.id().cast_signed());
    // Nobody listens any more when this fails, and the end of standard input follows.
    let _ = writeln!(io::stdout(), "started");
    let (send, events) = sync_channel(16);
    spawn("orders", send.clone(), read_orders)?;
    spawn("reaper", send, reap)?;
    let mut keeper = Keeper {
        spec,
        app,
        check: None,
        next: Instant::now(),
        healthy: None,
    };
    let code = keeper.run(&events);
    if spec.mounts.is_none() {
        // In a process id namespace the kernel does this when process 1 ends.
        end_rest(app);
    }
    Ok(code)
}

fn spawn(
    name: &str,
    send: SyncSender<Event>,
    work: impl FnOnce(&SyncSender<Event>) + Send + 'static,
) -> Result<(), PartError> {
    let thread = std::thread::Builder::new().name(name.to_owned());
    let started = thread.spawn(move || work(&send));
    started.map(drop).map_err(PartError::doing("start a thread"))
}

fn read_orders(send: &SyncSender<Event>) {
    for line in io::stdin().lock().lines() {
        let Ok(line) = line else { break };
        if send.send(Event::Asked(Some(line))).is_err() {
            return;
        }
    }
    let _ = send.send(Event::Asked(None));
}

/// Waits for every child, the application's orphans included, which nobody else would.
fn reap(send: &SyncSender<Event>) {
    loop {
        let event = match waitpid(None, None) {
            Ok(WaitStatus::Exited(pid, code)) => Event::Reaped(pid, Some(code), None),
            Ok(WaitStatus::Signaled(pid, signal, _)) => Event::Reaped(pid, None, Some(signal)),
            Ok(_) | Err(nix::errno::Errno::EINTR) => continue,
            // Not before the application has ended.
            Err(_) => return,
        };
        if send.send(event).is_err() {
            return;
        }
    }
}

struct Keeper<'s> {
    spec: &'s Spec,
    app: Pid,
    /// The check that runs, and when it has run long enough.
    check: Option<(Pid, Instant)>,
    next: Instant,
    healthy: Option<bool>,
}

impl Keeper<'_> {
    fn run(&mut self, events: &Receiver<Event>) -> ExitCode {
        loop {
            match events.recv_timeout(self.patience()) {
                Ok(Event::Reaped(pid, code, signal)) if pid == self.app => return exit_code(code, signal),
                Ok(Event::Reaped(pid, code, _)) => self.checked(pid, code == Some(0)),
                Ok(Event::Asked(Some(line))) if line == "stop" => {
                    let _ = killpg(self.app, Signal::SIGTERM);
                }
                Ok(Event::Asked(_)) | Err(RecvTimeoutError::Disconnected) => {
                    let _ = killpg(self.app, Signal::SIGKILL);
                    // Whoever is not of the application's process group ends with this process.
                    return exit_code(None, Some(Signal::SIGKILL));
                }
                Err(RecvTimeoutError::Timeout) => self.tick(),
            }
        }
    }

    fn patience(&self) -> Duration {
        let until = match (&self.spec.health, self.check) {
            (None, _) => return Duration::from_secs(3600),
            (_, Some((_, limit))) => limit,
            (_, None) => self.next,
        };
        until.saturating_duration_since(Instant::now())
    }

    fn tick(&mut self) {
        let Some(health) = &self.spec.health else { return };
        if let Some((pid, _)) = self.check {
            // Its end will be reaped, and counts as a failure.
            let _ = killpg(pid, Signal::SIGKILL);
            self.check = Some((pid, Instant::now() + health.timeout));
            return;
        }
        match start(self.spec, &health.run) {
            Ok(child) => {
                let pid = Pid::from_raw(child.id().cast_signed());
                self.check = Some((pid, Instant::now() + health.timeout));
            }
            Err(_) => self.say(false),
        }
    }

    fn checked(&mut self, pid: Pid, good: bool) {
        if self.check.is_some_and(|(check, _)| check == pid) {
            self.check = None;
            self.say(good);
        }
    }

    fn say(&mut self, good: bool) {
        let interval = self
            .spec
            .health
            .as_ref()
            .map_or(Duration::ZERO, |health| health.interval);
        self.next = Instant::now() + interval;
        if self.healthy != Some(good) {
            self.healthy = Some(good);
            let word = if good { "healthy" } else { "unhealthy" };
            // Nobody listens any more when this fails, and the end of standard input follows.
            let _ = writeln!(io::stdout(), "{word}");
        }
    }
}

/// Starts a program in a process group of its own, by way of a part that gives up privileges first.
fn start(spec: &Spec, run: &[String]) -> Result<Child, PartError> {
    let failed = |source| PartError::doing("start the application")(source);
    let log = io::stderr().as_fd().try_clone_to_owned().map_err(failed)?;
    let isolate = if spec.mounts.is_some() { "isolate" } else { "open" };
    Command::new("/proc/self/exe")
        .args([WORD, "exec", isolate, spec.user.as_deref().unwrap_or_default()])
        .arg(&spec.folder)
        .args(run)
        .env_clear()
        .envs(&spec.env)
        .stdin(Stdio::null())
        .stdout(log)
        .process_group(0)
        .spawn()
        .map_err(failed)
}

/// Ends every process that the application has left, where no namespace does it.
fn end_rest(app: Pid) {
    let _ = killpg(app, Signal::SIGKILL);
    let end = Instant::now() + Duration::from_secs(5);
    while Instant::now() < end {
        let children = children();
        if children.is_empty() {
            return;
        }
        for child in children {
            let _ = kill(child, Signal::SIGKILL);
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// The children of this process, those that it has adopted included.
fn children() -> Vec<Pid> {
    let Ok(tasks) = fs::read_dir(Path::new("/proc/self/task")) else {
        return Vec::new();
    };
    let of_task = |task: fs::DirEntry| fs::read_to_string(task.path().join("children")).unwrap_or_default();
    let texts: Vec<String> = tasks.flatten().map(of_task).collect();
    let words = texts.iter().flat_map(|text| text.split_whitespace());
    words
        .filter_map(|word| word.parse().ok())
        .map(Pid::from_raw)
        .collect()
}

/// The code that a shell would give for this end.
pub(crate) fn exit_code(code: Option<i32>, signal: Option<Signal>) -> ExitCode {
    let code = code
        .or_else(|| signal.map(|signal| 128 + signal as i32))
        .unwrap_or(128);
    ExitCode::from(u8::try_from(code).unwrap_or(u8::MAX))
}
