//! Leads connections through sidecars where nothing captures them: by listeners, and by what applications are told.
//!
//! Each copy has a loopback address of its own. Its application is told, in `HOST`, to listen there; its sidecar takes
//! what comes for it at other ports of that address, and what it dials at ports of a second one. Wherever the
//! application's variables or arguments name a workload with a port, such as `api.shop:8080`, that second address and
//! port are put in place.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::plan::{Plan, ReplicaPlan, WorkloadPlan, second_loopback};

/// What a copy's sidecar listens for.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Listeners {
    /// Where others call it, with the port of its application.
    pub(super) serves: Vec<(SocketAddr, SocketAddr)>,
    /// Where its application calls, with the workload, the namespace and the port that are meant.
    pub(super) upstreams: Vec<(SocketAddr, String)>,
}

/// What an application is told.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Told {
    pub(super) run: Vec<String>,
    pub(super) env: BTreeMap<String, String>,
}

/// The port at which a sidecar takes what comes for the workload's port number `at`.
pub(super) fn door(at: usize) -> u16 {
    FIRST_SERVE.saturating_add(u16::try_from(at).unwrap_or(u16::MAX))
}

/// Where a sidecar takes what comes for each of the workload's ports.
pub(super) fn doors(ports: &[u16]) -> BTreeMap<u16, u16> {
    ports
        .iter()
        .enumerate()
        .map(|(at, port)| (*port, door(at)))
        .collect()
}

/// What the sidecar of a copy listens for.
pub(super) fn listeners(plan: &Plan, workload: &WorkloadPlan, replica: &ReplicaPlan) -> Listeners {
    let own = own_address(replica);
    let serves = workload.ports.iter().enumerate();
    let serves = serves.map(|(at, port)| (SocketAddr::new(own, door(at)), SocketAddr::new(own, *port)));
    let named = names(plan, &workload.namespace);
    let texts: Vec<&String> = workload.run.iter().chain(workload.env.values()).collect();
    let upstreams = destinations(plan)
        .into_iter()
        .enumerate()
        .filter(|(_, destination)| {
            let is_meant = |name: &str| named.get(name).is_some_and(|meant| meant == destination);
            texts
                .iter()
                .any(|text| mentions(text).any(|mention| is_meant(mention.name)))
        });
    Listeners {
        serves: serves.collect(),
        upstreams: upstreams
            .map(|(at, destination)| (upstream(plan, replica, at), destination))
            .collect(),
    }
}

/// What the application of a copy is told in place of what was written.
pub(super) fn told(plan: &Plan, workload: &WorkloadPlan, replica: &ReplicaPlan) -> Told {
    let named = names(plan, &workload.namespace);
    let destinations = destinations(plan);
    let lead = |text: &str| {
        let mut led = String::new();
        let mut rest = 0;
        for mention in mentions(text) {
            let meant = named.get(mention.name);
            let at = meant.and_then(|meant| destinations.iter().position(|destination| destination == meant));
            if let Some(at) = at {
                led.push_str(text.get(rest..mention.start).unwrap_or_default());
                led.push_str(&upstream(plan, replica, at).to_string());
                rest = mention.start + mention.name.len();
            }
        }
        led.push_str(text.get(rest..).unwrap_or_default());
        led
    };
    let mut env: BTreeMap<String, String> = workload
        .env
        .iter()
        .map(|(name, value)| (name.clone(), lead(value)))
        .collect();
    env.entry("HOST".to_owned())
        .or_insert_with(|| own_address(replica).to_string());
    Told {
        run: workload.run.iter().map(|word| lead(word)).collect(),
        env,
    }
}

/// Every port of every workload, as `api.shop:8080`.
fn destinations(plan: &Plan) -> Vec<String> {
    let of = |workload: &WorkloadPlan| -> Vec<String> {
        let name = format!("{}.{}", workload.name, workload.namespace);
        workload
            .ports
            .iter()
            .map(|port| format!("{name}:{port}"))
            .collect()
    };
    plan.workloads.iter().flat_map(of).collect()
}

/// What each name with a port means within `namespace`: `api:8080` is `api.shop:8080`.
fn names(plan: &Plan, namespace: &str) -> BTreeMap<String, String> {
    let mut names = BTreeMap::new();
    for workload in &plan.workloads {
        for port in &workload.ports {
            let full = format!("{}.{}:{port}", workload.name, workload.namespace);
            if workload.namespace == namespace {
                names.insert(format!("{}:{port}", workload.name), full.clone());
            }
            names.insert(full.clone(), full);
        }
    }
    names
}

/// A host name with a port in a text.
struct Mention<'t> {
    start: usize,
    name: &'t str,
}

/// The words of a text that may be a host name with a port: letters, digits, dots, hyphens, one colon, digits.
fn mentions(text: &str) -> impl Iterator<Item = Mention<'_>> {
    let is_word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':');
    let mut rest = 0;
    text.split(move |c: char| !is_word(c)).map(move |word| {
        let start = rest;
        rest = start
            + word.len()
            + text
                .get(start + word.len()..)
                .and_then(|t| t.chars().next())
                .map_or(0, char::len_utf8);
        // The colon of `http:` is no part of a name.
        Mention { start, name: word }
    })
}

fn own_address(replica: &ReplicaPlan) -> IpAddr {
    replica
        .addresses
        .first()
        .copied()
        .unwrap_or(Ipv4Addr::LOCALHOST.into())
}

/// Where the application of a copy calls destination number `at`.
fn upstream(plan: &Plan, replica: &ReplicaPlan, at: usize) -> SocketAddr {
    let port = FIRST_UPSTREAM.saturating_add(u16::try_from(at).unwrap_or(u16::MAX));
    SocketAddr::from((second_loopback(plan.loopback, replica.number), port))
}

const FIRST_SERVE: u16 = 16_000;

const FIRST_UPSTREAM: u16 = 17_000;

#[cfg(test)]
mod tests;
