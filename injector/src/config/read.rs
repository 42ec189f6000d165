//! Reads the settings document field by field.

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use ferrule_daemon::stop::StopLimits;
use ferrule_document::{Fields, Item};
use ferrule_identity::{SpiffeId, TrustDomain};

use super::{CaConfig, Config, SidecarConfig};
use crate::plan::{Capture, DefaultResources, PullPolicy};
use crate::quantity::Quantity;

/// Reads the whole document.
pub(super) fn config(fields: &mut Fields<'_>) -> Option<Config> {
    let trust_domain = fields.required("trust_domain", |item| item.checked(TrustDomain::parse));
    let listen = fields.default("listen", "0.0.0.0:15017", |item| item.parsed());
    let admin = fields.default("admin", "{}", |item| item.fields(admin));
    let namespace = fields.default("namespace", "ferrule-system", |item| item.text());
    let names = fields.default("names", "[ferrule-injector.ferrule-system.svc]", |item| {
        texts(&item)
    });
    let ca = fields.default("ca", "{}", |item| item.fields(ca));
    let webhooks = fields.optional("webhooks", |item| item.text());
    let sidecar = fields.required("sidecar", |item| item.fields(sidecar));
    let stop = fields.default("stop", "{}", |item| item.fields(stop));
    let log = fields.default("log", "info", |item| item.text());
    Some(Config {
        trust_domain: trust_domain?,
        listen: listen?,
        admin: admin?,
        namespace: namespace?,
        names: names?,
        ca: ca?,
        webhooks: webhooks?,
        sidecar: sidecar?,
        stop: stop?,
        log: log?,
    })
}

fn admin(fields: &mut Fields<'_>) -> Option<Option<SocketAddr>> {
    let enabled = fields.default("enabled", "true", |item| item.boolean());
    let listen = fields.default("listen", "0.0.0.0:15020", |item| item.parsed());
    let (enabled, listen) = (enabled?, listen?);
    Some(enabled.then_some(listen))
}

fn ca(fields: &mut Fields<'_>) -> Option<CaConfig> {
    let addresses = fields.default("addresses", CA_ADDRESS, |item| texts(&item));
    let account = fields.default("account", "ferrule-injector", |item| item.text());
    let token = fields.default("token", "/var/run/secrets/tokens/ferrule-ca", |item| path(&item));
    let bundle = fields.default("bundle", "/var/run/ferrule/trust/bundle.pem", |item| path(&item));
    Some(CaConfig {
        addresses: addresses?,
        account: account?,
        token: token?,
        bundle: bundle?,
    })
}

fn sidecar(fields: &mut Fields<'_>) -> Option<SidecarConfig> {
    let image = fields.required("image", |item| item.text());
    let redirect_image = fields.required("redirect_image", |item| item.text());
    let pull_policy = fields.default("pull_policy", "IfNotPresent", |item| item.one_of(PULL));
    let capture = fields.default("capture", "cni", |item| item.one_of(CAPTURE));
    let native = fields.optional("native", |item| item.boolean());
    let ca = fields.default("ca", CA_ADDRESS, |item| texts(&item));
    let directory = fields.default("directory", "[]", |item| item.list(|item| item.text()));
    let directory_identity = fields.optional("directory_identity", |item| item.checked(SpiffeId::parse));
    let ranges = fields.required("ranges", |item| texts(&item));
    let resolvers = fields.default("resolvers", "[]", |item| item.list(|item| item.text()));
    let api_server = fields.default("api_server", "[]", |item| item.list(|item| item.text()));
    let cpu = fields.default("cpu", "20m", |item| item.parsed::<Quantity>());
    let cpu_limit = fields.default("cpu_limit", "'1'", |item| item.parsed::<Quantity>());
    let memory = fields.default("memory", "32Mi", |item| item.parsed::<Quantity>());
    let memory_limit = fields.default("memory_limit", "256Mi", |item| item.parsed::<Quantity>());
    let log_level = fields.default("log_level", "info", |item| item.text());
    Some(SidecarConfig {
        image: image?,
        redirect_image: redirect_image?,
        pull_policy: pull_policy?,
        capture: capture?,
        native: native?,
        ca: ca?,
        directory: directory?,
        directory_identity: directory_identity?,
        ranges: ranges?,
        resolvers: resolvers?,
        api_server: api_server?,
        resources: DefaultResources {
            cpu: cpu?,
            cpu_limit: cpu_limit?,
            memory: memory?,
            memory_limit: memory_limit?,
        },
        log_level: log_level?,
    })
}

fn stop(fields: &mut Fields<'_>) -> Option<StopLimits> {
    let leave = fields.default("leave", "5s", |item| item.duration_in(STOP));
    let deadline = fields.default("deadline", "10s", |item| item.duration_in(STOP));
    Some(StopLimits {
        leave: leave?,
        deadline: deadline?,
        ..StopLimits::default()
    })
}

fn texts(item: &Item<'_>) -> Option<Vec<String>> {
    item.non_empty_list(|item| item.text())
}

fn path(item: &Item<'_>) -> Option<PathBuf> {
    item.text().map(PathBuf::from)
}

const CA_ADDRESS: &str = "[ferrule-ca.ferrule-system.svc:15010]";
const STOP: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(600);

const PULL: &[(&str, PullPolicy)] = &[
    ("Always", PullPolicy::Always),
    ("IfNotPresent", PullPolicy::IfNotPresent),
    ("Never", PullPolicy::Never),
];

const CAPTURE: &[(&str, Capture)] = &[
    ("cni", Capture::Cni),
    ("init", Capture::Init),
    ("none", Capture::None),
];
