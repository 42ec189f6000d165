//! Judges connections: the port before a handshake, the peer after it, everything again when something changes.

use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::permit::{Direction, Grounds, Judged, Permit, Table};
use super::standing;
use crate::closed::{CloseReason, Closed};
use crate::config::Own;
use crate::knowledge::News;
use crate::knowledge::map::Place;
use crate::net::address::{OriginalDst, UpstreamAddr};
use ferrule_credentials::Newest;
use ferrule_daemon::clock::Clock;
use ferrule_daemon::drain::Drain;
use ferrule_identity::{PeerIdentity, SpiffeId, Timestamp};
use ferrule_policy::{
    Ask, Decision, Denial, Grant, Inbound, Mode, Outbound, ResolvedError, ServiceName, Source, Verdict,
    Workload, explain, judge, judge_port,
};

/// The judge of one worker's connections, and the keeper of what it permitted. Cheap to clone.
#[derive(Clone)]
pub struct Gate {
    own: Arc<Own>,
    id: SpiffeId,
    news: News,
    credentials: Newest,
    clock: Clock,
    grace: Duration,
    table: Rc<Table>,
}

/// The answer no, with everything that the log needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Denied {
    /// The decision.
    pub judged: Judged,
    /// How the connection ends.
    pub closed: Closed,
}

impl Gate {
    /// A gate for `own`, whose identity is `id`. A peer may stay for `grace` after its certificate has ended.
    pub fn new(
        own: Arc<Own>,
        id: SpiffeId,
        news: News,
        credentials: Newest,
        clock: Clock,
        grace: Duration,
    ) -> Self {
        Self {
            own,
            id,
            news,
            credentials,
            clock,
            grace,
            table: Rc::default(),
        }
    }

    /// Where certificates and trust come from.
    pub fn credentials(&self) -> Newest {
        self.credentials.clone()
    }

    /// Judges a port of the workload before a handshake is spent on it.
    ///
    /// # Errors
    /// When nobody at all may come to this port.
    pub fn port(&self, port: u16) -> Result<(), Denied> {
        let rules = self.news.rules.borrow();
        let Some(policy) = rules.as_ref() else {
            return Err(no_rules());
        };
        let workload = self.own.workload();
        let Some(verdict) = judge_port(policy, &workload, port) else {
            return Ok(());
        };
        // Nobody in particular asks: the sentence is about the workload itself.
        let source = Source::Verified(&self.id);
        let ask = Ask::Inbound(Inbound {
            source,
            destination: workload,
            port,
        });
        let sentence = format!(
            "nobody may reach port {port} of {workload}: {}",
            why(&explain(&ask, &verdict))
        );
        Err(denied(&verdict, sentence))
    }

    /// The mode in which the workload takes connections to its own `port`; strict before the first rules.
    pub fn mode(&self, port: u16) -> Mode {
        let rules = self.news.rules.borrow();
        rules.as_ref().map_or(Mode::Strict, |policy| {
            policy.inbound_mode(&self.own.workload(), port)
        })
    }

    /// Whether `address` is one of the mesh's own; yes, before the first rules.
    pub fn is_in_mesh_ranges(&self, address: IpAddr) -> bool {
        let rules = self.news.rules.borrow();
        rules
            .as_ref()
            .is_none_or(|policy| policy.is_in_mesh_ranges(address))
    }

    /// Judges a connection. The permit is withdrawn when a later judgement says no; [`Gate::mind`] sees to that.
    ///
    /// # Errors
    /// When the rules do not allow it, or the peer is not to be trusted any more.
    pub fn admit(&self, grounds: Grounds) -> Result<Permit, Denied> {
        // Judged and entered into the table without a wait between: a change that lands meanwhile finds the entry.
        let judged = self.judge(&grounds)?;
        Ok(Permit::new(grounds, judged, &self.table))
    }

    /// Judges again whatever lasts, whenever rules or trust change, and every second for what runs out; ends
    /// connections when their direction is cut. Runs for ever, beside the connections of its worker.
    pub async fn mind(&self, inbound: &Drain, outbound: &Drain) {
        let (mut rules, mut map) = (self.news.rules.clone(), self.news.map.clone());
        let mut credentials = self.credentials.clone();
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let cut = async {
            tokio::join!(
                async {
                    inbound.cut().await;
                    self.table.cut(Direction::Inbound);
                },
                async {
                    outbound.cut().await;
                    self.table.cut(Direction::Outbound);
                },
            );
            std::future::pending::<()>().await;
        };
        let judging = async {
            loop {
                // A source that ended leaves its last word in force; only the clock goes on.
                tokio::select! {
                    Ok(()) = rules.changed() => {
                        // Seen before judging by it: a change that lands meanwhile wakes this again.
                        rules.borrow_and_update();
                    }
                    Ok(()) = map.changed() => {
                        map.borrow_and_update();
                    }
                    Ok(()) = credentials.changed() => {
                        credentials.borrow_and_update();
                    }
                    _ = tick.tick() => {
                        self.expire();
                        continue;
                    }
                }
                self.judge_again();
            }
        };
        tokio::join!(cut, judging);
    }

    fn judge_again(&self) {
        for open in self.table.all() {
            if let Err(denied) = self.judge(open.grounds()) {
                open.withdraw(denied.closed);
            }
        }
    }

    /// The cheap half of judging again: only what depends on the time.
    fn expire(&self) {
        let now = self.now();
        for open in self.table.all() {
            let Some(peer) = open.grounds().peer() else {
                continue;
            };
            if now > self.stays_until(open.grounds(), peer)
                && let Err(denied) = self.judge(open.grounds())
            {
                open.withdraw(denied.closed);
            }
        }
    }

    /// Until when a peer may stay: for the grace after its certificate, or after the newest one that it is known to
    /// have got meanwhile. Without any grace a connection ends with the very certificate that it began with.
    fn stays_until(&self, grounds: &Grounds, peer: &PeerIdentity) -> Timestamp {
        let own_end = peer.lifetime().not_after();
        if self.grace.is_zero() {
            return own_end;
        }
        let later = grounds
            .peer_address()
            .and_then(|address| self.news.map.borrow().leaf_ends(address, peer.id()));
        later.map_or(own_end, |later| later.max(own_end)).plus(self.grace)
    }

    fn judge(&self, grounds: &Grounds) -> Result<Judged, Denied> {
        if let Some(peer) = grounds.peer() {
            let credentials = self.credentials.borrow();
            let Some(credentials) = credentials.as_ref() else {
                return Err(Denied {
                    judged: Judged::refused(Arc::default(), String::new()),
                    closed: Closed::plainly(CloseReason::NotReady),
                });
            };
            let end = self.stays_until(grounds, peer);
            standing::check(peer, &credentials.trust, self.now(), end).map_err(|closed| Denied {
                judged: Judged::refused(Arc::default(), closed.detail.clone()),
                closed,
            })?;
        }
        let workload = self.own.workload();
        match grounds {
            Grounds::Server { .. } => Ok(Judged::allowed()),
            Grounds::Caller { peer, port, .. } => {
                self.ask_inbound(Source::Verified(peer.id()), workload, *port)
            }
            Grounds::Itself { port } => self.ask_inbound(Source::Verified(&self.id), workload, *port),
            Grounds::Stranger { client, port } => {
                self.ask_inbound(Source::Plaintext(client.ip()), workload, *port)
            }
            Grounds::Beyond { target, .. } if self.is_in_mesh(*target) => {
                let detail = format!("{target} is in the mesh now, and not spoken to in clear");
                Err(Denied {
                    judged: Judged::refused(Arc::default(), detail.clone()),
                    closed: Closed {
                        reason: CloseReason::UnknownDestination,
                        detail,
                    },
                })
            }
            Grounds::Beyond {
                target,
                service,
                host,
            } => self.ask(&Ask::Outbound(Outbound {
                source: workload,
                address: target.ip(),
                port: target.port(),
                services: service.as_slice(),
                host: host.as_ref(),
            })),
        }
    }

    /// Whether a connection to `target` has to wait for the host that the workload names: no rule about the address
    /// allows it, and a rule about hosts might.
    pub fn awaits_host(&self, target: UpstreamAddr, service: Option<&ServiceName>) -> bool {
        let rules = self.news.rules.borrow();
        let Some(policy) = rules.as_ref() else {
            return false;
        };
        let source = self.own.workload();
        if !policy.has_host_rules(&source, target.port()) {
            return false;
        }
        let verdict = judge(
            policy,
            &Ask::Outbound(Outbound {
                source,
                address: target.ip(),
                port: target.port(),
                services: service.map(std::slice::from_ref).unwrap_or_default(),
                host: None,
            }),
        );
        !matches!(&verdict.is, Decision::Allowed(Grant::Rule(_) | Grant::BuiltIn(_)))
    }

    /// Whether an address that the name of an allowed host was resolved to may be dialled.
    ///
    /// # Errors
    /// Why it must not be.
    pub fn resolved(&self, address: IpAddr) -> Result<(), ResolvedError> {
        let rules = self.news.rules.borrow();
        match rules.as_ref() {
            Some(policy) => policy.judge_resolved(address),
            None => Err(ResolvedError::MeshRange { address }),
        }
    }

    /// Whether somebody of the mesh lives at `target`: its news may come while a connection is open.
    fn is_in_mesh(&self, target: UpstreamAddr) -> bool {
        let place = self.news.map.borrow().at(OriginalDst::new(target.socket()));
        matches!(place, Place::Mesh { .. })
    }

    fn ask_inbound(
        &self,
        source: Source<'_>,
        destination: Workload<'_>,
        port: u16,
    ) -> Result<Judged, Denied> {
        self.ask(&Ask::Inbound(Inbound {
            source,
            destination,
            port,
        }))
    }

    fn ask(&self, ask: &Ask<'_>) -> Result<Judged, Denied> {
        let rules = self.news.rules.borrow();
        let Some(policy) = rules.as_ref() else {
            return Err(no_rules());
        };
        let verdict = judge(policy, ask);
        if !verdict.is_allowed() {
            let sentence = explain(ask, &verdict);
            return Err(denied(&verdict, sentence));
        }
        let sentence = if verdict.is_audited() {
            explain(ask, &verdict)
        } else {
            String::new()
        };
        Ok(Judged {
            verdict: verdict.word(),
            why: verdict.is.reason(),
            rule: verdict.rule().map(|rule| rule.name.clone()).unwrap_or_default(),
            sentence,
            by_host: verdict.by_host().is_some(),
        })
    }

    fn now(&self) -> Timestamp {
        Timestamp::from_unix(self.clock.unix())
    }
}

impl Judged {
    fn refused(rule: Arc<str>, sentence: String) -> Self {
        Self {
            verdict: "deny",
            why: "",
            rule,
            sentence,
            by_host: false,
        }
    }
}

fn denied(verdict: &Verdict, sentence: String) -> Denied {
    let rule = verdict.is.rule().or_else(|| verdict.is.nearest());
    let reason = match &verdict.is {
        Decision::Denied(Denial::Plaintext(_)) => CloseReason::Plaintext,
        _ => CloseReason::Denied,
    };
    let closed = Closed {
        reason,
        detail: sentence.clone(),
    };
    Denied {
        judged: Judged::refused(rule.map(|rule| rule.name.clone()).unwrap_or_default(), sentence),
        closed,
    }
}

fn no_rules() -> Denied {
    let sentence = "no rules have been read yet, so nothing is allowed".to_owned();
    Denied {
        judged: Judged::refused(Arc::default(), sentence.clone()),
        closed: Closed {
            reason: CloseReason::Denied,
            detail: sentence,
        },
    }
}

/// The second half of a sentence of [`explain`].
fn why(sentence: &str) -> &str {
    sentence.split_once("; ").map_or(sentence, |(_, why)| why)
}

/// How often expiry is looked at.
const TICK: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests;
