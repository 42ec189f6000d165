//! Writes the settings of the sidecar that stands beside a program.

use std::net::SocketAddr;
use std::path::Path;

use ferrule_credentials::join::Host;
use ferrule_daemon::clock::Clock;
use ferrule_identity::{SpiffeId, Timestamp};
use serde_json::{Value, json};

use crate::arguments::{Run, RunWay};
use crate::context::Context;
use crate::failure::Failure;
use crate::up::alone;

/// The settings as JSON, which is YAML.
pub(super) fn write(arguments: &Run, socket: &Path, context: &Context) -> Result<Value, Failure> {
    let id = &arguments.identity;
    let Some((namespace, account)) = id.namespace_and_account() else {
        return Err(usage(format!(
            "--identity {id}: an identity of the mesh is spiffe://…/ns/NAMESPACE/sa/ACCOUNT"
        )));
    };
    let upstreams: Result<Vec<Value>, Failure> =
        arguments.upstreams.iter().map(|text| upstream(text)).collect();
    let serves: Result<Vec<Value>, Failure> = arguments.serves.iter().map(|text| serve(text)).collect();
    let (upstreams, serves) = (upstreams?, serves?);
    if upstreams.is_empty() && serves.is_empty() {
        return Err(usage(
            "say what the program calls (--upstream) or serves (--serve); without either it needs no sidecar"
                .to_owned(),
        ));
    }
    let mut labels = json!({ "app": account });
    for label in &arguments.labels {
        let (name, value) = label
            .split_once('=')
            .ok_or_else(|| usage(format!("--label {label}: a label is written NAME=VALUE")))?;
        labels[name] = value.into();
    }
    let mut settings = json!({
        "trust_domain": id.trust_domain().as_str(),
        "workload": {
            "namespace": namespace, "name": arguments.name.as_deref().unwrap_or(account),
            "service_account": account, "labels": labels,
        },
        "credentials": credentials(arguments, context)?,
        "upstreams": upstreams,
        "serves": serves,
        "admin": { "enabled": false, "socket": socket },
        "drain": { "leave": "0s" },
    });
    if let Some(folder) = &arguments.rules {
        let folder = std::path::absolute(folder).map_err(Failure::could_not("find the rules"))?;
        settings["rules"] = json!({ "folder": folder });
    }
    if arguments.capture == RunWay::Transparent {
        // What peers call is carried to the program's own port, where the redirect takes it.
        settings["serves"] = json!([]);
        alone::settings(id.trust_domain().as_str(), &mut settings)?;
    }
    Ok(settings)
}

/// From the CA on this host's word, or from files that somebody else keeps.
fn credentials(arguments: &Run, context: &Context) -> Result<Value, Failure> {
    if let (Some(chain), Some(key), Some(bundle)) = (&arguments.chain, &arguments.key, &arguments.bundle) {
        return Ok(json!({ "files": { "chain": chain, "key": key, "bundle": bundle } }));
    }
    let trust_domain = arguments.identity.trust_domain();
    let folder = match &arguments.host {
        Some(folder) => folder.clone(),
        None => context.host_folder(trust_domain.as_str())?,
    };
    let now = Timestamp::from_unix(Clock::system().unix());
    let host = Host::read(&folder, now).map_err(|error| {
        usage(format!(
            "this host has not joined {trust_domain} ({}); join first: ferrule join TOKEN",
            ferrule_daemon::logging::Chain(&error)
        ))
    })?;
    Ok(json!({ "ca": { "addresses": host.addresses, "evidence": { "host": folder } } }))
}

/// `127.0.0.1:5432=db.shop:5432`, or `127.0.0.1:5432=192.0.2.7:5432=spiffe://…`.
fn upstream(text: &str) -> Result<Value, Failure> {
    let wrong = || {
        usage(format!(
            "--upstream {text}: write 127.0.0.1:PORT=NAME.NAMESPACE:PORT, or 127.0.0.1:PORT=HOST:PORT=SPIFFE-ID"
        ))
    };
    let (listen, rest) = text.split_once('=').ok_or_else(wrong)?;
    let listen: SocketAddr = listen.parse().map_err(|_| wrong())?;
    Ok(match rest.split_once('=') {
        None => json!({ "listen": listen, "service": rest }),
        Some((address, id)) => {
            let id = SpiffeId::parse(id).map_err(|_| wrong())?;
            json!({ "listen": listen, "address": address, "identity": id.as_str() })
        }
    })
}

/// `0.0.0.0:9443=127.0.0.1:8080`.
fn serve(text: &str) -> Result<Value, Failure> {
    serves(text).map(|(listen, to)| json!({ "listen": listen, "to": to }))
}

/// Where peers call, and where the program listens.
pub(super) fn serves(text: &str) -> Result<(SocketAddr, SocketAddr), Failure> {
    let both = text
        .split_once('=')
        .and_then(|(listen, to)| Some((listen.parse().ok()?, to.parse().ok()?)));
    both.ok_or_else(|| {
        usage(format!(
            "--serve {text}: write ADDRESS:PORT=127.0.0.1:PORT, where peers call and where the program listens"
        ))
    })
}

fn usage(message: String) -> Failure {
    Failure::Usage { message }
}
