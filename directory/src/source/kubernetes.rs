//! Knows a Kubernetes cluster from its API server: pods, services, rules, through watches.

pub mod cluster;
pub mod pods;
pub mod policies;
mod server;
pub mod services;
mod watching;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::path::PathBuf;
use std::time::Duration;

use ferrule_daemon::logging::Chain;
use ferrule_identity::TrustDomain;
use ferrule_policy::ServiceName;
use futures::StreamExt as _;
use futures::stream::{BoxStream, SelectAll, select_all};
use k8s_openapi::api::core::v1;
use k8s_openapi::api::discovery::v1 as discovery;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::{ApiResource, DynamicObject, GroupVersionKind, PartialObjectMeta};
use kube::runtime::watcher;
use kube::{Api, Client, Config};
use tokio::time::{Instant, timeout_at};
use tracing::{debug, error, info, warn};

use self::cluster::{Cluster, Event};
use self::policies::{GROUP, KINDS, Stored};
use self::server::{Failure, Server};
use self::watching::watch;
use super::{News, Source, Teller};

/// A cluster, and how its API server is reached.
pub struct Kubernetes {
    reach: Reach,
    trust_domain: TrustDomain,
}

/// How an API server is reached.
pub enum Reach {
    /// As a pod of the cluster does, with the token of its service account.
    Pod,
    /// As a kubeconfig file says.
    File(PathBuf),
    /// With this client.
    Client(Client),
}

type Events = SelectAll<BoxStream<'static, (&'static str, Result<Event, watcher::Error>)>>;

impl Kubernetes {
    /// The cluster that is reached so; its pods are of `trust_domain`.
    pub const fn new(reach: Reach, trust_domain: TrustDomain) -> Self {
        Self { reach, trust_domain }
    }

    async fn client(&self) -> Result<Client, KubernetesError> {
        let mut config = match &self.reach {
            Reach::Client(client) => return Ok(client.clone()),
            Reach::Pod => Config::incluster().map_err(|source| KubernetesError::Pod {
                source: Box::new(source),
            })?,
            Reach::File(path) => {
                let refused = |source| KubernetesError::File {
                    path: path.clone(),
                    source: Box::new(source),
                };
                let read = Kubeconfig::read_from(path).map_err(refused)?;
                let options = KubeConfigOptions::default();
                Config::from_custom_kubeconfig(read, &options)
                    .await
                    .map_err(refused)?
            }
        };
        // The watches try again by themselves, and say why.
        config.default_retry = false;
        Client::try_from(config).map_err(|source| KubernetesError::Client {
            source: Box::new(source),
        })
    }

    fn events(&self, client: &Client) -> Events {
        let domain = self.trust_domain.clone();
        let pods = watch(Api::<v1::Pod>::all(client.clone()), move |pod| {
            Some((pods::key(&pod)?, pods::Pod::read(pod, &domain)))
        });
        let services = watch(Api::<v1::Service>::all(client.clone()), |service| {
            let name = ServiceName {
                namespace: service.metadata.namespace.as_deref()?.into(),
                name: service.metadata.name.as_deref()?.into(),
            };
            Some((name, services::Service::read(service)))
        });
        let slices = watch(Api::<discovery::EndpointSlice>::all(client.clone()), |slice| {
            let key = (slice.metadata.namespace.clone()?, slice.metadata.name.clone()?);
            Some((key, services::Slice::read(slice)))
        });
        let namespaces = Api::<PartialObjectMeta<v1::Namespace>>::all(client.clone());
        let namespaces = watch(namespaces, |namespace| {
            let labels = namespace.metadata.labels.unwrap_or_default();
            let enabled = labels.get(INJECT).is_some_and(|value| value == "enabled");
            Some((namespace.metadata.name?, Some(enabled)))
        });
        let nodes = watch(Api::<PartialObjectMeta<v1::Node>>::all(client.clone()), |node| {
            let labels = node.metadata.labels.unwrap_or_default();
            Some((node.metadata.name?, labels.get(ZONE).cloned()))
        });
        let mut all = vec![
            pods.map(|seen| ("pods", seen.map(Event::Pods))).boxed(),
            services
                .map(|seen| ("services", seen.map(Event::Services)))
                .boxed(),
            slices
                .map(|seen| ("endpointslices", seen.map(Event::Slices)))
                .boxed(),
            namespaces
                .map(|seen| ("namespaces", seen.map(Event::Namespaces)))
                .boxed(),
            nodes.map(|seen| ("nodes", seen.map(Event::Nodes))).boxed(),
        ];
        all.extend(KINDS.map(|(kind, plural)| self.rules(client, kind, plural)));
        select_all(all)
    }

    fn rules(
        &self,
        client: &Client,
        kind: &'static str,
        plural: &'static str,
    ) -> BoxStream<'static, (&'static str, Result<Event, watcher::Error>)> {
        let of = GroupVersionKind::gvk(GROUP.0, GROUP.1, kind);
        let resource = ApiResource::from_gvk_with_plural(&of, plural);
        let api = Api::<DynamicObject>::all_with(client.clone(), &resource);
        let domain = self.trust_domain.clone();
        let seen = watch(api, move |object| {
            let stored = Stored::read(kind, &object, &domain)?;
            Some((stored.key.clone(), Some(stored)))
        });
        seen.map(move |seen| (kind, seen.map(|seen| Event::Rules(kind, seen))))
            .boxed()
    }
}

impl Source for Kubernetes {
    async fn run(self, teller: Teller) -> Infallible {
        let client = loop {
            match self.client().await {
                Ok(client) => break client,
                Err(error) => {
                    let fault = Chain(&error).to_string();
                    error!(fault, "the cluster cannot be watched");
                    teller.faults(vec![fault]);
                }
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        };
        let mut follower = Follower {
            cluster: Cluster::new(KINDS.map(|(kind, _)| kind)),
            teller,
            troubles: BTreeMap::new(),
            server: Server::default(),
            has_begun: false,
            said: Vec::new(),
        };
        let mut events = self.events(&client);
        let mut tick = tokio::time::interval(LOOK_AGAIN);
        loop {
            tokio::select! {
                Some((kind, event)) = events.next() => {
                    follower.take(kind, event);
                    // Objects change in swarms; what comes within moments counts from one moment.
                    let until = Instant::now() + SWARM;
                    while let Ok(Some((kind, event))) = timeout_at(until, events.next()).await {
                        follower.take(kind, event);
                    }
                    follower.tell().await;
                }
                _ = tick.tick() => follower.server.look(&client).await,
            }
            follower.complain();
        }
    }
}

/// Follows a cluster, and tells what comes of it.
struct Follower {
    cluster: Cluster,
    teller: Teller,
    /// The kinds whose watches failed, when last, and why.
    troubles: BTreeMap<&'static str, (Instant, String)>,
    /// Whether the API server answers at all.
    server: Server,
    has_begun: bool,
    /// What was complained of last.
    said: Vec<String>,
}

impl Follower {
    fn take(&mut self, kind: &'static str, event: Result<Event, watcher::Error>) {
        match event {
            Ok(event) => {
                if self.troubles.remove(kind).is_some() {
                    info!(kind, "the objects are watched again");
                }
                self.cluster.take(event);
            }
            Err(error) => self.fail(kind, &error),
        }
    }

    fn fail(&mut self, kind: &'static str, error: &watcher::Error) {
        match Failure::of(error) {
            Failure::Away => self.server.failed(error),
            Failure::Cut => debug!(kind, error = %Chain(error), "a watch was cut off"),
            Failure::OfKind => {
                let why = Chain(error).to_string();
                warn!(
                    kind,
                    error = why,
                    "the objects cannot be watched for now; what is known stays"
                );
                self.troubles.insert(kind, (Instant::now(), why));
            }
        }
    }

    async fn tell(&mut self) {
        if !self.cluster.is_whole() {
            return;
        }
        if self.has_begun {
            let changes = self.cluster.changes();
            if !changes.is_empty() {
                self.teller.tell(News::Changes(changes)).await;
            }
            return;
        }
        self.has_begun = true;
        let stack = self.cluster.everything();
        info!(
            rules = stack.policies.len(),
            places = stack.places.len(),
            "the cluster is known"
        );
        self.teller.tell(News::Everything(stack)).await;
    }

    fn complain(&mut self) {
        self.troubles.retain(|_, (since, _)| since.elapsed() < FORGIVEN);
        let mut faults = self.cluster.faults();
        faults.extend(self.server.fault());
        let troubles = self.troubles.iter();
        faults.extend(troubles.map(|(kind, (_, why))| format!("{kind} cannot be watched: {why}")));
        if faults != self.said {
            for fault in faults.iter().filter(|fault| !self.said.contains(fault)) {
                error!(fault, "not everything of the cluster can be used");
            }
            self.said.clone_from(&faults);
            self.teller.faults(faults);
        }
    }
}

/// The label by which a namespace opts in.
const INJECT: &str = "ferrule.dev/inject";

/// The label that says in which zone a node is.
const ZONE: &str = "topology.kubernetes.io/zone";

/// How long what comes is gathered before it is told.
const SWARM: Duration = Duration::from_millis(20);

const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// A watch that has not failed again for so long is well: it says nothing as long as nothing changes.
const FORGIVEN: Duration = Duration::from_secs(15);

/// Why a cluster cannot be watched.
#[derive(Debug, thiserror::Error)]
enum KubernetesError {
    #[error("this is no pod of a cluster")]
    Pod {
        source: Box<kube::config::InClusterError>,
    },
    #[error("cannot use the kubeconfig {path}", path = path.display())]
    File {
        path: PathBuf,
        source: Box<kube::config::KubeconfigError>,
    },
    #[error("cannot set up a client of the API server")]
    Client { source: Box<kube::Error> },
}
