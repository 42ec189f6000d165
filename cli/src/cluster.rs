//! A Kubernetes cluster with a mesh, as `kubectl` shows it: pods, services, rules, and the sidecars to ask.

pub(crate) mod arguments;
pub(crate) mod kubectl;
mod pods;
mod services;

use std::cell::OnceCell;
use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use ferrule_document::{Limits, Problems};
use ferrule_identity::TrustDomain;
use ferrule_policy::{API_VERSION, BuiltIn, Cidr, Mesh, PolicyDocument};
use serde_json::{Value, json};

use crate::failure::Failure;
use crate::meant::Replica;
use crate::picture::{Member, Picture, Plain};
use arguments::OfCluster;
use kubectl::{Kubectl, KubectlError};
use pods::Pod;

/// A cluster with a mesh.
#[derive(Debug)]
pub(crate) struct Cluster {
    kubectl: Kubectl,
    /// The namespace of the control plane.
    system: String,
    /// The namespaces that are looked at; all, where none is named.
    namespaces: BTreeSet<String>,
    places: OnceCell<Places>,
}

/// Who lives where.
#[derive(Debug)]
struct Places {
    /// The pods, by their names.
    pods: Vec<Pod>,
    /// Services with those behind them.
    objects: Vec<Value>,
}

impl Cluster {
    /// The cluster that is meant, where one is.
    pub(crate) fn of(arguments: &OfCluster) -> Option<Self> {
        arguments.cluster.then(|| Self {
            kubectl: Kubectl::new(arguments.kubectl.clone(), arguments.kubectl_context.clone()),
            system: arguments.system.clone(),
            namespaces: arguments.namespaces.iter().cloned().collect(),
            places: OnceCell::new(),
        })
    }

    /// How it is asked.
    pub(crate) const fn kubectl(&self) -> &Kubectl {
        &self.kubectl
    }

    /// The namespace of the control plane.
    pub(crate) fn system(&self) -> &str {
        &self.system
    }

    /// The namespaces that were named; none means all.
    pub(crate) const fn namespaces(&self) -> &BTreeSet<String> {
        &self.namespaces
    }

    /// The objects of these kinds in the namespaces that are looked at.
    ///
    /// # Errors
    /// When the cluster does not tell.
    pub(crate) fn list(&self, kinds: &str) -> Result<Vec<Value>, KubectlError> {
        if self.namespaces.is_empty() {
            return self.kubectl.items(&[kinds, "--all-namespaces"]);
        }
        let mut all = Vec::new();
        for namespace in &self.namespaces {
            all.append(&mut self.kubectl.items(&[kinds, "--namespace", namespace])?);
        }
        Ok(all)
    }

    fn places(&self) -> Result<&Places, Failure> {
        if let Some(places) = self.places.get() {
            return Ok(places);
        }
        let mut objects = self.list(PLACES)?;
        let mut pods: Vec<Pod> = Vec::new();
        objects.retain(|object| {
            let is_pod = object["kind"] == "Pod";
            if is_pod {
                pods.extend(Pod::read(object));
            }
            !is_pod
        });
        pods.sort_by(|a, b| (&a.namespace, &a.name).cmp(&(&b.namespace, &b.name)));
        Ok(self.places.get_or_init(|| Places { pods, objects }))
    }

    /// The settings of the newest sidecar: they are those of the installation as it is now.
    fn settings(&self) -> Result<&Value, Failure> {
        let pods = &self.places()?.pods;
        let meshed = pods.iter().filter(|pod| pod.sidecar.is_some());
        let newest = meshed.max_by(|a, b| a.age().cmp(b.age()));
        let injected = newest.and_then(|pod| pod.sidecar.as_ref());
        injected.map(pods::Injected::settings).ok_or_else(|| {
            let which = match self.namespaces.iter().map(String::as_str).collect::<Vec<_>>() {
                none if none.is_empty() => "the cluster".to_owned(),
                named => format!("the namespace {}", named.join(", ")),
            };
            Failure::Missing {
                message: format!(
                    "no pod of {which} has a sidecar; label its namespace ferrule.dev/inject=enabled, and make it anew"
                ),
            }
        })
    }

    /// Whose identities the sidecars have.
    ///
    /// # Errors
    /// When the cluster does not tell, or nobody there has a sidecar.
    pub(crate) fn trust_domain(&self) -> Result<TrustDomain, Failure> {
        let name = text(&self.settings()?["trust_domain"]);
        TrustDomain::parse(name).map_err(Failure::could_not("read the trust domain of the newest sidecar"))
    }

    /// What rules are judged with, besides them.
    fn mesh(&self) -> Result<Mesh, Failure> {
        let settings = &self.settings()?["mesh"];
        let mut ranges: Vec<Cidr> = Vec::new();
        for range in entries(&settings["ranges"]) {
            ranges.push(text(range).parse().map_err(unreadable("ranges"))?);
        }
        let mut built_in = Vec::new();
        for (field, name, port) in [("resolvers", "resolver", 53), ("api_server", "API server", 443)] {
            for place in entries(&settings[field]) {
                let place = text(place);
                let alone: Option<IpAddr> = place.parse().ok();
                let at = match alone {
                    Some(address) => SocketAddr::new(address, port),
                    None => place.parse().map_err(unreadable(field))?,
                };
                built_in.push(BuiltIn {
                    name: Arc::from(name),
                    address: at.ip().to_canonical(),
                    port: at.port(),
                });
            }
        }
        Ok(Mesh {
            trust_domain: self.trust_domain()?,
            ranges,
            built_in,
        })
    }

    /// Who is in the mesh, who is beside it, and under which rules.
    ///
    /// # Errors
    /// When the cluster does not tell, or has rules with faults: the sidecars go on with those of before.
    pub(crate) fn picture(&self) -> Result<Picture, Failure> {
        let mesh = self.mesh()?;
        let trust_domain = mesh.trust_domain.clone();
        let Places { pods, objects } = self.places()?;
        let meshed: BTreeSet<IpAddr> = pods
            .iter()
            .filter(|pod| pod.sidecar.is_some())
            .flat_map(|pod| pod.addresses.iter().copied())
            .collect();
        let (services, _) = services::read(objects, &meshed);
        let plain = pods.iter().filter(|pod| pod.sidecar.is_none());
        let plain = plain.map(|pod| Plain { names: pod.names() }).collect();
        let members = pods.iter().filter_map(|pod| member(pod, &trust_domain)).collect();
        let (documents, problems) = rules(&self.list(RULES)?);
        Picture::known(members, &documents, problems, mesh).map(|picture| Picture {
            plain,
            services,
            ..picture
        })
    }

    /// Every pod with a sidecar.
    ///
    /// # Errors
    /// When the cluster does not tell, or nobody there has a sidecar.
    pub(crate) fn replicas(&self) -> Result<Vec<Replica>, Failure> {
        let trust_domain = self.trust_domain()?;
        let Places { pods, objects } = self.places()?;
        let (_, leading) = services::read(objects, &BTreeSet::new());
        let replicas = pods.iter().filter_map(|pod| {
            let injected = pod.sidecar.as_ref()?;
            let mut ports: BTreeSet<u16> = pod.ports.clone();
            for address in &pod.addresses {
                ports.extend(leading.get(address).into_iter().flatten());
            }
            Some(Replica {
                member: member(pod, &trust_domain)?,
                title: pod.title(),
                pod: pod.name.clone(),
                is_started: injected.is_started,
                ports: ports.into_iter().collect(),
                doors: injected.doors(),
                socket: self.kubectl.socket(&pod.namespace, &pod.name, injected.socket()),
            })
        });
        Ok(replicas.collect())
    }
}

fn unreadable<E>(field: &str) -> impl FnOnce(E) -> Failure
where
    E: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    Failure::could_not(format!("read mesh.{field} of the newest sidecar"))
}

fn member(pod: &Pod, trust_domain: &TrustDomain) -> Option<Member> {
    Some(Member {
        namespace: pod.namespace.clone(),
        name: pod.workload().to_owned(),
        labels: pod.labels.clone(),
        id: pod.id(trust_domain)?,
        names: pod.names(),
    })
}

/// The rules of some objects, each as its author wrote it: what the API server adds is left out.
fn rules(objects: &[Value]) -> (Vec<PolicyDocument>, Problems) {
    let mut documents = Vec::new();
    let mut problems = Problems::new();
    for object in objects {
        let (source, document) = written(object);
        let read = PolicyDocument::read_all(&source, format!("{document:#}").as_bytes(), Limits::default());
        match read {
            Ok(mut read) => documents.append(&mut read),
            Err(faults) => problems.append(faults),
        }
    }
    (documents, problems)
}

/// A rule without what the API server adds, and what it is called.
pub(crate) fn written(object: &Value) -> (String, Value) {
    let (kind, meta) = (text(&object["kind"]), &object["metadata"]);
    let (namespace, name) = (text(&meta["namespace"]), text(&meta["name"]));
    let document = json!({
        "apiVersion": API_VERSION, "kind": kind, "metadata": { "namespace": namespace, "name": name },
        "spec": object["spec"],
    });
    (format!("{kind} {namespace}/{name}"), document)
}

pub(crate) fn entries(list: &Value) -> impl Iterator<Item = &Value> {
    list.as_array().into_iter().flatten()
}

pub(crate) fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// The sidecar's container, and its program.
pub(crate) const SIDECAR: &str = "ferrule-proxy";

/// All that says who lives where.
const PLACES: &str = "pods,services,endpointslices.discovery.k8s.io";

/// All rules.
pub(crate) const RULES: &str =
    "accesspolicies.ferrule.dev,egresspolicies.ferrule.dev,meshpolicies.ferrule.dev";
