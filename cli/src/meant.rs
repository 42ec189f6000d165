//! The mesh that a command is about: one that runs here, or that of a cluster.

use std::collections::BTreeMap;

use crate::cluster::Cluster;
use crate::failure::Failure;
use crate::picture::{self, Member, Picture};
use crate::sidecar::Socket;
use crate::state::Running;

/// The mesh that a command is about.
#[derive(Debug)]
pub(crate) enum Meant {
    /// It runs on this machine.
    Here(Running),
    /// It runs in a cluster.
    Cluster(Cluster),
}

/// One copy of a workload, with the sidecar beside it.
#[derive(Debug)]
pub(crate) struct Replica {
    pub(crate) member: Member,
    /// Which copy it is, in sentences.
    pub(crate) title: String,
    /// What its sidecar calls it.
    pub(crate) pod: String,
    /// Whether its sidecar has been ready once.
    pub(crate) is_started: bool,
    /// The ports that it serves.
    pub(crate) ports: Vec<u16>,
    /// Where its sidecar takes what comes for a port, if not at that port itself.
    pub(crate) doors: BTreeMap<u16, u16>,
    pub(crate) socket: Socket,
}

impl Meant {
    /// Who is in it, and under which rules.
    ///
    /// # Errors
    /// When that cannot be read, or the rules have faults: then the sidecars go on with others.
    pub(crate) fn picture(&self) -> Result<Picture, Failure> {
        match self {
            Self::Here(running) => Picture::of_running(running),
            Self::Cluster(cluster) => cluster.picture(),
        }
    }

    /// All that have a sidecar.
    ///
    /// # Errors
    /// When that cannot be read.
    pub(crate) fn replicas(&self) -> Result<Vec<Replica>, Failure> {
        let running = match self {
            Self::Here(running) => running,
            Self::Cluster(cluster) => return cluster.replicas(),
        };
        let replicas = running.mesh.workloads.iter().map(|workload| {
            Ok(Replica {
                member: picture::member(workload)?,
                title: workload.title(),
                pod: workload.name.clone(),
                is_started: true,
                ports: workload.ports.clone(),
                doors: workload.doors.clone(),
                socket: Socket::new(&workload.control),
            })
        });
        replicas.collect()
    }

    /// How the identities of its workloads begin: `spiffe://shop.local/ns/`.
    ///
    /// # Errors
    /// When the cluster does not tell.
    pub(crate) fn prefix(&self) -> Result<String, Failure> {
        let trust_domain = match self {
            Self::Here(running) => running.mesh.trust_domain.clone(),
            Self::Cluster(cluster) => cluster.trust_domain()?.to_string(),
        };
        Ok(format!("spiffe://{trust_domain}/ns/"))
    }
}

impl Replica {
    /// Where its sidecar takes what comes for `port`.
    pub(crate) fn door(&self, port: u16) -> u16 {
        self.doors.get(&port).copied().unwrap_or(port)
    }
}
