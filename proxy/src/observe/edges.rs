//! Sums up who has talked to whom since the start.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ferrule_identity::SpiffeId;
use serde_json::{Value, json};

use super::account::{Account, Tls};
use crate::authz::permit::Direction;
use crate::forward::relay::Moved;
use crate::maps::QuickMap;

/// Who talks to whom, as far as it distinguishes one edge from another.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Edge {
    direction: Direction,
    source: Party,
    destination: Party,
    port: u16,
    service: String,
    tls: Tls,
    verdict: &'static str,
    rule: Arc<str>,
}

/// One side of an edge: an identity that was proved or is expected, otherwise an address.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Party {
    Id(SpiffeId),
    Address(Option<IpAddr>),
}

#[derive(Debug, Clone, Copy, Default)]
struct Sum {
    connections: u64,
    bytes_in: u64,
    bytes_out: u64,
    last_seen: i64,
}

/// The edges of one worker; cheap to clone, all clones are the same. Entered once for each connection, at its end.
#[derive(Debug, Clone, Default)]
pub struct Edges(Arc<Mutex<Table>>);

#[derive(Debug, Clone, Default)]
struct Table {
    sums: QuickMap<Edge, Sum>,
    /// What found no room.
    overflow: Sum,
}

impl Edges {
    /// Enters a connection that has ended at `now`, in seconds since the epoch.
    pub fn enter(&self, account: &Account, moved: &Moved, now: i64) {
        self.lock().add(Edge::of(account), Sum::of(moved, now));
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        // A table is whole between its calls, so a panic elsewhere cannot have left it torn.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The edges of all workers, with the connections that are open `now`, the busiest first.
pub fn to_json<'a>(
    ended: impl IntoIterator<Item = &'a Edges>,
    open: impl IntoIterator<Item = (Arc<Account>, Arc<Moved>)>,
    now: i64,
) -> Value {
    let mut all = Table::default();
    for edges in ended {
        // Copied first: the worker may need its table while ours is put together.
        let table = edges.lock().clone();
        for (edge, sum) in table.sums {
            all.add(edge, sum);
        }
        all.overflow.add(table.overflow);
    }
    for (account, moved) in open {
        all.add(Edge::of(&account), Sum::of(&moved, now));
    }
    let mut rows: Vec<(Edge, Sum)> = all.sums.into_iter().collect();
    rows.sort_by_key(|(_, sum)| std::cmp::Reverse((sum.connections, sum.bytes_in + sum.bytes_out)));
    let mut rows: Vec<Value> = rows.iter().map(|(edge, sum)| edge.row(*sum)).collect();
    if all.overflow.connections > 0 {
        rows.push(overflow_row(all.overflow));
    }
    Value::Array(rows)
}

impl Table {
    fn add(&mut self, edge: Edge, more: Sum) {
        let has_room = self.sums.len() < MOST_EDGES;
        match self.sums.get_mut(&edge) {
            Some(sum) => sum.add(more),
            None if has_room => {
                self.sums.insert(edge, more);
            }
            None => self.overflow.add(more),
        }
    }
}

impl Sum {
    fn of(moved: &Moved, now: i64) -> Self {
        Self {
            connections: 1,
            bytes_in: moved.inward(),
            bytes_out: moved.outward(),
            last_seen: now,
        }
    }

    fn add(&mut self, more: Self) {
        self.connections = self.connections.saturating_add(more.connections);
        self.bytes_in = self.bytes_in.saturating_add(more.bytes_in);
        self.bytes_out = self.bytes_out.saturating_add(more.bytes_out);
        self.last_seen = self.last_seen.max(more.last_seen);
    }
}

impl Party {
    fn of(id: Option<&SpiffeId>, address: Option<IpAddr>) -> Self {
        id.map_or(Self::Address(address), |id| Self::Id(id.clone()))
    }

    fn id(&self) -> &str {
        match self {
            Self::Id(id) => id.as_str(),
            Self::Address(_) => "",
        }
    }

    fn address(&self) -> String {
        match self {
            Self::Address(Some(address)) => address.to_string(),
            Self::Id(_) | Self::Address(None) => String::new(),
        }
    }
}

impl Edge {
    fn of(account: &Account) -> Self {
        let destination = account.destination;
        Self {
            direction: account.direction(),
            source: Party::of(account.source_id.as_ref(), Some(account.client().ip())),
            destination: Party::of(account.destination_id.as_ref(), destination.map(|to| to.ip())),
            port: destination.map_or(0, |to| to.port()),
            service: account.service.clone(),
            tls: account.tls,
            verdict: account.verdict(),
            rule: account
                .judged
                .as_ref()
                .map(|judged| judged.rule.clone())
                .unwrap_or_default(),
        }
    }

    fn row(&self, sum: Sum) -> Value {
        json!({
            "src_id": self.source.id(),
            "src_addr": self.source.address(),
            "dst_id": self.destination.id(),
            "dst_addr": self.destination.address(),
            "dst_port": self.port,
            "service": self.service,
            "direction": self.direction.word(),
            "tls": self.tls.word(),
            "verdict": self.verdict,
            "rule": &*self.rule,
            "connections": sum.connections,
            "bytes_in": sum.bytes_in,
            "bytes_out": sum.bytes_out,
            "last_seen": sum.last_seen,
        })
    }
}

/// The row of everything that found no room: its names are all `overflow`.
fn overflow_row(sum: Sum) -> Value {
    const WORD: &str = "overflow";
    json!({
        "src_id": WORD, "src_addr": "", "dst_id": WORD, "dst_addr": "", "dst_port": 0,
        "service": WORD, "direction": WORD, "tls": WORD, "verdict": WORD, "rule": WORD,
        "connections": sum.connections,
        "bytes_in": sum.bytes_in,
        "bytes_out": sum.bytes_out,
        "last_seen": sum.last_seen,
    })
}

/// How many edges are told apart.
pub const MOST_EDGES: usize = 2048;

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::config::Own;
    use crate::net::address::ClientAddr;

    fn account(port: u16, source: Option<&str>) -> Account {
        let own = Own {
            namespace: "shop".to_owned(),
            name: "api-1".to_owned(),
            labels: BTreeMap::new(),
            addresses: Vec::new(),
            node: String::new(),
            zone: String::new(),
        };
        let client = ClientAddr::new("10.0.0.9:5000".parse().unwrap());
        let mut account = Account::new(1, Arc::new(own), Direction::Inbound, client);
        account.destination = Some(([10, 0, 0, 1], port).into());
        account.source_id = source.map(|id| SpiffeId::parse(id).unwrap());
        account
    }

    fn ids(rows: &Value) -> Vec<&str> {
        let rows = rows.as_array().unwrap().iter();
        rows.map(|row| row["src_id"].as_str().unwrap()).collect()
    }

    #[test]
    fn connections_of_one_edge_are_one_row_whatever_the_worker() {
        let (one, two) = (Edges::default(), Edges::default());
        let web = account(8080, Some("spiffe://shop.local/ns/shop/sa/web"));
        one.enter(&web, &Moved::default(), 100);
        two.enter(&web, &Moved::default(), 200);
        two.enter(&account(8080, None), &Moved::default(), 150);
        let open = [(Arc::new(web), Arc::new(Moved::default()))];
        let rows = to_json([&one, &two], open, 300);
        assert_eq!(ids(&rows), ["spiffe://shop.local/ns/shop/sa/web", ""]);
        assert_eq!(rows[0]["connections"], 3);
        assert_eq!(rows[0]["last_seen"], 300);
        assert_eq!(rows[0]["src_addr"], "");
        assert_eq!(rows[1]["src_addr"], "10.0.0.9");
    }

    #[test]
    fn what_finds_no_room_is_summed_up_in_one_row() {
        let edges = Edges::default();
        for port in 0..2050 {
            edges.enter(&account(port, None), &Moved::default(), 1);
        }
        let rows = to_json([&edges], [], 2);
        let rows = rows.as_array().unwrap();
        assert_eq!(rows.len(), MOST_EDGES + 1);
        let last = rows.last().unwrap();
        assert_eq!(
            (&last["src_id"], &last["connections"]),
            (&"overflow".into(), &2.into())
        );
    }
}
