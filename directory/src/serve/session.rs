//! Carries the stream of one proxy: what it asks, what it is sent, what it holds.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ferrule_daemon::grpc::server::{Call, Replies};
use ferrule_daemon::grpc::{Code, Status};
use ferrule_identity::tls::TrustSnapshot;
use ferrule_identity::{PeerIdentity, Timestamp};
use ferrule_wire::delta::{Answered, Asked, Name, Subscription, Version, View};
use ferrule_wire::directory::report::Told;
use ferrule_wire::proto::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, Resource,
};
use prost::Message as _;
use tokio::time::{Instant, timeout};
use tracing::{info, warn};

use super::views::{Kind, Part};
use super::{Caller, Directory, FIRST_TIME};
use crate::acks::{Connected, Report};
use crate::picture::{Picture, Since};
use crate::scope::{Scope, Subject};

/// The stream of one proxy.
pub(super) struct Session<'d> {
    directory: &'d Directory,
    caller: Caller,
    connected: Connected,
    replies: Replies,
    picture: Arc<Picture>,
    scope: Scope,
    subscriptions: BTreeMap<Kind, Subscribed>,
    /// Subscriptions to types that nobody serves.
    others: BTreeMap<String, Subscription>,
}

#[derive(Default)]
struct Subscribed {
    subscription: Subscription,
    /// When the response that waits was sent, by the directory's clock and by a steady one.
    waiting: Option<(i64, Instant)>,
}

impl<'d> Session<'d> {
    /// Carries the call until the proxy is gone, or may not be here any more.
    pub(super) async fn run(directory: &'d Directory, caller: Caller, mut call: Call) -> Result<(), Status> {
        let first = timeout(FIRST_TIME, call.requests.next()).await;
        let first = first.map_err(|_| Status::new(Code::DeadlineExceeded, "no request came"))??;
        let Some(first) = first else { return Ok(()) };
        let first = decoded(first)?;
        let told = first.node.as_ref().map(Told::from_node).unwrap_or_default();
        let name = told.name.clone();
        let subject = Subject::new(caller.peer.id().clone(), told)
            .map_err(|error| Status::new(Code::PermissionDenied, error.to_string()))?;
        let mut pictures = directory.pictures.clone();
        let picture = pictures.borrow_and_update().clone();
        let (serial, address) = (caller.serial.clone(), caller.address.clone());
        let now = directory.clock.unix();
        let connected = directory
            .proxies
            .connect(&caller.peer, serial, &name, address, now);
        info!(proxy = %caller.peer.id(), name, address = caller.address, "proxy connected");
        let mut session = Session {
            directory,
            scope: Scope::of(subject, &picture.model),
            caller,
            connected,
            replies: call.replies,
            picture,
            subscriptions: BTreeMap::new(),
            others: BTreeMap::new(),
        };
        directory.gauges.proxies.inc();
        let ended = async {
            session.take(first).await?;
            let mut tick = tokio::time::interval(TICK);
            tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            loop {
                tokio::select! {
                    request = call.requests.next() => match request? {
                        Some(request) => session.take(decoded(request)?).await?,
                        None => return Ok(()),
                    },
                    Ok(()) = pictures.changed() => {
                        let picture = pictures.borrow_and_update().clone();
                        session.see(picture).await?;
                    }
                    _ = tick.tick() => session.look_after()?,
                }
            }
        }
        .await;
        directory.gauges.proxies.dec();
        let why = ended.as_ref().err().map(ToString::to_string).unwrap_or_default();
        info!(proxy = %session.caller.peer.id(), name, why, "proxy disconnected");
        ended
    }

    /// Takes a request in, and sends what is due after it.
    async fn take(&mut self, request: DeltaDiscoveryRequest) -> Result<(), Status> {
        let mut report = Report::default();
        if let Some(node) = &request.node {
            self.hear(Told::from_node(node), &mut report)?;
        }
        let asked = Asked {
            subscribe: request.resource_names_subscribe,
            unsubscribe: request.resource_names_unsubscribe,
            held: request.initial_resource_versions,
            nonce: request.response_nonce,
            error: request.error_detail.map(|error| error.message),
        };
        let Some(kind) = Kind::of(&request.type_url) else {
            return self.take_other(request.type_url, asked).await;
        };
        // Whoever only tells that all is well asks for nothing.
        let is_heartbeat = asked == Asked::default() && self.subscriptions.contains_key(&kind);
        if !is_heartbeat {
            let subscribed = self.subscriptions.entry(kind).or_default();
            let answered = subscribed.subscription.request(asked);
            if subscribed.subscription.asked() > MAX_ASKED {
                let message = format!("more than {MAX_ASKED} names are asked for one by one");
                return Err(Status::new(Code::ResourceExhausted, message));
            }
            self.note_answer(kind, answered, &mut report);
        }
        self.note_held(kind, &mut report);
        self.connected.report(report, self.directory.clock.unix());
        self.send(kind).await
    }

    fn hear(&mut self, told: Told, report: &mut Report) -> Result<(), Status> {
        report.clock = told.clock;
        if told.labels == self.scope.subject().labels {
            return Ok(());
        }
        let subject = Subject::new(self.caller.peer.id().clone(), told)
            .map_err(|error| Status::new(Code::PermissionDenied, error.to_string()))?;
        self.scope = Scope::of(subject, &self.picture.model);
        for kind in [Kind::Address, Kind::Rule] {
            if let Some(subscribed) = self.subscriptions.get_mut(&kind) {
                subscribed.subscription.touch_all();
            }
        }
        Ok(())
    }

    fn note_answer(&mut self, kind: Kind, answered: Answered, report: &mut Report) {
        let gauges = &self.directory.gauges;
        match answered {
            Answered::Nothing | Answered::Stale => return,
            Answered::Taken => report.refused = Some(String::new()),
            Answered::Refused(reason) => {
                let reason: String = reason
                    .chars()
                    .filter(|c| !c.is_control())
                    .take(MAX_REASON_CHARS)
                    .collect();
                gauges.refused.inc();
                warn!(
                    proxy = %self.caller.peer.id(), type_url = kind.type_url(), reason,
                    "a proxy refuses its news and goes on with the last good state"
                );
                report.refused = Some(format!("{}: {reason}", kind.type_url()));
            }
        }
        if let Some(subscribed) = self.subscriptions.get_mut(&kind)
            && let Some((_, sent)) = subscribed.waiting.take()
        {
            gauges.answer_time.observe(sent.elapsed().as_secs_f64());
        }
    }

    fn note_held(&self, kind: Kind, report: &mut Report) {
        let Some(subscribed) = self.subscriptions.get(&kind) else {
            return;
        };
        let subscription = &subscribed.subscription;
        let version = self.picture.number.to_string();
        if !subscription.is_waiting() {
            let held = u64::try_from(subscription.held()).unwrap_or(u64::MAX);
            report.held = Some((kind.type_url(), held, version));
        }
        let own = self.picture.model.trust_domain().as_str();
        let holds_own =
            |version: Option<Version>| version.is_some_and(|version| subscription.holds(own, version));
        match kind {
            Kind::Bundle if holds_own(self.picture.bundles.get(own).map(|bundle| bundle.version())) => {
                report.bundle_sequence = Some(self.picture.bundle_sequence);
            }
            Kind::DenyList if holds_own(self.picture.denied.as_ref().map(|denied| denied.version())) => {
                report.deny_generation = Some(self.picture.deny_generation);
            }
            _ => {}
        }
        let waiting = self
            .subscriptions
            .values()
            .filter_map(|subscribed| subscribed.waiting);
        report.waiting_since = waiting.map(|(since, _)| since).min();
    }

    /// Takes a new picture in, and sends what differs.
    async fn see(&mut self, picture: Arc<Picture>) -> Result<(), Status> {
        let since = picture.since(self.picture.number);
        self.picture = picture;
        self.judge_peer()?;
        let touches_rules = match &since {
            Since::Anything => true,
            Since::These(all) => all.iter().any(|touched| {
                let own = self.scope.subject().workload.as_ref();
                !touched.rules.is_empty() || own.is_some_and(|own| touched.workloads.contains(own))
            }),
        };
        let mut scope_differs = false;
        if touches_rules {
            let scope = Scope::of(self.scope.subject().clone(), &self.picture.model);
            scope_differs = scope != self.scope;
            self.scope = scope;
        }
        for (kind, subscribed) in &mut self.subscriptions {
            let subscription = &mut subscribed.subscription;
            match (kind, &since) {
                (Kind::Bundle | Kind::DenyList | Kind::Mesh, _) | (_, Since::Anything) => {
                    subscription.touch_all()
                }
                (Kind::Address, _) if scope_differs => subscription.touch_all(),
                (Kind::Rule, _) if touches_rules => subscription.touch_all(),
                (Kind::Address, Since::These(all)) => {
                    for touched in all {
                        subscription.touch(touched.addresses.iter().cloned());
                    }
                }
                (Kind::Rule, Since::These(_)) => {}
            }
        }
        for kind in Kind::ALL {
            self.send(kind).await?;
        }
        Ok(())
    }

    /// Sends what is due of one type, if anything is.
    async fn send(&mut self, kind: Kind) -> Result<(), Status> {
        if kind == Kind::Rule && !self.scope.can_select() {
            return Ok(());
        }
        let part = Part {
            picture: &self.picture,
            scope: &self.scope,
            kind,
        };
        let Some(subscribed) = self.subscriptions.get_mut(&kind) else {
            return Ok(());
        };
        // Rules count from one moment: they are never sent in parts.
        let room = if kind == Kind::Rule {
            usize::MAX
        } else {
            PART_BYTES
        };
        let Some(sending) = subscribed.subscription.next(&part, room) else {
            return Ok(());
        };
        let resource = |(name, aliases): &(Name, Vec<Name>)| {
            let (version, packed) = part.packed(name)?;
            Some(Resource {
                version: version.to_string(),
                resource: Some(packed),
                name: name.to_string(),
                aliases: aliases.iter().map(ToString::to_string).collect(),
            })
        };
        let number = if sending.is_last {
            self.picture.number.to_string()
        } else {
            String::new()
        };
        let response = DeltaDiscoveryResponse {
            system_version_info: number,
            resources: sending.changed.iter().filter_map(resource).collect(),
            type_url: kind.type_url().to_owned(),
            nonce: sending.nonce.to_string(),
            removed_resources: sending.removed.iter().map(ToString::to_string).collect(),
        };
        let bytes = response.encode_to_vec();
        subscribed.waiting = Some((self.directory.clock.unix(), Instant::now()));
        self.directory.gauges.responses.inc();
        self.directory
            .gauges
            .bytes
            .inc_by(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
        self.replies.send(&bytes).await
    }

    /// Answers a subscription to a type that nobody serves: there is nothing.
    async fn take_other(&mut self, type_url: String, asked: Asked) -> Result<(), Status> {
        if self.others.len() >= MAX_OTHERS && !self.others.contains_key(&type_url) {
            return Err(Status::new(Code::ResourceExhausted, "too many types"));
        }
        let subscription = self.others.entry(type_url.clone()).or_default();
        subscription.request(asked);
        let Some(sending) = subscription.next(&Nothing, PART_BYTES) else {
            return Ok(());
        };
        let response = DeltaDiscoveryResponse {
            system_version_info: self.picture.number.to_string(),
            type_url,
            nonce: sending.nonce.to_string(),
            removed_resources: sending.removed.iter().map(ToString::to_string).collect(),
            ..DeltaDiscoveryResponse::default()
        };
        self.replies.send(&response.encode_to_vec()).await
    }

    /// Looks whether the proxy may still be here, and whether it answers at all.
    fn look_after(&self) -> Result<(), Status> {
        self.judge_peer()?;
        let waiting = self
            .subscriptions
            .values()
            .filter_map(|subscribed| subscribed.waiting);
        match waiting.map(|(_, sent)| sent.elapsed()).max() {
            Some(longest) if longest > ANSWER_TIME => Err(Status::new(
                Code::DeadlineExceeded,
                "the last response was never answered",
            )),
            _ => Ok(()),
        }
    }

    fn judge_peer(&self) -> Result<(), Status> {
        let trust = self.directory.trust.load();
        judge(&self.caller.peer, &trust, self.directory.now())
            .map_err(|why| Status::new(Code::Unauthenticated, why))
    }
}

/// Whether a proxy may still be told anything.
fn judge(peer: &PeerIdentity, trust: &TrustSnapshot, now: Timestamp) -> Result<(), String> {
    let id = peer.id();
    if trust.revocations.revokes(id) {
        return Err(format!("the identity {id} is revoked"));
    }
    if let Some(link) = peer
        .path()
        .links
        .iter()
        .find(|link| trust.revocations.judge(link).is_some())
    {
        return Err(format!("the certificate {} is revoked", link.serial));
    }
    let end = peer.lifetime().not_after();
    if now > end.plus(EXPIRY_GRACE) {
        return Err(format!("the certificate ended at {end}"));
    }
    let anchors = trust.bundles.of(&id.trust_domain());
    let is_anchored = anchors.is_some_and(|bundle| {
        let mut anchors = bundle.anchors().iter();
        anchors.any(|anchor| anchor.fingerprint() == peer.path().anchor)
    });
    if !is_anchored {
        return Err("the authority of the certificate is not trusted any more".to_owned());
    }
    Ok(())
}

/// A type of which there is nothing.
struct Nothing;

impl View for Nothing {
    fn each(&self, _tell: &mut dyn FnMut(&Name, Version)) {}

    fn covered(&self, _name: &str) -> Option<Version> {
        None
    }

    fn find(&self, _name: &str) -> Vec<(Name, Version)> {
        Vec::new()
    }

    fn size(&self, _name: &str) -> usize {
        0
    }
}

fn decoded(message: bytes::Bytes) -> Result<DeltaDiscoveryRequest, Status> {
    DeltaDiscoveryRequest::decode(message)
        .map_err(|error| Status::new(Code::InvalidArgument, error.to_string()))
}

/// About how much goes into one message.
const PART_BYTES: usize = 1024 * 1024;

/// How often it is looked whether a proxy may still be here.
const TICK: Duration = Duration::from_secs(1);

/// A proxy that has not answered for so long is cut off; it resumes when it is well again.
const ANSWER_TIME: Duration = Duration::from_secs(60);

/// A proxy may be late with its new certificate.
const EXPIRY_GRACE: Duration = Duration::from_secs(60);

/// Names that one proxy may ask for one by one.
const MAX_ASKED: usize = 8_192;

/// Types that nobody serves, in one stream.
const MAX_OTHERS: usize = 16;

const MAX_REASON_CHARS: usize = 512;
