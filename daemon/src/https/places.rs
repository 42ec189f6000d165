//! Counts the connections that are open, in all and for each caller's address.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Room for a number of connections; cheap to clone, clones share the room.
#[derive(Debug, Clone)]
pub(crate) struct Places(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    limit: usize,
    limit_per_address: usize,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    all: usize,
    by_address: HashMap<IpAddr, usize>,
}

impl Places {
    pub(crate) fn new(limit: usize, limit_per_address: Option<usize>) -> Self {
        Self(Arc::new(Inner {
            limit,
            limit_per_address: limit_per_address.unwrap_or(usize::MAX),
            taken: Mutex::default(),
        }))
    }

    /// A place for one connection, free again when it is dropped; or the word that says which limit is reached.
    pub(crate) fn take(&self, address: Option<IpAddr>) -> Result<Place, &'static str> {
        let address = address.map(network);
        let mut taken = self.0.taken();
        if taken.all >= self.0.limit {
            return Err("connections");
        }
        if let Some(address) = address {
            let here = taken.by_address.entry(address).or_default();
            if *here >= self.0.limit_per_address {
                return Err("connections_per_address");
            }
            *here += 1;
        }
        taken.all += 1;
        Ok(Place {
            places: self.clone(),
            address,
        })
    }
}

impl Inner {
    fn taken(&self) -> MutexGuard<'_, Taken> {
        // Nothing that holds the lock can panic between the two counts.
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The place of one open connection.
#[derive(Debug)]
pub(crate) struct Place {
    places: Places,
    address: Option<IpAddr>,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.0.taken();
        taken.all -= 1;
        if let Some(address) = self.address
            && let Some(here) = taken.by_address.get_mut(&address)
        {
            *here -= 1;
            if *here == 0 {
                taken.by_address.remove(&address);
            }
        }
    }
}

/// What counts as one caller: an IPv4 address, or an IPv6 /64, since one host can use all of it.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(v4) => IpAddr::V4(v4),
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> Option<IpAddr> {
        Some(text.parse().unwrap())
    }

    #[test]
    fn a_place_is_free_again_when_its_connection_ends() {
        let places = Places::new(2, None);
        let first = places.take(ip("192.0.2.1")).unwrap();
        let _second = places.take(None).unwrap();
        assert_eq!(places.take(None).unwrap_err(), "connections");
        drop(first);
        places.take(None).unwrap();
    }

    #[test]
    fn one_network_cannot_take_all_places() {
        let places = Places::new(100, Some(1));
        let _one = places.take(ip("2001:db8::1")).unwrap();
        assert_eq!(
            places.take(ip("2001:db8::2")).unwrap_err(),
            "connections_per_address"
        );
        let _other = places.take(ip("2001:db8:0:1::1")).unwrap();
        let mapped = places.take(ip("::ffff:192.0.2.1")).unwrap();
        assert_eq!(
            places.take(ip("192.0.2.1")).unwrap_err(),
            "connections_per_address"
        );
        drop(mapped);
        places.take(ip("192.0.2.1")).unwrap();
        assert_eq!(places.0.taken().by_address.len(), 2);
    }
}
