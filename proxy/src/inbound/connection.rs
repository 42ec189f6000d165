//! Leads one connection to the workload from its acceptance to its end.

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use ferrule_policy::Mode;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::idle::{self, PARTING, Turns};
use super::plaintext::{self, Coming};
use crate::authz::permit::{Direction, Grounds, Permit};
use crate::buffer::Buffer;
use crate::closed::{Blame, CloseReason, Closed};
use crate::forward::carry::{Carried, Outer, carry};
use crate::forward::relay::Arrived;
use crate::framing::exchange;
use crate::framing::line::Line;
use crate::kit::{Kit, refuse};
use crate::net::address::{ClientAddr, UpstreamAddr};
use crate::net::dial::{dial, dial_beside};
use crate::net::original::original_dst;
use crate::observe::account::{Account, Tls};
use crate::proof;
use crate::sniff::HANDSHAKE_RECORD;
use crate::tls::handshake::{HandshakeError, Secured, accept};

/// The way that a connection came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// By redirect: the kernel knows where it was going.
    Captured,
    /// To an explicit port, which leads to this address of the application.
    Served(SocketAddr),
}

/// A connection whose client is known as far as it can be before anything is judged.
struct Entered {
    target: UpstreamAddr,
    outer: Outer,
}

/// A stream that may carry bytes.
struct Opened {
    permit: Permit,
    outer: Outer,
    inner: TcpStream,
}

/// Runs one connection: a single stream, or one after another where the framing has them.
pub async fn run(tcp: TcpStream, client: ClientAddr, way: Way, kit: Rc<Kit>) {
    let mut account = account(client, &kit);
    let entered = tokio::select! {
        biased;
        () = kit.inbound.cut() => Err(Closed::plainly(CloseReason::Cut)),
        entered = Box::pin(enter(tcp, way, &mut account, &kit)) => entered,
    };
    let Entered { target, mut outer } = match entered {
        Ok(Some(entered)) => entered,
        // The probe from outside is nobody's connection.
        Ok(None) => return,
        Err(closed) => return kit.book.refused(&account, &closed),
    };
    loop {
        let Some(mut line) = serve(outer, target, account, &kit).await else {
            return;
        };
        match idle::next(&mut line, Turns::Further, &kit).await {
            Ok(true) => {}
            Ok(false) => return,
            Err(closed) => {
                account = self::account(client, &kit);
                again(&mut account, target, &line);
                return kit.book.refused(&account, &refuse(&line.tcp, closed));
            }
        }
        account = self::account(client, &kit);
        again(&mut account, target, &line);
        outer = Outer::Sealed(line);
    }
}

fn account(client: ClientAddr, kit: &Kit) -> Box<Account> {
    let mut account = kit.book.account(Direction::Inbound, client);
    account.destination_id = Some(kit.config.id.clone());
    account
}

/// Notes of a further stream what is known of its connection.
fn again(account: &mut Account, target: UpstreamAddr, line: &Line) {
    account.destination = Some(target.socket());
    account.secured(&line.about.peer, line.about.agreed);
    account.is_reused = true;
}

/// Serves one stream from its opening to its end; returns the connection, if another one may follow on it.
async fn serve(
    outer: Outer,
    target: UpstreamAddr,
    mut account: Box<Account>,
    kit: &Kit,
) -> Option<Box<Line>> {
    let opened = tokio::select! {
        biased;
        () = kit.inbound.cut() => Err(Carried { closed: Closed::plainly(CloseReason::Cut), kept: None }),
        opened = open(outer, target, &mut account, kit) => opened,
    };
    match opened {
        Ok(Opened { permit, outer, inner }) => {
            let entry = kit.book.enter(account);
            let carried = carry(&permit, outer, inner, kit.carrying(), entry.moved()).await;
            entry.close(&carried.closed);
            carried.kept
        }
        Err(Carried { closed, kept }) => {
            kit.book.refused(&account, &closed);
            let mut line = kept?;
            // What came with the opening belongs to the stream that was refused, and is no frame of the next one.
            line.arrived = Arrived::default();
            // A handshake may mend what is wrong with the peer's certificate, another stream does not.
            if closed.reason.blame() == Blame::Policy && closed.reason != CloseReason::Denied {
                exchange::part(&mut line.tcp, &mut line.channel, PARTING).await;
                return None;
            }
            Some(line)
        }
    }
}

/// Everything before the first stream; `None` for the probe, and for a client that left without any.
async fn enter(
    tcp: TcpStream,
    way: Way,
    account: &mut Account,
    kit: &Kit,
) -> Result<Option<Entered>, Closed> {
    if kit.inbound_busy() > kit.config.limits.connections {
        return Err(refuse(&tcp, Closed::plainly(CloseReason::Busy)));
    }
    let target = match destination(&tcp, way, kit) {
        Ok(target) => target,
        Err(closed) => return Err(refuse(&tcp, closed)),
    };
    account.destination = Some(target.socket());
    if kit.is_probe(way, target) {
        proof::answer_probe(tcp, &kit.readiness).await;
        return Ok(None);
    }
    if way == Way::Captured && kit.is_own_port(target.port()) {
        return Err(refuse(&tcp, own_port(target)));
    }
    if let Err(denied) = kit.gate.port(target.port()) {
        account.judged = Some(denied.judged);
        return Err(refuse(&tcp, denied.closed));
    }
    let coming = match kit.gate.mode(target.port()) {
        Mode::Strict => Coming::Tls(Buffer::new()),
        Mode::Permissive => plaintext::expect(&tcp, account.client(), kit).await,
    };
    let outer = match coming {
        Coming::Tls(first) => {
            let secured = shake(tcp, first, account, kit).await?;
            let mut line = Line::new(secured, account.client().socket(), kit.turn.number());
            match idle::next(&mut line, Turns::First, kit).await {
                Ok(true) => {
                    if line.about.began.elapsed() > KEPT_READY {
                        account.begin_again();
                    }
                    Outer::Sealed(line)
                }
                Ok(false) => return Ok(None),
                Err(closed) => return Err(refuse(&line.tcp, closed)),
            }
        }
        Coming::Clear(peeked) => {
            account.tls = Tls::Plaintext;
            let said = Box::default();
            Outer::clear(tcp, peeked, said)
        }
    };
    Ok(Some(Entered { target, outer }))
}

/// Everything before the first byte of a stream.
async fn open(
    outer: Outer,
    target: UpstreamAddr,
    account: &mut Account,
    kit: &Kit,
) -> Result<Opened, Carried> {
    let port = target.port();
    let is_clear = matches!(outer, Outer::Clear(_));
    let grounds = match &outer {
        Outer::Sealed(line) => Grounds::Caller {
            peer: line.about.peer.clone(),
            address: account.client().ip(),
            port,
        },
        Outer::Clear(_) => Grounds::Stranger {
            client: account.client(),
            port,
        },
    };
    if account.is_reused && kit.inbound_busy() > kit.config.limits.connections {
        return Err(outer.refuse(Closed::plainly(CloseReason::Busy)));
    }
    let permit = match kit.gate.admit(grounds) {
        Ok(permit) => permit,
        Err(denied) => {
            account.judged = Some(denied.judged);
            return Err(outer.refuse(denied.closed));
        }
    };
    account.judged = Some(permit.judged().clone());
    if is_clear {
        kit.book.plaintext(Direction::Inbound, permit.judged().why);
    }
    let is_beside = target.ip().is_loopback() || kit.is_own_address(target.ip());
    let dialled = match is_beside {
        true => dial_beside(target, &kit.dialing()).await,
        false => dial(target, &kit.dialing()).await,
    };
    match dialled {
        Ok(inner) => Ok(Opened { permit, outer, inner }),
        Err(error) => Err(outer.refuse(Closed::because(CloseReason::of_dial(&error), &error))),
    }
}

fn own_port(target: UpstreamAddr) -> Closed {
    Closed {
        reason: CloseReason::UnknownDestination,
        detail: format!("{target} is the proxy itself"),
    }
}

fn destination(tcp: &TcpStream, way: Way, kit: &Kit) -> Result<UpstreamAddr, Closed> {
    match way {
        Way::Served(to) => Ok(UpstreamAddr::new(to)),
        Way::Captured => {
            let original = original_dst(tcp)
                .map_err(|error| Closed::because(CloseReason::UnknownDestination, &error))?;
            // What listens on loopback alone stays private; a listed workload has no other addresses than its own.
            let elsewhere = !kit.config.own.addresses.is_empty() && !kit.is_own_address(original.ip());
            if original.ip().is_loopback() || elsewhere {
                return Err(Closed {
                    reason: CloseReason::UnknownDestination,
                    detail: format!("{original} is no address of this workload"),
                });
            }
            Ok(original.upstream())
        }
    }
}

async fn shake(tcp: TcpStream, first: Buffer, account: &mut Account, kit: &Kit) -> Result<Secured, Closed> {
    let (material, _place) = match (kit.material(), kit.shaking()) {
        (Ok(material), Ok(place)) => (material, place),
        (Err(closed), _) | (_, Err(closed)) => return Err(refuse(&tcp, closed)),
    };
    let began = Instant::now();
    let limit = kit.config.limits.handshake;
    let refused = |error: &HandshakeError| {
        kit.book
            .handshake("server", error.reason().word(), began.elapsed());
        Closed::because(error.reason(), error)
    };
    let first = match hello(&tcp, first, limit).await {
        Ok(first) => first,
        Err(Hello::Failed(error)) => return Err(refuse(&tcp, refused(&error))),
        Err(Hello::Clear) => {
            account.tls = Tls::Plaintext;
            kit.book.plaintext(Direction::Inbound, "refused");
            return Err(refuse(&tcp, Closed::plainly(CloseReason::Plaintext)));
        }
    };
    match accept(tcp, first, &material, limit.saturating_sub(began.elapsed())).await {
        Ok(secured) => {
            kit.book.handshake("server", "ok", began.elapsed());
            account.secured(&secured.peer, secured.agreed);
            Ok(secured)
        }
        Err(error) => Err(refused(&error)),
    }
}

/// Why a connection does not begin with TLS.
enum Hello {
    Clear,
    Failed(HandshakeError),
}

/// Waits for the first bytes, which must be those of TLS.
async fn hello(tcp: &TcpStream, mut first: Buffer, limit: Duration) -> Result<Buffer, Hello> {
    let broken = |source| Hello::Failed(HandshakeError::Broken { source });
    while first.filled().is_empty() {
        match timeout(limit, tcp.readable()).await {
            Ok(ready) => ready.map_err(broken)?,
            Err(_) => return Err(Hello::Failed(HandshakeError::Timeout { limit })),
        }
        first = Buffer::lent();
        match tcp.try_read(first.room(0).get_mut(..FIRST_BYTES).unwrap_or_default()) {
            Ok(0) => return Err(Hello::Failed(HandshakeError::Ended)),
            Ok(read) => first.advance(read),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => first = Buffer::new(),
            Err(source) => return Err(broken(source)),
        }
    }
    if first.filled().first() != Some(&HANDSHAKE_RECORD) {
        return Err(Hello::Clear);
    }
    Ok(first)
}

impl Kit {
    /// Whether a connection is the probe from outside: captured, on its way to the probe's port.
    fn is_probe(&self, way: Way, target: UpstreamAddr) -> bool {
        let probe = self.config.capture.as_ref().map(|capture| capture.probe.get());
        way == Way::Captured && probe == Some(target.port())
    }
}

/// How long after its handshake a connection is one that was made before it was needed.
const KEPT_READY: Duration = Duration::from_secs(1);

/// What the first read takes at most.
const FIRST_BYTES: usize = 16 * 1024;
