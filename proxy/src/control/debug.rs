//! Answers at the debug socket: connections, settings, certificates, drain.

use std::sync::Arc;

use ferrule_credentials::Newest;
use ferrule_daemon::admin::Admin;
use ferrule_daemon::https::{Reply, reply};
use ferrule_daemon::signals::{Asking, Signal};
use ferrule_identity::CertificateInfo;
use http::StatusCode;
use serde_json::{Value, json};

use crate::observe::live::Shard;

/// Adds what the sidecar shows to `admin`. `effective` are the settings with their secrets hidden.
pub fn actions(
    admin: Admin,
    shards: Vec<Shard>,
    effective: String,
    credentials: Newest,
    asking: Asking,
) -> Admin {
    let effective: Arc<str> = effective.into();
    admin
        .action("/connections", move |_| json_reply(&connections(&shards)))
        .action("/config", move |_| {
            reply(StatusCode::OK, "application/yaml", effective.to_string())
        })
        .action("/certificates", move |_| json_reply(&certificates(&credentials)))
        .action("/drain", move |_| {
            asking.send(Signal::Asked);
            reply(StatusCode::OK, "text/plain; charset=utf-8", "draining\n")
        })
}

fn connections(shards: &[Shard]) -> Value {
    let all = shards.iter().flat_map(Shard::all);
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
        }),
        Err(error) => json!({ "unreadable": error.to_string() }),
    }
}

fn json_reply(value: &Value) -> Reply {
    reply(StatusCode::OK, "application/json", format!("{value:#}\n"))
}
