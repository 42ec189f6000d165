//! Serves the CA's HTTPS API.
//!
//! A request goes through [`routes`] (which route), [`limits`] (may this address, this caller ask now) and a handler
//! (one file for each kind), and a refusal leaves with a status from the one table in [`status`]. The document that
//! says what all of it looks like from outside is served by [`openapi`].

pub mod conditional;
mod handlers;
pub mod limits;
mod metrics;
pub mod openapi;
pub mod routes;
pub mod serving;
pub mod status;
pub mod trust;

use std::collections::HashSet;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ferrule_daemon::clock::Clock;
use ferrule_daemon::drain::Drain;
use ferrule_daemon::https::{Allowance, Body, Handler, Peer, Refusal, Reply, Request};
use ferrule_daemon::metrics::Metrics;
use ferrule_daemon::ready::Readiness;
use ferrule_identity::{SpiffeId, Timestamp};
use http::request::Parts;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::attest::certificate::Certificates;
use crate::attest::enroll::Enroller;
use crate::attest::host_key::HostKeys;
use crate::attest::token_review::TokenReviewer;
use crate::config::LimitsConfig;
use crate::issue::{Issuer, Servers};
use crate::ledger::Ledger;
use crate::ledger::refusals::{self, Refusals};
use crate::overview::Overview;

use handlers::Asking;
use limits::{Buckets, Empty, Rate};
use metrics::ApiMetrics;
use routes::Route;
use status::Fault;
use trust::Trust;

/// The rooms that the API puts to work.
pub struct Rooms {
    /// The CA's clock.
    pub clock: Clock,
    /// Issues certificates.
    pub issuer: Issuer,
    /// Where revocations are recorded.
    pub ledger: Arc<dyn Ledger>,
    /// Where refusals are recorded.
    pub refusals: Arc<Refusals>,
    /// Trades join tokens.
    pub enroller: Enroller,
    /// Knows hosts.
    pub hosts: HostKeys,
    /// Knows the holders of certificates.
    pub certificates: Certificates,
    /// Knows pods, where the CA is set up for that.
    pub reviewer: Option<TokenReviewer>,
    /// Says how the CA is.
    pub overview: Overview,
    /// What verifiers are answered.
    pub trust: watch::Receiver<Arc<Trust>>,
    /// Who may revoke and read the status.
    pub admins: HashSet<SpiffeId>,
    /// Who gets serving certificates, for which names.
    pub servers: Servers,
    /// Whether the CA can issue.
    pub readiness: Readiness,
    /// Ends waits when the program stops.
    pub drain: Drain,
    /// What one caller and one address may use up.
    pub limits: LimitsConfig,
}

/// Answers the requests of the HTTPS API.
pub struct Api {
    rooms: Rooms,
    begun: Instant,
    callers: Mutex<Buckets<String>>,
    addresses: Mutex<Buckets<std::net::IpAddr>>,
    metrics: ApiMetrics,
}

impl Api {
    /// An API over `rooms`, whose metrics are added to `metrics`.
    pub fn new(rooms: Rooms, metrics: &Metrics) -> Self {
        let limits = rooms.limits;
        let issues = Rate {
            per_second: limits.issues_per_caller,
            burst: limits.issue_burst,
        };
        let requests = Rate {
            per_second: limits.requests_per_address,
            burst: limits.request_burst,
        };
        Self {
            rooms,
            begun: Instant::now(),
            callers: Mutex::new(Buckets::new(issues, limits.remembered)),
            addresses: Mutex::new(Buckets::new(requests, limits.remembered)),
            metrics: ApiMetrics::register(metrics),
        }
    }

    fn now(&self) -> Timestamp {
        Timestamp::from(self.rooms.clock.now())
    }

    async fn serve(&self, route: &Route, head: &Parts, body: Body) -> Result<Reply, Fault> {
        let peer = head.extensions.get::<Arc<Peer>>();
        let asking = Asking::new(route, head, peer.map(AsRef::as_ref), self.now());
        match route {
            Route::Enroll => self.enroll(&asking, body).await,
            Route::Issue => self.issue(&asking, body).await,
            Route::Renew => self.renew(&asking, body).await,
            Route::Revoke => self.revoke(&asking, body).await,
            Route::Status => self.status(&asking).await,
            Route::Bundle => self.bundle(&asking).await,
            Route::BundlePem => self.bundle_pem(&asking).await,
            Route::Revocations => self.revocations(&asking).await,
            Route::Crls => self.crls(&asking),
            Route::Crl(issuer) => self.crl(&asking, issuer),
            Route::Time => self.time(&asking),
            Route::Ready => Ok(self.ready(&asking)),
            Route::OpenApi => self.openapi(&asking),
        }
    }

    /// Takes from what the address may still ask: an anonymous request, or a refusal of somebody unknown.
    fn charge_address(&self, asking: &Asking<'_>) -> Result<(), Fault> {
        let Some(address) = asking.address else {
            return Ok(());
        };
        let taken = lock(&self.addresses).take(&address, self.begun.elapsed());
        taken.map_err(|Empty { retry_after }| Fault::too_many(retry_after))
    }

    /// Whether the address may still ask at all, before anything is spent on it.
    fn check_address(&self, asking: &Asking<'_>) -> Result<(), Fault> {
        let Some(address) = asking.address else {
            return Ok(());
        };
        let checked = lock(&self.addresses).check(&address, self.begun.elapsed());
        checked.map_err(|Empty { retry_after }| Fault::too_many(retry_after))
    }

    /// Takes from what the caller may still ask.
    fn charge_caller(&self, caller: &str) -> Result<(), Fault> {
        let taken = lock(&self.callers).take(&caller.to_owned(), self.begun.elapsed());
        taken.map_err(|Empty { retry_after }| Fault::too_many(retry_after))
    }

    /// Counts and records the refusal of somebody whom nobody knows; its address pays for it.
    async fn refuse_unknown(&self, asking: &Asking<'_>, fault: Fault) -> Fault {
        // The address had a token a moment ago; that others have taken it since changes nothing for this answer.
        let _ = self.charge_address(asking);
        self.record(asking, None, "", &fault).await;
        fault
    }

    /// Counts and records the refusal of a caller that is known.
    async fn refuse_known(&self, asking: &Asking<'_>, caller: &str, wanted: &str, fault: Fault) -> Fault {
        self.record(asking, Some(caller), wanted, &fault).await;
        fault
    }

    async fn record(&self, asking: &Asking<'_>, caller: Option<&str>, wanted: &str, fault: &Fault) {
        let refusal = refusals::Refusal {
            caller: caller.map(str::to_owned),
            asked: asking.described(wanted),
            reason: fault.word,
            detail: fault.detail().to_owned(),
        };
        match self.rooms.refusals.record(refusal).await {
            Ok(true) => tracing::info!(
                event = "refused",
                caller = caller.unwrap_or("unknown"),
                asked = asking.described(wanted),
                reason = fault.word,
                detail = fault.detail(),
                "refused"
            ),
            // Counted; the next row of its kind tells of it.
            Ok(false) => {}
            Err(error) => tracing::warn!(reason = fault.word, %error, "a refusal is not recorded"),
        }
    }
}

impl Handler for Api {
    async fn answer(&self, request: Request) -> Reply {
        let (head, body) = request.into_parts();
        let begun = Instant::now();
        let (route, answer) = match Route::find(&head.method, head.uri.path()) {
            Ok(route) => {
                let answer = self.serve(&route, &head, body).await;
                (route.as_str(), answer)
            }
            Err(fault) => ("none", Err(fault)),
        };
        let outcome = answer.as_ref().map_or_else(|fault| fault.word, |_| "ok");
        self.metrics.count(route, outcome, begun.elapsed());
        answer.unwrap_or_else(|fault| fault.reply(self.now().unix()))
    }

    fn allowance(&self, head: &Parts, default: Allowance) -> Allowance {
        let waits = head.uri.query().is_some()
            && Route::find(&head.method, head.uri.path()).is_ok_and(|route| route.waits());
        let time = if waits {
            default.time + self.rooms.limits.wait
        } else {
            default.time
        };
        Allowance { time, ..default }
    }

    fn refuse(&self, refusal: Refusal) -> Reply {
        let word = match refusal {
            Refusal::BodyTooLarge { .. } => "body_too_long",
            Refusal::TooSlow { .. } => "too_slow",
            Refusal::Fault => "internal",
            Refusal::Connect => "method_not_allowed",
        };
        self.metrics.count("none", word, Duration::ZERO);
        Fault::new(word, refusal.to_string()).reply(self.now().unix())
    }
}

impl fmt::Debug for Api {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Api")
            .field("limits", &self.rooms.limits)
            .finish_non_exhaustive()
    }
}

/// The buckets stay buckets, whatever happened to a task that held them.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
