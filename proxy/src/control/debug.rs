//! Answers at the debug socket: connections, edges, lines as they come, settings, certificates, probes, drain.

use std::sync::Arc;

use ferrule_credentials::Newest;
use ferrule_daemon::admin::Admin;
use ferrule_daemon::clock::Clock;
use ferrule_daemon::https::{Reply, reply, stream};
use ferrule_daemon::logging::Chain;
use ferrule_daemon::signals::{Asking, Signal};
use ferrule_identity::CertificateInfo;
use http::StatusCode;
use serde_json::{Value, json};

use super::probe::{Order, Prober};
use crate::observe::book::Seen;
use crate::observe::edges;
use crate::observe::tap::{Tap, WATCHERS};

/// What is to be seen at the debug socket.
pub struct Shown {
    /// The connections of each worker.
    pub seen: Vec<Seen>,
    /// Where their lines are passed on.
    pub tap: Tap,
    /// The settings in force, with their secrets hidden.
    pub effective: String,
    /// Certificates and trust.
    pub credentials: Newest,
    /// The time.
    pub clock: Clock,
    /// Tries destinations out.
    pub prober: Prober,
}

/// Adds what the sidecar shows and does to `admin`.
pub fn offer(admin: Admin, shown: Shown, asking: Asking) -> Admin {
    let Shown {
        seen,
        tap,
        effective,
        credentials,
        clock,
        prober,
    } = shown;
    let effective: Arc<str> = effective.into();
    let open = seen.clone();
    admin
        .view("/connections", move || json_reply(&connections(&open)))
        .view("/edges", move || {
            let ended = seen.iter().map(|seen| &seen.edges);
            let open = seen.iter().flat_map(|seen| seen.open.walk());
            let open = open.map(|live| (live.account, live.moved));
            json_reply(&edges::to_json(ended, open, clock.unix()))
        })
        .view("/tap", move || match tap.watch() {
            Some(lines) => stream(StatusCode::OK, "application/x-ndjson", lines),
            None => reply(
                StatusCode::TOO_MANY_REQUESTS,
                "text/plain; charset=utf-8",
                format!("{WATCHERS} look on already\n"),
            ),
        })
        .view("/config", move || {
            reply(StatusCode::OK, "application/yaml", effective.to_string())
        })
        .view("/certificates", move || json_reply(&certificates(&credentials)))
        .action("/probe", move |body| probe(&prober, &body))
        .action("/drain", move |_| {
            asking.send(Signal::Asked);
            reply(StatusCode::OK, "text/plain; charset=utf-8", "draining\n")
        })
}

fn probe(prober: &Prober, body: &[u8]) -> Reply {
    const TEXT: &str = "text/plain; charset=utf-8";
    match Order::read(body).map(|order| prober.order(order)) {
        Ok(Some(outcome)) => stream(StatusCode::OK, "application/json", outcome),
        Ok(None) => reply(
            StatusCode::TOO_MANY_REQUESTS,
            TEXT,
            "too many probes wait already\n",
        ),
        Err(error) => reply(StatusCode::BAD_REQUEST, TEXT, format!("{}\n", Chain(&error))),
    }
}

fn connections(seen: &[Seen]) -> Value {
    let all = seen.iter().flat_map(|seen| seen.open.walk());
    Value::Array(all.map(|live| live.account.to_json(&live.moved)).collect())
}

fn certificates(credentials: &Newest) -> Value {
    let Some(credentials) = credentials.borrow().clone() else {
        return json!({ "own": null, "trust": [] });
    };
    let own = &credentials.certificate;
    let chain: Vec<Value> = own.chain_der().iter().map(|der| certificate(der)).collect();
    let trust: Vec<Value> = credentials
        .trust
        .bundles
        .iter()
        .map(|bundle| {
            let anchors = bundle.anchors().iter().map(|anchor| {
                json!({
                    "fingerprint": anchor.fingerprint().to_string(),
                    "not_after": anchor.lifetime().not_after().to_string(),
                    "starts": anchor.lifetime().not_before().unix(),
                    "ends": anchor.lifetime().not_after().unix(),
                })
            });
            json!({
                "trust_domain": bundle.trust_domain().as_str(),
                "sequence": bundle.sequence(),
                "anchors": anchors.collect::<Vec<_>>(),
            })
        })
        .collect();
    json!({
        "own": {
            "id": own.id().as_str(),
            "serial": own.serial().to_string(),
            "not_after": own.lifetime().not_after().to_string(),
            "chain": chain,
        },
        "trust": trust,
        "revocation_generation": credentials.trust.revocations.generation(),
    })
}

fn certificate(der: &rustls::pki_types::CertificateDer<'_>) -> Value {
    match CertificateInfo::from_der(der) {
        Ok(info) => json!({
            "subject": info.subject, "issuer": info.issuer, "uris": info.uris,
            "serial": info.serial.to_string(), "not_after": info.lifetime.not_after().to_string(),
            "starts": info.lifetime.not_before().unix(), "ends": info.lifetime.not_after().unix(),
        }),
        Err(error) => json!({ "unreadable": error.to_string() }),
    }
}

fn json_reply(value: &Value) -> Reply {
    reply(StatusCode::OK, "application/json", format!("{value:#}\n"))
}
