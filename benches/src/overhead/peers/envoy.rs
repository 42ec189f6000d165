//! Envoy as a TCP proxy.

use std::net::SocketAddr;
use std::path::Path;

use serde_json::{Value, json};

use super::super::pki::Files;
use super::super::place::Place;
use super::super::subject::{Part, Subject};
use super::MUTUAL;
use crate::programs::version;

pub(super) fn prepare(place: &Place, program: &Path) -> anyhow::Result<Subject> {
    let certificates = &place.certificates;
    let bundle = &certificates.bundle;
    let mut downstream = context(
        "DownstreamTlsContext",
        &certificates.server,
        certificates.client.id,
        bundle,
    );
    downstream["require_client_certificate"] = json!(true);
    downstream["disable_stateless_session_resumption"] = json!(true);
    downstream["disable_stateful_session_resumption"] = json!(true);
    let mut upstream = context(
        "UpstreamTlsContext",
        &certificates.client,
        certificates.server.id,
        bundle,
    );
    upstream["max_session_keys"] = json!(0);
    let part = |name: &str, inner: Option<Value>, outer: Option<Value>, listen, to| -> anyhow::Result<Part> {
        let text = bootstrap(listen, to, inner, outer).to_string();
        let settings = place.write(&format!("{name}.json"), &text)?;
        let arguments = ["--concurrency", "1", "--disable-hot-restart", "-l", "error", "-c"];
        let mut part = Part::new(program, arguments, listen);
        part.arguments.push(settings.into());
        Ok(part)
    };
    Ok(Subject {
        name: "envoy",
        title: "Envoy",
        about: format!("{MUTUAL}; both SPIFFE IDs are verified by name"),
        version: version(program, "--version"),
        parts: vec![
            part("far", Some(downstream), None, place.far, place.server)?,
            part("near", None, Some(upstream), place.near, place.far)?,
        ],
        entry: place.near,
    })
}

fn bootstrap(listen: SocketAddr, to: SocketAddr, inner: Option<Value>, outer: Option<Value>) -> Value {
    let address =
        |at: SocketAddr| json!({ "socket_address": { "address": at.ip(), "port_value": at.port() } });
    let socket = |context: Option<Value>| {
        context.map(|context| json!({ "name": "envoy.transport_sockets.tls", "typed_config": context }))
    };
    let mut chain = json!({
        "filters": [{
            "name": "envoy.filters.network.tcp_proxy",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
                "stat_prefix": "bench", "cluster": "far",
            },
        }],
    });
    let mut cluster = json!({
        "name": "far", "type": "STATIC", "connect_timeout": "5s",
        "circuit_breakers": { "thresholds": [{
            "max_connections": 100_000, "max_pending_requests": 100_000, "max_requests": 100_000,
        }] },
        "load_assignment": { "cluster_name": "far", "endpoints": [{
            "lb_endpoints": [{ "endpoint": { "address": address(to) } }],
        }] },
    });
    if let Some(inner) = socket(inner) {
        chain["transport_socket"] = inner;
    }
    if let Some(outer) = socket(outer) {
        cluster["transport_socket"] = outer;
    }
    json!({
        "static_resources": {
            "listeners": [{ "name": "near", "address": address(listen), "filter_chains": [chain] }],
            "clusters": [cluster],
        },
    })
}

fn context(kind: &str, own: &Files, peer: &str, bundle: &Path) -> Value {
    json!({
        "@type": format!("type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.{kind}"),
        "common_tls_context": {
            "tls_params": { "tls_minimum_protocol_version": "TLSv1_3", "tls_maximum_protocol_version": "TLSv1_3" },
            "tls_certificates": [{
                "certificate_chain": { "filename": own.chain },
                "private_key": { "filename": own.key },
            }],
            "validation_context": {
                "trusted_ca": { "filename": bundle },
                "match_typed_subject_alt_names": [{ "san_type": "URI", "matcher": { "exact": peer } }],
            },
        },
    })
}
