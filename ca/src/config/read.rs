//! Reads the settings document field by field.

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use ferrule_daemon::stop::StopLimits;
use ferrule_document::{Fields, Item};
use ferrule_identity::{KeyAlgorithm, SpiffeId, TrustDomain};

use super::{
    Config, ConfigMapName, DirectoryConfig, KubernetesConfig, LeafConfig, LimitsConfig, Profile, RootConfig,
    ServingName, SigningConfig,
};
use crate::crypto::CryptoProfile;

/// Reads the whole document.
pub(super) fn config(fields: &mut Fields<'_>) -> Option<Config> {
    let trust_domain = fields.optional("trust_domain", |item| item.checked(TrustDomain::parse));
    let data = fields.default("data", "ferrule-ca-data", |item| item.text().map(PathBuf::from));
    let listen = fields.optional("listen", |item| item.parsed());
    let admin = fields.default("admin", "{}", |item| item.fields(admin));
    let profile = fields.default("profile", "standard", |item| item.one_of(PROFILES));
    let crypto = fields.default("crypto", "standard", |item| item.one_of(CRYPTO));
    let defaults = if crypto == Some(CryptoProfile::Cnsa1) {
        "p384"
    } else {
        "p256"
    };
    let leaf = fields.default("leaf", "{}", |item| item.fields(leaf));
    let signing = fields.default("signing", "{}", |item| {
        item.fields(|fields| signing(fields, defaults))
    });
    let root = fields.default("root", "{}", |item| item.fields(|fields| root(fields, defaults)));
    let serving = fields.default("serving", "{}", |item| item.fields(serving));
    let bundle = fields.default("bundle", "{}", |item| item.fields(bundle));
    let crl = fields.default("crl", "{}", |item| item.fields(crl));
    let admins = fields.default("admins", "[]", |item| {
        item.list(|item| item.checked(SpiffeId::parse))
    });
    let servers = fields.default("servers", "[]", |item| item.list(|item| item.fields(server)));
    let kubernetes = fields.optional("kubernetes", |item| item.fields(kubernetes));
    let directory = fields.optional("directory", |item| item.fields(directory));
    let keys = fields.default("keys", "{}", |item| item.fields(keys));
    let limits = fields.default("limits", "{}", |item| item.fields(limits));
    let stop = fields.default("stop", "{}", |item| item.fields(stop));
    let log = fields.default("log", "info", |item| item.text());
    let config = Config {
        trust_domain: trust_domain?,
        data: data?,
        listen: listen?,
        admin: admin?,
        profile: profile?,
        crypto: crypto?,
        leaf: leaf?,
        signing: signing?,
        root: root?,
        serving: serving?,
        bundle_refresh_hint: bundle?,
        crl_lifetime: crl?,
        admins: admins?,
        servers: servers?,
        kubernetes: kubernetes?,
        directory: directory?,
        passphrase_file: keys?,
        limits: limits?,
        stop: stop?,
        log: log?,
    };
    check_whole(&config, fields)?;
    Some(config)
}

/// What no field can know alone.
fn check_whole(config: &Config, fields: &Fields<'_>) -> Option<()> {
    let mut fine = true;
    let mut refuse = |message: String| {
        fields.fail(message);
        fine = false;
    };
    if config.crypto == CryptoProfile::Cnsa1 {
        for (field, algorithm) in [
            ("signing", config.signing.algorithm),
            ("root", config.root.algorithm),
        ] {
            if algorithm != KeyAlgorithm::EcdsaP384 {
                refuse(format!(
                    "`{field}.algorithm` is {algorithm}, and `crypto: cnsa1` takes p384 alone"
                ));
            }
        }
    }
    if let Some(trust_domain) = &config.trust_domain {
        for admin in config.admins.iter().filter(|admin| !admin.is_in(trust_domain)) {
            refuse(format!(
                "the administrator {admin} is not in the trust domain {trust_domain}"
            ));
        }
    }
    if let Some(trust_domain) = &config.trust_domain {
        for (server, _) in config.servers.iter().filter(|(id, _)| !id.is_in(trust_domain)) {
            refuse(format!(
                "the server {server} is not in the trust domain {trust_domain}"
            ));
        }
    }
    if config.signing.lifetime > config.root.lifetime {
        refuse("`signing.lifetime` is longer than `root.lifetime`".to_owned());
    }
    if config.leaf.max_lifetime * 2 > config.signing.lifetime {
        refuse("`leaf.max_lifetime` is longer than half of `signing.lifetime`".to_owned());
    }
    fine.then_some(())
}

fn admin(fields: &mut Fields<'_>) -> Option<Option<std::net::SocketAddr>> {
    let enabled = fields.default("enabled", "true", |item| item.boolean());
    let listen = fields.default("listen", "127.0.0.1:15020", |item| item.parsed());
    let (enabled, listen) = (enabled?, listen?);
    Some(enabled.then_some(listen))
}

fn leaf(fields: &mut Fields<'_>) -> Option<LeafConfig> {
    let default = fields.default("default_lifetime", "12h", |item| item.duration_in(LEAF));
    let min = fields.default("min_lifetime", "1m", |item| item.duration_in(LEAF));
    let max = fields.default("max_lifetime", "7d", |item| item.duration_in(LEAF));
    let (default_lifetime, min_lifetime, max_lifetime) = (default?, min?, max?);
    if min_lifetime > default_lifetime || default_lifetime > max_lifetime {
        fields.fail("`min_lifetime`, `default_lifetime` and `max_lifetime` must not decrease in this order");
        return None;
    }
    Some(LeafConfig {
        default_lifetime,
        min_lifetime,
        max_lifetime,
    })
}

fn signing(fields: &mut Fields<'_>, algorithm: &str) -> Option<SigningConfig> {
    let algorithm = fields.default("algorithm", algorithm, |item| item.one_of(ALGORITHMS));
    let lifetime = fields.default("lifetime", "90d", |item| item.duration_in(AUTHORITY));
    let rotate = fields.default("rotate_at_percent", "50", |item| item.integer(10..=80));
    Some(SigningConfig {
        algorithm: algorithm?,
        lifetime: lifetime?,
        rotate_at_percent: rotate?,
    })
}

fn root(fields: &mut Fields<'_>, algorithm: &str) -> Option<RootConfig> {
    let algorithm = fields.default("algorithm", algorithm, |item| item.one_of(ALGORITHMS));
    let lifetime = fields.default("lifetime", "3650d", |item| item.duration_in(AUTHORITY));
    Some(RootConfig {
        algorithm: algorithm?,
        lifetime: lifetime?,
    })
}

fn serving(fields: &mut Fields<'_>) -> Option<Vec<ServingName>> {
    fields.default("names", "[localhost, 127.0.0.1, \"::1\"]", |item| {
        item.non_empty_list(|item| item.checked(serving_name))
    })
}

fn server(fields: &mut Fields<'_>) -> Option<(SpiffeId, Vec<ServingName>)> {
    let id = fields.required("identity", |item| item.checked(SpiffeId::parse));
    let names = fields.required("names", |item| {
        item.non_empty_list(|item| item.checked(serving_name))
    });
    Some((id?, names?))
}

/// Reads a host name in lower case, or an IP address.
fn serving_name(text: &str) -> Result<ServingName, &'static str> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok(ServingName::Ip(address));
    }
    if text.len() > 253 || !text.split('.').all(is_label) {
        return Err("is neither an IP address nor a host name in lower case");
    }
    Ok(ServingName::Dns(text.to_owned()))
}

fn bundle(fields: &mut Fields<'_>) -> Option<Duration> {
    fields.default("refresh_hint", "5m", |item| {
        item.duration_in(seconds(10)..=seconds(86_400))
    })
}

fn crl(fields: &mut Fields<'_>) -> Option<Duration> {
    fields.default("lifetime", "24h", |item| {
        item.duration_in(seconds(600)..=seconds(30 * 86_400))
    })
}

fn kubernetes(fields: &mut Fields<'_>) -> Option<KubernetesConfig> {
    let api = fields.default("api", "https://kubernetes.default.svc", |item| {
        item.checked(api_server)
    });
    let ca = fields.default("ca_file", IN_POD_CA, |item| item.text().map(PathBuf::from));
    let token = fields.default("token_file", IN_POD_TOKEN, |item| item.text().map(PathBuf::from));
    let audience = fields.default("audience", "ferrule-ca", |item| item.text());
    let publish = fields.optional("publish", |item| item.checked(config_map));
    let (host, port) = api?;
    Some(KubernetesConfig {
        host,
        port,
        ca_file: ca?,
        token_file: token?,
        audience: audience?,
        publish: publish?,
    })
}

/// Reads `NAMESPACE/NAME`.
fn config_map(text: &str) -> Result<ConfigMapName, &'static str> {
    let (namespace, name) = text.split_once('/').ok_or("is not of the form NAMESPACE/NAME")?;
    if !is_label(namespace) || !name.split('.').all(is_label) {
        return Err("is not of the form NAMESPACE/NAME, in the names of Kubernetes");
    }
    let (namespace, name) = (namespace.to_owned(), name.to_owned());
    Ok(ConfigMapName { namespace, name })
}

/// Whether a text is a DNS label in lower case (RFC 1123).
fn is_label(label: &str) -> bool {
    (1..=63).contains(&label.len())
        && label
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && !label.starts_with('-')
        && !label.ends_with('-')
}

/// Reads `https://HOST` or `https://HOST:PORT`, nothing after it.
fn api_server(text: &str) -> Result<(String, u16), &'static str> {
    let form = "is not of the form https://HOST:PORT";
    let rest = text.strip_prefix("https://").ok_or(form)?;
    let authority: http::uri::Authority = rest.trim_end_matches('/').parse().map_err(|_| form)?;
    if authority.as_str().contains('@') || authority.host().is_empty() {
        return Err(form);
    }
    // A port that is no number reads as none at all.
    let port = match authority.as_str().strip_prefix(authority.host()) {
        Some("") => 443,
        _ => authority.port_u16().filter(|port| *port > 0).ok_or(form)?,
    };
    let host = authority.host().trim_start_matches('[').trim_end_matches(']');
    Ok((host.to_owned(), port))
}

fn keys(fields: &mut Fields<'_>) -> Option<Option<PathBuf>> {
    fields.optional("passphrase_file", |item| item.text().map(PathBuf::from))
}

fn limits(fields: &mut Fields<'_>) -> Option<LimitsConfig> {
    let issues = fields.default("issues_per_caller", "2", |item| rate(&item));
    let issue_burst = fields.default("issue_burst", "120", |item| rate(&item));
    let requests = fields.default("requests_per_address", "50", |item| rate(&item));
    let request_burst = fields.default("request_burst", "2000", |item| rate(&item));
    let remembered = fields.default("remembered", "100000", |item| item.integer(100..=10_000_000));
    let statements = fields.default("statements", "1000000", |item| item.integer(1_000..=100_000_000));
    let connections = fields.default("connections", "8192", |item| item.integer(16..=1_000_000));
    let body = fields.default("body", "64KiB", |item| item.size_in(16 * 1024..=1024 * 1024));
    let request_time = fields.default("request_time", "10s", |item| item.duration_in(REQUEST));
    let wait = fields.default("wait", "60s", |item| item.duration_in(seconds(1)..=seconds(600)));
    let reviews = fields.default("reviews", "32", |item| item.integer(1..=1_000));
    Some(LimitsConfig {
        issues_per_caller: issues?,
        issue_burst: issue_burst?,
        requests_per_address: requests?,
        request_burst: request_burst?,
        remembered: remembered?,
        statements: statements?,
        connections: connections?,
        body: usize::try_from(body?).ok()?,
        request_time: request_time?,
        wait: wait?,
        reviews: reviews?,
    })
}

fn rate(item: &Item<'_>) -> Option<NonZeroU32> {
    item.integer(1..=1_000_000).and_then(NonZeroU32::new)
}

fn directory(fields: &mut Fields<'_>) -> Option<DirectoryConfig> {
    let addresses = fields.required("addresses", |item| item.non_empty_list(|item| item.text()));
    let id = fields.optional("identity", |item| item.checked(SpiffeId::parse));
    Some(DirectoryConfig {
        addresses: addresses?,
        id: id?,
    })
}

fn stop(fields: &mut Fields<'_>) -> Option<StopLimits> {
    // Shorter than a proxy's: what is open here are requests, which a client sends again.
    let leave = fields.default("leave", "0s", |item| {
        item.duration_in(Duration::ZERO..=seconds(600))
    });
    let deadline = fields.default("deadline", "10s", |item| {
        item.duration_in(Duration::ZERO..=seconds(600))
    });
    let join = fields.default("join", "5s", |item| item.duration_in(seconds(1)..=seconds(60)));
    Some(StopLimits {
        leave: leave?,
        deadline: deadline?,
        join: join?,
    })
}

const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

const PROFILES: &[(&str, Profile)] = &[
    ("standard", Profile::Standard),
    ("production", Profile::Production),
];

const CRYPTO: &[(&str, CryptoProfile)] = &[
    ("standard", CryptoProfile::Standard),
    ("cnsa1", CryptoProfile::Cnsa1),
];

const ALGORITHMS: &[(&str, KeyAlgorithm)] = &[
    ("p256", KeyAlgorithm::EcdsaP256),
    ("p384", KeyAlgorithm::EcdsaP384),
    ("ed25519", KeyAlgorithm::Ed25519),
    ("rsa-3072", KeyAlgorithm::Rsa3072),
    ("rsa-4096", KeyAlgorithm::Rsa4096),
];

/// From DESIGN's shortest leaf to its longest.
const LEAF: RangeInclusive<Duration> = seconds(60)..=seconds(7 * 86_400);

/// An hour, for tests of rotation, to thirty years.
const AUTHORITY: RangeInclusive<Duration> = seconds(3_600)..=seconds(30 * 366 * 86_400);

const REQUEST: RangeInclusive<Duration> = seconds(1)..=seconds(120);

const IN_POD_CA: &str = "/var/run/secrets/kubernetes.io/serviceaccount/ca.crt";
const IN_POD_TOKEN: &str = "/var/run/secrets/kubernetes.io/serviceaccount/token";
