//! Makes connections before somebody needs them, where the settings ask for that.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use crate::config::{Upstream, UpstreamTarget};
use crate::kit::Kit;
use crate::knowledge::map::Endpoint;
use crate::maps::QuickMap;
use crate::net::address::UpstreamAddr;
use crate::outbound::mesh;

/// The destinations to which connections are kept ready: those that were called lately, by one worker.
#[derive(Debug, Default)]
pub struct Warmth(RefCell<QuickMap<SocketAddr, (Endpoint, Instant)>>);

impl Warmth {
    /// Begins with the explicit ways out that lead to one address.
    pub fn of(upstreams: &[Upstream]) -> Self {
        let warmth = Self::default();
        for upstream in upstreams {
            if let UpstreamTarget::Address { host, port, id } = &upstream.to
                && let Ok(address) = host.parse()
            {
                let address = UpstreamAddr::new(SocketAddr::new(address, *port));
                warmth.called(&Endpoint::at(address, id.clone()));
            }
        }
        warmth
    }

    /// Notes that somebody is called now.
    pub fn called(&self, endpoint: &Endpoint) {
        let at = endpoint.address.socket();
        let mut known = self.0.borrow_mut();
        if known.len() < MOST || known.contains_key(&at) {
            known.insert(at, (endpoint.clone(), Instant::now()));
        }
    }

    fn all(&self, now: Instant) -> Vec<Endpoint> {
        let mut known = self.0.borrow_mut();
        known.retain(|_, (_, called)| now.saturating_duration_since(*called) < MEMORY);
        known.values().map(|(endpoint, _)| endpoint.clone()).collect()
    }
}

/// Begins to make what is missing; `making` are those that are under way.
pub fn warm(kit: &Rc<Kit>, making: &mut JoinSet<()>, now: Instant) {
    while making.try_join_next().is_some() {}
    let wanted = kit.config.connection.pool.warm;
    // One look at a time: what is under way is not there yet, and would be made twice.
    if wanted == 0 || !making.is_empty() || kit.material.borrow().is_none() {
        return;
    }
    for endpoint in kit.warmth.all(now) {
        for _ in kit.pool.ready(&endpoint)..wanted {
            if making.len() >= MOST_AT_ONCE {
                return;
            }
            let (kit, endpoint) = (Rc::clone(kit), endpoint.clone());
            making.spawn_local(async move {
                // Who does not answer now may do so at the next look; a caller finds out by itself.
                if let Some(line) = mesh::line(&endpoint, &kit).await {
                    kit.pool.put(line, kit.turn.number());
                }
            });
        }
    }
}

/// How long after the last call connections to a destination are kept ready.
const MEMORY: Duration = Duration::from_secs(600);

/// Destinations that are remembered.
const MOST: usize = 1024;

/// Connections that are made at once.
const MOST_AT_ONCE: usize = 16;
