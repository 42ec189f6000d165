//! Carries the leave to move bytes, until it is withdrawn.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::net::IpAddr;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::task::{Poll, Waker};

use ferrule_identity::PeerIdentity;
use ferrule_policy::{HostName, ServiceName};

use crate::closed::{CloseReason, Closed};
use crate::maps::QuickMap;
use crate::net::address::{ClientAddr, UpstreamAddr};

/// Which way a connection goes, seen from the workload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Direction {
    /// To the workload.
    Inbound,
    /// From the workload.
    Outbound,
}

impl Direction {
    /// The word for it in logs and metrics.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Inbound => "inbound",
            Self::Outbound => "outbound",
        }
    }
}

/// Who is allowed what: everything that a decision can be made from again.
#[derive(Debug, Clone)]
pub enum Grounds {
    /// A caller who proved an identity may reach the workload's port.
    Caller {
        /// Who.
        peer: PeerIdentity,
        /// From where.
        address: IpAddr,
        /// The workload's own port.
        port: u16,
    },
    /// A caller in clear may reach the workload's port.
    Stranger {
        /// From where.
        client: ClientAddr,
        /// The workload's own port.
        port: u16,
    },
    /// The workload may reach itself.
    Itself {
        /// Its own port.
        port: u16,
    },
    /// The workload may reach another one, who proved to be the one that is expected.
    Server {
        /// Who.
        peer: PeerIdentity,
        /// Where.
        address: IpAddr,
    },
    /// The workload may reach a destination beyond the mesh.
    Beyond {
        /// Where.
        target: UpstreamAddr,
        /// The unmeshed service there, where it is one.
        service: Option<ServiceName>,
        /// The host that the workload named, where it was waited for.
        host: Option<HostName>,
    },
}

impl Grounds {
    /// Which way such a connection goes.
    pub const fn direction(&self) -> Direction {
        match self {
            Self::Caller { .. } | Self::Stranger { .. } => Direction::Inbound,
            Self::Itself { .. } | Self::Server { .. } | Self::Beyond { .. } => Direction::Outbound,
        }
    }

    /// Where the peer is that proved an identity, as far as addresses tell.
    pub const fn peer_address(&self) -> Option<IpAddr> {
        match self {
            Self::Caller { address, .. } | Self::Server { address, .. } => Some(*address),
            Self::Stranger { .. } | Self::Itself { .. } | Self::Beyond { .. } => None,
        }
    }

    /// The peer who proved an identity.
    pub fn peer(&self) -> Option<&PeerIdentity> {
        match self {
            Self::Caller { peer, .. } | Self::Server { peer, .. } => Some(peer),
            Self::Stranger { .. } | Self::Itself { .. } | Self::Beyond { .. } => None,
        }
    }
}

/// What was decided, in the words of logs and metrics.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judged {
    /// `allow`, `audit` or `deny`.
    pub verdict: &'static str,
    /// The word for why, one of a fixed few; empty where no rule was asked.
    pub why: &'static str,
    /// The rule that decided, or would have; empty where there is none.
    pub rule: Arc<str>,
    /// The decision as a sentence, where it is a refusal or would have been one; empty otherwise.
    pub sentence: String,
    /// Whether the rule is about the host that was named: then nothing but what that name leads to may be dialled.
    pub by_host: bool,
}

impl Judged {
    /// What needs no rule.
    pub(super) fn allowed() -> Self {
        Self {
            verdict: "allow",
            why: "",
            rule: Arc::default(),
            sentence: String::new(),
            by_host: false,
        }
    }
}

/// Leave to carry the bytes of one connection. Only [`Gate::admit`](super::gate::Gate::admit) makes one. It may be
/// withdrawn at any time; dropping it gives it back.
#[derive(Debug)]
pub struct Permit {
    open: Rc<Open>,
    judged: Judged,
}

impl Permit {
    pub(super) fn new(grounds: Grounds, judged: Judged, table: &Rc<Table>) -> Self {
        let number = table.next.get();
        table.next.set(number.wrapping_add(1));
        let open = Rc::new(Open {
            number,
            grounds,
            end: RefCell::new(None),
            waker: RefCell::new(None),
            table: Rc::downgrade(table),
        });
        table.open.borrow_mut().insert(number, Rc::downgrade(&open));
        Self { open, judged }
    }

    /// What is allowed.
    pub fn grounds(&self) -> &Grounds {
        &self.open.grounds
    }

    /// The decision.
    pub const fn judged(&self) -> &Judged {
        &self.judged
    }

    /// Ends when the connection must end, with the reason: the rules changed, the peer is not trusted any more or
    /// its certificate ran out, or the program ends. One task waits at a time.
    pub async fn revoked(&self) -> Closed {
        poll_fn(|context| {
            if let Some(end) = &*self.open.end.borrow() {
                return Poll::Ready(end.clone());
            }
            let mut waker = self.open.waker.borrow_mut();
            if !waker
                .as_ref()
                .is_some_and(|waker| waker.will_wake(context.waker()))
            {
                *waker = Some(context.waker().clone());
            }
            Poll::Pending
        })
        .await
    }
}

/// One permit as long as it lasts.
#[derive(Debug)]
pub(super) struct Open {
    number: u64,
    grounds: Grounds,
    end: RefCell<Option<Closed>>,
    waker: RefCell<Option<Waker>>,
    table: Weak<Table>,
}

impl Open {
    pub(super) const fn grounds(&self) -> &Grounds {
        &self.grounds
    }

    /// Withdraws the permit; the first reason counts.
    pub(super) fn withdraw(&self, closed: Closed) {
        self.end.borrow_mut().get_or_insert(closed);
        if let Some(waker) = self.waker.borrow_mut().take() {
            waker.wake();
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        if let Some(table) = self.table.upgrade() {
            table.open.borrow_mut().remove(&self.number);
        }
    }
}

/// The permits of one worker. They stay on its thread, so nothing here is locked, and a connection on which nothing
/// happens waits on nothing but one cell.
#[derive(Debug, Default)]
pub(super) struct Table {
    open: RefCell<QuickMap<u64, Weak<Open>>>,
    next: Cell<u64>,
}

impl Table {
    /// Those that last now.
    pub(super) fn all(&self) -> Vec<Rc<Open>> {
        self.open.borrow().values().filter_map(Weak::upgrade).collect()
    }

    /// Withdraws all permits of one direction.
    pub(super) fn cut(&self, direction: Direction) {
        for open in self.all() {
            if open.grounds.direction() == direction {
                open.withdraw(Closed::plainly(CloseReason::Cut));
            }
        }
    }
}
