//! Who is in a mesh and which rules are in force there, as far as its files tell.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

use ferrule_identity::{SpiffeId, TrustDomain};
use ferrule_policy::{Mesh, Policy, Workload, compile};

use crate::failure::Failure;
use crate::policy::files::{Rules, read};
use crate::state::{Running, RunningWorkload};

/// Who is in a mesh, and under which rules.
#[derive(Debug)]
pub(crate) struct Picture {
    /// The workloads, each copy for itself.
    pub(crate) members: Vec<Member>,
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
    pub(crate) addresses: Vec<IpAddr>,
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
        let Rules {
            documents,
            mut problems,
            ..
        } = rules;
        let policy = match compile(&documents, Mesh::named(trust_domain)) {
            Ok(policy) if problems.is_empty() => policy,
            Ok(_) => return Err(faulty(&problems)),
            Err(faults) => {
                problems.append(faults);
                return Err(faulty(&problems));
            }
        };
        Ok(Self { members, policy })
    }

    /// The workload that `text` means: `api`, `api.shop`, its identity or one of its addresses; `None` when nobody of
    /// the mesh is called so.
    ///
    /// # Errors
    /// When workloads of several namespaces are called so.
    pub(crate) fn member(&self, text: &str) -> Result<Option<&Member>, Failure> {
        let address: Option<IpAddr> = text.parse().ok();
        let is_meant = |member: &&Member| {
            member.name == text
                || member.title() == text
                || member.id.as_str() == text
                || address.is_some_and(|address| member.addresses.contains(&address))
        };
        let mut meant = self.members.iter().filter(is_meant);
        let first = meant.next();
        if let Some(first) = first
            && let Some(other) =
                meant.find(|other| (&other.namespace, &other.name) != (&first.namespace, &first.name))
        {
            return Err(Failure::Usage {
                message: format!("{text} may be {} or {}; say which", first.title(), other.title()),
            });
        }
        Ok(first)
    }

    /// The names of all workloads, for whoever named nobody.
    pub(crate) fn titles(&self) -> String {
        let mut titles: Vec<String> = self.members.iter().map(Member::title).collect();
        titles.sort();
        titles.dedup();
        titles.join(", ")
    }
}

fn member(workload: &RunningWorkload) -> Result<Member, Failure> {
    let id = SpiffeId::parse(&workload.identity);
    Ok(Member {
        namespace: workload.namespace.clone(),
        name: workload.name.clone(),
        labels: workload.labels.clone(),
        id: id.map_err(Failure::could_not(format!(
            "read the identity of {}",
            workload.title()
        )))?,
        addresses: workload.addresses.clone(),
    })
}

fn domain(name: &str) -> Result<TrustDomain, Failure> {
    TrustDomain::parse(name).map_err(|error| Failure::Usage {
        message: format!("{name:?} is no trust domain: {error}"),
    })
}

fn faulty(problems: &ferrule_document::Problems) -> Failure {
    Failure::Missing {
        message: format!(
            "the rules have faults, so the sidecars go on with those of before; mend them first:\n{problems}"
        ),
    }
}
