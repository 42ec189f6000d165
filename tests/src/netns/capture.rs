//! Records what is on the wire, and looks into it.

use std::fs;
use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::Signal;

use super::host::{Host, wire_v4};
use super::mesh::Mesh;
use super::process::{Process, run};
use crate::wait::until;

/// A running record of all that one host sends and receives.
pub struct Capture {
    process: Process,
    file: PathBuf,
    host: Host,
}

/// What was recorded.
pub struct Recorded {
    file: PathBuf,
}

impl Capture {
    /// Begins to record at the host's end of the wire; returns once nothing is missed any more.
    pub fn start(mesh: &Mesh, host: &Host) -> Self {
        let file = mesh.folder().join(format!("{}.pcap", host.name()));
        // Of an earlier record.
        let _ = fs::remove_file(&file);
        // Not tcpdump, which insists on becoming another user, where there may be none.
        let mut command = Command::new("dumpcap");
        command.args(["-q", "-P", "-s", "0", "-B", "64", "-i", host.name(), "-w"]);
        let name = format!("{}-dumpcap", host.name());
        let process = Process::start(&name, command.arg(&file), mesh.folder());
        until("dumpcap records", || {
            process.said().contains("\nFile: ").then_some(())
        });
        let host = host.clone();
        Self { process, file, host }
    }

    /// Ends the record, once everything up to now is in it.
    ///
    /// # Panics
    /// When packets were lost: what is not in the record would prove nothing.
    pub fn stop(mut self) -> Recorded {
        // What is still on its way when it is told to end is lost; a last packet tells how far it is.
        let bell = UdpSocket::bind((wire_v4(), 0)).unwrap();
        let to = (self.host.v4(), DISCARD);
        until("the record is complete", || {
            bell.send_to(LAST, to).unwrap();
            holds(&self.file, LAST).then_some(())
        });
        self.process.signal(Signal::INT);
        self.process.ended();
        let said = self.process.said();
        assert!(said.contains("/0 (pcap:0/dumpcap:0/"), "{said}");
        Recorded {
            file: self.file.clone(),
        }
    }
}

impl Recorded {
    /// Whether these bytes are in the payload of any packet, in one piece.
    pub fn contains(&self, marker: &[u8]) -> bool {
        holds(&self.file, marker)
    }

    /// The values of a field in those packets that fit a filter, both in the words of tshark; `decode` are its
    /// `-d` arguments, such as `tcp.port==5432,tls`.
    pub fn field(&self, filter: &str, field: &str, decode: &[&str]) -> Vec<String> {
        let mut command = Command::new("tshark");
        command
            .args(["-n", "-r"])
            .arg(&self.file)
            .args(["-Y", filter, "-T", "fields", "-e", field]);
        for rule in decode {
            command.args(["-d", rule]);
        }
        run(&mut command).lines().map(str::to_owned).collect()
    }
}

fn holds(file: &Path, marker: &[u8]) -> bool {
    let all = fs::read(file).unwrap();
    all.windows(marker.len()).any(|window| window == marker)
}

/// The port of nobody (RFC 863).
const DISCARD: u16 = 9;

const LAST: &[u8] = b"ferrule-end-of-record";
