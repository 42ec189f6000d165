//! Holds what every connection of one worker has at hand.

use std::cell::Cell;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use ferrule_daemon::drain::Drain;
use ferrule_daemon::ready::Readiness;
use tokio::net::TcpStream;
use tokio::sync::watch;

use crate::authz::gate::Gate;
use crate::balance::Balancer;
use crate::closed::{CloseReason, Closed};
use crate::config::Config;
use crate::egress::resolver::Resolver;
use crate::forward::carry::Limits;
use crate::forward::moment::Moments;
use crate::framing::pool::Pool;
use crate::framing::turn::Turn;
use crate::framing::warm::Warmth;
use crate::knowledge::map::Map;
use crate::knowledge::question::Asker;
use crate::net::dial::Dialing;
use crate::net::socket::reset_on_close;
use crate::observe::book::Book;
use crate::proof::Token;
use crate::tls::material::Material;

/// What every connection of one worker has at hand. It stays on the worker's thread.
pub struct Kit {
    /// The settings.
    pub config: Arc<Config>,
    /// The judge.
    pub gate: Gate,
    /// The certificate to show, once there is one.
    pub material: watch::Receiver<Option<Arc<Material>>>,
    /// Who lives where.
    pub map: watch::Receiver<Arc<Map>>,
    /// Asks about whoever is not in the map.
    pub asker: Asker,
    /// Where names beyond the mesh lead.
    pub resolver: Resolver,
    /// The books.
    pub book: Book,
    /// Connections to the workload.
    pub inbound: Drain,
    /// Connections from the workload.
    pub outbound: Drain,
    /// Whether the program is ready, for the probe from outside.
    pub readiness: Readiness,
    /// What the proxy knows itself by.
    pub token: Token,
    /// Handshakes that are going on.
    pub shaking: Cell<usize>,
    /// How the endpoints of services fare.
    pub balancer: Balancer,
    /// Connections to other workloads that carry nothing now.
    pub pool: Pool,
    /// To whom connections are kept ready.
    pub warmth: Warmth,
    /// When connections become too old for another stream.
    pub turn: Turn,
    /// The clock of those that wait for an application's first bytes.
    pub moments: Moments,
    /// How many connections from other workloads carry nothing now, in all workers.
    pub parked: Arc<AtomicUsize>,
}

/// A handshake's place among those that are allowed at once; dropping it gives it back.
pub struct Shaking<'k>(&'k Cell<usize>);

/// A connection that carries nothing now; dropping it says that it does.
pub struct Parking<'k>(&'k AtomicUsize);

impl Kit {
    /// The certificate to show.
    ///
    /// # Errors
    /// When there is none yet.
    pub fn material(&self) -> Result<Arc<Material>, Closed> {
        let material = self.material.borrow().clone();
        material.ok_or_else(|| Closed {
            reason: CloseReason::NotReady,
            detail: "there is no certificate yet".to_owned(),
        })
    }

    /// A place for one handshake.
    ///
    /// # Errors
    /// When too many are going on.
    pub fn shaking(&self) -> Result<Shaking<'_>, Closed> {
        let now = self.shaking.get();
        let most = self.config.limits.handshakes;
        if now >= most {
            return Err(Closed {
                reason: CloseReason::Busy,
                detail: format!("{most} handshakes are going on already"),
            });
        }
        self.shaking.set(now + 1);
        Ok(Shaking(&self.shaking))
    }

    /// How many connections to the workload are open, without those that wait for a stream.
    pub fn inbound_busy(&self) -> usize {
        self.inbound
            .open()
            .saturating_sub(self.parked.load(Ordering::Relaxed))
    }

    /// Counts a connection to the workload as one that carries nothing, until this is dropped.
    pub fn park(&self) -> Parking<'_> {
        self.parked.fetch_add(1, Ordering::Relaxed);
        Parking(&self.parked)
    }

    /// How long carrying may wait.
    pub fn carrying(&self) -> Limits<'_> {
        Limits {
            taking: self.config.limits.handshake,
            moments: &self.moments,
            half_closed: self.config.connection.half_closed,
        }
    }

    /// How connections are dialled.
    pub fn dialing(&self) -> Dialing {
        self.config.dialing()
    }

    /// Whether a port of this workload is one of the proxy's own, which nobody may be led to.
    pub fn is_own_port(&self, port: u16) -> bool {
        let admin = self.config.admin.is_some_and(|admin| admin.port() == port);
        let captured = self.config.capture.as_ref().is_some_and(|capture| {
            [capture.outbound, capture.inbound, capture.proof, capture.probe]
                .iter()
                .any(|own| own.get() == port)
        });
        let probes = self
            .config
            .probes
            .as_ref()
            .is_some_and(|probes| probes.listen.port() == port);
        admin || captured || probes
    }

    /// Whether an address is the workload's own.
    pub fn is_own_address(&self, address: IpAddr) -> bool {
        self.config.own.addresses.contains(&address)
    }
}

impl Drop for Shaking<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

impl Drop for Parking<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Resets a connection that is not let in: its client must not take the end for a finished answer.
pub fn refuse(tcp: &TcpStream, closed: Closed) -> Closed {
    // A socket that cannot be set is gone already.
    let _ = reset_on_close(tcp);
    closed
}
