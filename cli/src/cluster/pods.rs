//! Reads of a pod who it is, where it lives, how its sidecar is asked.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use ferrule_identity::{SpiffeId, TrustDomain};
use serde_json::Value;

use super::{SIDECAR, entries, text};
use crate::picture::Names;

/// A pod that has not ended.
#[derive(Debug)]
pub(crate) struct Pod {
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) labels: BTreeMap<String, String>,
    account: String,
    /// The kind and name of what keeps it, such as its Deployment.
    owner: Option<(&'static str, String)>,
    pub(crate) addresses: Vec<IpAddr>,
    /// The ports of TCP that its containers name.
    pub(crate) ports: BTreeSet<u16>,
    pub(crate) sidecar: Option<Injected>,
    /// When it was made, as the API server writes it.
    created: String,
}

/// A sidecar that the injector has put into a pod.
#[derive(Debug)]
pub(crate) struct Injected {
    settings: Value,
    /// Whether it has been ready once.
    pub(crate) is_started: bool,
}

impl Pod {
    /// What there is to know of a pod; `None` once all of its containers have ended for good.
    pub(crate) fn read(pod: &Value) -> Option<Self> {
        let (meta, spec, status) = (&pod["metadata"], &pod["spec"], &pod["status"]);
        if ["Succeeded", "Failed"].contains(&text(&status["phase"])) {
            return None;
        }
        let labels = meta["labels"].as_object().into_iter().flatten();
        let labels: BTreeMap<String, String> = labels
            .map(|(name, value)| (name.clone(), text(value).to_owned()))
            .collect();
        // What uses its node's addresses has none of its own, and no identity.
        let is_of_node = spec["hostNetwork"] == true;
        let account = match text(&spec["serviceAccountName"]) {
            "" => "default",
            account => account,
        };
        Some(Self {
            namespace: text(&meta["namespace"]).to_owned(),
            name: text(&meta["name"]).to_owned(),
            account: account.to_owned(),
            owner: owner(meta, &labels),
            labels,
            addresses: if is_of_node { Vec::new() } else { addresses(status) },
            ports: ports(spec),
            sidecar: if is_of_node { None } else { Injected::read(pod) },
            created: text(&meta["creationTimestamp"]).to_owned(),
        })
    }

    /// What it may be called: after itself, or after what keeps it.
    pub(crate) fn names(&self) -> Names {
        let mut own = vec![self.name.clone(), format!("pod/{}", self.name)];
        if let Some((kind, name)) = &self.owner {
            let kinds = match *kind {
                "deployment" => ["deployment", "deploy"],
                "statefulset" => ["statefulset", "sts"],
                "daemonset" => ["daemonset", "ds"],
                kind => [kind, kind],
            };
            own.push(name.clone());
            own.extend(kinds.map(|kind| format!("{kind}/{name}")));
        }
        own.extend(["serviceaccount", "sa"].map(|kind| format!("{kind}/{}", self.account)));
        Names {
            namespace: self.namespace.clone(),
            own,
            others: vec![self.account.clone()],
            addresses: self.addresses.clone(),
        }
    }

    /// The name of the workload that it is a copy of.
    pub(crate) fn workload(&self) -> &str {
        self.owner.as_ref().map_or(&self.name, |(_, name)| name)
    }

    /// `web-5d4f-x2x.shop`.
    pub(crate) fn title(&self) -> String {
        format!("{}.{}", self.name, self.namespace)
    }

    /// Who it is, where it has a sidecar: nobody can prove to be a pod without one.
    pub(crate) fn id(&self, trust_domain: &TrustDomain) -> Option<SpiffeId> {
        self.sidecar.as_ref()?;
        SpiffeId::workload(trust_domain, &self.namespace, &self.account).ok()
    }

    /// Orders pods by when they were made.
    pub(crate) fn age(&self) -> &str {
        &self.created
    }
}

impl Injected {
    /// The sidecar, where the injector's note says that it is one and the container is there: without the note it was
    /// put there by somebody else, for something else, and the directory knows nothing of it.
    fn read(pod: &Value) -> Option<Self> {
        let note: Value = serde_json::from_str(text(&pod["metadata"]["annotations"][STATUS])).ok()?;
        if !["cni", "init", "none"].contains(&text(&note["capture"])) {
            return None;
        }
        let named = |list: &'static str| entries(&pod["spec"][list]).find(|one| one["name"] == SIDECAR);
        let container = named("initContainers").or_else(|| named("containers"))?;
        let mut arguments = entries(&container["args"]).map(text);
        let settings = arguments
            .by_ref()
            .find(|argument| *argument == "--settings")
            .and_then(|_| arguments.next());
        let of = |list: &'static str| entries(&pod["status"][list]).find(|one| one["name"] == SIDECAR);
        let state = of("initContainerStatuses").or_else(|| of("containerStatuses"));
        Some(Self {
            settings: settings
                .and_then(|settings| serde_json::from_str(settings).ok())
                .unwrap_or_default(),
            is_started: state.is_some_and(|state| state["started"] == true || state["ready"] == true),
        })
    }

    /// Its settings.
    pub(crate) const fn settings(&self) -> &Value {
        &self.settings
    }

    /// Where its debug socket is, in its own container.
    pub(crate) fn socket(&self) -> &str {
        match text(&self.settings["admin"]["socket"]) {
            "" => SOCKET,
            path => path,
        }
    }

    /// Where it takes what comes for a port of the application, where nothing is captured.
    pub(crate) fn doors(&self) -> BTreeMap<u16, u16> {
        let port = |value: &Value| text(value).parse::<SocketAddr>().ok().map(|at| at.port());
        let serves = entries(&self.settings["serves"]);
        serves
            .filter_map(|serve| Some((port(&serve["to"])?, port(&serve["listen"])?)))
            .collect()
    }
}

/// What keeps the pod: a ReplicaSet is only what a Deployment keeps it by.
fn owner(meta: &Value, labels: &BTreeMap<String, String>) -> Option<(&'static str, String)> {
    let owner = entries(&meta["ownerReferences"]).find(|owner| owner["controller"] == true)?;
    let name = text(&owner["name"]);
    let of_deployment = || {
        let hash = labels.get("pod-template-hash")?;
        name.strip_suffix(hash.as_str())?.strip_suffix('-')
    };
    match (text(&owner["kind"]), of_deployment()) {
        ("ReplicaSet", Some(deployment)) => Some(("deployment", deployment.to_owned())),
        ("ReplicaSet", None) => Some(("replicaset", name.to_owned())),
        ("StatefulSet", _) => Some(("statefulset", name.to_owned())),
        ("DaemonSet", _) => Some(("daemonset", name.to_owned())),
        ("Job", _) => Some(("job", name.to_owned())),
        _ => None,
    }
}

fn addresses(status: &Value) -> Vec<IpAddr> {
    let first = text(&status["podIP"]);
    let all = entries(&status["podIPs"]).map(|one| text(&one["ip"]));
    let mut addresses: Vec<IpAddr> = Vec::new();
    for address in [first]
        .into_iter()
        .chain(all)
        .filter_map(|text| text.parse().ok())
    {
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    addresses
}

fn ports(spec: &Value) -> BTreeSet<u16> {
    let containers = entries(&spec["containers"]).filter(|container| container["name"] != SIDECAR);
    let ports = containers.flat_map(|container| entries(&container["ports"]));
    let ports = ports.filter(|port| ["", "TCP"].contains(&text(&port["protocol"])));
    ports
        .filter_map(|port| u16::try_from(port["containerPort"].as_u64()?).ok())
        .collect()
}

/// The annotation by which the injector says what it injected.
const STATUS: &str = "ferrule.dev/status";

/// Where the injector has the debug socket.
const SOCKET: &str = "/var/run/ferrule/identity/proxy.sock";
