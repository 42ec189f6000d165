//! Answers at the control socket: proxies, faults.

use ferrule_daemon::admin::Admin;
use ferrule_daemon::clock::Clock;
use ferrule_daemon::https::{Reply, reply};
use ferrule_daemon::signals::{Asking, Signal};
use ferrule_identity::Timestamp;
use ferrule_wire::proto::ferrule::v1::Proxy;
use http::StatusCode;
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::acks::Proxies;

/// Adds what the directory shows to `admin`.
pub fn actions(
    admin: Admin,
    proxies: Proxies,
    faults: watch::Receiver<Vec<String>>,
    effective: String,
    clock: Clock,
    asking: Asking,
) -> Admin {
    admin
        .view("/proxies", move || {
            let now = Timestamp::from_unix(clock.unix());
            let listed = proxies.list(now);
            let proxies: Vec<Value> = listed.proxies.iter().map(proxy).collect();
            json_reply(&json!({ "time": listed.time, "proxies": proxies }))
        })
        .view("/faults", move || json_reply(&json!(*faults.borrow())))
        .view("/config", move || {
            reply(StatusCode::OK, "application/yaml", effective.clone())
        })
        .action("/drain", move |_| {
            asking.send(Signal::Asked);
            reply(StatusCode::OK, "text/plain; charset=utf-8", "draining\n")
        })
}

fn proxy(proxy: &Proxy) -> Value {
    let held = proxy.held.iter().map(|held| {
        let short = held.type_url.rsplit('/').next().unwrap_or_default();
        (
            short.to_owned(),
            json!({ "resources": held.resources, "version": held.version }),
        )
    });
    json!({
        "identity": proxy.identity,
        "name": proxy.name,
        "address": proxy.address,
        "connected_since": (proxy.connected_since != 0).then_some(proxy.connected_since),
        "last_heard": proxy.last_heard,
        "certificate": { "serial": proxy.serial, "not_after": proxy.not_after },
        "bundle_sequence": proxy.bundle_sequence,
        "deny_generation": proxy.deny_generation,
        "lag_seconds": proxy.lag_seconds,
        "clock_ahead_seconds": proxy.clock_ahead_seconds,
        "held": held.collect::<serde_json::Map<_, _>>(),
        "refused": (!proxy.refused.is_empty()).then_some(&proxy.refused),
    })
}

fn json_reply(value: &Value) -> Reply {
    reply(StatusCode::OK, "application/json", format!("{value:#}\n"))
}
