//! Tells the directory of the mesh's first host what runs on this one, and learns what runs elsewhere.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use ferrule_credentials::directory::Directories;
use ferrule_credentials::join::Host;
use ferrule_credentials::keeper::{Keeper, Kept, Wanted};
use ferrule_daemon::clock::Clock;
use ferrule_daemon::drain::Drain;
use ferrule_daemon::logging::Chain;
use ferrule_identity::tls::TrustCell;
use ferrule_identity::{KeyAlgorithm, SpiffeId};
use ferrule_wire::directory::HOST_ACCOUNT;
use ferrule_wire::proto::ferrule::v1::{AnnounceReply, AnnounceRequest};
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

use super::neighbours::Known;
use super::plan::JoinPlan;
use crate::failure::Failure;

/// Speaks for this host, once for each namespace.
pub(super) struct Announcer {
    speakers: Vec<Arc<Speaker>>,
    news: mpsc::Receiver<News>,
}

/// What came of an announcement.
pub(super) enum News {
    /// The services of the mesh.
    Services(Vec<Known>),
    /// Something that people should know.
    Notice(String),
}

struct Speaker {
    name: String,
    namespace: String,
    documents: String,
    target: SocketAddr,
    directory: SpiffeId,
    trust: Arc<TrustCell>,
    kept: Kept,
}

impl Announcer {
    /// Begins to announce `documents`, the workloads and services by namespace, until `drain` is cut.
    ///
    /// # Errors
    /// When a namespace makes no identity.
    pub(super) fn start(
        host: &Host,
        join: &JoinPlan,
        documents: BTreeMap<String, String>,
        drain: &Drain,
    ) -> Result<Self, Failure> {
        let (send, news) = mpsc::channel(QUEUE);
        let mut speakers = Vec::new();
        for (namespace, documents) in documents {
            let id = SpiffeId::workload(&host.trust_domain, &namespace, HOST_ACCOUNT);
            let wanted = Wanted {
                id: id.map_err(Failure::could_not(format!("speak for the namespace {namespace}")))?,
                algorithm: KeyAlgorithm::EcdsaP256,
                lifetime: None,
                evidence: host.evidence(),
            };
            let trust = Arc::new(host.trust());
            let (keeper, kept) = Keeper::new(
                wanted,
                host.addresses.clone(),
                Arc::clone(&trust),
                Clock::system(),
            );
            let speaker = Arc::new(Speaker {
                name: join.name.clone(),
                namespace,
                documents,
                target: join.directory,
                directory: ferrule_directory::config::default_id(&host.trust_domain),
                trust,
                kept,
            });
            speakers.push(Arc::clone(&speaker));
            let (cut, send) = (drain.clone(), send.clone());
            drain.spawn(async move {
                tokio::select! {
                    never = keeper.run() => match never {},
                    () = speaker.speak(&send) => {}
                    () = cut.cut() => {}
                }
            });
        }
        Ok(Self { speakers, news })
    }

    /// What came of it, as it comes.
    pub(super) async fn next(&mut self) -> News {
        match self.news.recv().await {
            Some(news) => news,
            None => std::future::pending().await,
        }
    }

    /// Says that nothing runs here any more. Where the directory is away, its word lapses with the certificate.
    pub(super) async fn leave(&self) {
        for speaker in &self.speakers {
            let _ = timeout(FAREWELL, speaker.say("")).await;
        }
    }
}

impl Speaker {
    async fn speak(&self, send: &mpsc::Sender<News>) {
        let mut problem = None;
        loop {
            let news = match self.say(&self.documents).await {
                Some(Ok(reply)) => {
                    if problem.take().is_some() {
                        let text = format!("the directory at {} hears of this host again", self.target);
                        let _ = send.send(News::Notice(text)).await;
                    }
                    Some(News::Services(reply.services.iter().map(known).collect()))
                }
                Some(Err(error)) => {
                    let is_news = problem.as_ref() != Some(&error);
                    problem = Some(error.clone());
                    is_news.then(|| {
                        News::Notice(format!(
                            "the workloads of the namespace {} are not announced: {error}",
                            self.namespace
                        ))
                    })
                }
                None => None,
            };
            if let Some(news) = news
                && send.send(news).await.is_err()
            {
                return;
            }
            sleep(AGAIN).await;
        }
    }

    /// What the directory answers; nothing while there is no certificate.
    async fn say(&self, documents: &str) -> Option<Result<AnnounceReply, String>> {
        let mut newest = self.kept.credentials.clone();
        let credentials = match timeout(AGAIN, newest.wait_for(Option::is_some)).await {
            Ok(credentials) => credentials.ok()?.clone()?,
            Err(_) => {
                let problem = self.kept.health.borrow().problem.clone();
                return problem.map(Err);
            }
        };
        let directories = Directories {
            addresses: Vec::new(),
            id: self.directory.clone(),
            own: credentials.certificate.clone(),
            trust: Arc::clone(&self.trust),
            clock: Clock::system(),
        };
        let request = AnnounceRequest {
            host: self.name.clone(),
            documents: documents.to_owned(),
        };
        let said = directories.announce(self.target, &request).await;
        Some(said.map_err(|error| Chain(&error).to_string()))
    }
}

fn known(service: &ferrule_wire::proto::ferrule::v1::KnownService) -> Known {
    let address = |octets: &bytes::Bytes| match octets.len() {
        4 => <[u8; 4]>::try_from(&octets[..]).map(IpAddr::from).ok(),
        _ => <[u8; 16]>::try_from(&octets[..]).map(IpAddr::from).ok(),
    };
    Known {
        namespace: service.namespace.clone(),
        name: service.name.clone(),
        addresses: service.addresses.iter().filter_map(address).collect(),
    }
}

/// How often the directory is told, and asked. Short, because it is also how soon a new name is known here.
const AGAIN: Duration = Duration::from_secs(3);

/// How long a farewell may take.
const FAREWELL: Duration = Duration::from_secs(2);

const QUEUE: usize = 16;
