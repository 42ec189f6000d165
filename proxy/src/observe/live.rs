//! Lists the connections that are open.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::account::Account;
use crate::forward::relay::Moved;

/// The open connections of one worker; cheap to clone, clones show the same. The only lock that connections meet,
/// held for the time of one insertion, and shared with nobody but whoever looks through the debug socket.
#[derive(Debug, Clone, Default)]
pub struct Shard(Arc<Mutex<BTreeMap<u64, Live>>>);

/// One open connection.
#[derive(Debug, Clone)]
pub struct Live {
    /// What is known of it.
    pub account: Arc<Account>,
    /// What it moved so far.
    pub moved: Arc<Moved>,
}

impl Shard {
    /// Enters a connection under its own number.
    pub fn enter(&self, live: Live) {
        self.lock().insert(live.account.id, live);
    }

    /// Takes it out.
    pub fn leave(&self, id: u64) {
        self.lock().remove(&id);
    }

    /// The open connection with the lowest number above `id`.
    pub fn next_after(&self, id: u64) -> Option<Live> {
        let above = (Bound::Excluded(id), Bound::Unbounded);
        self.lock().range(above).next().map(|(_, live)| live.clone())
    }

    /// Those that are open now, the oldest first.
    pub fn all(&self) -> Vec<Live> {
        self.lock().values().cloned().collect()
    }

    /// As [`all`](Self::all), a few at a time: whoever looks through many holds up nobody.
    pub fn walk(&self) -> impl Iterator<Item = Live> + use<> {
        let shard = self.clone();
        let mut last = Some(0);
        std::iter::from_fn(move || {
            let above = (Bound::Excluded(last?), Bound::Unbounded);
            let some: Vec<Live> = {
                let open = shard.lock();
                open.range(above)
                    .take(AT_ONCE)
                    .map(|(_, live)| live.clone())
                    .collect()
            };
            last = some.last().map(|live| live.account.id);
            Some(some)
        })
        .flatten()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, Live>> {
        // A map is whole between its calls, so a panic elsewhere cannot have left it torn.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How many connections are looked at under one lock.
const AT_ONCE: usize = 256;
