//! Gathers what is known of one connection, and writes its line of the log.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use ferrule_daemon::clock::Clock;
use ferrule_daemon::logging::shown_time;
use ferrule_identity::{PeerIdentity, SerialNumber, SpiffeId};
use serde_json::{Value, json};
use tokio::time::Instant;
use tracing::info;

use super::shown::{Ip, Number, Socket};
use super::tap::Tap;
use crate::authz::permit::{Direction, Judged};
use crate::closed::Closed;
use crate::config::Own;
use crate::forward::relay::Moved;
use crate::net::address::ClientAddr;
use crate::tls::handshake::Agreed;

/// How a connection is protected between the two sides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Tls {
    /// It did not come that far.
    None,
    /// By TLS, both sides verified.
    Mutual,
    /// Not at all.
    Plaintext,
    /// It does not leave the workload.
    Local,
}

/// What is known of one connection; it fills up on the way.
#[derive(Debug, Clone)]
pub struct Account {
    /// The number of the connection, for log lines and the debug socket; no two of a process have the same.
    pub id: u64,
    own: Arc<Own>,
    began: Instant,
    direction: Direction,
    client: ClientAddr,
    /// Where it was going.
    pub destination: Option<SocketAddr>,
    /// Who opened it, as far as that was proved.
    pub source_id: Option<SpiffeId>,
    /// To whom it goes: the workload itself, or who is expected there.
    pub destination_id: Option<SpiffeId>,
    /// The service that was called.
    pub service: String,
    /// How it is protected.
    pub tls: Tls,
    /// What TLS agreed on.
    pub agreed: Option<Agreed>,
    /// Who is at the other end of TLS.
    pub peer: Option<PeerIdentity>,
    /// What the rules said.
    pub judged: Option<Judged>,
    /// Whether it travels over a TLS connection that was there already.
    pub is_reused: bool,
}

/// Whether a line is about the end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Event {
    Open,
    Close,
}

impl Account {
    /// A connection from `client` of which nothing else is known.
    pub fn new(id: u64, own: Arc<Own>, direction: Direction, client: ClientAddr) -> Self {
        Self {
            id,
            own,
            began: Instant::now(),
            direction,
            client,
            destination: None,
            source_id: None,
            destination_id: None,
            service: String::new(),
            tls: Tls::None,
            agreed: None,
            peer: None,
            judged: None,
            is_reused: false,
        }
    }

    /// Which way it goes.
    pub const fn direction(&self) -> Direction {
        self.direction
    }

    /// The one who opened it.
    pub const fn client(&self) -> ClientAddr {
        self.client
    }

    /// When it was accepted.
    pub const fn began(&self) -> Instant {
        self.began
    }

    /// Begins now: before, the connection was only kept ready.
    pub fn begin_again(&mut self) {
        self.began = Instant::now();
    }

    /// Notes what a handshake proved.
    pub fn secured(&mut self, peer: &PeerIdentity, agreed: Agreed) {
        self.tls = Tls::Mutual;
        self.agreed = Some(agreed);
        self.peer = Some(peer.clone());
        match self.direction {
            Direction::Inbound => self.source_id = Some(peer.id().clone()),
            Direction::Outbound => self.destination_id = Some(peer.id().clone()),
        }
    }

    /// `allow`, `audit` or `deny`; `none` before the rules were asked.
    pub fn verdict(&self) -> &'static str {
        self.judged.as_ref().map_or("none", |judged| judged.verdict)
    }

    /// The rule that decided; empty where none did.
    pub fn rule(&self) -> &str {
        self.judged.as_ref().map_or("", |judged| &judged.rule)
    }

    /// The line at the end.
    pub fn log_close(&self, closed: &Closed, moved: &Moved, tap: &Tap, clock: &Clock) {
        self.log(
            Event::Close,
            closed.reason.word(),
            &closed.detail,
            moved,
            tap,
            clock,
        );
    }

    /// The line of a connection that has been open for a while.
    pub fn log_open(&self, moved: &Moved, tap: &Tap, clock: &Clock) {
        self.log(Event::Open, "", "", moved, tap, clock);
    }

    /// Writes the line to the log, and the same to whoever looks on.
    fn log(&self, event: Event, reason: &str, detail: &str, moved: &Moved, tap: &Tap, clock: &Clock) {
        let judged = self.judged.as_ref();
        let audited = judged
            .map(|judged| judged.sentence.as_str())
            .filter(|_| detail.is_empty());
        let detail = audited.unwrap_or(detail);
        let (src_id, dst_id) = (text(&self.source_id), text(&self.destination_id));
        let agreed = self.agreed.unwrap_or(Agreed {
            version: "",
            group: "",
            cipher: "",
        });
        let (connection_id, peer_serial) = (Number(self.id), Shown(self.peer_serial()));
        let (src_addr, dst_addr) = (
            Socket(self.client.socket()),
            Ip(self.destination.map(|to| to.ip())),
        );
        let dst_port = self.destination.map_or(0, |to| to.port());
        let event = match event {
            Event::Open => "open",
            Event::Close => "close",
        };
        let (bytes_in, bytes_out, duration_ms) = (moved.inward(), moved.outward(), self.duration_ms());
        info!(
            target: "access",
            event,
            %connection_id,
            direction = self.direction.word(),
            namespace = self.own.namespace,
            pod = self.own.name,
            node = self.own.node,
            src_id,
            dst_id,
            %src_addr,
            %dst_addr,
            dst_port,
            service = self.service,
            tls = self.tls.word(),
            tls_version = agreed.version,
            tls_group = agreed.group,
            tls_cipher = agreed.cipher,
            %peer_serial,
            verdict = self.verdict(),
            rule = self.rule(),
            reason,
            detail,
            bytes_in,
            bytes_out,
            duration_ms,
            reused = self.is_reused,
            "connection"
        );
        tap.pass(|| {
            json!({
                "time": shown_time(clock),
                "level": "info",
                "target": "access",
                "message": "connection",
                "event": event,
                "connection_id": connection_id.to_string(),
                "direction": self.direction.word(),
                "namespace": self.own.namespace,
                "pod": self.own.name,
                "node": self.own.node,
                "src_id": src_id,
                "dst_id": dst_id,
                "src_addr": src_addr.to_string(),
                "dst_addr": dst_addr.to_string(),
                "dst_port": dst_port,
                "service": self.service,
                "tls": self.tls.word(),
                "tls_version": agreed.version,
                "tls_group": agreed.group,
                "tls_cipher": agreed.cipher,
                "peer_serial": peer_serial.to_string(),
                "verdict": self.verdict(),
                "rule": self.rule(),
                "reason": reason,
                "detail": detail,
                "bytes_in": bytes_in,
                "bytes_out": bytes_out,
                "duration_ms": duration_ms,
                "reused": self.is_reused,
            })
        });
    }

    /// The serial number of the peer's certificate.
    fn peer_serial(&self) -> Option<&SerialNumber> {
        self.peer.as_ref().map(PeerIdentity::serial)
    }

    fn duration_ms(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// The same for the debug socket.
    pub fn to_json(&self, moved: &Moved) -> Value {
        json!({
            "connection_id": Number(self.id).to_string(),
            "direction": self.direction.word(),
            "src_id": self.source_id.as_ref().map(ToString::to_string),
            "dst_id": self.destination_id.as_ref().map(ToString::to_string),
            "src_addr": self.client.to_string(),
            "dst_addr": self.destination.map(|to| to.ip().to_string()),
            "dst_port": self.destination.map(|to| to.port()),
            "service": self.service,
            "tls": self.tls.word(),
            "tls_group": self.agreed.map(|agreed| agreed.group),
            "peer_serial": Shown(self.peer_serial()).to_string(),
            "verdict": self.verdict(),
            "rule": self.rule(),
            "reused": self.is_reused,
            "bytes_in": moved.inward(),
            "bytes_out": moved.outward(),
            "duration_ms": self.duration_ms(),
        })
    }
}

fn text(id: &Option<SpiffeId>) -> &str {
    id.as_ref().map_or("", SpiffeId::as_str)
}

/// What is not known is shown as nothing.
struct Shown<T>(Option<T>);

impl<T: fmt::Display> fmt::Display for Shown<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.as_ref().map_or(Ok(()), |known| known.fmt(f))
    }
}

impl Tls {
    /// The word for it in logs and metrics.
    pub const fn word(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Mutual => "mutual",
            Self::Plaintext => "plaintext",
            Self::Local => "local",
        }
    }
}
