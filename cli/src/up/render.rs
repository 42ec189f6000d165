//! Renders what the parts of a mesh are given: settings of sidecars, who lives where, names.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};

use super::control::Places;
use super::explicit;
use super::neighbours::Known;
use super::plan::{MOST_ON_A_HOST, PUBLISHER, Plan, PlanError, PublisherPlan, ReplicaPlan, WorkloadPlan};
use crate::state::Capture;

/// The settings of a copy's sidecar. JSON is YAML.
pub(super) fn sidecar(
    plan: &Plan,
    workload: &WorkloadPlan,
    replica: &ReplicaPlan,
    places: &Places,
) -> String {
    let mut settings = common(plan, places);
    let mut own = json!({
        "namespace": workload.namespace, "name": workload.known_as(replica, plan.join.as_ref()),
        "service_account": workload.service_account, "labels": workload.labels,
        "addresses": replica.addresses,
    });
    put_node(&mut own, plan);
    put(&mut settings, "workload", own);
    put(&mut settings, "admin", admin(&places.control(replica)));
    match plan.capture {
        Capture::Transparent => put(&mut settings, "capture", json!({ "mark": MARK })),
        Capture::Explicit => {
            let listeners = explicit::listeners(plan, workload, replica);
            let serve = |(listen, to): &(SocketAddr, SocketAddr)| json!({ "listen": listen.to_string(), "to": to.to_string() });
            let upstream = |(listen, service): &(SocketAddr, String)| json!({ "listen": listen.to_string(), "service": service });
            put(
                &mut settings,
                "serves",
                listeners.serves.iter().map(serve).collect(),
            );
            put(
                &mut settings,
                "upstreams",
                listeners.upstreams.iter().map(upstream).collect(),
            );
        }
    }
    settings.to_string()
}

/// The settings of the sidecar that speaks for the callers of a namespace's published ports.
pub(super) fn publisher(plan: &Plan, number: usize, publisher: &PublisherPlan, places: &Places) -> String {
    let mut settings = common(plan, places);
    let name = match &plan.join {
        None => PUBLISHER.to_owned(),
        Some(join) => format!("{PUBLISHER}.{}", join.name),
    };
    let mut own = json!({ "namespace": publisher.namespace, "name": name, "service_account": PUBLISHER });
    put_node(&mut own, plan);
    put(&mut settings, "workload", own);
    put(&mut settings, "admin", admin(&places.publisher_control(number)));
    let upstreams: Vec<Value> = publisher
        .ports
        .iter()
        .map(|port| {
            json!({
                "listen": publish_door(plan, port.at).to_string(),
                "service": format!("{}.{}:{}", port.workload, publisher.namespace, port.port),
            })
        })
        .collect();
    put(&mut settings, "upstreams", upstreams.into());
    settings.to_string()
}

/// Where the sidecar of published ports takes what comes for port `at` of the machine.
pub(super) fn publish_door(plan: &Plan, at: u16) -> SocketAddr {
    let ip = match plan.capture {
        Capture::Transparent => [127, 0, 0, 1],
        // The machine's own loopback, on which `at` itself is what callers dial.
        Capture::Explicit => [127, plan.loopback, 0, 2],
    };
    SocketAddr::from((ip, at))
}

fn common(plan: &Plan, places: &Places) -> Value {
    let workers = if plan.replicas().count() > CROWD { 1 } else { 2 };
    json!({
        "trust_domain": plan.trust_domain,
        "credentials": credentials(plan, places),
        "directory": { "addresses": [directory_address(plan).to_string()] },
        "mesh": { "ranges": plan.ranges(), "resolvers": resolvers(plan) },
        "workers": workers,
        "drain": { "leave": "0s", "deadline": "5s" },
    })
}

/// Who is asked for names: in namespaces of its own, the hub.
fn resolvers(plan: &Plan) -> Vec<IpAddr> {
    match plan.capture {
        Capture::Transparent => plan.hub.clone(),
        Capture::Explicit => Vec::new(),
    }
}

/// Who workloads ask for names, in the form of resolv.conf(5).
pub(super) fn resolvers_file(plan: &Plan) -> String {
    resolvers(plan)
        .iter()
        .map(|address| format!("nameserver {address}\n"))
        .collect()
}

fn admin(socket: &Path) -> Value {
    json!({ "enabled": false, "socket": socket })
}

fn put(settings: &mut Value, name: &str, value: Value) {
    if let Value::Object(fields) = settings {
        fields.insert(name.to_owned(), value);
    }
}

/// Where the CA listens.
pub(super) fn authority_address(plan: &Plan) -> SocketAddr {
    let ip = plan.hub.first().copied().unwrap_or(IpAddr::from([127, 0, 0, 1]));
    SocketAddr::new(ip, AUTHORITY)
}

/// Where the directory listens.
pub(super) fn directory_address(plan: &Plan) -> SocketAddr {
    SocketAddr::new(authority_address(plan).ip(), DIRECTORY)
}

/// Says which host of the mesh this is: by the address at which the others reach it.
fn put_node(settings: &mut Value, plan: &Plan) {
    if let Some(host) = plan.host {
        put(settings, "node", host.address.to_string().into());
    }
}

/// The settings of the CA, whose directory this machine's commands reach at `directory`.
pub(super) fn authority(plan: &Plan, places: &Places, directory: SocketAddr) -> String {
    let address = authority_address(plan);
    let host = plan.host.map(|host| host.address.to_string());
    // The first is the one that join tokens name.
    let names = host.into_iter().chain([
        address.ip().to_string(),
        "127.0.0.1".to_owned(),
        "localhost".to_owned(),
    ]);
    let mut settings = json!({
        "trust_domain": plan.trust_domain,
        "data": places.authority(),
        "listen": address.to_string(),
        "serving": { "names": names.collect::<Vec<_>>() },
        // Nobody on this machine needs another port for what `ferrule ca status` tells.
        "admin": { "enabled": false },
        "directory": { "addresses": [directory.to_string()] },
        "limits": { "issue_burst": burst(plan) },
    });
    let seconds = |duration: Duration| format!("{}s", duration.as_secs());
    if let Some(lifetime) = plan.authority.leaf_lifetime {
        put(
            &mut settings,
            "leaf",
            json!({ "default_lifetime": seconds(lifetime) }),
        );
    }
    if let Some(hint) = plan.authority.refresh_hint {
        put(&mut settings, "bundle", json!({ "refresh_hint": seconds(hint) }));
    }
    settings.to_string()
}

/// How many certificates one host gets at once. All that runs on a host shows the same key, so it is one caller to the CA,
/// and starts at one moment; twice that, because whoever is started again asks again.
fn burst(plan: &Plan) -> usize {
    let copies = match plan.host {
        None => plan.replicas().count(),
        // Of those that join, nobody knows yet how many run there.
        Some(_) => MOST_ON_A_HOST,
    };
    let directory = 1;
    (2 * (copies + plan.publishers.len() + directory)).max(LEAST_BURST)
}

/// The settings of the directory.
pub(super) fn directory(plan: &Plan, places: &Places) -> String {
    let mut settings = json!({
        "trust_domain": plan.trust_domain,
        "credentials": credentials(plan, places),
        "source": { "files": [places.known()] },
        "mesh": { "ranges": plan.ranges() },
        "listen": directory_address(plan).to_string(),
        "admin": admin(&places.directory_control()),
    });
    if plan.host.is_some() {
        put(&mut settings, "announced", json!(places.announced()));
    }
    settings.to_string()
}

fn credentials(plan: &Plan, places: &Places) -> Value {
    json!({ "ca": {
        "addresses": [authority_address(plan).to_string()],
        "evidence": { "host": places.host() },
    } })
}

/// Who lives where, for the sidecars: a Workload for each copy, a Service for each workload. JSON is YAML.
///
/// # Errors
/// When there are more ports of workloads than ports of the host.
pub(super) fn places(plan: &Plan) -> Result<String, PlanError> {
    let all = plan.namespaces().into_iter();
    let texts: Result<Vec<String>, PlanError> = all.map(|namespace| places_of(plan, namespace)).collect();
    Ok(texts?.join("---\n"))
}

/// The same for one namespace.
///
/// # Errors
/// When there are more ports of workloads than ports of the host.
pub(super) fn places_of(plan: &Plan, namespace: &str) -> Result<String, PlanError> {
    let mut documents = Vec::new();
    let reached = plan.reached_at()?;
    for workload in plan
        .workloads
        .iter()
        .filter(|workload| workload.namespace == namespace)
    {
        let mut labels = workload.labels.clone();
        labels.insert(LABEL.to_owned(), workload.name.clone());
        for replica in &workload.replicas {
            let mut spec =
                json!({ "serviceAccount": workload.service_account, "addresses": replica.addresses });
            if plan.host.is_some() {
                put_node(&mut spec, plan);
                let own = reached.iter().filter(|reached| reached.number == replica.number);
                let published =
                    own.map(|reached| json!({ "port": reached.target.port(), "at": reached.at.to_string() }));
                put(&mut spec, "published", published.collect());
            }
            let name = workload.known_as(replica, plan.join.as_ref());
            documents.push(json!({
                "apiVersion": ferrule_policy::API_VERSION, "kind": "Workload",
                "metadata": { "namespace": workload.namespace, "name": name, "labels": labels },
                "spec": spec,
            }));
        }
        if !workload.ports.is_empty() {
            let port = |(at, port): (usize, &u16)| match plan.capture {
                Capture::Transparent => json!({ "port": port }),
                Capture::Explicit => json!({ "port": port, "targetPort": explicit::door(at) }),
            };
            let ports: Vec<Value> = workload.ports.iter().enumerate().map(port).collect();
            documents.push(json!({
                "apiVersion": ferrule_policy::API_VERSION, "kind": "Service",
                "metadata": { "namespace": workload.namespace, "name": workload.name },
                "spec": {
                    "addresses": workload.service, "ports": ports,
                    "workloads": { "labels": { LABEL: workload.name } },
                },
            }));
        }
    }
    let texts: Vec<String> = documents.iter().map(|document| format!("{document}\n")).collect();
    Ok(texts.join("---\n"))
}

/// Where the names for workloads of `namespace` lie.
pub(super) fn hosts_file(places: &Places, namespace: &str) -> PathBuf {
    places.run().join(format!("hosts-{namespace}"))
}

/// The names that a workload of `namespace` may use, in the form of hosts(5), behind what the machine's own file says:
/// those of this host's services and of `others`, whose addresses count where both have one.
pub(super) fn hosts(plan: &Plan, namespace: &str, machine: &str, others: &[Known]) -> String {
    let mut text = format!("{}\n# The mesh {}\n", machine.trim_end(), plan.trust_domain);
    let own = plan
        .workloads
        .iter()
        .map(|workload| (&workload.namespace, &workload.name, &workload.service))
        .filter(|(of, name, _)| {
            let is_same = |known: &Known| (&known.namespace, &known.name) == (*of, *name);
            !others.iter().any(is_same)
        });
    let others = others
        .iter()
        .map(|known| (&known.namespace, &known.name, &known.addresses));
    for (of, name, addresses) in own.chain(others) {
        let full = format!("{name}.{of}");
        let names = if of == namespace {
            format!("{full} {name}")
        } else {
            full
        };
        for address in addresses {
            text.push_str(&format!("{address} {names}\n"));
        }
    }
    text
}

/// The mark of the sidecars' own connections.
pub(super) const MARK: u32 = 0x66_72;

/// The label by which a service finds the copies of its workload.
const LABEL: &str = "ferrule.dev/workload";

/// The CA's own default, which is enough for few.
const LEAST_BURST: usize = 120;

const AUTHORITY: u16 = 15010;

const DIRECTORY: u16 = 15012;

/// With more copies than this, one thread for each sidecar is enough.
const CROWD: usize = 16;

#[cfg(test)]
mod tests;
