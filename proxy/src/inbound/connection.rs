//! Leads one connection to the workload from its acceptance to its end.

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Instant;

use ferrule_policy::Mode;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::plaintext::{self, Coming};
use crate::authz::permit::{Direction, Grounds, Permit};
use crate::buffer::Buffer;
use crate::closed::{CloseReason, Closed};
use crate::forward::carry::{Outer, Sealed, carry};
use crate::framing::exchange;
use crate::kit::{Kit, refuse};
use crate::net::address::{ClientAddr, UpstreamAddr};
use crate::net::dial::dial;
use crate::net::original::original_dst;
use crate::net::socket::prepare;
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

/// A connection that may carry bytes.
struct Opened {
    permit: Permit,
    outer: Outer,
    inner: TcpStream,
}

/// Runs one connection.
pub async fn run(tcp: TcpStream, client: ClientAddr, way: Way, kit: Rc<Kit>) {
    let mut account = kit.book.account(Direction::Inbound, client);
    account.destination_id = Some(kit.config.id.clone());
    let opened = tokio::select! {
        biased;
        () = kit.inbound.cut() => Err(Closed::plainly(CloseReason::Cut)),
        opened = open(tcp, way, &mut account, &kit) => opened,
    };
    match opened {
        Ok(Some(opened)) => {
            let entry = kit.book.enter(account);
            let half_closed = kit.config.connection.half_closed;
            let Opened { permit, outer, inner } = opened;
            let carried = carry(&permit, outer, inner, half_closed, entry.moved()).await;
            entry.close(&carried.closed);
        }
        // The probe from outside is nobody's connection.
        Ok(None) => {}
        Err(closed) => kit.book.refused(&account, &closed),
    }
}

/// Everything before the first byte; `None` for the probe.
async fn open(tcp: TcpStream, way: Way, account: &mut Account, kit: &Kit) -> Result<Option<Opened>, Closed> {
    if kit.inbound.open() > kit.config.limits.connections {
        return Err(refuse(&tcp, Closed::plainly(CloseReason::Busy)));
    }
    let broken = |error: std::io::Error| Closed::because(CloseReason::ClientReset, &error);
    prepare(&tcp, kit.config.connection.keepalive).map_err(broken)?;
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
    let (permit, mut outer) = identify(tcp, target, account, kit).await?;
    let inner = match dial(target, &kit.dialing()).await {
        Ok(inner) => inner,
        Err(error) => {
            let closed = Closed::because(CloseReason::Unreachable, &error);
            return Err(outer.refuse(closed));
        }
    };
    if let Err(error) = outer.accept(kit.config.limits.handshake).await {
        let closed = Closed::because(CloseReason::of_opening(&error), &error);
        return Err(outer.refuse(closed));
    }
    Ok(Some(Opened { permit, outer, inner }))
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

/// Finds out who calls, and whether they may.
async fn identify(
    tcp: TcpStream,
    target: UpstreamAddr,
    account: &mut Account,
    kit: &Kit,
) -> Result<(Permit, Outer), Closed> {
    let port = target.port();
    let coming = match kit.gate.mode(port) {
        Mode::Strict => Coming::Tls(Buffer::new()),
        Mode::Permissive => plaintext::expect(&tcp, account.client(), kit).await,
    };
    match coming {
        Coming::Tls(first) => {
            let secured = shake(tcp, first, account, kit).await?;
            let peer = secured.peer.clone();
            let outer = stream(secured, kit).await?;
            let address = account.client().ip();
            admit(Grounds::Caller { peer, address, port }, outer, account, kit)
        }
        Coming::Clear(peeked) => {
            account.tls = Tls::Plaintext;
            let client = account.client();
            let said = Box::default();
            let outer = Outer::Clear { tcp, peeked, said };
            let admitted = admit(Grounds::Stranger { client, port }, outer, account, kit)?;
            kit.book.plaintext(Direction::Inbound, admitted.0.judged().why);
            Ok(admitted)
        }
    }
}

/// Waits for the stream that the peer opens on its connection.
async fn stream(secured: Secured, kit: &Kit) -> Result<Outer, Closed> {
    let (mut tcp, mut channel) = (secured.tcp, secured.channel);
    let limit = kit.config.limits.handshake;
    match exchange::next(&mut tcp, &mut channel, secured.arrived, limit).await {
        Ok(arrived) => Ok(Outer::Sealed(Box::new(Sealed {
            tcp,
            channel,
            arrived,
        }))),
        Err(error) => {
            let closed = Closed::because(CloseReason::of_opening(&error), &error);
            Err(refuse(&tcp, closed))
        }
    }
}

fn admit(
    grounds: Grounds,
    outer: Outer,
    account: &mut Account,
    kit: &Kit,
) -> Result<(Permit, Outer), Closed> {
    match kit.gate.admit(grounds) {
        Ok(permit) => {
            account.judged = Some(permit.judged().clone());
            Ok((permit, outer))
        }
        Err(denied) => {
            account.judged = Some(denied.judged);
            Err(outer.refuse(denied.closed))
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
async fn hello(tcp: &TcpStream, mut first: Buffer, limit: std::time::Duration) -> Result<Buffer, Hello> {
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

/// What the first read takes at most.
const FIRST_BYTES: usize = 16 * 1024;
