//! Records what is on the nodes' wires, and looks into it.

use std::fs;

use ferrule_tests::kubernetes::{Cluster, Namespace};
use ferrule_tests::netns::Process;
use ferrule_tests::wait::until;
use rustix::process::Signal;
use tempfile::TempDir;

use super::apps::{client, server};

/// A running record of all that passes between pods, on every node.
pub(super) struct Wire {
    folder: TempDir,
    records: Vec<Process>,
}

/// What was recorded.
pub(super) struct Recorded(Vec<Vec<u8>>);

impl Wire {
    /// Begins; returns once nothing is missed any more.
    pub(super) fn start(cluster: &Cluster) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut records = Vec::new();
        for node in cluster.nodes() {
            let mut command = node.command("dumpcap");
            // The node's bridge of pods, and the wire between the nodes. On its loopback, the runtime hands the kubelet
            // what a command in a pod prints.
            command.args([
                "-q",
                "-P",
                "-s",
                "0",
                "-B",
                "64",
                "-i",
                "any",
                "-f",
                "not net 127.0.0.0/8",
                "-w",
            ]);
            command.arg(folder.path().join(format!("{}.pcap", node.name)));
            let process = Process::start(&node.name, &mut command, folder.path());
            until("dumpcap records", || {
                process.said().contains("\nFile: ").then_some(())
            });
            records.push(process);
        }
        Self { folder, records }
    }

    /// Ends once `last`, which was sent in clear after everything that counts, is in the record: what the kernel still
    /// holds when dumpcap ends is lost.
    ///
    /// # Panics
    /// When packets were lost: what is not in the record would prove nothing.
    pub(super) fn stop(mut self, last: &str) -> Recorded {
        until("the last marker is on record", || {
            self.read().holds(last).then_some(())
        });
        for process in &mut self.records {
            process.signal(Signal::INT);
            process.ended();
            let said = process.said();
            assert!(said.contains("/0 (pcap:0/dumpcap:0/"), "{said}");
        }
        self.read()
    }

    fn read(&self) -> Recorded {
        let mut all = Vec::new();
        for entry in fs::read_dir(self.folder.path()).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|extension| extension == "pcap") {
                all.push(fs::read(path).unwrap());
            }
        }
        Recorded(all)
    }
}

impl Recorded {
    /// Whether these bytes were in one packet of any node.
    pub(super) fn holds(&self, marker: &str) -> bool {
        let marker = marker.as_bytes();
        self.0
            .iter()
            .any(|record| record.windows(marker.len()).any(|window| window == marker))
    }
}

/// Sends a marker between two pods outside the mesh, so that not to see another one means something.
pub(super) fn in_clear(cluster: &Cluster, marker: &str) {
    let plain = Namespace::plain(cluster);
    server(&plain, "web");
    client(&plain, "client");
    until("an answer in clear", || {
        plain.ask("client", &format!("web:8080/{marker}")).ok()
    });
}
