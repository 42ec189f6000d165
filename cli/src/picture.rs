//! Who is in a mesh and which rules are in force there, as far as its files tell.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::PathBuf;

use ferrule_document::Problems;
use ferrule_identity::{SpiffeId, TrustDomain};
use ferrule_policy::{Mesh, Policy, PolicyDocument, ServiceName, Workload, compile};

use crate::failure::Failure;
use crate::policy::files::read;
use crate::state::{Running, RunningWorkload};

/// Who is in a mesh, and under which rules.
#[derive(Debug)]
pub(crate) struct Picture {
    /// The workloads, each copy for itself.
    pub(crate) members: Vec<Member>,
    /// Who lives beside the mesh, as far as that is known.
    pub(crate) plain: Vec<Plain>,
    /// Services, as far as they are known.
    pub(crate) services: Vec<Service>,
    /// The rules in force.
    pub(crate) policy: Policy,
}

/// A workload of the mesh.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Member {
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) id: SpiffeId,
    pub(crate) names: Names,
}

/// A pod without a sidecar.
#[derive(Debug)]
pub(crate) struct Plain {
    pub(crate) names: Names,
}

/// What somebody may be called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Names {
    pub(crate) namespace: String,
    /// Its own names, each also good with `.namespace` behind it.
    pub(crate) own: Vec<String>,
    /// Names that it may share with others, for whoever has none of his own by that name.
    pub(crate) others: Vec<String>,
    pub(crate) addresses: Vec<IpAddr>,
}

/// A service of a cluster.
#[derive(Debug)]
pub(crate) struct Service {
    pub(crate) name: ServiceName,
    /// Where it is called: at its own addresses, or, where it has none and is not in the mesh, at those behind it.
    pub(crate) addresses: Vec<IpAddr>,
    pub(crate) ports: BTreeSet<u16>,
    /// Whether those behind it are in the mesh.
    pub(crate) is_in_mesh: bool,
    /// Those behind it.
    pub(crate) behind: Vec<IpAddr>,
}

impl Member {
    /// The workload as rules select it.
    pub(crate) fn workload(&self) -> Workload<'_> {
        Workload {
            namespace: &self.namespace,
            name: &self.name,
            labels: &self.labels,
        }
    }

    /// `api.shop`.
    pub(crate) fn title(&self) -> String {
        format!("{}.{}", self.name, self.namespace)
    }
}

impl Names {
    /// Of somebody with one name.
    pub(crate) fn of_one(namespace: &str, name: &str, addresses: Vec<IpAddr>) -> Self {
        Self {
            namespace: namespace.to_owned(),
            own: vec![name.to_owned()],
            others: Vec::new(),
            addresses,
        }
    }

    /// Whether `text` is one of its own.
    pub(crate) fn are(&self, text: &str) -> bool {
        let address: Option<IpAddr> = text.parse().ok();
        self.has(&self.own, text) || address.is_some_and(|address| self.addresses.contains(&address))
    }

    /// Whether `text` is one that it shares.
    fn include(&self, text: &str) -> bool {
        self.has(&self.others, text)
    }

    fn has(&self, names: &[String], text: &str) -> bool {
        let mut names = names.iter();
        names.any(|name| {
            let rest = text.strip_prefix(name.as_str());
            rest.is_some_and(|rest| rest.is_empty() || rest.strip_prefix('.') == Some(&self.namespace))
        })
    }
}

impl Service {
    fn is(&self, text: &str) -> bool {
        let text = ["service/", "svc/"]
            .iter()
            .find_map(|kind| text.strip_prefix(kind))
            .unwrap_or(text);
        let whole = self.name.to_string();
        text == &*self.name.name
            || text
                .strip_prefix(&whole)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with(".svc"))
    }
}

impl Picture {
    /// The mesh that runs.
    ///
    /// # Errors
    /// When its rules cannot be read or have faults: then the sidecars go on with others than those in the files.
    pub(crate) fn of_running(running: &Running) -> Result<Self, Failure> {
        let trust_domain = domain(&running.mesh.trust_domain)?;
        let members: Result<Vec<Member>, Failure> = running.mesh.workloads.iter().map(member).collect();
        Self::new(trust_domain, members?, &running.mesh.rules)
    }

    /// A mesh of which only files are known: rules, and documents of kind Workload.
    ///
    /// # Errors
    /// When the files cannot be read or have faults.
    pub(crate) fn of_files(trust_domain: &str, paths: &[PathBuf]) -> Result<Self, Failure> {
        Self::new(domain(trust_domain)?, Vec::new(), paths)
    }

    fn new(trust_domain: TrustDomain, mut members: Vec<Member>, paths: &[PathBuf]) -> Result<Self, Failure> {
        let mut rules = read(paths, &trust_domain)?;
        members.append(&mut rules.members);
        let namespaces = members.iter().map(|member| member.namespace.as_str());
        rules.add_presets(&namespaces.collect());
        Self::known(
            members,
            &rules.documents,
            rules.problems,
            Mesh::named(trust_domain),
        )
    }

    /// These members under these rules, with the faults that were found in reading them.
    ///
    /// # Errors
    /// When there are faults: then the sidecars go on with other rules.
    pub(crate) fn known(
        members: Vec<Member>,
        rules: &[PolicyDocument],
        mut problems: Problems,
        mesh: Mesh,
    ) -> Result<Self, Failure> {
        let policy = match compile(rules, mesh) {
            Ok(policy) if problems.is_empty() => policy,
            Ok(_) => return Err(faulty(&problems)),
            Err(faults) => {
                problems.append(faults);
                return Err(faulty(&problems));
            }
        };
        Ok(Self {
            members,
            plain: Vec::new(),
            services: Vec::new(),
            policy,
        })
    }

    /// All copies that `text` means: `api`, `api.shop`, an identity or an address; in a cluster a pod, what keeps it, such
    /// as `deployment/api`, its account, or a service before it. None when nobody of the mesh is called so.
    pub(crate) fn called(&self, text: &str) -> Vec<&Member> {
        let chosen = |is_meant: &dyn Fn(&Member) -> bool| -> Vec<&Member> {
            self.members.iter().filter(|member| is_meant(member)).collect()
        };
        let meant = chosen(&|member| member.names.are(text) || member.id.as_str() == text);
        if !meant.is_empty() {
            return meant;
        }
        let services = self.services.iter().filter(|service| service.is(text));
        let behind: BTreeSet<IpAddr> = services
            .flat_map(|service| service.behind.iter().copied())
            .collect();
        let meant = chosen(&|member| {
            member
                .names
                .addresses
                .iter()
                .any(|address| behind.contains(address))
        });
        if !meant.is_empty() {
            return meant;
        }
        chosen(&|member| member.names.include(text))
    }

    /// The copies of the one workload that `text` means; none when nobody of the mesh is called so.
    ///
    /// # Errors
    /// When several workloads are called so.
    pub(crate) fn copies(&self, text: &str) -> Result<Vec<&Member>, Failure> {
        let meant = self.called(text);
        let mut others = meant.iter();
        if let Some(first) = others.next()
            && let Some(other) =
                others.find(|other| (&other.namespace, &other.name) != (&first.namespace, &first.name))
        {
            return Err(Failure::Usage {
                message: format!("{text} may be {} or {}; say which", first.title(), other.title()),
            });
        }
        Ok(meant)
    }

    /// The pod without a sidecar that is called so.
    pub(crate) fn plain(&self, text: &str) -> Option<&Plain> {
        let mut plain = self.plain.iter();
        plain.find(|plain| plain.names.are(text))
    }

    /// The service beyond the mesh that is called so, or at that address.
    pub(crate) fn beyond(&self, text: &str) -> Option<&Service> {
        let address: Option<IpAddr> = text.parse().ok();
        let mut services = self.services.iter().filter(|service| !service.is_in_mesh);
        services.find(|service| {
            service.is(text) || address.is_some_and(|address| service.addresses.contains(&address))
        })
    }

    /// The names of all workloads, for whoever named nobody.
    pub(crate) fn titles(&self) -> String {
        let mut titles: Vec<String> = self.members.iter().map(Member::title).collect();
        titles.sort();
        titles.dedup();
        let more = titles.len().saturating_sub(MOST_TITLES);
        titles.truncate(MOST_TITLES);
        let titles = titles.join(", ");
        match more {
            0 => titles,
            more => format!("{titles}, {more} others"),
        }
    }
}

pub(crate) fn member(workload: &RunningWorkload) -> Result<Member, Failure> {
    let id = SpiffeId::parse(&workload.identity);
    Ok(Member {
        namespace: workload.namespace.clone(),
        name: workload.name.clone(),
        labels: workload.labels.clone(),
        id: id.map_err(Failure::could_not(format!(
            "read the identity of {}",
            workload.title()
        )))?,
        names: Names::of_one(&workload.namespace, &workload.name, workload.addresses.clone()),
    })
}

fn domain(name: &str) -> Result<TrustDomain, Failure> {
    TrustDomain::parse(name).map_err(|error| Failure::Usage {
        message: format!("{name:?} is no trust domain: {error}"),
    })
}

fn faulty(problems: &Problems) -> Failure {
    Failure::Missing {
        message: format!(
            "the rules have faults, so the sidecars go on with those of before; mend them first:\n{problems}"
        ),
    }
}

/// How many names are told to whoever named nobody: a cluster has thousands.
const MOST_TITLES: usize = 20;
