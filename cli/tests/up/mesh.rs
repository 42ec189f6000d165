//! Starts `ferrule up` for a test, reads along, and finds what it leaves behind.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use ferrule_tests::netns::Host;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

/// A mesh that runs, or has run.
pub(crate) struct Mesh {
    pub(crate) folder: TempDir,
    child: Option<Child>,
    lines: Arc<(Mutex<Vec<String>>, Condvar)>,
    /// A variable of every process of the mesh, and of nobody else.
    marker: String,
}

/// Long enough for a crowded machine, short enough to fail.
pub(crate) const LIMIT: Duration = Duration::from_secs(120);

impl Mesh {
    /// Runs the mesh of `text` as the user of the test.
    pub(crate) fn start(text: &str, capture: &str) -> Self {
        Self::start_as(None, text, capture)
    }

    /// Runs the mesh of `text` as user `id`.
    pub(crate) fn start_as(id: Option<u32>, text: &str, capture: &str) -> Self {
        let mut mesh = Self::prepared(text);
        let mut program = PathBuf::from(env!("CARGO_BIN_EXE_ferrule"));
        if let Some(id) = id {
            let folder = mesh.folder.path();
            // The folder that this was built in may be one that only its owner enters.
            let copy = folder.join("ferrule");
            fs::copy(&program, &copy).unwrap();
            program = copy;
            fs::set_permissions(folder, fs::Permissions::from_mode(0o755)).unwrap();
            std::os::unix::fs::chown(folder, Some(id), Some(id)).unwrap();
        }
        let mut command = mesh.prepare(Command::new(program));
        if let Some(id) = id {
            command.uid(id).gid(id);
        }
        mesh.run(command.args(["up", "--capture", capture]));
        mesh
    }

    /// Runs the mesh of `text` by way of a command that becomes the one behind it, such as one with fewer rights.
    pub(crate) fn start_by(before: &[&str], text: &str, capture: &str) -> Self {
        let mut mesh = Self::prepared(text);
        let mut command = Command::new(before[0]);
        command.args(&before[1..]).arg(env!("CARGO_BIN_EXE_ferrule"));
        let mut command = mesh.prepare(command);
        mesh.run(command.args(["up", "--capture", capture]));
        mesh
    }

    /// Runs the mesh of `text` in that folder, in which there may be something already.
    pub(crate) fn start_in(folder: TempDir, text: &str, capture: &str) -> Self {
        let mut mesh = Self::prepared_in(folder, text);
        let mut command = mesh.prepare(Command::new(env!("CARGO_BIN_EXE_ferrule")));
        mesh.run(command.args(["up", "--capture", capture]));
        mesh
    }

    /// The mesh of `text`, which does not run yet.
    pub(crate) fn prepared(text: &str) -> Self {
        Self::prepared_in(tempfile::tempdir().unwrap(), text)
    }

    fn prepared_in(folder: TempDir, text: &str) -> Self {
        fs::write(folder.path().join("mesh.yaml"), text).unwrap();
        Self {
            marker: format!("UP_TEST={}", folder.path().display()),
            folder,
            child: None,
            lines: Arc::default(),
        }
    }

    /// The program, with this mesh's state, on a host of its own.
    pub(crate) fn command_on(&self, host: &Host) -> Command {
        self.prepare(host.command(env!("CARGO_BIN_EXE_ferrule")))
    }

    fn prepare(&self, mut command: Command) -> Command {
        command
            .current_dir(self.folder.path())
            .env("FERRULE_STATE", self.folder.path().join("state"))
            .env("UP_TEST", self.folder.path());
        command
    }

    /// Runs the mesh by `command`, which lacks only the file.
    pub(crate) fn run(&mut self, command: &mut Command) {
        let mut child = command
            .arg("mesh.yaml")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (out, errors) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
        follow(out, Arc::clone(&self.lines));
        follow(errors, Arc::clone(&self.lines));
        self.child = Some(child);
    }

    /// Waits for a line with `text` in it.
    pub(crate) fn wait_for(&self, text: &str) -> String {
        self.wait_for_after(0, text)
    }

    /// Waits for a line with `text` in it behind the first `skip` lines.
    pub(crate) fn wait_for_after(&self, skip: usize, text: &str) -> String {
        let end = Instant::now() + LIMIT;
        let (lines, more) = &*self.lines;
        let mut lines = lines.lock().unwrap();
        loop {
            if let Some(line) = lines.iter().skip(skip).find(|line| line.contains(text)) {
                return line.clone();
            }
            let left = end.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "no {text:?} in:\n{}", lines.join("\n"));
            lines = more.wait_timeout(lines, left).unwrap().0;
        }
    }

    /// How many lines have come.
    pub(crate) fn count(&self) -> usize {
        self.lines.0.lock().unwrap().len()
    }

    /// All lines until now.
    pub(crate) fn text(&self) -> String {
        self.lines.0.lock().unwrap().join("\n")
    }

    /// Asks it to stop, and waits.
    pub(crate) fn stop(&mut self) -> ExitStatus {
        kill(self.pid(), Signal::SIGINT).unwrap();
        self.end()
    }

    /// Waits until it has ended.
    pub(crate) fn end(&mut self) -> ExitStatus {
        let end = Instant::now() + LIMIT;
        loop {
            if let Some(status) = self.child.as_mut().unwrap().try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < end, "it does not end:\n{}", self.text());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Ends the process that the user sees as nothing should.
    pub(crate) fn kill(&mut self) {
        kill(self.pid(), Signal::SIGKILL).unwrap();
        self.child.as_mut().unwrap().wait().unwrap();
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(self.child.as_ref().unwrap().id().cast_signed())
    }

    /// The state folder.
    pub(crate) fn state(&self, trust_domain: &str) -> PathBuf {
        self.folder.path().join("state").join(trust_domain)
    }

    /// The processes of the mesh: their ids and command lines.
    pub(crate) fn processes(&self) -> Vec<(i32, String)> {
        processes(&self.marker)
    }

    /// The first process of the mesh whose command line has `text` in it.
    pub(crate) fn process_with(&self, text: &str) -> i32 {
        let all = self.processes();
        let (pid, _) = all.iter().find(|(_, line)| line.contains(text)).unwrap();
        *pid
    }

    /// Ends one process of the mesh, the first whose command line has `text` in it.
    pub(crate) fn kill_one(&self, text: &str) {
        kill(Pid::from_raw(self.process_with(text)), Signal::SIGKILL).unwrap();
    }

    /// Kills the processes of the mesh whose command lines have one of `parts` in them, and whatever comes in their
    /// place, as soon as it is seen.
    pub(crate) fn held_down(&self, parts: &[&str]) -> Outage {
        let parts: Vec<String> = parts.iter().map(|part| (*part).to_owned()).collect();
        let marker = self.marker.clone();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let killer = std::thread::spawn(move || {
            let mut kills = 0;
            while !stopped.load(Ordering::Relaxed) {
                for (pid, line) in processes(&marker) {
                    if parts.iter().any(|part| line.contains(part)) {
                        kills += usize::from(kill(Pid::from_raw(pid), Signal::SIGKILL).is_ok());
                    }
                }
                std::thread::sleep(Duration::from_millis(50));
            }
            kills
        });
        Outage { stop, killer }
    }

    /// What `ferrule` says, on both outputs, about this mesh.
    pub(crate) fn ferrule(&self, arguments: &[&str]) -> (ExitStatus, String) {
        let done = Command::new(env!("CARGO_BIN_EXE_ferrule"))
            .args(arguments)
            .current_dir(self.folder.path())
            .env("FERRULE_STATE", self.folder.path().join("state"))
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let said = [done.stdout, done.stderr].concat();
        (done.status, String::from_utf8_lossy(&said).into_owned())
    }

    /// Waits until no process is left, and holds that no mount is left either.
    pub(crate) fn leaves_nothing(&self) {
        wait(
            || self.processes().is_empty(),
            || format!("{:?}", self.processes()),
        );
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
        assert!(
            !mounts.contains(&*self.folder.path().to_string_lossy()),
            "{mounts}"
        );
    }
}

impl Drop for Mesh {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
        for (pid, _) in self.processes() {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }
}

/// Processes that are killed as soon as they are seen.
pub(crate) struct Outage {
    stop: Arc<AtomicBool>,
    killer: std::thread::JoinHandle<usize>,
}

impl Outage {
    /// Lets them live; how many were killed.
    pub(crate) fn end(self) -> usize {
        self.stop.store(true, Ordering::Relaxed);
        self.killer.join().unwrap()
    }
}

fn processes(marker: &str) -> Vec<(i32, String)> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        let environ = fs::read(entry.path().join("environ")).unwrap_or_default();
        if environ
            .split(|byte| *byte == 0)
            .any(|variable| variable == marker.as_bytes())
        {
            let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
            found.push((pid, String::from_utf8_lossy(&line).replace('\0', " ")));
        }
    }
    found
}

/// Waits until `done`; `seen` says what is there instead.
pub(crate) fn wait(mut done: impl FnMut() -> bool, seen: impl Fn() -> String) {
    let end = Instant::now() + LIMIT;
    while !done() {
        assert!(Instant::now() < end, "{}", seen());
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn follow(from: impl std::io::Read + Send + 'static, lines: Arc<(Mutex<Vec<String>>, Condvar)>) {
    std::thread::spawn(move || {
        for line in BufReader::new(from).lines().map_while(Result::ok) {
            lines.0.lock().unwrap().push(line);
            lines.1.notify_all();
        }
    });
}

/// A port of this machine that nobody uses now.
pub(crate) fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    listener.local_addr().unwrap().port()
}

/// What an HTTP server at a published port answers; nothing where the connection ends before it does.
pub(crate) fn get(port: u16, path: &str) -> String {
    let ask = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        write!(
            stream,
            "GET {path} HTTP/1.1\r\nhost: shop\r\nconnection: close\r\n\r\n"
        )?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    ask().unwrap_or_default()
}

/// A rule that lets callers of a published port reach a workload.
pub(crate) fn allow_publish(trust_domain: &str, app: &str) -> String {
    format!(
        "---\napiVersion: ferrule.dev/v1alpha1\nkind: AccessPolicy\nmetadata: {{ namespace: shop, name: {app} }}\nspec:\n  \
         workloads: {{ labels: {{ app: {app} }} }}\n  action: allow\n  rules:\n  \
         - from: [{{ identities: [spiffe://{trust_domain}/ns/shop/sa/publish] }}]\n"
    )
}

/// The head of a mesh file, up to its workloads.
pub(crate) fn head(trust_domain: &str) -> String {
    format!("apiVersion: ferrule.dev/v1alpha1\nkind: Mesh\ntrustDomain: {trust_domain}\nworkloads:\n")
}

/// The example's file, with a published port of its own.
pub(crate) fn shop(port: u16) -> String {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/shop/mesh.yaml");
    let text = fs::read_to_string(file).unwrap();
    assert!(text.contains("publish: [8000]"));
    text.replace(
        "publish: [8000]",
        &format!("publish: [{{ port: 8000, at: {port} }}]"),
    )
}
