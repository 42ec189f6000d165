//! Reads the documents that say who lives where: Workload, Service.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use ferrule_document::{Document, Fields, Item, Problems};
use ferrule_identity::{SpiffeId, TrustDomain};

use crate::document::API_VERSION;
use crate::pattern::ServiceName;

/// A workload of the mesh.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkloadDocument {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Who it is.
    pub id: SpiffeId,
    /// Where it lives.
    pub addresses: Vec<IpAddr>,
    /// Where its ports are reached from other machines, where its addresses are not.
    pub published: Vec<PublishedPort>,
    /// The machine that it runs on, where that is known.
    pub node: Option<String>,
    /// The zone that the machine is in, where that is known.
    pub zone: Option<String>,
}

/// A port of a workload, and where other machines reach it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PublishedPort {
    /// The workload's own.
    pub port: u16,
    /// An address of its machine, with the port there that leads to the workload's.
    pub at: SocketAddr,
}

/// A service: a name and addresses in front of workloads, or of something beyond the mesh.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceDocument {
    /// Its name.
    pub name: ServiceName,
    /// Its own addresses; none for a headless one.
    pub addresses: Vec<IpAddr>,
    /// Its ports, each with the port of the workloads that it stands for.
    pub ports: Vec<ServicePort>,
    /// Who is behind it.
    pub behind: Behind,
}

/// Who is behind a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Behind {
    /// Nobody of the mesh.
    Outside,
    /// The workloads of its own namespace with all of these labels, each at the ports that the service names.
    Labels(BTreeMap<String, String>),
    /// These workloads of its own namespace, by name, each at the ports of its own that the service's lead to. There
    /// may be nobody now.
    Named(BTreeMap<String, Vec<ServicePort>>),
}

/// A port of a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServicePort {
    /// The service's own.
    pub port: u16,
    /// The workload's.
    pub target_port: u16,
}

/// One document about who lives where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PlaceDocument {
    /// A workload.
    Workload(WorkloadDocument),
    /// A service.
    Service(ServiceDocument),
}

impl WorkloadDocument {
    /// Whether it is reached from `node` by what its machine publishes alone.
    pub fn is_elsewhere(&self, node: &str) -> bool {
        !self.published.is_empty() && self.node.as_deref() != Some(node)
    }

    /// Where its machine publishes a port of its own.
    pub fn published_at(&self, port: u16) -> Option<SocketAddr> {
        let published = self.published.iter().find(|published| published.port == port);
        published.map(|published| published.at)
    }
}

impl ServiceDocument {
    /// The ports by which the service leads to `workload`; none when it is not behind it.
    pub fn leads_to(&self, workload: &WorkloadDocument) -> &[ServicePort] {
        let has = |(name, value): (&String, &String)| workload.labels.get(name) == Some(value);
        if *workload.namespace != *self.name.namespace {
            return &[];
        }
        match &self.behind {
            Behind::Labels(labels) if labels.iter().all(has) => &self.ports,
            Behind::Named(named) => named.get(&workload.name).map_or(&[], Vec::as_slice),
            Behind::Outside | Behind::Labels(_) => &[],
        }
    }
}

impl PlaceDocument {
    /// Whether a document's kind is one that is read here.
    pub fn is_place(document: &Document) -> bool {
        matches!(document.peek("kind"), Some("Workload" | "Service"))
    }

    /// Reads one document; a workload's identity is one of `trust_domain`.
    ///
    /// # Errors
    /// All its faults, with line and column; an unknown field is one.
    pub fn read(document: &Document, trust_domain: &TrustDomain) -> Result<Self, Problems> {
        document.read(|fields| {
            let version = fields.required("apiVersion", |item| item.one_of(&[(API_VERSION, ())]));
            let kind = fields.required("kind", |item| {
                item.one_of(&[("Workload", true), ("Service", false)])
            });
            let meta = fields.required("metadata", |item| item.fields(meta));
            let spec = |fields: &mut Fields<'_>| {
                fields.required("spec", |item| {
                    item.fields(|fields| match kind? {
                        true => workload(fields, meta?, trust_domain).map(Self::Workload),
                        false => service(fields, meta?).map(Self::Service),
                    })
                })
            };
            let spec = spec(fields);
            version?;
            spec
        })
    }
}

struct Meta {
    namespace: String,
    name: String,
    labels: BTreeMap<String, String>,
}

fn meta(fields: &mut Fields<'_>) -> Option<Meta> {
    let namespace = fields.required("namespace", |item| item.text());
    let name = fields.required("name", |item| item.text());
    let labels = fields.default("labels", "{}", |item| item.text_map());
    Some(Meta {
        namespace: namespace?,
        name: name?,
        labels: labels?,
    })
}

fn workload(fields: &mut Fields<'_>, meta: Meta, trust_domain: &TrustDomain) -> Option<WorkloadDocument> {
    let id = fields.required("serviceAccount", |item| {
        item.checked(|account| SpiffeId::workload(trust_domain, &meta.namespace, account))
    });
    let addresses = fields.required("addresses", |item| item.non_empty_list(|item| address(&item)));
    let published = fields.default("published", "[]", |item| item.list(|item| item.fields(published)));
    let node = fields.optional("node", |item| item.text());
    let zone = fields.optional("zone", |item| item.text());
    Some(WorkloadDocument {
        namespace: meta.namespace,
        name: meta.name,
        labels: meta.labels,
        id: id?,
        addresses: addresses?,
        published: published?,
        node: node?,
        zone: zone?,
    })
}

fn service(fields: &mut Fields<'_>, meta: Meta) -> Option<ServiceDocument> {
    let addresses = fields.default("addresses", "[]", |item| item.list(|item| address(&item)));
    let ports = fields.required("ports", |item| item.non_empty_list(|item| item.fields(port)));
    let workloads = fields.optional("workloads", |item| {
        item.fields(|fields| fields.required("labels", |item| item.non_empty_text_map()))
    });
    Some(ServiceDocument {
        name: ServiceName {
            namespace: Arc::from(meta.namespace),
            name: Arc::from(meta.name),
        },
        addresses: addresses?,
        ports: ports?,
        behind: workloads?.map_or(Behind::Outside, Behind::Labels),
    })
}

fn port(fields: &mut Fields<'_>) -> Option<ServicePort> {
    let port = fields.required("port", |item| item.port());
    let target = fields.optional("targetPort", |item| item.port());
    Some(ServicePort {
        port: port?,
        target_port: target?.or(port)?,
    })
}

fn published(fields: &mut Fields<'_>) -> Option<PublishedPort> {
    let port = fields.required("port", |item| item.port());
    let at = fields.required("at", |item| {
        let at: SocketAddr = item.parsed()?;
        let at = SocketAddr::new(at.ip().to_canonical(), at.port());
        if at.port() == 0 || at.ip().is_unspecified() || at.ip().is_multicast() || at.ip().is_loopback() {
            return item.fail(format!("{at} is nowhere that other machines reach"));
        }
        Some(at)
    });
    Some(PublishedPort { port: port?, at: at? })
}

/// An address of somebody: not one that means everybody, or this machine alone.
fn address(item: &Item<'_>) -> Option<IpAddr> {
    let address: IpAddr = item.parsed()?;
    let address = address.to_canonical();
    if address.is_unspecified() || address.is_multicast() {
        return item.fail(format!("{address} is nobody's address"));
    }
    Some(address)
}
