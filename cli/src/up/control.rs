//! Defines what the supervisor and the process inside tell each other, a line of JSON each.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::plan::{Plan, ReplicaPlan, WorkloadPlan};

/// From the supervisor.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) enum Order {
    /// Start the mesh. The first order, given once.
    Start(Box<Start>),
    /// Stop everything in order. The end of the stream means the same.
    Stop,
    /// Stop everything at once.
    Kill,
}

/// What the process inside starts from.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Start {
    pub(super) plan: Plan,
    /// The state folder of the mesh.
    pub(super) state: PathBuf,
}

/// To the supervisor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Event {
    /// A part of the mesh has another state.
    Unit {
        /// Which.
        unit: Unit,
        /// What it is now.
        state: UnitState,
    },
    /// Something that people should know.
    Notice(String),
    /// Everything is ready.
    Up,
    /// It cannot go on, and will end.
    Failed(String),
}

/// A part of the mesh that is a process.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(super) enum Unit {
    /// The certificate authority.
    Authority,
    /// The directory.
    Directory,
    /// The sidecar of a copy, by the copy's number.
    Sidecar(u32),
    /// The application of a copy, by the copy's number.
    Application(u32),
    /// The sidecar of the callers of a namespace's published ports.
    Publisher(String),
}

/// What a part is doing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum UnitState {
    /// Its process runs, under this id where the process inside lives.
    Running {
        /// The process id, in the process id namespace of the process inside.
        pid: u32,
    },
    /// It does its work.
    Ready,
    /// Its process has ended, and will be started again.
    Restarting {
        /// How it ended.
        how: String,
    },
    /// Its process has ended, and stays so.
    Ended {
        /// How it ended.
        how: String,
    },
}

/// Where the files of a mesh lie in its state folder.
#[derive(Debug, Clone)]
pub(super) struct Places {
    pub(super) state: PathBuf,
}

impl Places {
    pub(super) fn new(state: &Path) -> Self {
        Self {
            state: state.to_owned(),
        }
    }

    /// The CA's data folder.
    pub(super) fn authority(&self) -> PathBuf {
        self.state.join("ca")
    }

    /// What the CA is told; commands about it read the same.
    pub(crate) fn authority_settings(&self) -> PathBuf {
        self.state.join(AUTHORITY_SETTINGS)
    }

    /// What other hosts have told the directory about their workloads.
    pub(super) fn announced(&self) -> PathBuf {
        self.state.join("announced")
    }

    /// The newest trust bundle that this machine knows (PEM).
    pub(super) fn bundle(&self) -> PathBuf {
        self.state.join("bundle.pem")
    }

    /// This machine's key, with which certificates are asked for.
    pub(super) fn host(&self) -> PathBuf {
        self.state.join("host")
    }

    /// Who lives where, and the rules that were found good.
    pub(super) fn known(&self) -> PathBuf {
        self.state.join("known")
    }

    /// Sockets, and what is made anew at each start.
    pub(super) fn run(&self) -> PathBuf {
        self.state.join("run")
    }

    /// Where workloads that may find who speaks with whom.
    pub(super) fn view(&self) -> PathBuf {
        self.run().join("view")
    }

    /// Where the supervisor finds the ports of the mesh.
    pub(super) fn relay_in(&self) -> PathBuf {
        self.run().join("in.sock")
    }

    /// Where what leaves the mesh finds the supervisor.
    pub(super) fn relay_out(&self) -> PathBuf {
        self.run().join("out.sock")
    }

    /// What stands in place of /etc/resolv.conf.
    pub(super) fn resolvers(&self) -> PathBuf {
        self.run().join("resolv.conf")
    }

    /// What a copy's application prints.
    pub(super) fn log(&self, workload: &WorkloadPlan, replica: &ReplicaPlan) -> PathBuf {
        let name = format!("{}.log", workload.slug(replica));
        self.state.join("logs").join(&workload.namespace).join(name)
    }

    /// What a copy's sidecar prints.
    pub(super) fn proxy_log(&self, workload: &WorkloadPlan, replica: &ReplicaPlan) -> PathBuf {
        self.log(workload, replica).with_extension("proxy.log")
    }

    /// A copy's debug socket. Short, because the path of a socket has 107 bytes at most.
    pub(super) fn control(&self, replica: &ReplicaPlan) -> PathBuf {
        self.run().join(format!("{}.sock", replica.number))
    }

    /// What the sidecar of a namespace's published ports prints.
    pub(super) fn publisher_log(&self, namespace: &str) -> PathBuf {
        self.state.join("logs").join(namespace).join("publish.proxy.log")
    }

    /// The directory's control socket.
    pub(super) fn directory_control(&self) -> PathBuf {
        self.run().join("directory.sock")
    }

    /// The debug socket of the sidecar of a namespace's published ports.
    pub(super) fn publisher_control(&self, number: usize) -> PathBuf {
        self.run().join(format!("p{number}.sock"))
    }

    /// What the CA or the directory prints.
    pub(super) fn part_log(&self, part: &str) -> PathBuf {
        self.state.join("logs").join(format!("{part}.log"))
    }
}

/// The CA's settings, in the mesh's state folder.
pub(crate) const AUTHORITY_SETTINGS: &str = "ca.yaml";
