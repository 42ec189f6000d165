//! A real sidecar before a host, with its redirect.

use std::fmt::Write as _;
use std::fs;
use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;

use super::host::{Host, Ids};
use super::mesh::Mesh;
use super::process::{Process, run};
use crate::wait::until;

/// A running `ferrule-proxy`. Dropping it kills it; the redirect stays.
pub struct Sidecar {
    host: Host,
    program: PathBuf,
    settings: PathBuf,
    process: Process,
    tool: Option<&'static str>,
}

impl Sidecar {
    pub(super) fn start(mesh: &Mesh, host: &Host, more: &str) -> Self {
        redirect(&mesh.program(), host, "install", mesh.tool());
        let settings = mesh.folder().join(format!("{}.proxy.yaml", host.name()));
        fs::write(&settings, settings_of(mesh, host, more)).unwrap();
        if host.ids() == Ids::All {
            for entry in fs::read_dir(mesh.credentials()).unwrap() {
                chown(entry.unwrap().path(), Some(USER), Some(USER)).unwrap();
            }
        }
        let process = spawn(&mesh.program(), &settings, host);
        let sidecar = Self {
            host: host.clone(),
            program: mesh.program(),
            settings,
            process,
            tool: mesh.tool(),
        };
        sidecar.ready();
        sidecar
    }

    /// Waits until it says that it is ready.
    pub fn ready(&self) {
        until("the sidecar is ready", || {
            self.ask("/ready")
                .is_ok_and(|answer| answer.starts_with("HTTP/1.1 200"))
                .then_some(())
        });
    }

    /// Ends it with SIGKILL, and waits until it is gone. The redirect stays.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Starts it again after its end, and does not wait for it.
    pub fn start_again(&mut self) {
        self.process = spawn(&self.program, &self.settings, &self.host);
    }

    /// Asks it to stop, by SIGTERM.
    pub fn terminate(&self) {
        self.process.signal(Signal::TERM);
    }

    /// Waits until it has ended by itself; its exit code.
    pub fn ended(&mut self) -> Option<i32> {
        self.process.ended().code()
    }

    /// Takes the redirect away: the workload is as it was before.
    pub fn step_aside(&self) {
        redirect(&self.program, &self.host, "remove", self.tool);
    }

    /// Puts the redirect back.
    pub fn step_in(&self) {
        redirect(&self.program, &self.host, "install", self.tool);
    }

    /// The process itself.
    pub const fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// Lowers the limit on its open files to `more` above what it has open now.
    pub fn spare_descriptors(&self, more: usize) {
        let id = self.process.id();
        let limit = fs::read_dir(format!("/proc/{id}/fd")).unwrap().count() + more;
        // Under its own user id: to limit somebody else's process needs a privilege that a container may lack.
        let mut command = match self.host.ids() {
            Ids::All => self.host.command_as(USER),
            Ids::One => self.host.command("env"),
        };
        run(command.args(["prlimit", "--pid", &id.to_string(), &format!("--nofile={limit}")]));
    }

    /// All lines that it has logged, from earlier starts too.
    pub fn lines(&self) -> Vec<Value> {
        let said = self.process.said();
        // The last line may be half written.
        said.lines()
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect()
    }

    /// Waits for a line that has all these fields with these values, the numbers as text; returns it.
    ///
    /// # Panics
    /// When none comes.
    pub fn line(&self, wanted: &[(&str, &str)]) -> Value {
        let fits = |line: &Value, field: &str, value: &str| match &line[field] {
            Value::String(text) => text == value,
            other => *value == *other.to_string(),
        };
        until(&format!("a line with {wanted:?}"), || {
            self.lines()
                .into_iter()
                .find(|line| wanted.iter().all(|(field, value)| fits(line, field, value)))
        })
    }

    /// The metrics as they are now.
    ///
    /// # Panics
    /// When the sidecar does not answer.
    pub fn metrics(&self) -> String {
        self.ask("/metrics").unwrap()
    }

    /// The sum of all series whose line contains all of `words`.
    pub fn count(&self, words: &[&str]) -> f64 {
        let metrics = self.metrics();
        let series = metrics
            .lines()
            .filter(|line| words.iter().all(|word| line.contains(word)));
        series
            .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
            .sum()
    }

    /// Waits until [`Sidecar::count`] is at least `least`; returns what it is then.
    pub fn counts(&self, words: &[&str], least: f64) -> f64 {
        until(&format!("{words:?} reaches {least}"), || {
            let count = self.count(words);
            (count >= least).then_some(count)
        })
    }

    /// Asks its admin port from outside; the whole answer.
    fn ask(&self, path: &str) -> io::Result<String> {
        let at = SocketAddr::from((self.host.v4(), ADMIN));
        let mut socket = TcpStream::connect_timeout(&at, Duration::from_secs(5))?;
        socket.set_read_timeout(Some(Duration::from_secs(10)))?;
        write!(
            socket,
            "GET {path} HTTP/1.1\r\nhost: sidecar\r\nconnection: close\r\n\r\n"
        )?;
        let mut answer = String::new();
        socket.read_to_string(&mut answer)?;
        Ok(answer)
    }
}

fn settings_of(mesh: &Mesh, host: &Host, more: &str) -> String {
    let name = host.name();
    let files = mesh.files(name);
    let workload = fs::read_to_string(mesh.rules().join(format!("{name}.yaml"))).unwrap();
    let (_, account) = workload.split_once("serviceAccount: ").unwrap();
    let account = account.split(',').next().unwrap();
    let [v4, v6] = host.addresses();
    let capture = match host.ids() {
        Ids::All => "{}".to_owned(),
        Ids::One => format!("{{ mark: {MARK} }}"),
    };
    let mut text = format!(
        "trust_domain: shop.local\n\
         workload:\n  namespace: shop\n  name: {name}\n  labels: {{ app: {account} }}\n  \
         service_account: {account}\n  addresses: [\"{v4}\", \"{v6}\"]\n\
         credentials: {{ files: {{ chain: {}, key: {}, bundle: {}, crls: {} }} }}\n\
         rules: {{ folder: {} }}\n\
         mesh: {{ ranges: [10.77.0.0/24, \"fd77::/64\"] }}\n\
         capture: {capture}\n",
        files.chain.display(),
        files.key.display(),
        files.bundle.display(),
        files.crls.display(),
        mesh.rules().display(),
    );
    text.write_str(more).unwrap();
    // Where a test is not about it: on a loaded machine a handshake may take its time.
    if !more.contains("limits:") {
        text.push_str("limits: { handshake_time: 60s }\n");
    }
    text
}

fn spawn(program: &Path, settings: &Path, host: &Host) -> Process {
    let mut command = match host.ids() {
        Ids::All => {
            let mut command = host.command_as(USER);
            command.arg(program);
            command
        }
        Ids::One => host.command(program),
    };
    command.args(["run", "--config"]).arg(settings);
    Process::go_on(&format!("{}-proxy", host.name()), &mut command, host.folder())
}

fn redirect(program: &Path, host: &Host, action: &str, tool: Option<&str>) {
    let mut command = host.command(program);
    command.args(["redirect", action]);
    if let Some(tool) = tool {
        command.args(["--tool", tool]);
        // The usual place of iptables-legacy's lock belongs to root.
        let lock = host.folder().with_extension("xtables.lock");
        command.env("XTABLES_LOCKFILE", lock);
    }
    if action == "install" && host.ids() == Ids::One {
        command.args(["--mark", &MARK.to_string()]);
    }
    run(&mut command);
}

/// The port of readiness and metrics, which is not redirected.
pub const ADMIN: u16 = 15_020;

/// The sidecar's user id where ids are mapped.
pub const USER: u32 = 2150;

/// The mark of its connections where they are not.
const MARK: u32 = 0x866;
