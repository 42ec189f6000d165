//! Knows how the endpoints of services fare, and spreads connections over them.
//!
//! Each worker has its own picture, made of its own connections: no lock, and no message between threads. The
//! decisions are plain functions: [`choose`] (in which order endpoints are tried), [`eject`] (who is left out).

pub mod choose;
pub mod eject;
pub mod probe;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::{Duration, Instant};

use ferrule_identity::SpiffeId;
use tracing::info;

use crate::closed::CloseReason;
use crate::config::{BalanceConfig, Locality, Own};
use crate::knowledge::map::Endpoint;
use crate::maps::QuickMap;
use crate::net::address::UpstreamAddr;
use choose::{Candidate, Distance, order};
use eject::{Failure, Health, Turn};

/// The picture that one worker has of all endpoints.
#[derive(Debug)]
pub struct Balancer {
    config: BalanceConfig,
    node: String,
    zone: RefCell<String>,
    began: Instant,
    peers: RefCell<QuickMap<UpstreamAddr, Rc<Peer>>>,
    turn: Cell<u64>,
}

/// One endpoint.
#[derive(Debug)]
struct Peer {
    id: SpiffeId,
    open: Cell<u32>,
    last: Cell<u64>,
    seen: Cell<Instant>,
    health: RefCell<Health>,
}

/// A connection, or an attempt at one, that counts as its endpoint's load until it is dropped.
#[derive(Debug)]
pub struct Load {
    peer: Rc<Peer>,
    address: UpstreamAddr,
}

impl Balancer {
    /// Knows of nobody yet.
    pub fn new(own: &Own, config: BalanceConfig) -> Self {
        Self {
            config,
            node: own.node.clone(),
            zone: RefCell::new(own.zone.clone()),
            began: Instant::now(),
            peers: RefCell::default(),
            turn: Cell::new(0),
        }
    }

    /// Says in which zone the workload is, where the settings do not.
    pub fn settle_in(&self, zone: &str) {
        if *self.zone.borrow() != zone {
            zone.clone_into(&mut self.zone.borrow_mut());
        }
    }

    /// The endpoints of a service in the order in which a connection tries them, at most `most`.
    pub fn order(&self, endpoints: &[Endpoint], most: usize) -> Vec<Endpoint> {
        let now = Instant::now();
        let peers = self.peers(endpoints, now);
        let candidates: Vec<Candidate> = endpoints
            .iter()
            .zip(&peers)
            .map(|(endpoint, peer)| self.candidate(endpoint, peer, now))
            .collect();
        order(&candidates, most, |below| rand::random_range(0..below.max(1)))
            .into_iter()
            .filter_map(|place| endpoints.get(place).cloned())
            .collect()
    }

    /// Counts an attempt at `endpoint` as its load.
    pub fn begin(&self, endpoint: &Endpoint) -> Load {
        let now = Instant::now();
        let mut known = self.peers.borrow_mut();
        // Alone it comes to nobody.
        let peer = peer(&mut known, endpoint, false, now);
        let turn = self.turn.get() + 1;
        self.turn.set(turn);
        peer.last.set(turn);
        peer.open.set(peer.open.get() + 1);
        let address = endpoint.address;
        Load { peer, address }
    }

    /// Those that were ejected and have to be looked at now; each is said once. Nobody looks at an endpoint of a
    /// service that nobody calls.
    pub fn due(&self, now: Instant) -> Vec<Endpoint> {
        let peers = self.peers.borrow();
        peers
            .iter()
            .filter(|(_, peer)| now.saturating_duration_since(peer.seen.get()) < INTEREST)
            .filter(|(_, peer)| peer.health.borrow_mut().look(now))
            .map(|(address, peer)| Endpoint::at(*address, peer.id.clone()))
            .collect()
    }

    /// Forgets endpoints that carry nothing and that nobody asked for lately: they may have gone for ever.
    pub fn forget(&self, now: Instant) {
        self.peers
            .borrow_mut()
            .retain(|_, peer| peer.open.get() > 0 || now.saturating_duration_since(peer.seen.get()) < MEMORY);
    }

    /// How many endpoints are left out now.
    pub fn ejected(&self) -> usize {
        let peers = self.peers.borrow();
        peers
            .values()
            .filter(|peer| peer.health.borrow().ejected().is_some())
            .count()
    }

    fn peers(&self, endpoints: &[Endpoint], now: Instant) -> Vec<Rc<Peer>> {
        let mut known = self.peers.borrow_mut();
        // Who comes to others begins with little; where all are new nobody is newer than the others.
        let others = endpoints
            .iter()
            .any(|endpoint| known.contains_key(&endpoint.address));
        endpoints
            .iter()
            .map(|endpoint| peer(&mut known, endpoint, others, now))
            .collect()
    }

    fn candidate(&self, endpoint: &Endpoint, peer: &Peer, now: Instant) -> Candidate {
        let is_same = |own: &str, other: Option<&str>| !own.is_empty() && other == Some(own);
        let in_zone = is_same(&self.zone.borrow(), endpoint.zone.as_deref());
        let on_node = is_same(&self.node, endpoint.node.as_deref());
        let distance = match self.config.locality {
            Locality::Node if on_node => Distance::Node,
            Locality::Node | Locality::Zone if in_zone || on_node => Distance::Zone,
            _ => Distance::Away,
        };
        let health = peer.health.borrow();
        let since = |at: Instant| at.saturating_duration_since(self.began).as_millis();
        Candidate {
            open: peer.open.get(),
            last: peer.last.get(),
            distance,
            warmth: health.warmth(now, self.config.slow_start),
            ejected: health
                .ejected()
                .map(|at| u64::try_from(since(at)).unwrap_or(u64::MAX)),
        }
    }
}

/// What is known of `endpoint`, which is seen `now`; where it is new, and comes to `others`, it begins with little.
fn peer(
    known: &mut QuickMap<UpstreamAddr, Rc<Peer>>,
    endpoint: &Endpoint,
    others: bool,
    now: Instant,
) -> Rc<Peer> {
    let health = || match others {
        true => Health::arrived(now),
        false => Health::settled(),
    };
    let peer = known
        .entry(endpoint.address)
        .or_insert_with(|| Rc::new(Peer::new(endpoint, health(), now)));
    if peer.id != endpoint.id {
        // Somebody else lives there now.
        *peer = Rc::new(Peer::new(endpoint, Health::arrived(now), now));
    }
    peer.seen.set(now);
    Rc::clone(peer)
}

impl Peer {
    fn new(endpoint: &Endpoint, health: Health, now: Instant) -> Self {
        Self {
            id: endpoint.id.clone(),
            open: Cell::new(0),
            last: Cell::new(0),
            seen: Cell::new(now),
            health: RefCell::new(health),
        }
    }
}

impl Load {
    /// The endpoint took a connection. What it did before stays in mind until the connection's end.
    pub fn opened(&self) {
        if self.peer.health.borrow().ejected().is_some() {
            self.succeeded();
        }
    }

    /// A connection ended, after the client had got so many bytes. One that the endpoint broke off without a byte
    /// was none: behind it may be nobody.
    pub fn ended(&self, reason: CloseReason, inward: u64) {
        match reason {
            CloseReason::UpstreamReset | CloseReason::RefusedByPeer if inward == 0 => {
                self.failed(Failure::Refused, reason.word());
            }
            _ => self.succeeded(),
        }
    }

    /// The endpoint did what was asked of it.
    pub fn succeeded(&self) {
        let turn = self.peer.health.borrow_mut().succeeded(Instant::now());
        self.say(turn, "");
    }

    /// The endpoint failed, with this word for how.
    pub fn failed(&self, how: Failure, reason: &'static str) {
        let turn = self.peer.health.borrow_mut().failed(how, Instant::now());
        self.say(turn, reason);
    }

    fn say(&self, turn: Option<Turn>, reason: &'static str) {
        let (id, address) = (&self.peer.id, self.address);
        match turn {
            Some(Turn::Ejected) => info!(%id, %address, reason, "endpoint left out"),
            Some(Turn::Returned) => info!(%id, %address, "endpoint back in use"),
            None => {}
        }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.peer.open.set(self.peer.open.get().saturating_sub(1));
    }
}

/// How long after the last call of its service an ejected endpoint is still looked at.
const INTEREST: Duration = Duration::from_secs(60);

/// How long an endpoint without connections is remembered.
const MEMORY: Duration = Duration::from_secs(600);

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn balancer(locality: Locality) -> Balancer {
        let own = Own {
            namespace: "shop".to_owned(),
            name: "web".to_owned(),
            labels: BTreeMap::new(),
            addresses: Vec::new(),
            node: "one".to_owned(),
            zone: "east".to_owned(),
        };
        let slow_start = Duration::from_secs(10);
        let attempt = Duration::from_secs(1);
        Balancer::new(
            &own,
            BalanceConfig {
                locality,
                slow_start,
                attempt,
            },
        )
    }

    fn endpoints(count: u8) -> Vec<Endpoint> {
        let id = SpiffeId::parse("spiffe://shop.local/ns/shop/sa/api").unwrap();
        (1..=count)
            .map(|last| Endpoint::at(UpstreamAddr::new(([10, 0, 0, last], 8080).into()), id.clone()))
            .collect()
    }

    #[test]
    fn what_is_open_is_load_until_it_ends() {
        let balancer = balancer(Locality::Zone);
        let three = endpoints(3);
        let mut loads = Vec::new();
        for _ in 0..300 {
            let first = balancer.order(&three, 1).remove(0);
            loads.push(balancer.begin(&first));
        }
        let open = || -> Vec<u32> {
            balancer
                .peers(&three, Instant::now())
                .iter()
                .map(|peer| peer.open.get())
                .collect()
        };
        assert!(
            open().iter().all(|open| (95..=105).contains(open)),
            "{:?}",
            open()
        );
        loads.clear();
        assert_eq!(open(), [0, 0, 0]);
    }

    #[test]
    fn one_that_fails_is_left_out_looked_at_and_comes_back() {
        let balancer = balancer(Locality::Zone);
        let three = endpoints(3);
        balancer.order(&three, 8);
        balancer.begin(&three[1]).failed(Failure::Silent, "unreachable");
        assert_eq!(balancer.ejected(), 1);
        for _ in 0..50 {
            let order = balancer.order(&three, 8);
            assert_eq!(order.len(), 3);
            assert_eq!(order[2], three[1]);
        }
        balancer.begin(&three[1]).succeeded();
        assert_eq!(balancer.ejected(), 0);
        let calls = || balancer.begin(&balancer.order(&three, 1)[0]).address;
        assert!((0..500).any(|_| calls() == three[1].address));
    }

    #[test]
    fn another_identity_at_an_address_is_another_endpoint() {
        let balancer = balancer(Locality::Zone);
        let mut two = endpoints(2);
        balancer.order(&two, 8);
        balancer.begin(&two[0]).failed(Failure::Silent, "unreachable");
        two[0].id = SpiffeId::parse("spiffe://shop.local/ns/shop/sa/other").unwrap();
        balancer.order(&two, 8);
        assert_eq!(balancer.ejected(), 0);
    }

    #[test]
    fn the_zone_is_preferred_and_the_node_where_the_settings_say_so() {
        let mut three = endpoints(3);
        three[0].zone = Some("west".into());
        three[1].zone = Some("east".into());
        three[2].zone = Some("east".into());
        three[2].node = Some("one".into());
        let near: Vec<Endpoint> = three[1..].to_vec();
        let by_zone = balancer(Locality::Zone);
        let firsts: Vec<Endpoint> = (0..100).map(|_| by_zone.order(&three, 1).remove(0)).collect();
        assert!(firsts.iter().all(|first| near.contains(first)));
        assert!(near.iter().all(|endpoint| firsts.contains(endpoint)));
        let by_node = balancer(Locality::Node);
        assert!(
            (0..100)
                .all(|_| by_node.order(&three, 8) == [three[2].clone(), three[1].clone(), three[0].clone()])
        );
        let anywhere = balancer(Locality::None);
        assert!((0..200).any(|_| anywhere.order(&three, 1)[0] == three[0]));
    }

    #[test]
    fn those_without_connections_are_forgotten_in_the_end() {
        let balancer = balancer(Locality::Zone);
        let two = endpoints(2);
        let _load = balancer.begin(&two[0]);
        balancer.begin(&two[1]);
        let later = Instant::now() + MEMORY + Duration::from_secs(1);
        balancer.forget(Instant::now());
        assert_eq!(balancer.peers.borrow().len(), 2);
        balancer.forget(later);
        assert_eq!(balancer.peers.borrow().len(), 1);
    }
}
