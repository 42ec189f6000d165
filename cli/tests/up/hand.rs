//! Commands about a mesh that runs, and a hand within the networks of its workloads.

use std::fs;
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, geteuid};
use serde_json::Value;

use super::mesh::{Mesh, wait};

/// What a command gave.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

/// Runs a command to its end.
pub(crate) fn run(command: &mut Command) -> Ended {
    let output = command.stdin(Stdio::null()).output().unwrap();
    let Output {
        status,
        stdout,
        stderr,
    } = output;
    Ended {
        code: status.code().unwrap(),
        out: String::from_utf8(stdout).unwrap(),
        err: String::from_utf8(stderr).unwrap(),
    }
}

/// A mesh that runs, and is asked and touched.
pub(crate) struct Hand<'m> {
    pub(crate) mesh: &'m Mesh,
    trust_domain: String,
}

impl<'m> Hand<'m> {
    pub(crate) fn new(mesh: &'m Mesh, trust_domain: &str) -> Self {
        let hand = Self {
            mesh,
            trust_domain: trust_domain.to_owned(),
        };
        hand.running();
        hand
    }

    /// `ferrule` with these arguments, by way of `before`, such as another clock.
    pub(crate) fn command_by(&self, before: &[&str], arguments: &[&str]) -> Command {
        let words = [before, &[env!("CARGO_BIN_EXE_ferrule")], arguments].concat();
        let mut command = Command::new(words[0]);
        command
            .args(&words[1..])
            .current_dir(self.mesh.folder.path())
            .env("FERRULE_STATE", self.mesh.folder.path().join("state"));
        command
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Ended {
        run(&mut self.command_by(&[], arguments))
    }

    /// What a command prints with `--output json`.
    pub(crate) fn json_by(&self, before: &[&str], arguments: &[&str]) -> (i32, Value) {
        let ended = run(&mut self.command_by(before, &[arguments, &["--output", "json"]].concat()));
        let told = serde_json::from_str(&ended.out);
        (ended.code, told.unwrap_or_else(|_| panic!("no JSON: {ended:?}")))
    }

    pub(crate) fn json(&self, arguments: &[&str]) -> (i32, Value) {
        self.json_by(&[], arguments)
    }

    /// What `check` finds, each with kind, place and next step in this order.
    pub(crate) fn found_by(&self, before: &[&str], more: &[&str]) -> Found {
        let (code, told) = self.json_by(before, &[&["check"], more].concat());
        let word = |found: &Value, name: &str| found[name].as_str().unwrap().to_owned();
        let findings = told["findings"].as_array().unwrap();
        let all: Vec<[String; 4]> = findings
            .iter()
            .map(|found| ["kind", "place", "what", "next"].map(|name| word(found, name)))
            .collect();
        // The documented codes: 1 where something was found, 2 where something could not be looked at.
        let unseen = told["unseen"].as_array().unwrap();
        let expected = match (all.is_empty(), unseen.is_empty()) {
            (false, _) => 1,
            (true, false) => 2,
            (true, true) => 0,
        };
        assert_eq!(code, expected, "{told:#}");
        Found(all)
    }

    pub(crate) fn found(&self) -> Found {
        self.found_by(&[], &[])
    }

    /// Waits until `check` finds that kind of fault at that place; its next step.
    pub(crate) fn until_found(&self, kind: &str, place: &str) -> String {
        let mut next = None;
        let mut last = Found(Vec::new());
        wait(
            || {
                last = self.found();
                next = last.next(kind, place);
                next.is_some()
            },
            || format!("no {kind} at {place}"),
        );
        next.unwrap()
    }

    /// What the mesh tells of itself.
    pub(crate) fn running(&self) -> Value {
        let file = self.mesh.state(&self.trust_domain).join("running.json");
        // It is written a moment after all are up.
        wait(|| file.exists(), || self.mesh.text());
        serde_json::from_slice(&fs::read(file).unwrap()).unwrap()
    }

    /// What the mesh tells of the first copy of a workload.
    pub(crate) fn workload(&self, name: &str) -> Value {
        let running = self.running();
        let all = running["workloads"].as_array().unwrap();
        all.iter()
            .find(|workload| workload["name"] == name && workload["replica"] == 0)
            .unwrap()
            .clone()
    }

    /// The first IPv4 address of the first copy of a workload.
    pub(crate) fn address(&self, name: &str) -> IpAddr {
        self.workload(name)["addresses"][0]
            .as_str()
            .unwrap()
            .parse()
            .unwrap()
    }

    /// `program` in the network of the first copy of a workload, with every right there.
    pub(crate) fn within(&self, name: &str, program: &str) -> Command {
        let control = PathBuf::from(self.workload(name)["control"].as_str().unwrap());
        let number = control.file_stem().unwrap().to_string_lossy().into_owned();
        let settings = format!("run/{number}.yaml");
        let all = self.mesh.processes();
        let (pid, _) = all.iter().find(|(_, line)| line.contains(&settings)).unwrap();
        let mut command = Command::new("nsenter");
        command.args(["--target", &pid.to_string(), "--net"]);
        if !geteuid().is_root() {
            command.args(["--user", "--preserve-credentials"]);
        }
        command.arg("--").arg(program);
        // An ordinary user's path on Debian lacks the folder of nft.
        command.env(
            "PATH",
            "/usr/local/bin:/usr/local/sbin:/usr/bin:/usr/sbin:/bin:/sbin",
        );
        command
    }

    /// Loads these rules of nft into the network of a workload, against the mesh.
    pub(crate) fn nft(&self, name: &str, rules: &str) {
        let file = self.mesh.folder.path().join("broken.nft");
        fs::write(&file, rules).unwrap();
        let ended = run(self.within(name, "nft").arg("-f").arg(&file));
        assert_eq!(ended.code, 0, "{ended:?}");
    }

    /// Takes the redirect away from a workload, as nobody should.
    pub(crate) fn without_redirect(&self, name: &str) {
        self.nft(name, "delete table inet ferrule\n");
    }
}

/// What `check` found.
pub(crate) struct Found(Vec<[String; 4]>);

impl Found {
    /// The kinds and places.
    pub(crate) fn kinds(&self) -> Vec<(&str, &str)> {
        self.0
            .iter()
            .map(|[kind, place, ..]| (kind.as_str(), place.as_str()))
            .collect()
    }

    /// The next step where that was found.
    pub(crate) fn next(&self, kind: &str, place: &str) -> Option<String> {
        self.0
            .iter()
            .find(|found| found[0] == kind && found[1] == place)
            .map(|found| found[3].clone())
    }

    /// The next step of what was found in words that begin with `text`.
    pub(crate) fn next_of(&self, text: &str) -> Option<&str> {
        let found = self.0.iter().find(|found| found[2].starts_with(text));
        found.map(|found| found[3].as_str())
    }

    /// Whether something was found, in words that have `text` in them.
    pub(crate) fn says(&self, text: &str) -> bool {
        self.0.iter().any(|found| found[2].contains(text))
    }
}

/// A running record of what one workload sends and receives on the wire.
pub(crate) struct Wire {
    recorder: Child,
    file: PathBuf,
    bell: Command,
}

impl Wire {
    /// Begins to record; returns once nothing is missed any more.
    pub(crate) fn record(hand: &Hand<'_>, name: &str, file: &str) -> Self {
        let folder = hand.mesh.folder.path();
        let (file, said) = (folder.join(file), folder.join("recorder"));
        let mut command = hand.within(name, "dumpcap");
        command
            .args(["-q", "-P", "-s", "0", "-B", "16", "-i", "eth0", "-w"])
            .arg(&file);
        let recorder = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(&said).unwrap())
            .spawn()
            .unwrap();
        let told = || fs::read_to_string(&said).unwrap_or_default();
        wait(|| told().contains("\nFile: "), told);
        // A packet that comes last tells that all before it are in the record. UDP is not redirected.
        let mut bell = hand.within(name, "bash");
        bell.args(["-c", "printf %s \"$1\" >/dev/udp/10.213.0.1/9", "-", LAST]);
        Self { recorder, file, bell }
    }

    /// Ends the record, once everything up to now is in it.
    pub(crate) fn stop(mut self) -> Recorded {
        wait(
            || {
                let rung = run(&mut self.bell);
                assert_eq!(rung.code, 0, "{rung:?}");
                holds(&self.file, LAST.as_bytes())
            },
            || "the last packet is not in the record".to_owned(),
        );
        kill(Pid::from_raw(self.recorder.id().cast_signed()), Signal::SIGINT).unwrap();
        self.recorder.wait().unwrap();
        Recorded {
            file: self.file.clone(),
        }
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        let _ = self.recorder.kill();
        let _ = self.recorder.wait();
    }
}

/// What was on the wire.
pub(crate) struct Recorded {
    file: PathBuf,
}

impl Recorded {
    /// Whether these bytes were in any packet, in one piece.
    pub(crate) fn contains(&self, marker: &str) -> bool {
        holds(&self.file, marker.as_bytes())
    }

    /// The values of a field in those packets that fit a filter, both in the words of tshark.
    pub(crate) fn field(&self, filter: &str, field: &str, decode: &str) -> Vec<String> {
        let mut command = Command::new("tshark");
        command.args(["-n", "-r"]).arg(&self.file);
        command.args(["-d", decode, "-Y", filter, "-T", "fields", "-e", field]);
        let ended = run(&mut command);
        assert_eq!(ended.code, 0, "{ended:?}");
        ended.out.lines().map(str::to_owned).collect()
    }
}

fn holds(file: &std::path::Path, marker: &[u8]) -> bool {
    let all = fs::read(file).unwrap_or_default();
    all.windows(marker.len()).any(|window| window == marker)
}

const LAST: &str = "ferrule-end-of-record";
