//! `ferrule policy suggest`: writes the rules that observed traffic lacks.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::process::ExitCode;

use ferrule_identity::SpiffeId;
use ferrule_policy::{Ask, Edge, HostName, Inbound, Outbound, Source, missing_edges, suggest};
use serde_json::json;

use super::arguments::Traffic as Arguments;
use super::watched;
use crate::context::Context;
use crate::failure::Failure;
use crate::picture::Picture;
use crate::traffic::Kind;

pub(super) fn run(arguments: &Arguments, denied: bool, context: &Context) -> Result<ExitCode, Failure> {
    let (meant, picture) = watched::subject(arguments, context)?;
    let watched = watched::read(arguments, meant.as_ref(), context)?;
    let mut edges: Vec<Edge> = Vec::new();
    let mut unknown: Vec<String> = Vec::new();
    for (kind, labels) in watched.kinds() {
        // Who is called decides, and tells of it; no rule of the caller's could.
        let is_the_others = kind.direction == "outbound" && !kind.destination.is_empty();
        if !is_the_others && (kind.verdict == "audit" || (denied && kind.verdict == "deny")) {
            match missing(kind, labels, &picture) {
                Some(mut found) => edges.append(&mut found),
                None => unknown.push(format!("{} to {}:{}", kind.caller(), kind.called(), kind.port)),
            }
        }
    }
    edges.sort();
    edges.dedup();
    unknown.sort();
    unknown.dedup();
    let suggestion = suggest(&edges);
    if context.is_json() {
        context.printer.json(&json!({
            "connections": edges.len(), "documents": suggestion.documents, "unknown": unknown,
        }))?;
        return Ok(watched.code());
    }
    if !suggestion.documents.is_empty() {
        context.printer.line(suggestion.documents.trim_end())?;
    }
    context.printer.tell(&match edges.len() {
        0 => "no connection was let through only because its rule is missing; nothing to add".to_owned(),
        count => format!(
            "# for {count} kinds of connections; read the rules before you put them in force: whoever came during the \
             trial gets in for good"
        ),
    });
    for left in unknown {
        context
            .printer
            .tell(&format!("# left out, since nobody knows its workload: {left}"));
    }
    Ok(watched.code())
}

/// The edges that this kind of connection lacks, none when a rule is there by now; `None` when it cannot be said.
fn missing(kind: &Kind, labels: Option<&BTreeMap<String, String>>, picture: &Picture) -> Option<Vec<Edge>> {
    let member = picture
        .members
        .iter()
        .find(|member| member.namespace == kind.namespace && member.names.are(&kind.pod));
    let labels = labels.or(member.map(|member| &member.labels))?;
    let own = member.map_or(&kind.pod, |member| &member.name);
    let name = labels.get("app").unwrap_or(own);
    let workload = ferrule_policy::Workload {
        namespace: &kind.namespace,
        name,
        labels,
    };
    let id = (!kind.source.is_empty())
        .then(|| SpiffeId::parse(&kind.source).ok())
        .flatten();
    // What a sidecar that waited for the name of a host beyond the mesh has put down in place of a service.
    let (host, service);
    let ask = if kind.direction == "inbound" {
        let source = match &id {
            Some(id) => Source::Verified(id),
            None => Source::Plaintext(kind.clear_caller()?),
        };
        Ask::Inbound(Inbound {
            source,
            destination: workload,
            port: kind.port,
        })
    } else {
        let address: IpAddr = kind.destination_address.parse().ok()?;
        let mut known = picture.services.iter().map(|service| &service.name);
        service = known.find(|name| name.to_string() == kind.service).cloned();
        host = (service.is_none() && !kind.service.is_empty())
            .then(|| HostName::parse(&kind.service).ok())
            .flatten();
        Ask::Outbound(Outbound {
            source: workload,
            address,
            port: kind.port,
            services: service.as_slice(),
            host: host.as_ref(),
        })
    };
    Some(missing_edges(&picture.policy, &[ask]))
}
