//! Finds the rules that match an identity, an address or a host without trying them one by one.

use std::net::IpAddr;
use std::sync::Arc;

use ferrule_identity::{SpiffeId, TrustDomain};

use crate::cidr::{Cidr, bits, masked};
use crate::document::{Action, Enforcement};
use crate::host::{HostName, HostPattern};
use crate::maps::QuickMap;
use crate::pattern::{IdentityPattern, Ports, ServiceName, SourcePattern, TargetPattern};

/// A rule by its place in the policy's list, which is ordered by the names of rules.
pub(crate) type RuleId = usize;

/// What a rule does when it matches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Class {
    Deny = 0,
    AuditDeny = 1,
    Allow = 2,
    AuditAllow = 3,
}

impl Class {
    pub(crate) fn of(action: Action, enforcement: Enforcement) -> Self {
        match (action, enforcement) {
            (Action::Deny, Enforcement::Enforce) => Self::Deny,
            (Action::Deny, Enforcement::Audit) => Self::AuditDeny,
            (Action::Allow, Enforcement::Enforce) => Self::Allow,
            (Action::Allow, Enforcement::Audit) => Self::AuditAllow,
        }
    }

    const ALLOWING: [Self; 2] = [Self::Allow, Self::AuditAllow];
    const ALL: [Self; 4] = [Self::Deny, Self::AuditDeny, Self::Allow, Self::AuditAllow];
}

/// The first rule for each port.
#[derive(Debug, Default)]
pub(crate) struct PortMap {
    all: Option<RuleId>,
    /// Ascending by port.
    single: Vec<(u16, RuleId)>,
    first: Option<RuleId>,
}

impl PortMap {
    /// Adds a rule; rules are added in the order of their numbers.
    pub(crate) fn add(&mut self, ports: &Ports, rule: RuleId) {
        self.first = self.first.or(Some(rule));
        match ports {
            Ports::All => self.all = self.all.or(Some(rule)),
            Ports::Only(ports) => {
                for port in ports {
                    if let Err(at) = self.single.binary_search_by_key(port, |(port, _)| *port) {
                        self.single.insert(at, (*port, rule));
                    }
                }
            }
        }
    }

    /// The rule for `port`; one that names the port goes before one for all ports.
    pub(crate) fn find(&self, port: u16) -> Option<(bool, RuleId)> {
        let single = self.single.binary_search_by_key(&port, |(port, _)| *port).ok();
        match single.and_then(|at| self.single.get(at)) {
            Some((_, rule)) => Some((false, *rule)),
            None => self.all.map(|rule| (true, rule)),
        }
    }

    /// The first rule for any port.
    pub(crate) fn first(&self) -> Option<RuleId> {
        self.first
    }
}

/// The rules about one identity, range, host or service.
#[derive(Debug, Default)]
pub(crate) struct Cell([PortMap; 4]);

/// A rule that matches, ordered by how closely: the lesser one is named.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Hit {
    /// How closely the pattern fits; 0 is the closest.
    rank: u16,
    all_ports: bool,
    pub(crate) rule: RuleId,
}

/// Why an allowing rule that fits is not used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Guard {
    MeshRange,
    Metadata,
}

/// The rules found for a question, the closest of each class.
#[derive(Debug, Default)]
pub(crate) struct Hits {
    classes: [Option<Hit>; 4],
    /// An allowing rule that matches the other side, but another port.
    pub(crate) elsewhere: Option<Hit>,
    /// An allowing rule that matches, but must not be used.
    pub(crate) guarded: Option<(Hit, Guard)>,
}

impl Hits {
    pub(crate) fn of(&self, class: Class) -> Option<Hit> {
        self.classes[class as usize]
    }

    /// The closest of two classes.
    pub(crate) fn of_either(&self, one: Class, other: Class) -> Option<Hit> {
        self.of(one).into_iter().chain(self.of(other)).min()
    }

    fn take(&mut self, cell: Option<&Cell>, rank: u16, port: u16, guard: Option<Guard>) {
        let Some(Cell(maps)) = cell else { return };
        for class in Class::ALL {
            let map = &maps[class as usize];
            let allowing = Class::ALLOWING.contains(&class);
            match (map.find(port), guard) {
                (Some((all_ports, rule)), Some(guard)) if allowing => {
                    let hit = Hit {
                        rank,
                        all_ports,
                        rule,
                    };
                    keep_least(&mut self.guarded, (hit, guard));
                }
                (Some((all_ports, rule)), _) => {
                    keep_least(
                        &mut self.classes[class as usize],
                        Hit {
                            rank,
                            all_ports,
                            rule,
                        },
                    );
                }
                (None, None) if allowing => {
                    if let Some(rule) = map.first() {
                        keep_least(
                            &mut self.elsewhere,
                            Hit {
                                rank,
                                all_ports: false,
                                rule,
                            },
                        );
                    }
                }
                (None, _) => {}
            }
        }
    }
}

fn keep_least<T: Ord>(kept: &mut Option<T>, new: T) {
    if kept.as_ref().is_none_or(|kept| new < *kept) {
        *kept = Some(new);
    }
}

/// The rules of AccessPolicies by caller.
#[derive(Debug, Default)]
pub(crate) struct SourceIndex {
    exact: QuickMap<SpiffeId, Cell>,
    below: QuickMap<Arc<str>, Cell>,
    /// The lengths that occur in `below`, each once: an identity is cut at these alone.
    below_lengths: Vec<usize>,
    namespaces: QuickMap<Arc<str>, Cell>,
    cidrs: CidrIndex,
}

impl SourceIndex {
    pub(crate) fn add(&mut self, source: &SourcePattern, ports: &Ports, class: Class, rule: RuleId) {
        let cell = match source {
            SourcePattern::Identity(IdentityPattern::Exact(id)) => self.exact.entry(id.clone()).or_default(),
            SourcePattern::Identity(IdentityPattern::Below(ancestor)) => {
                if !self.below_lengths.contains(&ancestor.len()) {
                    self.below_lengths.push(ancestor.len());
                }
                self.below.entry(Arc::clone(ancestor)).or_default()
            }
            SourcePattern::Namespace(namespace) => self.namespaces.entry(Arc::clone(namespace)).or_default(),
            SourcePattern::Cidr(cidr) => self.cidrs.cell(*cidr),
        };
        cell.0[class as usize].add(ports, rule);
    }

    pub(crate) fn find_identity(&self, id: &SpiffeId, ours: &TrustDomain, port: u16, hits: &mut Hits) {
        hits.take(self.exact.get(id), RANK_EXACT, port, None);
        if let Some((namespace, _)) = id.namespace_and_account().filter(|_| id.is_in(ours)) {
            hits.take(self.namespaces.get(namespace), RANK_NAMESPACE, port, None);
        }
        let text = id.as_str();
        for length in &self.below_lengths {
            if text.as_bytes().get(*length) == Some(&b'/') {
                // The longer the closer; an ID has at most 2,048 bytes.
                let rank = RANK_BELOW.saturating_sub(u16::try_from(*length).unwrap_or(u16::MAX));
                hits.take(self.below.get(&text[..*length]), rank, port, None);
            }
        }
    }

    pub(crate) fn find_address(&self, address: IpAddr, port: u16, guard: Option<Guard>, hits: &mut Hits) {
        self.cidrs
            .find(address, |cell, _, rank| hits.take(Some(cell), rank, port, guard));
    }
}

/// The rules of EgressPolicies by destination.
#[derive(Debug, Default)]
pub(crate) struct TargetIndex {
    services: QuickMap<ServiceName, Cell>,
    cidrs: CidrIndex,
    hosts: QuickMap<HostName, Cell>,
    /// By what follows the wildcard.
    under: QuickMap<Box<str>, Cell>,
}

impl TargetIndex {
    pub(crate) fn add(&mut self, target: &TargetPattern, ports: &Ports, class: Class, rule: RuleId) {
        let cell = match target {
            TargetPattern::Service(service) => self.services.entry(service.clone()).or_default(),
            TargetPattern::Cidr(cidr) => self.cidrs.cell(*cidr),
            TargetPattern::Host(HostPattern::Exact(host)) => self.hosts.entry(host.clone()).or_default(),
            TargetPattern::Host(HostPattern::OneLabelUnder(parent)) => {
                self.under.entry(parent.as_str().into()).or_default()
            }
        };
        cell.0[class as usize].add(ports, rule);
    }

    pub(crate) fn find_services(&self, services: &[ServiceName], port: u16, hits: &mut Hits) {
        for service in services {
            hits.take(self.services.get(service), RANK_SERVICE, port, None);
        }
    }

    /// `guard` is asked whether a rule about a range of this length may be used.
    pub(crate) fn find_address(
        &self,
        address: IpAddr,
        port: u16,
        guard: impl Fn(bool) -> Option<Guard>,
        hits: &mut Hits,
    ) {
        self.cidrs.find(address, |cell, single, rank| {
            hits.take(Some(cell), RANK_CIDR + rank, port, guard(single));
        });
    }

    pub(crate) fn find_host(&self, host: &HostName, port: u16, guard: Option<Guard>, hits: &mut Hits) {
        hits.take(self.hosts.get(host), RANK_HOST, port, guard);
        if let Some(parent) = host.parent() {
            hits.take(self.under.get(parent), RANK_HOST + 1, port, guard);
        }
    }
}

/// Cells by range of addresses, one table for each length of each family.
#[derive(Debug, Default)]
struct CidrIndex {
    v4: Vec<(u8, QuickMap<u128, Cell>)>,
    v6: Vec<(u8, QuickMap<u128, Cell>)>,
}

impl CidrIndex {
    fn cell(&mut self, cidr: Cidr) -> &mut Cell {
        let tables = if cidr.network().is_ipv4() {
            &mut self.v4
        } else {
            &mut self.v6
        };
        let at = match tables.iter().position(|(length, _)| *length == cidr.length()) {
            Some(at) => at,
            None => {
                tables.push((cidr.length(), QuickMap::default()));
                tables.len() - 1
            }
        };
        tables[at].1.entry(bits(cidr.network())).or_default()
    }

    /// Gives every cell whose range has the address, whether that range is the address alone, and its rank.
    fn find(&self, address: IpAddr, mut found: impl FnMut(&Cell, bool, u16)) {
        let address = address.to_canonical();
        let (tables, width) = if address.is_ipv4() {
            (&self.v4, 32)
        } else {
            (&self.v6, 128)
        };
        for (length, table) in tables {
            if let Some(cell) = table.get(&masked(address, *length)) {
                found(cell, *length == width, u16::from(width.saturating_sub(*length)));
            }
        }
    }
}

/// Ranks of callers: the identity itself, its namespace, then what lies above it, the longest first.
const RANK_EXACT: u16 = 0;
const RANK_NAMESPACE: u16 = 1;
const RANK_BELOW: u16 = 4096;

/// Ranks of destinations. Addresses go before names, because what is allowed by its address needs no
/// resolving.
const RANK_SERVICE: u16 = 0;
const RANK_CIDR: u16 = 1;
const RANK_HOST: u16 = 1000;
