//! Reads the documents that operators write: AccessPolicy, EgressPolicy, MeshPolicy.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ferrule_document::{Document, Fields, Item, Limits, Place, Problems};

use crate::pattern::{Ports, ServiceName, SourcePattern, TargetPattern, Workloads};

/// The version of the documents that is read and written.
pub const API_VERSION: &str = "ferrule.dev/v1alpha1";

/// One document, checked by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PolicyDocument {
    /// Who may reach a workload.
    Access(AccessPolicy),
    /// What a workload may reach beyond the mesh.
    Egress(EgressPolicy),
    /// How much is demanded of connections.
    Mesh(MeshPolicy),
}

/// Who may reach a workload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessPolicy {
    /// Its name.
    pub meta: Meta,
    /// The workloads that are reached.
    pub workloads: Workloads,
    /// What happens to callers that a rule matches.
    pub action: Action,
    /// Whether it is in force.
    pub enforcement: Enforcement,
    /// The rules, at least one; alternatives.
    pub rules: Vec<AccessRule>,
}

/// One rule of an AccessPolicy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessRule {
    /// The callers, at least one; alternatives.
    pub from: Vec<SourcePattern>,
    /// The ports of the workload.
    pub ports: Ports,
}

/// What a workload may reach beyond the mesh.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EgressPolicy {
    /// Its name.
    pub meta: Meta,
    /// The workloads that reach out.
    pub workloads: Workloads,
    /// Whether it is in force.
    pub enforcement: Enforcement,
    /// What may be reached, at least one; alternatives.
    pub allow: Vec<EgressRule>,
}

/// One rule of an EgressPolicy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EgressRule {
    /// The destinations, at least one, all of one kind; alternatives.
    pub to: Vec<TargetPattern>,
    /// The ports of the destination.
    pub ports: Ports,
}

/// How much is demanded of connections.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MeshPolicy {
    /// Its name.
    pub meta: Meta,
    /// The workloads that it is about.
    pub workloads: Workloads,
    /// The mode of all ports that are not named, and of what the workload sends.
    pub mode: Mode,
    /// The mode of single ports of the workload.
    pub ports: BTreeMap<u16, Mode>,
}

/// The name of a document and where it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Meta {
    /// The namespace whose workloads the document is about.
    pub namespace: Arc<str>,
    /// The name, unique among the documents of its kind in the namespace.
    pub name: Arc<str>,
    /// Where it was written.
    pub place: Place,
}

/// What happens to callers that a rule matches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Action {
    /// They may connect, unless a deny rule matches too.
    Allow,
    /// They may not connect, whatever else matches.
    Deny,
}

/// Whether a policy is in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Enforcement {
    /// It is.
    Enforce,
    /// It is judged, counted and logged, but blocks nothing: a workload whose allowing policies are all on trial
    /// takes what they do not allow, on the record. Beside an allowing policy in force it opens nothing.
    Audit,
}

/// How much is demanded of connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Mode {
    /// Nothing in clear, and nothing without a rule that allows it.
    Strict,
    /// For migration: clear where the other side is not in the mesh, and a missing rule is only audited.
    Permissive,
}

impl PolicyDocument {
    /// Reads all documents of a text.
    ///
    /// # Errors
    /// All faults of all documents, with line and column; nothing of the text is to be used then.
    pub fn read_all(source: &str, bytes: &[u8], limits: Limits) -> Result<Vec<Self>, Problems> {
        let mut problems = Problems::new();
        let mut read = Vec::new();
        for document in Document::parse(source, bytes, limits)? {
            match Self::read(&document) {
                Ok(policy) => read.push(policy),
                Err(faults) => problems.append(faults),
            }
        }
        problems.into_result(read)
    }

    /// Reads one document.
    ///
    /// # Errors
    /// All its faults; a field that is not known is one.
    pub fn read(document: &Document) -> Result<Self, Problems> {
        let place = document.place().clone();
        document.read(|fields| read(fields, place))
    }

    /// The name of the document and where it was written.
    pub fn meta(&self) -> &Meta {
        match self {
            Self::Access(policy) => &policy.meta,
            Self::Egress(policy) => &policy.meta,
            Self::Mesh(policy) => &policy.meta,
        }
    }

    /// The document's kind, as it is written in `kind`.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Access(_) => "AccessPolicy",
            Self::Egress(_) => "EgressPolicy",
            Self::Mesh(_) => "MeshPolicy",
        }
    }

    /// Whether a document's `kind` is one that is read here; for a file in which other documents lie too.
    pub fn is_policy(document: &Document) -> bool {
        document
            .peek("kind")
            .is_some_and(|kind| KINDS.iter().any(|(name, _)| *name == kind))
    }
}

#[derive(Clone, Copy)]
enum Kind {
    Access,
    Egress,
    Mesh,
}

const KINDS: [(&str, Kind); 3] = [
    ("AccessPolicy", Kind::Access),
    ("EgressPolicy", Kind::Egress),
    ("MeshPolicy", Kind::Mesh),
];

fn read(fields: &mut Fields<'_>, place: Place) -> Option<PolicyDocument> {
    let version = fields.required("apiVersion", |item| item.one_of(&[(API_VERSION, ())]));
    let kind = fields.required("kind", |item| item.one_of(&KINDS));
    let meta = fields.required("metadata", |item| item.fields(|fields| metadata(fields, place)));
    let spec = fields.required("spec", |item| {
        // Without a kind nothing is known of the fields, and their faults would be guesses.
        let kind = kind?;
        item.fields(|fields| spec(kind, fields))
    });
    version?;
    let meta = meta?;
    Some(match spec? {
        Spec::Access {
            workloads,
            action,
            enforcement,
            rules,
        } => PolicyDocument::Access(AccessPolicy {
            meta,
            workloads,
            action,
            enforcement,
            rules,
        }),
        Spec::Egress {
            workloads,
            enforcement,
            allow,
        } => PolicyDocument::Egress(EgressPolicy {
            meta,
            workloads,
            enforcement,
            allow,
        }),
        Spec::Mesh {
            workloads,
            mode,
            ports,
        } => PolicyDocument::Mesh(MeshPolicy {
            meta,
            workloads,
            mode,
            ports,
        }),
    })
}

fn metadata(fields: &mut Fields<'_>, place: Place) -> Option<Meta> {
    let namespace = fields.required("namespace", |item| item.checked(check_label));
    let name = fields.required("name", |item| item.checked(check_name));
    // For people and tools; nothing here depends on them.
    let labels = fields.optional("labels", |item| item.map(|item| item.block()));
    let annotations = fields.optional("annotations", |item| item.map(|item| item.block()));
    labels?;
    annotations?;
    Some(Meta {
        namespace: namespace?,
        name: name?,
        place,
    })
}

enum Spec {
    Access {
        workloads: Workloads,
        action: Action,
        enforcement: Enforcement,
        rules: Vec<AccessRule>,
    },
    Egress {
        workloads: Workloads,
        enforcement: Enforcement,
        allow: Vec<EgressRule>,
    },
    Mesh {
        workloads: Workloads,
        mode: Mode,
        ports: BTreeMap<u16, Mode>,
    },
}

fn spec(kind: Kind, fields: &mut Fields<'_>) -> Option<Spec> {
    let workloads = fields.required("workloads", workloads);
    match kind {
        Kind::Access => {
            let actions = [("allow", Action::Allow), ("deny", Action::Deny)];
            let action = fields.required("action", |item| item.one_of(&actions));
            let enforcement = fields.default("enforcement", "enforce", enforcement);
            let rules = fields.required("rules", |item| {
                item.non_empty_list(|item| item.fields(access_rule))
            });
            Some(Spec::Access {
                workloads: workloads?,
                action: action?,
                enforcement: enforcement?,
                rules: rules?,
            })
        }
        Kind::Egress => {
            let enforcement = fields.default("enforcement", "enforce", enforcement);
            let allow = fields.required("allow", |item| item.non_empty_list(egress_rule));
            Some(Spec::Egress {
                workloads: workloads?,
                enforcement: enforcement?,
                allow: allow?,
            })
        }
        Kind::Mesh => {
            let mode = fields.required("mode", mode);
            let ports = fields.optional("ports", port_modes);
            Some(Spec::Mesh {
                workloads: workloads?,
                mode: mode?,
                ports: ports?.unwrap_or_default(),
            })
        }
    }
}

/// `all`, or labels of which there is at least one.
fn workloads(item: Item<'_>) -> Option<Workloads> {
    if !item.is_map() {
        return item.one_of(&[("all", Workloads::AllOfNamespace)]);
    }
    item.fields(|fields| fields.required("labels", |item| item.non_empty_text_map()))
        .map(Workloads::Labelled)
}

fn enforcement(item: Item<'_>) -> Option<Enforcement> {
    item.one_of(&[("enforce", Enforcement::Enforce), ("audit", Enforcement::Audit)])
}

fn mode(item: Item<'_>) -> Option<Mode> {
    item.one_of(&[("strict", Mode::Strict), ("permissive", Mode::Permissive)])
}

fn access_rule(fields: &mut Fields<'_>) -> Option<AccessRule> {
    let from = fields.required("from", |item| item.non_empty_list(sources));
    let ports = ports(fields);
    Some(AccessRule {
        from: from?.into_iter().flatten().collect(),
        ports: ports?,
    })
}

/// One item of `from`: a map with exactly one field, which says of what kind the callers are.
fn sources(item: Item<'_>) -> Option<Vec<SourcePattern>> {
    item.one_field(&["identities", "namespaces", "cidrs"], |kind, item| match kind {
        "identities" => item.non_empty_list(|item| item.parsed().map(SourcePattern::Identity)),
        "namespaces" => item.non_empty_list(|item| item.checked(check_label).map(SourcePattern::Namespace)),
        _ => item.non_empty_list(|item| item.parsed().map(SourcePattern::Cidr)),
    })
}

/// One item of `allow`: exactly one kind of destination, and ports.
fn egress_rule(item: Item<'_>) -> Option<EgressRule> {
    item.fields(|fields| {
        let hosts = fields.optional("hosts", |item| {
            item.non_empty_list(|item| item.parsed().map(TargetPattern::Host))
        });
        let cidrs = fields.optional("cidrs", |item| {
            item.non_empty_list(|item| item.parsed().map(TargetPattern::Cidr))
        });
        let services = fields.optional("services", |item| {
            item.non_empty_list(|item| item.fields(service).map(TargetPattern::Service))
        });
        let ports = ports(fields);
        let mut chosen = [hosts?, cidrs?, services?].into_iter().flatten();
        match (chosen.next(), chosen.next()) {
            (Some(to), None) => Some(EgressRule { to, ports: ports? }),
            _ => {
                fields.fail("expected exactly one of the fields hosts, cidrs, services");
                None
            }
        }
    })
}

fn service(fields: &mut Fields<'_>) -> Option<ServiceName> {
    let namespace = fields.required("namespace", |item| item.checked(check_label));
    let name = fields.required("name", |item| item.checked(check_label));
    Some(ServiceName {
        namespace: namespace?,
        name: name?,
    })
}

/// All ports where the field is left out.
fn ports(fields: &mut Fields<'_>) -> Option<Ports> {
    match fields.optional("ports", |item| item.non_empty_list(|item| item.port()))? {
        None => Some(Ports::All),
        Some(ports) => Ports::only(ports),
    }
}

fn port_modes(item: Item<'_>) -> Option<BTreeMap<u16, Mode>> {
    let mut seen = BTreeSet::new();
    let modes = item.non_empty_list(|item| {
        item.fields(|fields| {
            let port = fields.required("port", |item| match item.port()? {
                port if seen.insert(port) => Some(port),
                port => item.fail(format!("the port {port} is named twice")),
            });
            let mode = fields.required("mode", mode);
            Some((port?, mode?))
        })
    });
    Some(modes?.into_iter().collect())
}

/// A namespace or a service: a DNS label (RFC 1123 §2.1), as Kubernetes wants it.
fn check_label(text: &str) -> Result<Arc<str>, &'static str> {
    let edge = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let fits = text.len() <= 63
        && text.starts_with(edge)
        && text.ends_with(edge)
        && text.chars().all(|c| edge(c) || c == '-');
    if fits {
        Ok(text.into())
    } else {
        Err("expected at most 63 of a-z, 0-9 and '-', '-' not at the ends")
    }
}

/// The name of a document: DNS labels with dots between them, 253 bytes at most.
fn check_name(text: &str) -> Result<Arc<str>, &'static str> {
    let fits = text.len() <= 253 && text.split('.').all(|label| check_label(label).is_ok());
    if fits {
        Ok(text.into())
    } else {
        Err("expected a-z, 0-9, '-' and '.', labels of at most 63 bytes")
    }
}

#[cfg(test)]
mod mutation;
#[cfg(test)]
mod tests;
