//! Reads the document that an operator writes about a mesh on one machine: kind Mesh.

mod hosts;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

use ferrule_document::{Document, Fields, Item, Place, Problem, Problems};
use ferrule_identity::{SpiffeId, TrustDomain};
use ferrule_policy::{API_VERSION, Preset};

pub(crate) use hosts::{AuthorityDocument, HostDocument};

/// A mesh as it is written.
#[derive(Debug, Clone)]
pub(crate) struct MeshDocument {
    pub(crate) trust_domain: TrustDomain,
    pub(crate) access: Preset,
    pub(crate) authority: AuthorityDocument,
    /// Where other hosts reach this one; none where the mesh is on this machine alone.
    pub(crate) host: Option<HostDocument>,
    /// The directory of the mesh's first host; none where this is the first one.
    pub(crate) join: Option<SocketAddr>,
    pub(crate) workloads: Vec<WorkloadDocument>,
}

/// A workload as it is written.
#[derive(Debug, Clone)]
pub(crate) struct WorkloadDocument {
    pub(crate) place: Place,
    pub(crate) name: String,
    pub(crate) namespace: String,
    pub(crate) service_account: String,
    pub(crate) run: Vec<String>,
    pub(crate) env: BTreeMap<String, String>,
    /// Relative to the mesh file's folder.
    pub(crate) folder: Option<String>,
    pub(crate) user: Option<String>,
    pub(crate) ports: Vec<u16>,
    pub(crate) publish: Vec<PublishDocument>,
    pub(crate) after: Vec<AfterDocument>,
    pub(crate) replicas: u32,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) restart: Restart,
    pub(crate) health: Option<HealthDocument>,
    /// Whether it may read who speaks with whom.
    pub(crate) view: bool,
}

/// A port that the machine's loopback shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PublishDocument {
    /// The workload's.
    pub(crate) port: u16,
    /// The machine's.
    pub(crate) at: u16,
}

/// A workload that has to be there first: `api`, or `api.shop` of another namespace.
#[derive(Debug, Clone)]
pub(crate) struct AfterDocument {
    pub(crate) place: Place,
    pub(crate) text: String,
}

/// What happens when a workload's process ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) enum Restart {
    /// It is started again.
    Always,
    /// It is started again unless it ended with 0.
    OnFailure,
    /// It stays ended.
    Never,
}

/// A command that tells whether a workload is ready, by ending with 0.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HealthDocument {
    pub(crate) run: Vec<String>,
    pub(crate) interval: Duration,
    pub(crate) timeout: Duration,
}

impl MeshDocument {
    /// Whether a document is one of these.
    pub(crate) fn is_mesh(document: &Document) -> bool {
        document.peek("kind") == Some("Mesh")
    }

    /// Reads one document.
    ///
    /// # Errors
    /// All its faults, each with its line and column.
    pub(crate) fn read(document: &Document) -> Result<Self, Problems> {
        let mesh = document.read(mesh)?;
        let mut problems = Problems::new();
        check_names(&mesh, &mut problems);
        problems.into_result(mesh)
    }
}

fn mesh(fields: &mut Fields<'_>) -> Option<MeshDocument> {
    let version = fields.required("apiVersion", |item| item.one_of(&[(API_VERSION, ())]));
    let kind = fields.required("kind", |item| item.one_of(&[("Mesh", ())]));
    let trust_domain = fields.required("trustDomain", |item| item.checked(TrustDomain::parse));
    let access = fields.default("access", "none", |item| item.parsed::<Preset>());
    let authority = fields.default("ca", "{}", |item| item.fields(hosts::authority));
    let host = fields.optional("host", |item| item.fields(hosts::host));
    let join = fields.optional("join", hosts::join);
    let workloads = fields.required("workloads", |item| {
        item.non_empty_list(|item| {
            let place = item.place().clone();
            item.fields(|fields| workload(fields, place))
        })
    });
    version?;
    kind?;
    let (host, join) = (host?, join?);
    if let Some(fault) = hosts::fault(host.as_ref(), join.as_ref()) {
        fields.fail(fault);
        return None;
    }
    Some(MeshDocument {
        trust_domain: trust_domain?,
        access: access?,
        authority: authority?,
        host,
        join,
        workloads: workloads?,
    })
}

fn workload(fields: &mut Fields<'_>, place: Place) -> Option<WorkloadDocument> {
    let name = fields.required("name", |item| item.checked(label));
    let namespace = fields.default("namespace", "default", |item| item.checked(label));
    let service_account = fields.optional("serviceAccount", |item| item.checked(label));
    let run = fields.required("run", |item| item.non_empty_list(|item| item.text()));
    let env = fields.default("env", "{}", |item| item.text_map());
    let folder = fields.optional("folder", |item| item.text());
    let user = fields.optional("user", |item| item.text());
    let ports = fields.default("ports", "[]", |item| item.list(|item| item.port()));
    let publish = fields.default("publish", "[]", |item| item.list(publish));
    let after = fields.default("after", "[]", |item| item.list(after));
    let replicas = fields.default("replicas", "1", |item| item.integer(REPLICAS));
    let labels = fields.default("labels", "{}", |item| item.text_map());
    let restart = fields.default("restart", "on-failure", |item| item.one_of(RESTARTS));
    let health = fields.optional("health", |item| item.fields(health));
    let view = fields.default("view", "false", |item| item.boolean());
    let name = name?;
    let mut labels = labels?;
    labels.entry("app".to_owned()).or_insert_with(|| name.clone());
    Some(WorkloadDocument {
        place,
        namespace: namespace?,
        service_account: service_account?.unwrap_or_else(|| name.clone()),
        name,
        run: run?,
        env: env?,
        folder: folder?,
        user: user?,
        ports: ports?,
        publish: publish?,
        after: after?,
        replicas: replicas?,
        labels,
        restart: restart?,
        health: health?,
        view: view?,
    })
}

/// A port, or a map of the workload's and the machine's.
fn publish(item: Item<'_>) -> Option<PublishDocument> {
    if !item.is_map() {
        let port = item.port()?;
        return Some(PublishDocument { port, at: port });
    }
    item.fields(|fields| {
        let port = fields.required("port", |item| item.port());
        let at = fields.optional("at", |item| item.port());
        let port = port?;
        Some(PublishDocument {
            port,
            at: at?.unwrap_or(port),
        })
    })
}

fn after(item: Item<'_>) -> Option<AfterDocument> {
    let place = item.place().clone();
    item.text().map(|text| AfterDocument { place, text })
}

fn health(fields: &mut Fields<'_>) -> Option<HealthDocument> {
    let run = fields.required("run", |item| item.non_empty_list(|item| item.text()));
    let interval = fields.default("interval", "1s", |item| item.duration_in(HEALTH));
    let timeout = fields.default("timeout", "5s", |item| item.duration_in(HEALTH));
    Some(HealthDocument {
        run: run?,
        interval: interval?,
        timeout: timeout?,
    })
}

/// A name that fits into a SPIFFE ID, a host name and the name of a file.
fn label(text: &str) -> Result<String, &'static str> {
    let inside = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let fits = text.len() <= 63 && text.bytes().all(|byte| inside(byte) || byte == b'-');
    let ends = |byte: Option<&u8>| byte.is_some_and(|byte| inside(*byte));
    if fits && ends(text.as_bytes().first()) && ends(text.as_bytes().last()) {
        return Ok(text.to_owned());
    }
    Err(
        "a name has at most 63 small letters, digits and hyphens, and begins and ends with none of the latter",
    )
}

/// What only shows when all workloads are known: names twice, dependencies on nobody or in a circle.
fn check_names(mesh: &MeshDocument, problems: &mut Problems) {
    let mut seen: BTreeMap<(&str, &str), &WorkloadDocument> = BTreeMap::new();
    let mut published: BTreeMap<u16, &WorkloadDocument> = BTreeMap::new();
    for (at, workload) in mesh.workloads.iter().enumerate() {
        let path = format!("workloads[{at}]");
        let mut fail = |field: &str, message: String| {
            let path = format!("{path}.{field}");
            problems.add(Problem::new(workload.place.clone(), path, message));
        };
        if let Some(first) = seen.insert((&workload.namespace, &workload.name), workload) {
            fail("name", format!("the same name stands at {}", first.place));
        }
        if let Err(error) =
            SpiffeId::workload(&mesh.trust_domain, &workload.namespace, &workload.service_account)
        {
            fail("serviceAccount", error.to_string());
        }
        for publish in &workload.publish {
            if !workload.ports.contains(&publish.port) {
                fail("publish", format!("{} is not one of `ports`", publish.port));
            }
            if let Some(first) = published.insert(publish.at, workload) {
                let message = format!(
                    "port {} of this machine is also asked for at {}",
                    publish.at, first.place
                );
                fail("publish", message);
            }
        }
    }
    for (at, workload) in mesh.workloads.iter().enumerate() {
        for (number, after) in workload.after.iter().enumerate() {
            if mesh.named(workload, &after.text).is_none() {
                let path = format!("workloads[{at}].after[{number}]");
                let message = format!("no workload is called {:?}", after.text);
                problems.add(Problem::new(after.place.clone(), path, message));
            }
        }
    }
    if problems.is_empty() && mesh.start_order().is_none() {
        for (at, workload) in mesh.workloads.iter().enumerate() {
            if mesh.waits_for_itself(at) {
                let message = format!("{} waits for itself, by way of others or directly", workload.name);
                problems.add(Problem::new(
                    workload.place.clone(),
                    format!("workloads[{at}].after"),
                    message,
                ));
            }
        }
    }
}

impl MeshDocument {
    /// The number of the workload that `text` means to `from`: one of its own namespace, or `name.namespace`.
    pub(crate) fn named(&self, from: &WorkloadDocument, text: &str) -> Option<usize> {
        let (name, namespace) = text.split_once('.').unwrap_or((text, &from.namespace));
        self.workloads
            .iter()
            .position(|workload| workload.name == name && workload.namespace == namespace)
    }

    /// The numbers of the workloads, each behind those that it waits for, otherwise as written; `None` when some wait
    /// in a circle.
    pub(crate) fn start_order(&self) -> Option<Vec<usize>> {
        let waits: Vec<Vec<usize>> = (0..self.workloads.len()).map(|at| self.waits_for(at)).collect();
        let mut placed = vec![false; waits.len()];
        let mut order: Vec<usize> = Vec::new();
        while order.len() < waits.len() {
            let next = waits
                .iter()
                .enumerate()
                .position(|(at, waits)| !placed[at] && waits.iter().all(|other| placed[*other]))?;
            placed[next] = true;
            order.push(next);
        }
        Some(order)
    }

    /// The numbers of the workloads that this one waits for.
    pub(crate) fn waits_for(&self, at: usize) -> Vec<usize> {
        let Some(workload) = self.workloads.get(at) else {
            return Vec::new();
        };
        let named = |after: &AfterDocument| self.named(workload, &after.text);
        workload.after.iter().filter_map(named).collect()
    }

    fn waits_for_itself(&self, start: usize) -> bool {
        let mut to_see = self.waits_for(start);
        let mut seen = Vec::new();
        while let Some(at) = to_see.pop() {
            if at == start {
                return true;
            }
            if !seen.contains(&at) {
                seen.push(at);
                to_see.extend(self.waits_for(at));
            }
        }
        false
    }
}

const RESTARTS: &[(&str, Restart)] = &[
    ("always", Restart::Always),
    ("on-failure", Restart::OnFailure),
    ("never", Restart::Never),
];

const REPLICAS: RangeInclusive<u32> = 1..=1000;

const HEALTH: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(3600);
