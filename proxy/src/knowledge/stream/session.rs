//! Carries one stream from its first request to its end.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use ferrule_credentials::trust::{take_bundle, take_deny_list};
use ferrule_daemon::grpc::client::{Channel, Sender};
use ferrule_daemon::grpc::{Code, Status};
use ferrule_daemon::logging::Chain;
use ferrule_identity::tls::TrustCell;
use ferrule_identity::{SerialNumber, Timestamp, TrustDomain};
use ferrule_policy::Joined;
use ferrule_wire::delta::{Mirror, WILDCARD};
use ferrule_wire::directory::report::Told;
use ferrule_wire::directory::{ADDRESS, BUNDLE, DELTA_CALL, trust};
use ferrule_wire::proto::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DeltaDiscoveryResponse};
use ferrule_wire::proto::google::rpc;
use prost::Message as _;
use tokio::sync::oneshot;
use tracing::{error, info};

use super::Stream;
use super::held::{Held, News};
use crate::knowledge::Teller;
use crate::knowledge::names::{names, tell_changes};
use crate::knowledge::question::Question;

/// Those who wait for answers.
#[derive(Default)]
struct Waiting {
    by_name: BTreeMap<String, Vec<oneshot::Sender<()>>>,
    /// The names that are asked for, oldest first.
    order: VecDeque<String>,
}

impl Stream {
    /// Follows the directory on `channel` until it ends, with an error, or until there is another certificate than that
    /// of `serial`.
    pub(super) async fn session(
        &mut self,
        mut channel: Channel,
        serial: &SerialNumber,
        teller: &mut Teller,
    ) -> Result<(), Status> {
        let mut types = Held::TYPES.iter();
        let first = types.next().map_or(BUNDLE, |first| *first);
        let request = self.first_request(first).encode_to_vec();
        let (sender, mut receiver) = channel.call(DELTA_CALL, &request, ANSWER_LIMIT).await?;
        for type_url in types {
            sender.send(&self.first_request(type_url).encode_to_vec()).await?;
        }
        let mut waiting = Waiting::default();
        waiting.order.extend(self.held.addresses().asked().cloned());
        let mut heartbeat = tokio::time::interval(HEARTBEAT);
        heartbeat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                message = receiver.next() => {
                    let Some(message) = message? else {
                        return Err(Status::new(Code::Unavailable, "the directory said nothing more"));
                    };
                    let response = DeltaDiscoveryResponse::decode(message)
                        .map_err(|error| Status::new(Code::Internal, error.to_string()))?;
                    self.respond(&response, &sender, teller).await?;
                    waiting.answer(self.held.addresses());
                }
                Some(question) = teller.questions.recv() => self.ask(question, &mut waiting, &sender).await?,
                Ok(()) = self.credentials.changed() => {
                    let newest = self.credentials.borrow_and_update().clone();
                    if newest.is_some_and(|newest| newest.certificate.serial() != serial) {
                        info!("showing the directory the new certificate");
                        return Ok(());
                    }
                }
                _ = heartbeat.tick() => sender.send(&self.report().encode_to_vec()).await?,
            }
        }
    }

    fn first_request(&self, type_url: &str) -> DeltaDiscoveryRequest {
        let (held, mut subscribe) = self.held.resume(type_url);
        subscribe.push(WILDCARD.to_owned());
        DeltaDiscoveryRequest {
            node: Some(self.told().to_node()),
            type_url: type_url.to_owned(),
            resource_names_subscribe: subscribe,
            initial_resource_versions: held,
            ..DeltaDiscoveryRequest::default()
        }
    }

    /// A request that asks for nothing, and tells that all is well.
    fn report(&self) -> DeltaDiscoveryRequest {
        DeltaDiscoveryRequest {
            node: Some(self.told().to_node()),
            type_url: BUNDLE.to_owned(),
            ..DeltaDiscoveryRequest::default()
        }
    }

    fn told(&self) -> Told {
        Told {
            name: format!("{}/{}", self.own.namespace, self.own.name),
            labels: (!self.directory.selects).then(|| self.own.labels.clone()),
            clock: Some(self.clock.unix()),
        }
    }

    /// Takes a response, or refuses it, and says so.
    async fn respond(
        &mut self,
        response: &DeltaDiscoveryResponse,
        sender: &Sender,
        teller: &Teller,
    ) -> Result<(), Status> {
        let now = Timestamp::from_unix(self.clock.unix());
        let cell = Arc::clone(&self.trust.cell);
        let taken = self.held.take(response, |type_url, response| {
            take_trust(&cell, type_url, response, now)
        });
        let error_detail = match taken {
            Ok(news) => {
                self.tell(news, teller);
                None
            }
            Err(reason) => {
                error!(
                    type_url = response.type_url,
                    reason, "the directory's news are refused, the last good state stays in force"
                );
                teller.refused.send_modify(|count| *count += 1);
                let message: String = reason.chars().take(MAX_REASON_CHARS).collect();
                Some(rpc::Status {
                    code: Code::InvalidArgument as i32,
                    message,
                    details: Vec::new(),
                })
            }
        };
        let answer = DeltaDiscoveryRequest {
            node: Some(self.told().to_node()),
            type_url: response.type_url.clone(),
            response_nonce: response.nonce.clone(),
            error_detail,
            ..DeltaDiscoveryRequest::default()
        };
        sender.send(&answer.encode_to_vec()).await
    }

    fn tell(&mut self, news: News, teller: &Teller) {
        match news {
            News::None => {}
            News::Map => self.is_map_new = true,
            News::Trust => self.trust.changes.send_modify(|count| *count += 1),
            News::Rules(policy, documents) => {
                let names = names(&policy, &documents);
                tell_changes(&self.names, &names, "directory");
                self.names = names;
                self.policy = Some(Arc::from(policy));
            }
        }
        if !self.held.is_complete() {
            return;
        }
        // Who lives where first: a new rule may be about somebody who has just come.
        if std::mem::take(&mut self.is_map_new) {
            teller.map.send_replace(Arc::new(self.held.map(&self.own.node)));
        }
        if let Some(policy) = self.policy.take() {
            info!(rules = self.held.rules(), source = "directory", "rules taken");
            teller.rules.send_replace(Some(policy));
        }
    }

    /// Passes a question on; whoever was asked about is told of from then on.
    async fn ask(
        &mut self,
        question: Question,
        waiting: &mut Waiting,
        sender: &Sender,
    ) -> Result<(), Status> {
        let Question { name, answered } = question;
        let addresses = self.held.addresses();
        if addresses.is_answered(&name) {
            // Whoever asked has gone when this fails.
            let _ = answered.send(());
            return Ok(());
        }
        waiting.by_name.entry(name.clone()).or_default().push(answered);
        if !addresses.ask(name.clone()) {
            return Ok(());
        }
        waiting.order.push_back(name.clone());
        let mut forgotten = Vec::new();
        if waiting.order.len() > MAX_ASKED
            && let Some(oldest) = waiting.order.pop_front()
        {
            addresses.forget(&oldest);
            waiting.by_name.remove(&oldest);
            forgotten.push(oldest);
        }
        let request = DeltaDiscoveryRequest {
            type_url: ADDRESS.to_owned(),
            resource_names_subscribe: vec![name],
            resource_names_unsubscribe: forgotten,
            ..DeltaDiscoveryRequest::default()
        };
        sender.send(&request.encode_to_vec()).await
    }
}

impl Waiting {
    /// Tells those whose questions are answered.
    fn answer(&mut self, addresses: &Mirror<Joined>) {
        self.by_name.retain(|name, waiting| {
            if !addresses.is_answered(name) {
                return true;
            }
            for answered in waiting.drain(..) {
                // Whoever asked has gone when this fails.
                let _ = answered.send(());
            }
            false
        });
    }
}

/// Takes news of trust at once: a revocation waits for nothing.
fn take_trust(
    cell: &TrustCell,
    type_url: &str,
    response: &DeltaDiscoveryResponse,
    now: Timestamp,
) -> Result<(), String> {
    for resource in &response.resources {
        let refused =
            |error: &(dyn std::error::Error + 'static)| format!("{}: {}", resource.name, Chain(error));
        let packed = resource.resource.as_ref();
        if type_url == BUNDLE {
            let domain = TrustDomain::parse(&resource.name).map_err(|error| refused(&error))?;
            let bundle = trust::read_bundle(packed, domain, now).map_err(|error| refused(&error))?;
            let sequence = bundle.sequence();
            if take_bundle(cell, bundle).map_err(|error| refused(&error))? {
                info!(
                    trust_domain = resource.name,
                    sequence,
                    source = "directory",
                    "trust bundle changed"
                );
            }
        } else {
            let (generation, list) = trust::read_deny_list(packed).map_err(|error| refused(&error))?;
            if take_deny_list(cell, generation, list).map_err(|error| refused(&error))? {
                info!(generation, source = "directory", "deny list changed");
            }
        }
    }
    Ok(())
}

/// How long the directory may take to answer at all.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);

/// How often the directory hears that all is well.
const HEARTBEAT: Duration = Duration::from_secs(30);

/// Names that are asked for one by one; an application that tries all addresses of a range must not fill memory.
const MAX_ASKED: usize = 4_096;

const MAX_REASON_CHARS: usize = 1_024;
