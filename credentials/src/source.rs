//! Says where a program's certificate comes from, reads that from its settings, and keeps it fresh from there.

use std::convert::Infallible;
use std::fs;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ferrule_daemon::clock::Clock;
use ferrule_daemon::logging::Chain;
use ferrule_document::{Fields, Item};
use ferrule_identity::tls::{TrustCell, TrustSnapshot};
use ferrule_identity::{BundleError, Bundles, KeyAlgorithm, SpiffeId, Timestamp, TrustBundle, TrustDomain};
use ferrule_wire::workload_api::Endpoint;
use tokio::sync::watch;
use tracing::warn;

use crate::Credentials;
use crate::evidence::Evidence;
use crate::files::{FileKeeper, Files};
use crate::join::{Host, JoinError};
use crate::keeper::{Health, Keeper, Kept, Wanted};
use crate::remember;
use crate::workload_api::Follower;

/// Where a certificate comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// Files that somebody else keeps.
    Files(Files),
    /// The CA.
    Ca(CaSource),
    /// A SPIFFE Workload API, such as SPIRE's agent.
    WorkloadApi(Endpoint),
}

/// How the CA is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CaSource {
    /// Where it listens, each `HOST:PORT`.
    pub addresses: Vec<String>,
    /// What shows it who is asking.
    pub evidence: EvidenceSource,
    /// The kind of key.
    pub algorithm: KeyAlgorithm,
    /// The life of certificates; the CA's default when it is left out.
    pub lifetime: Option<Duration>,
}

/// What shows the CA who is asking.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EvidenceSource {
    /// A Kubernetes service-account token, with the bundle to trust the CA by.
    KubernetesToken {
        /// The token's file.
        token: PathBuf,
        /// The bundle's file: PEM, or SPIFFE's JSON when the name ends in `.json`.
        bundle: PathBuf,
    },
    /// The folder of a host that has joined; it has the bundle, too.
    Host(PathBuf),
}

impl Source {
    /// Reads the setting `credentials`, whose one field says which source it is. Files are of `trust_domain`; a Workload
    /// API that is not named is at `endpoint`.
    pub fn read(
        item: Item<'_>,
        trust_domain: Option<TrustDomain>,
        endpoint: Option<Endpoint>,
    ) -> Option<Self> {
        item.one_field(&["files", "ca", "workload_api"], |name, item| {
            let trust_domain = trust_domain?;
            item.fields(|fields| match name {
                "files" => files(fields, trust_domain).map(Self::Files),
                "workload_api" => {
                    let named = fields.optional("endpoint", |item| item.parsed::<Endpoint>());
                    let endpoint = named?.or(endpoint);
                    if endpoint.is_none() {
                        fields.fail("`endpoint` is missing, and so is SPIFFE_ENDPOINT_SOCKET");
                    }
                    endpoint.map(Self::WorkloadApi)
                }
                _ => ca(fields).map(Self::Ca),
            })
        })
    }
}

fn files(fields: &mut Fields<'_>, trust_domain: TrustDomain) -> Option<Files> {
    let chain = fields.required("chain", |item| path(&item));
    let key = fields.required("key", |item| path(&item));
    let bundle = fields.required("bundle", |item| path(&item));
    let crls = fields.optional("crls", |item| path(&item));
    Some(Files {
        trust_domain,
        chain: chain?,
        key: key?,
        bundle: bundle?,
        crls: crls?,
    })
}

fn ca(fields: &mut Fields<'_>) -> Option<CaSource> {
    let addresses = fields.required("addresses", |item| item.non_empty_list(|item| item.text()));
    let evidence = fields.required("evidence", |item| {
        item.one_field(&["kubernetes", "host"], |name, item| match name {
            "host" => path(&item).map(EvidenceSource::Host),
            _ => item.fields(|fields| {
                let token = fields.default("token", TOKEN, |item| path(&item));
                let bundle = fields.default("bundle", BUNDLE, |item| path(&item));
                Some(EvidenceSource::KubernetesToken {
                    token: token?,
                    bundle: bundle?,
                })
            }),
        })
    });
    let algorithm = fields.default("algorithm", "p256", |item| item.parsed::<KeyAlgorithm>());
    let lifetime = fields.optional("lifetime", |item| item.duration_in(LEAF));
    Some(CaSource {
        addresses: addresses?,
        evidence: evidence?,
        algorithm: algorithm?,
        lifetime: lifetime?,
    })
}

fn path(item: &Item<'_>) -> Option<PathBuf> {
    item.text().map(PathBuf::from)
}

/// Keeps the certificate of `id` fresh from `source`, and `trust` in place. The future never ends by itself; what
/// cannot be used yet is tried again.
pub fn keep(
    source: Source,
    id: SpiffeId,
    trust: Arc<TrustCell>,
    clock: Clock,
) -> (impl Future<Output = Infallible> + Send, Kept) {
    let (credentials, for_credentials) = watch::channel(None);
    let (health, for_health) = watch::channel(Health::default());
    let keeping = async move {
        match source {
            Source::Files(files) => {
                let (keeper, newest) = open_files(&files, &trust, &clock).await;
                tokio::select! {
                    never = keeper.run() => never,
                    never = hand_on(newest, &credentials) => never,
                }
            }
            Source::WorkloadApi(endpoint) => {
                let follower = Follower {
                    endpoint,
                    id,
                    trust,
                    clock,
                };
                follower.run(&credentials).await
            }
            Source::Ca(ca) => {
                let trust_domain = id.trust_domain();
                let evidence = first_trust(&ca, trust_domain.clone(), &trust, &clock).await;
                let wanted = Wanted {
                    id,
                    algorithm: ca.algorithm,
                    lifetime: ca.lifetime,
                    evidence,
                };
                let (keeper, kept) = Keeper::new(wanted, ca.addresses, trust, clock.clone());
                let newest = kept.credentials.clone();
                let remembering = async move {
                    match ca.evidence {
                        EvidenceSource::Host(folder) => {
                            remember::follow(folder, trust_domain, newest, clock).await
                        }
                        // Whoever mounts the bundle keeps it.
                        EvidenceSource::KubernetesToken { .. } => std::future::pending().await,
                    }
                };
                tokio::select! {
                    never = keeper.run() => never,
                    never = remembering => never,
                    never = hand_on(kept.credentials, &credentials) => never,
                    never = hand_on(kept.health, &health) => never,
                }
            }
        }
    };
    let kept = Kept {
        credentials: for_credentials,
        health: for_health,
    };
    (keeping, kept)
}

/// Says again to `to` whatever `from` says.
async fn hand_on<T: Clone>(mut from: watch::Receiver<T>, to: &watch::Sender<T>) -> Infallible {
    loop {
        let news = from.borrow_and_update().clone();
        to.send_replace(news);
        if from.changed().await.is_err() {
            return std::future::pending().await;
        }
    }
}

async fn open_files(
    files: &Files,
    trust: &Arc<TrustCell>,
    clock: &Clock,
) -> (FileKeeper, watch::Receiver<Option<Arc<Credentials>>>) {
    let mut said = None;
    loop {
        match FileKeeper::open(files.clone(), Arc::clone(trust), clock.clone()) {
            Ok(opened) => return opened,
            Err(error) => say_once(
                &mut said,
                Chain(&error).to_string(),
                "credential files not taken yet",
            ),
        }
        tokio::time::sleep(TRY_AGAIN).await;
    }
}

/// What shows the CA who is asking; puts the trust to begin from into `trust`.
async fn first_trust(ca: &CaSource, trust_domain: TrustDomain, trust: &TrustCell, clock: &Clock) -> Evidence {
    let mut said = None;
    loop {
        let now = Timestamp::from_unix(clock.unix());
        let read = match &ca.evidence {
            EvidenceSource::Host(folder) => Host::read(folder, now)
                .map(|host| {
                    trust.store((*host.trust().load()).clone());
                    host.evidence()
                })
                .map_err(|source| FirstTrustError::Host { source }),
            EvidenceSource::KubernetesToken { token, bundle } => {
                read_bundle(bundle, trust_domain.clone(), now).map(|bundle| {
                    trust.store(TrustSnapshot {
                        bundles: Bundles::from_iter([bundle]),
                        ..TrustSnapshot::default()
                    });
                    Evidence::KubernetesToken { path: token.clone() }
                })
            }
        };
        match read {
            Ok(evidence) => return evidence,
            Err(error) => say_once(&mut said, Chain(&error).to_string(), "the CA cannot be asked yet"),
        }
        tokio::time::sleep(TRY_AGAIN).await;
    }
}

fn read_bundle(
    path: &Path,
    trust_domain: TrustDomain,
    now: Timestamp,
) -> Result<TrustBundle, FirstTrustError> {
    let text = fs::read_to_string(path).map_err(|source| FirstTrustError::Read {
        path: path.to_owned(),
        source,
    })?;
    let bundle = if path.extension().is_some_and(|extension| extension == "json") {
        TrustBundle::from_jwks(trust_domain, &text, now)
    } else {
        TrustBundle::from_pem(trust_domain, &text, now)
    };
    bundle.map_err(|source| FirstTrustError::Bundle {
        path: path.to_owned(),
        source: Box::new(source),
    })
}

fn say_once(said: &mut Option<String>, error: String, message: &'static str) {
    if said.as_ref() != Some(&error) {
        warn!(error, "{message}");
        *said = Some(error);
    }
}

/// Where Kubernetes projects the token for the CA.
const TOKEN: &str = "/var/run/secrets/tokens/ferrule-ca";

/// Where the bundle of the mesh is mounted.
const BUNDLE: &str = "/var/run/ferrule/trust/bundle.pem";

/// The lives of leaves that may be asked for.
const LEAF: RangeInclusive<Duration> = Duration::from_secs(60)..=Duration::from_secs(7 * 86_400);

/// How soon what cannot be used yet is looked at again.
const TRY_AGAIN: Duration = Duration::from_secs(1);

/// Why the CA cannot be asked yet.
#[derive(Debug, thiserror::Error)]
enum FirstTrustError {
    #[error("the host's folder cannot be used")]
    Host { source: JoinError },
    #[error("cannot read the bundle {path}", path = path.display())]
    Read { path: PathBuf, source: std::io::Error },
    #[error("the bundle {path} is refused", path = path.display())]
    Bundle { path: PathBuf, source: Box<BundleError> },
}
