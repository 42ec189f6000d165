//! `ferrule diagnose`: packs what helps to understand a fault, and no secret, into one archive.

mod archive;
mod cluster;
mod scrub;

use std::fs::{self, File, OpenOptions};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::process::ExitCode;

use ferrule_daemon::clock::Clock;
use ferrule_daemon::logging::Chain;
use serde_json::json;

use crate::arguments::Diagnose;
use crate::context::Context;
use crate::failure::{EXIT_COULD_NOT, Failure};
use crate::meant::Meant;
use crate::sidecar::{Socket, SocketError};
use crate::state::{Running, RunningWorkload};
use archive::Archive;
use scrub::scrub;

pub(crate) fn run(arguments: &Diagnose, context: &Context) -> Result<ExitCode, Failure> {
    let meant = context.meant(&arguments.cluster)?;
    let clock = Clock::system();
    let mut packing = Packing {
        archive: Archive::new(clock.unix()),
        names: Vec::new(),
        redacted: 0,
        unseen: Vec::new(),
    };
    match &meant {
        Meant::Here(running) => context.in_runtime(packing.fill(running, clock.unix()))?,
        Meant::Cluster(cluster) => context.in_runtime(packing.fill_from(cluster, clock.unix()))?,
    }
    let Packing {
        archive,
        names,
        redacted,
        unseen,
    } = packing;
    let path = &arguments.file;
    let cannot = || Failure::could_not(format!("write {}", path.display()));
    let bytes = archive.finish().map_err(cannot())?;
    // Never over something that is there, and for nobody else's eyes until its owner has looked at it.
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .map_err(cannot())?;
    file.write_all(&bytes).map_err(cannot())?;
    for what in &unseen {
        context.printer.tell(&format!("not in it: {what}"));
    }
    if context.is_json() {
        context
            .printer
            .json(&json!({ "file": path, "entries": names, "redacted": redacted, "unseen": unseen }))?;
    } else {
        context.printer.line(&format!(
            "{}: {} entries, {redacted} places redacted. It has names, addresses and rules of your mesh; look into it \
             before you send it: tar -tzf {}",
            path.display(),
            names.len(),
            path.display()
        ))?;
    }
    Ok(if unseen.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(EXIT_COULD_NOT)
    })
}

/// An archive that is being filled. Only what is named here goes in; everything passes through [`scrub`].
struct Packing {
    archive: Archive,
    names: Vec<String>,
    redacted: usize,
    /// What could not be looked at, and why.
    unseen: Vec<String>,
}

impl Packing {
    async fn fill(&mut self, running: &Running, now: i64) -> Result<(), Failure> {
        let mesh = &running.mesh;
        let about = json!({
            "version": env!("CARGO_PKG_VERSION"), "taken": now, "kernel": first_line("/proc/sys/kernel/osrelease"),
            "load": first_line("/proc/loadavg"), "memory": first_lines("/proc/meminfo", 3),
        });
        self.add("about.json", &format!("{about:#}\n"))?;
        let state = serde_json::to_string_pretty(mesh).map_err(Failure::could_not("write JSON"))?;
        self.add("running.json", &state)?;
        for (at, path) in mesh.rules.iter().enumerate() {
            self.rules(at, path)?;
        }
        for workload in &mesh.workloads {
            self.sidecar(workload).await?;
        }
        Ok(())
    }

    /// The rules in a file or folder: documents of other kinds may have a program's settings in them, and stay out.
    fn rules(&mut self, at: usize, path: &Path) -> Result<(), Failure> {
        for file in crate::policy::files::files(path).unwrap_or_default() {
            let Ok(text) = fs::read_to_string(&file) else {
                continue;
            };
            let is_rule = |document: &&str| {
                let kinds = ["kind: AccessPolicy", "kind: EgressPolicy", "kind: MeshPolicy"];
                document.lines().any(|line| kinds.contains(&line.trim()))
            };
            let rules: Vec<&str> = text.split("\n---").filter(is_rule).collect();
            let name = file.file_name().map(|name| name.to_string_lossy().into_owned());
            let name = format!("rules/{at}-{}", name.unwrap_or_default());
            self.add(&name, &rules.join("\n---"))?;
        }
        Ok(())
    }

    async fn sidecar(&mut self, workload: &RunningWorkload) -> Result<(), Failure> {
        let folder = format!(
            "sidecars/{}/{}-{}",
            workload.namespace, workload.name, workload.replica
        );
        let socket = Socket::new(&workload.control);
        for (name, path) in ASKED {
            let answer = socket.text(path).await;
            self.answer(&workload.title(), &format!("{folder}/{name}"), answer)?;
        }
        let log = match tail(&workload.proxy_log) {
            Ok(log) => log,
            Err(error) => format!("{error}\n"),
        };
        // The application's own log stays where it is: nobody here can tell what is secret in it.
        self.add(&format!("{folder}/proxy.log"), &log)
    }

    /// What a sidecar has answered, or why it has not. That it is not ready is an answer, too.
    fn answer(
        &mut self,
        title: &str,
        name: &str,
        answer: Result<String, SocketError>,
    ) -> Result<(), Failure> {
        let text = match answer {
            Ok(text) => text,
            Err(error) => {
                let why = Chain(&error).to_string();
                if !matches!(error, SocketError::Status { .. }) {
                    self.unseen.push(format!("{name} of {title}: {why}"));
                }
                why + "\n"
            }
        };
        self.add(name, &text)
    }

    fn add(&mut self, name: &str, text: &str) -> Result<(), Failure> {
        let (text, redacted) = scrub(text);
        self.redacted += redacted;
        self.archive
            .add(name, text.as_bytes())
            .map_err(Failure::could_not(format!("pack {name}")))?;
        self.names.push(name.to_owned());
        Ok(())
    }
}

/// The last whole lines of a log.
fn tail(path: &Path) -> std::io::Result<String> {
    let mut file = File::open(path)?;
    let start = file.metadata()?.len().saturating_sub(LOG_BYTES);
    file.seek(SeekFrom::Start(start))?;
    let mut bytes = Vec::new();
    file.take(LOG_BYTES).read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    Ok(match text.split_once('\n') {
        Some((_, whole)) if start > 0 => whole.to_owned(),
        _ => text.into_owned(),
    })
}

fn first_line(path: &str) -> String {
    first_lines(path, 1)
}

fn first_lines(path: &str, count: usize) -> String {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.lines().take(count).collect::<Vec<_>>().join("; ")
}

/// What a sidecar is asked, and what the answer is called. Its settings come with their secrets hidden.
const ASKED: [(&str, &str); 5] = [
    ("ready.txt", "/ready"),
    ("config.yaml", "/config"),
    ("certificates.json", "/certificates"),
    ("connections.json", "/connections"),
    ("metrics.txt", "/metrics"),
];

/// How much of each log is taken.
const LOG_BYTES: u64 = 1024 * 1024;
