//! Knows every proxy: who is connected, who holds which version, who lags.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ferrule_identity::{PeerIdentity, SpiffeId, Timestamp};
use ferrule_wire::proto::ferrule::v1::{Held, ProxiesReply, Proxy};

/// All proxies; cheap to clone, clones share them.
#[derive(Debug, Clone, Default)]
pub struct Proxies(Arc<Mutex<Known>>);

#[derive(Debug, Default)]
struct Known {
    by_name: BTreeMap<Key, Record>,
    connections: u64,
    /// Ends of certificates that were shown since somebody asked last.
    shown: BTreeMap<(SpiffeId, String), Timestamp>,
}

/// A certificate that a proxy has shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    /// Whose: proved.
    pub id: SpiffeId,
    /// The name that the proxy gives itself among those of its identity.
    pub name: String,
    /// When it ends.
    pub not_after: Timestamp,
}

/// Identity, and name among those of that identity.
type Key = (String, String);

#[derive(Debug, Clone, Default)]
struct Record {
    /// Which connection speaks for it; a later one takes over from an earlier.
    connection: u64,
    is_connected: bool,
    address: String,
    connected_since: i64,
    last_heard: i64,
    not_after: i64,
    serial: String,
    bundle_sequence: u64,
    deny_generation: u64,
    waiting_since: Option<i64>,
    clock_ahead: i64,
    held: BTreeMap<&'static str, (u64, String)>,
    refused: String,
}

/// A proxy that is connected; dropping it says that it is not any more. What it held is remembered until its certificate
/// ends: it may be back, and until then it goes on with that.
#[derive(Debug)]
pub struct Connected {
    proxies: Proxies,
    key: Key,
    connection: u64,
}

/// What a proxy has said, or was found to hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// Its clock, where it told.
    pub clock: Option<i64>,
    /// The sequence of the bundle that it is known to hold.
    pub bundle_sequence: Option<u64>,
    /// The number of the deny list that it is known to hold.
    pub deny_generation: Option<u64>,
    /// Since when a response has waited for its answer.
    pub waiting_since: Option<i64>,
    /// What it holds of a type, and the number of the picture that this is from.
    pub held: Option<(&'static str, u64, String)>,
    /// What it refused, or nothing once it takes everything again.
    pub refused: Option<String>,
}

impl Proxies {
    /// Notes that a proxy has connected from `address` at `now`, with this certificate, under this name.
    pub fn connect(
        &self,
        peer: &PeerIdentity,
        serial: String,
        name: &str,
        address: String,
        now: i64,
    ) -> Connected {
        let key = (peer.id().to_string(), name.to_owned());
        let mut known = self.known();
        known.connections += 1;
        let connection = known.connections;
        let record = known.by_name.entry(key.clone()).or_default();
        *record = Record {
            connection,
            is_connected: true,
            address,
            connected_since: now,
            last_heard: now,
            not_after: peer.lifetime().not_after().unix(),
            serial,
            // What it held when it was here last it holds still, unless it tells otherwise.
            bundle_sequence: record.bundle_sequence,
            deny_generation: record.deny_generation,
            ..Record::default()
        };
        let whose = (peer.id().clone(), name.to_owned());
        known.shown.insert(whose, peer.lifetime().not_after());
        drop(known);
        Connected {
            proxies: self.clone(),
            key,
            connection,
        }
    }

    /// All of them at `now`: those that are connected, and those that are not and whose certificates have not ended.
    pub fn list(&self, now: Timestamp) -> ProxiesReply {
        let mut known = self.known();
        known
            .by_name
            .retain(|_, record| record.is_connected || now.unix() <= record.not_after);
        let proxies = known
            .by_name
            .iter()
            .map(|((identity, name), record)| record.told(identity, name, now.unix()));
        ProxiesReply {
            proxies: proxies.collect(),
            time: now.unix(),
        }
    }

    /// The certificates that were shown since the last call.
    pub fn shown(&self) -> Vec<Shown> {
        let shown = std::mem::take(&mut self.known().shown);
        shown
            .into_iter()
            .map(|((id, name), not_after)| Shown { id, name, not_after })
            .collect()
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        // Records are whole after every statement, so a panic elsewhere cannot have left them torn.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Record {
    fn told(&self, identity: &str, name: &str, now: i64) -> Proxy {
        let since = |time: i64| u64::try_from(now.saturating_sub(time)).unwrap_or(0);
        Proxy {
            identity: identity.to_owned(),
            name: name.to_owned(),
            address: self.address.clone(),
            connected_since: if self.is_connected {
                self.connected_since
            } else {
                0
            },
            last_heard: self.last_heard,
            not_after: self.not_after,
            serial: self.serial.clone(),
            bundle_sequence: self.bundle_sequence,
            deny_generation: self.deny_generation,
            lag_seconds: self.waiting_since.map_or(0, since),
            clock_ahead_seconds: self.clock_ahead,
            held: self
                .held
                .iter()
                .map(|(type_url, (resources, version))| Held {
                    type_url: (*type_url).to_owned(),
                    resources: *resources,
                    version: version.clone(),
                })
                .collect(),
            refused: self.refused.clone(),
        }
    }
}

impl Connected {
    /// Notes what the proxy said at `now`, or was found to hold then.
    pub fn report(&self, report: Report, now: i64) {
        let mut known = self.proxies.known();
        let Some(record) = known.by_name.get_mut(&self.key) else {
            return;
        };
        if record.connection != self.connection {
            return;
        }
        record.last_heard = now;
        if let Some(clock) = report.clock {
            record.clock_ahead = clock.saturating_sub(now);
        }
        record.bundle_sequence = report.bundle_sequence.unwrap_or(record.bundle_sequence);
        record.deny_generation = report.deny_generation.unwrap_or(record.deny_generation);
        record.waiting_since = report.waiting_since;
        if let Some((type_url, resources, version)) = report.held {
            record.held.insert(type_url, (resources, version));
        }
        if let Some(refused) = report.refused {
            record.refused = refused;
        }
    }
}

impl Drop for Connected {
    fn drop(&mut self) {
        let mut known = self.proxies.known();
        if let Some(record) = known.by_name.get_mut(&self.key)
            && record.connection == self.connection
        {
            record.is_connected = false;
        }
    }
}
