//! Reads the settings document field by field.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;

use ferrule_credentials::source::Source;
use ferrule_daemon::logging::LogConfig;
use ferrule_daemon::stop::StopLimits;
use ferrule_document::{Fields, Item};
use ferrule_identity::{SpiffeId, TrustDomain};
use ferrule_policy::Cidr;

use super::{Config, LimitsConfig, SourceConfig, default_id, default_reader};

/// Reads the whole document.
pub(super) fn config(fields: &mut Fields<'_>) -> Option<Config> {
    let trust_domain = fields.required("trust_domain", |item| item.checked(TrustDomain::parse));
    let id = fields.optional("identity", |item| item.checked(SpiffeId::parse));
    let credentials = fields.required("credentials", |item| {
        Source::read(item, trust_domain.clone(), None)
    });
    let source = fields.required("source", |item| {
        item.one_field(&["files", "kubernetes"], |which, item| match which {
            "kubernetes" => item.fields(kubernetes),
            _ => item.non_empty_list(|item| path(&item)).map(SourceConfig::Files),
        })
    });
    let announced = fields.optional("announced", |item| path(&item));
    let ranges = fields.default("mesh", "{}", |item| item.fields(mesh));
    let readers = fields.optional("readers", |item| item.list(|item| item.checked(SpiffeId::parse)));
    let listen = fields.optional("listen", |item| item.parsed::<SocketAddr>());
    let admin = fields.default("admin", "{}", |item| item.fields(admin));
    let limits = fields.default("limits", "{}", |item| item.fields(limits));
    let stop = fields.default("drain", "{}", |item| {
        item.fields(|fields| StopLimits::read(fields, "0s", "5s"))
    });
    let log = fields.default("log", "{}", |item| item.fields(LogConfig::read));
    let trust_domain = trust_domain?;
    let id = id?.unwrap_or_else(|| default_id(&trust_domain));
    if !id.is_in(&trust_domain) {
        fields.fail(format!(
            "`identity` is not one of the trust domain {trust_domain}"
        ));
        return None;
    }
    let readers = match readers? {
        Some(readers) => readers.into_iter().collect(),
        None => BTreeSet::from([default_reader(&trust_domain)]),
    };
    let (admin, socket) = admin?;
    Some(Config {
        trust_domain,
        id,
        credentials: credentials?,
        source: source?,
        announced: announced?,
        ranges: ranges?,
        readers,
        listen: listen?,
        admin,
        socket,
        limits: limits?,
        stop: stop?,
        log: log?,
    })
}

fn path(item: &Item<'_>) -> Option<PathBuf> {
    item.text().map(PathBuf::from)
}

fn kubernetes(fields: &mut Fields<'_>) -> Option<SourceConfig> {
    let kubeconfig = fields.optional("kubeconfig", |item| path(&item));
    Some(SourceConfig::Kubernetes {
        kubeconfig: kubeconfig?,
    })
}

fn mesh(fields: &mut Fields<'_>) -> Option<Vec<Cidr>> {
    fields.default("ranges", "[]", |item| item.list(|item| item.parsed::<Cidr>()))
}

fn admin(fields: &mut Fields<'_>) -> Option<(Option<SocketAddr>, Option<PathBuf>)> {
    let enabled = fields.default("enabled", "true", |item| item.boolean());
    let listen = fields.default("listen", "127.0.0.1:15022", |item| item.parsed::<SocketAddr>());
    let socket = fields.optional("socket", |item| path(&item));
    Some((enabled?.then_some(listen?), socket?))
}

fn limits(fields: &mut Fields<'_>) -> Option<LimitsConfig> {
    let connections = fields.default("connections", "16384", |item| item.integer(1..=1_000_000_usize));
    let handshakes = fields.default("handshakes", "256", |item| item.integer(1..=65_536_usize));
    Some(LimitsConfig {
        connections: connections?,
        handshakes: handshakes?,
    })
}
