//! Decides what a mesh on one machine consists of: addresses, names, identities, order.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use ferrule_identity::SpiffeId;
use serde::{Deserialize, Serialize};

use super::document::{AuthorityDocument, HostDocument, MeshDocument, Restart, WorkloadDocument};
use crate::state::Capture;

/// Everything that the processes of a mesh have to know of it. A value that is handed from the supervisor to the
/// process inside.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Plan {
    pub(crate) trust_domain: String,
    pub(crate) capture: Capture,
    /// Whether the mesh has IPv6 addresses beside its IPv4 ones.
    pub(crate) ipv6: bool,
    /// Where the CA and the directory live.
    pub(crate) hub: Vec<IpAddr>,
    /// Where nothing is captured: the second byte of the loopback addresses that this mesh uses.
    pub(crate) loopback: u8,
    /// In the order of starting.
    pub(crate) workloads: Vec<WorkloadPlan>,
    /// Namespaces in which a port is published.
    pub(crate) publishers: Vec<PublisherPlan>,
    /// What the CA is told beside what it always is.
    #[serde(default)]
    pub(crate) authority: AuthorityDocument,
    /// Where other hosts reach this one.
    #[serde(default)]
    pub(crate) host: Option<HostDocument>,
    /// The first host of the mesh, where this is another.
    #[serde(default)]
    pub(crate) join: Option<JoinPlan>,
}

/// The first host of a mesh, from another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct JoinPlan {
    /// What the CA calls this host; the names of its workloads end with it.
    pub(crate) name: String,
    /// Where the CA listens.
    pub(crate) authority: SocketAddr,
    /// Where the directory listens.
    pub(crate) directory: SocketAddr,
}

/// A workload with all its copies.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct WorkloadPlan {
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) service_account: String,
    pub(crate) identity: String,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) run: Vec<String>,
    pub(crate) env: BTreeMap<String, String>,
    pub(crate) folder: PathBuf,
    pub(crate) user: Option<String>,
    pub(crate) ports: Vec<u16>,
    /// Numbers, in this plan, of the workloads that have to be ready first.
    pub(crate) after: Vec<usize>,
    pub(crate) restart: Restart,
    pub(crate) health: Option<HealthPlan>,
    /// Whether it may read who speaks with whom.
    pub(crate) view: bool,
    /// The addresses of the service in front of all copies.
    pub(crate) service: Vec<IpAddr>,
    pub(crate) replicas: Vec<ReplicaPlan>,
}

/// One copy of a workload.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct ReplicaPlan {
    /// Counted from 0.
    pub(crate) replica: u32,
    /// Counted from 0 over all workloads.
    pub(crate) number: u32,
    pub(crate) addresses: Vec<IpAddr>,
}

/// A port of a copy, and where other hosts reach it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Reached {
    /// The copy.
    pub(crate) number: u32,
    /// Within this host.
    pub(crate) target: SocketAddr,
    /// From elsewhere.
    pub(crate) at: SocketAddr,
}

/// A command that tells whether a workload is ready.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct HealthPlan {
    pub(crate) run: Vec<String>,
    pub(crate) interval: Duration,
    pub(crate) timeout: Duration,
}

/// Who speaks for the callers of one namespace's published ports.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct PublisherPlan {
    pub(crate) namespace: String,
    pub(crate) identity: String,
    pub(crate) ports: Vec<PublishPlan>,
}

/// A published port.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct PublishPlan {
    /// The workload's name, in the publisher's namespace.
    pub(crate) workload: String,
    /// The workload's port.
    pub(crate) port: u16,
    /// The machine's port.
    pub(crate) at: u16,
}

/// What a machine can do, and what is free on it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Machine {
    pub(crate) capture: Capture,
    pub(crate) ipv6: bool,
    pub(crate) loopback: u8,
}

impl Plan {
    /// Plans `mesh`, whose file lies in `folder`.
    ///
    /// # Errors
    /// When there are more workloads than addresses.
    pub(crate) fn new(mesh: &MeshDocument, folder: &Path, machine: Machine) -> Result<Self, PlanError> {
        let Machine {
            capture,
            ipv6,
            loopback,
        } = machine;
        let addresses = Addresses {
            capture,
            ipv6,
            loopback,
            block: mesh.host.map(|host| host.block),
        };
        let order = mesh.start_order().unwrap_or_default();
        let mut workloads = Vec::new();
        let mut next = 0_u32;
        for (at, number) in order.iter().enumerate() {
            let Some(document) = mesh.workloads.get(*number) else {
                continue;
            };
            let mut replicas = Vec::new();
            for replica in 0..document.replicas {
                replicas.push(ReplicaPlan {
                    replica,
                    number: next,
                    addresses: addresses.workload(next)?,
                });
                next += 1;
            }
            let position = |waited: usize| order.iter().position(|other| *other == waited);
            let after = mesh.waits_for(*number).into_iter().filter_map(position).collect();
            let service = addresses.service(at)?;
            workloads.push(workload(mesh, document, folder, after, service, replicas)?);
        }
        Ok(Self {
            trust_domain: mesh.trust_domain.to_string(),
            capture,
            ipv6,
            hub: addresses.hub(),
            loopback,
            workloads,
            publishers: publishers(mesh)?,
            authority: mesh.authority,
            host: mesh.host,
            join: None,
        })
    }

    /// The plan of a network in which nobody lives yet.
    pub(crate) fn empty(trust_domain: &str, machine: Machine) -> Self {
        Self {
            trust_domain: trust_domain.to_owned(),
            capture: machine.capture,
            ipv6: machine.ipv6,
            hub: Addresses::of(machine).hub(),
            loopback: machine.loopback,
            workloads: Vec::new(),
            publishers: Vec::new(),
            authority: AuthorityDocument::default(),
            host: None,
            join: None,
        }
    }

    /// The addresses of the copy with that number, on a machine that is the mesh's only one.
    ///
    /// # Errors
    /// When there are not as many.
    pub(crate) fn addresses_of(&self, number: u32) -> Result<Vec<IpAddr>, PlanError> {
        let machine = Machine {
            capture: self.capture,
            ipv6: self.ipv6,
            loopback: self.loopback,
        };
        Addresses::of(machine).workload(number)
    }

    /// Where other hosts reach each port of each copy, the copies in the order of [`replicas`](Self::replicas); nothing
    /// where there are none.
    ///
    /// # Errors
    /// When there are more ports of workloads than ports of the host.
    pub(crate) fn reached_at(&self) -> Result<Vec<Reached>, PlanError> {
        let Some(host) = self.host else {
            return Ok(Vec::new());
        };
        let all = self
            .replicas()
            .flat_map(|(workload, replica)| workload.ports.iter().map(move |port| (replica, *port)));
        let reached = all.enumerate().map(|(at, (replica, port))| {
            let at = u16::try_from(at).ok().and_then(|at| host.ports.checked_add(at));
            Some(Reached {
                number: replica.number,
                target: SocketAddr::new(*replica.addresses.first()?, port),
                at: SocketAddr::new(host.address, at?),
            })
        });
        reached.collect::<Option<_>>().ok_or(PlanError::TooManyPorts)
    }

    /// The addresses that only the mesh uses.
    pub(crate) fn ranges(&self) -> Vec<&'static str> {
        match (self.capture, self.ipv6) {
            (Capture::Explicit, _) => vec![],
            (Capture::Transparent, false) => vec!["10.213.0.0/16"],
            (Capture::Transparent, true) => vec!["10.213.0.0/16", "fd5f:6665:7272::/64"],
        }
    }

    /// Without root, lets everybody run as the user who asked; tells whom that is news for.
    pub(crate) fn stay_who_we_are(&mut self, is_root: bool) -> Vec<String> {
        let mut changed = Vec::new();
        for workload in &mut self.workloads {
            if !is_root && workload.user.take().is_some() {
                changed.push(format!("{}.{}", workload.name, workload.namespace));
            }
        }
        changed
    }

    /// The namespaces of the workloads, each once.
    pub(crate) fn namespaces(&self) -> BTreeSet<&str> {
        let all = self.workloads.iter();
        all.map(|workload| workload.namespace.as_str()).collect()
    }

    /// Every copy of every workload, with its workload, in the order of starting.
    pub(crate) fn replicas(&self) -> impl Iterator<Item = (&WorkloadPlan, &ReplicaPlan)> {
        self.workloads
            .iter()
            .flat_map(|workload| workload.replicas.iter().map(move |replica| (workload, replica)))
    }
}

impl WorkloadPlan {
    /// `web.shop`, with `#1` behind it for copies after the first.
    pub(crate) fn title(&self, replica: &ReplicaPlan) -> String {
        match replica.replica {
            0 => format!("{}.{}", self.name, self.namespace),
            copy => format!("{}.{}#{copy}", self.name, self.namespace),
        }
    }

    /// What the mesh calls a copy: on a host that has joined it, with that host's name.
    pub(crate) fn known_as(&self, replica: &ReplicaPlan, join: Option<&JoinPlan>) -> String {
        let slug = self.slug(replica);
        join.map_or_else(|| slug.clone(), |join| format!("{slug}.{}", join.name))
    }

    /// What files and sockets of a copy are called.
    pub(crate) fn slug(&self, replica: &ReplicaPlan) -> String {
        format!("{}-{}", self.name, replica.replica)
    }
}

fn workload(
    mesh: &MeshDocument,
    document: &WorkloadDocument,
    folder: &Path,
    after: Vec<usize>,
    service: Vec<IpAddr>,
    replicas: Vec<ReplicaPlan>,
) -> Result<WorkloadPlan, PlanError> {
    let folder = match &document.folder {
        Some(own) => folder.join(own),
        None => folder.to_owned(),
    };
    Ok(WorkloadPlan {
        namespace: document.namespace.clone(),
        name: document.name.clone(),
        service_account: document.service_account.clone(),
        identity: identity(mesh, &document.namespace, &document.service_account)?,
        labels: document.labels.clone(),
        run: document.run.clone(),
        env: document.env.clone(),
        folder,
        user: document.user.clone(),
        ports: document.ports.clone(),
        after,
        restart: document.restart,
        health: document.health.as_ref().map(|health| HealthPlan {
            run: health.run.clone(),
            interval: health.interval,
            timeout: health.timeout,
        }),
        view: document.view,
        service,
        replicas,
    })
}

fn publishers(mesh: &MeshDocument) -> Result<Vec<PublisherPlan>, PlanError> {
    let mut by_namespace: BTreeMap<&str, Vec<PublishPlan>> = BTreeMap::new();
    for document in &mesh.workloads {
        for publish in &document.publish {
            by_namespace
                .entry(&document.namespace)
                .or_default()
                .push(PublishPlan {
                    workload: document.name.clone(),
                    port: publish.port,
                    at: publish.at,
                });
        }
    }
    by_namespace
        .into_iter()
        .map(|(namespace, ports)| {
            Ok(PublisherPlan {
                namespace: namespace.to_owned(),
                identity: identity(mesh, namespace, PUBLISHER)?,
                ports,
            })
        })
        .collect()
}

fn identity(mesh: &MeshDocument, namespace: &str, account: &str) -> Result<String, PlanError> {
    SpiffeId::workload(&mesh.trust_domain, namespace, account)
        .map(|id| id.to_string())
        .map_err(|source| PlanError::Identity {
            namespace: namespace.to_owned(),
            account: account.to_owned(),
            source,
        })
}

/// Hands out addresses that depend on nothing but a number.
struct Addresses {
    capture: Capture,
    ipv6: bool,
    loopback: u8,
    /// This host's share where the mesh may have several.
    block: Option<u8>,
}

impl Addresses {
    /// Those of a machine that is the mesh's only one.
    const fn of(machine: Machine) -> Self {
        Self {
            capture: machine.capture,
            ipv6: machine.ipv6,
            loopback: machine.loopback,
            block: None,
        }
    }

    fn hub(&self) -> Vec<IpAddr> {
        match self.capture {
            Capture::Explicit => vec![Ipv4Addr::new(127, self.loopback, 0, 1).into()],
            Capture::Transparent => self.both(1),
        }
    }

    fn workload(&self, number: u32) -> Result<Vec<IpAddr>, PlanError> {
        let number = u16::try_from(number)
            .ok()
            .and_then(|number| number.checked_add(FIRST));
        let host = self.shared(number).ok_or(PlanError::TooMany)?;
        Ok(match self.capture {
            Capture::Explicit => vec![at(Ipv4Addr::new(127, self.loopback, 0, 0), host).into()],
            Capture::Transparent => self.both(host),
        })
    }

    fn service(&self, number: usize) -> Result<Vec<IpAddr>, PlanError> {
        let number = u16::try_from(number).ok();
        let host = self.shared(number).map(|host| host | SERVICES);
        let host = host.filter(|host| *host < u16::MAX).ok_or(PlanError::TooMany)?;
        Ok(match self.capture {
            Capture::Explicit => Vec::new(),
            Capture::Transparent => self.both(host),
        })
    }

    /// Address `number` of this host's share, of those below the services'.
    fn shared(&self, number: Option<u16>) -> Option<u16> {
        match self.block {
            None => number.filter(|number| *number < SERVICES),
            Some(block) => {
                let number = number.filter(|number| *number < BLOCK)?;
                Some(u16::from(block) * BLOCK + number)
            }
        }
    }

    fn both(&self, host: u16) -> Vec<IpAddr> {
        let v4 = at(Ipv4Addr::new(10, 213, 0, 0), host).into();
        let v6 = Ipv6Addr::new(0xfd5f, 0x6665, 0x7272, 0, 0, 0, 0, host).into();
        if self.ipv6 { vec![v4, v6] } else { vec![v4] }
    }
}

/// The address of the second half of a mesh's loopback addresses with that number; the first half is the copies'.
pub(crate) fn second_loopback(loopback: u8, number: u32) -> Ipv4Addr {
    let host = u16::try_from(number).unwrap_or(u16::MAX) | SERVICES;
    at(Ipv4Addr::new(127, loopback, 0, 0), host)
}

fn at(base: Ipv4Addr, host: u16) -> Ipv4Addr {
    Ipv4Addr::from_bits(base.to_bits() | u32::from(host))
}

/// The mesh's IPv4 range has this many leading bits.
pub(crate) const V4_BITS: u8 = 16;

/// The mesh's IPv6 range has this many leading bits.
pub(crate) const V6_BITS: u8 = 64;

/// The account whose identity the callers of published ports have.
pub(crate) const PUBLISHER: &str = "publish";

/// The first workload; below are the hub and room for others of its kind.
const FIRST: u16 = 16;

/// The first service; workloads stay below.
const SERVICES: u16 = 0x8000;

/// The addresses of one host of a mesh that may have several.
const BLOCK: u16 = 1024;

/// The most workloads on one host of such a mesh.
pub(super) const MOST_ON_A_HOST: usize = (BLOCK - FIRST) as usize;

/// Why a mesh cannot be planned.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PlanError {
    /// The ranges are used up.
    #[error(
        "one machine has room for {} workloads, and for {} where the mesh has other hosts",
        SERVICES - FIRST,
        BLOCK - FIRST
    )]
    TooMany,
    /// More ports than the host has.
    #[error("there are more ports of workloads than ports of the host above `host.ports`")]
    TooManyPorts,
    /// A name that fits no identity.
    #[error("{account} in {namespace} makes no identity")]
    Identity {
        /// The namespace.
        namespace: String,
        /// The account.
        account: String,
        /// Why.
        source: ferrule_identity::SpiffeIdError,
    },
}

#[cfg(test)]
mod tests;
