//! Holds what a directory has told, and takes what it tells next, or says why not.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

use ferrule_identity::{SpiffeId, Timestamp};
use ferrule_policy::{Cidr, Joined, Mesh, Policy, PolicyDocument, Workloads, compile};
use ferrule_wire::delta::{Mirror, Taken};
use ferrule_wire::directory::{ADDRESS, BUNDLE, DENY_LIST, MESH, RULE, address, rule};
use ferrule_wire::proto::envoy::service::discovery::v3::{DeltaDiscoveryResponse, Resource};
use ferrule_wire::proto::google::protobuf::Any;

use crate::knowledge::map::Map;

/// What a directory has told of rules and addresses; it stays when the stream breaks. Trust goes elsewhere at once,
/// so only its versions are held.
#[derive(Debug)]
pub(super) struct Held {
    mesh: Mesh,
    /// Whether every rule that is told is about the workload, whatever labels it names.
    selected: bool,
    addresses: Mirror<Joined>,
    rules: Mirror<PolicyDocument>,
    ranges: Mirror<Vec<Cidr>>,
    bundles: Mirror<()>,
    denied: Mirror<()>,
    /// Ends of certificates, by address. That somebody got one stays true when a directory that has just been started
    /// has not heard of it yet.
    leaf_ends: HashMap<IpAddr, (SpiffeId, Timestamp)>,
}

/// What came of a response.
#[derive(Debug)]
pub(super) enum News {
    /// Nothing to be used yet.
    None,
    /// Who lives where has changed.
    Map,
    /// The rules, or the ranges of the mesh, have changed.
    Rules(Box<Policy>, Vec<PolicyDocument>),
    /// Whom to trust has changed, and has been taken.
    Trust,
}

impl Held {
    /// Nothing yet, of the mesh that is otherwise as `mesh` says; `selected` where the directory tells no rule but those
    /// about the workload, and knows its labels better.
    pub(super) fn new(mesh: Mesh, selected: bool) -> Self {
        Self {
            mesh,
            selected,
            addresses: Mirror::default(),
            rules: Mirror::default(),
            ranges: Mirror::default(),
            bundles: Mirror::default(),
            denied: Mirror::default(),
            leaf_ends: HashMap::new(),
        }
    }

    /// The types that are followed, in the order of asking: whom to trust, then who lives where, and the rules last,
    /// which may be about somebody who has just come.
    pub(super) const TYPES: [&'static str; 5] = [BUNDLE, DENY_LIST, MESH, ADDRESS, RULE];

    /// What is held of a type, to resume from, with the names that were asked for.
    pub(super) fn resume(&self, type_url: &str) -> (BTreeMap<String, String>, Vec<String>) {
        match type_url {
            ADDRESS => (
                self.addresses.versions(),
                self.addresses.asked().cloned().collect(),
            ),
            RULE => (self.rules.versions(), Vec::new()),
            MESH => (self.ranges.versions(), Vec::new()),
            BUNDLE => (self.bundles.versions(), Vec::new()),
            DENY_LIST => (self.denied.versions(), Vec::new()),
            _ => Default::default(),
        }
    }

    /// Takes a response in; `trust` takes news of trust.
    ///
    /// # Errors
    /// In words for the directory, when it cannot be used; then everything is as it was.
    pub(super) fn take(
        &mut self,
        response: &DeltaDiscoveryResponse,
        trust: impl Fn(&str, &DeltaDiscoveryResponse) -> Result<(), String>,
    ) -> Result<News, String> {
        let words =
            |error: &(dyn std::error::Error + 'static)| ferrule_daemon::logging::Chain(error).to_string();
        match response.type_url.as_str() {
            ADDRESS => {
                let read = |resource: &_| {
                    read_resource(resource, |packed| {
                        address::read(packed).map_err(|error| words(&error))
                    })
                };
                Ok(match self.addresses.take(response, read)? {
                    Taken::Part => News::None,
                    Taken::Whole => News::Map,
                })
            }
            RULE => {
                let before = self.rules.clone();
                let domain = self.mesh.trust_domain.clone();
                let read = |resource: &_| {
                    read_resource(resource, |packed| {
                        rule::read(packed, &domain).map_err(|error| words(&error))
                    })
                };
                match self.rules.take(response, read)? {
                    Taken::Part => Ok(News::None),
                    Taken::Whole => self.compiled().inspect_err(|_| self.rules = before),
                }
            }
            MESH => {
                let before = self.ranges.clone();
                let read = |resource: &_| {
                    read_resource(resource, |packed| {
                        rule::read_mesh(packed).map_err(|error| words(&error))
                    })
                };
                match self.ranges.take(response, read)? {
                    Taken::Part => Ok(News::None),
                    Taken::Whole => self.compiled().inspect_err(|_| self.ranges = before),
                }
            }
            BUNDLE | DENY_LIST => {
                trust(&response.type_url, response)?;
                let held = if response.type_url == BUNDLE {
                    &mut self.bundles
                } else {
                    &mut self.denied
                };
                let read = |_: &_| Ok::<_, String>(());
                held.take(response, read).map(|_| News::Trust)
            }
            other => Err(format!("nobody asked for {other:?}")),
        }
    }

    fn compiled(&self) -> Result<News, String> {
        let told = self.rules.values().map(|(_, policy)| policy.clone());
        let policies: Vec<PolicyDocument> = if self.selected {
            told.map(about_all).collect()
        } else {
            told.collect()
        };
        let mut mesh = self.mesh.clone();
        let told = self.ranges.values().flat_map(|(_, ranges)| ranges);
        mesh.ranges.extend(told.cloned());
        match compile(&policies, mesh) {
            Ok(policy) => Ok(News::Rules(Box::new(policy), policies)),
            Err(problems) => Err(problems.to_string()),
        }
    }

    /// Whether everything has come at least once: before that, nothing is allowed, since a rule that is missing may be
    /// the one that denies, and an address that is missing may be one of the mesh.
    pub(super) fn is_complete(&self) -> bool {
        self.addresses.is_complete()
            && self.rules.is_complete()
            && self.ranges.is_complete()
            && self.bundles.is_complete()
            && self.denied.is_complete()
    }

    /// Who lives where, as it is seen from the machine `node`, and until when their certificates are known to last.
    pub(super) fn map(&mut self, node: &str) -> Map {
        let before = std::mem::take(&mut self.leaf_ends);
        for (_, joined) in self.addresses.values() {
            let Joined::Workload(joined) = joined else {
                continue;
            };
            let id = &joined.workload.id;
            for address in joined.own_addresses() {
                let known = before.get(&address).filter(|(holder, _)| holder == id);
                let newest = known.map(|(_, end)| *end).max(joined.leaf_end);
                if let Some(end) = newest {
                    self.leaf_ends.insert(address, (id.clone(), end));
                }
            }
        }
        let ends = self.leaf_ends.iter();
        let ends = ends.map(|(address, (id, end))| (*address, id.clone(), *end));
        Map::seen_from(node, self.addresses.values().map(|(_, joined)| joined)).reporting(ends)
    }

    /// The addresses that are held and asked for.
    pub(super) fn addresses(&mut self) -> &mut Mirror<Joined> {
        &mut self.addresses
    }

    /// How many rules are held.
    pub(super) fn rules(&self) -> usize {
        self.rules.len()
    }

    /// The stream broke.
    pub(super) fn interrupt(&mut self) {
        self.addresses.interrupt();
    }
}

/// A rule as one about every workload of its namespace.
fn about_all(mut policy: PolicyDocument) -> PolicyDocument {
    let workloads = match &mut policy {
        PolicyDocument::Access(policy) => &mut policy.workloads,
        PolicyDocument::Egress(policy) => &mut policy.workloads,
        PolicyDocument::Mesh(policy) => &mut policy.workloads,
    };
    *workloads = Workloads::AllOfNamespace;
    policy
}

/// A resource, whose name is told with what is wrong with it.
fn read_resource<T>(
    resource: &Resource,
    read: impl FnOnce(Option<&Any>) -> Result<T, String>,
) -> Result<T, String> {
    read(resource.resource.as_ref()).map_err(|error| format!("{}: {error}", resource.name))
}

#[cfg(test)]
mod leaves;

#[cfg(test)]
mod tests {
    use ferrule_identity::TrustDomain;
    use ferrule_policy::{Ask, Inbound, Source, Workload, judge};
    use ferrule_wire::directory::rule::{name, write};

    use super::*;

    const RULE_TEXT: &str = "apiVersion: ferrule.dev/v1alpha1\nkind: AccessPolicy\n\
         metadata: { namespace: shop, name: api }\nspec: { workloads: { labels: { app: api } }, action: allow, \
         rules: [{ from: [{ namespaces: [shop] }] }] }\n";

    /// Whether a proxy without labels lets somebody in by a rule about labels.
    fn lets_in(selected: bool) -> bool {
        let domain = TrustDomain::parse("shop.local").unwrap();
        let stack = ferrule_policy::Stack::read([("rule", RULE_TEXT.as_bytes())], &domain).unwrap();
        let written = &stack.policies[0];
        let response = DeltaDiscoveryResponse {
            type_url: RULE.to_owned(),
            system_version_info: "1".to_owned(),
            nonce: "1".to_owned(),
            resources: vec![Resource {
                name: name(&written.policy),
                version: "1".to_owned(),
                resource: Some(write(written)),
                ..Resource::default()
            }],
            ..DeltaDiscoveryResponse::default()
        };
        let mut held = Held::new(Mesh::named(domain), selected);
        let News::Rules(policy, _) = held.take(&response, |_, _| Ok(())).unwrap() else {
            panic!("rules were told");
        };
        let who = "spiffe://shop.local/ns/shop/sa/web".parse().unwrap();
        let destination = Workload {
            namespace: "shop",
            name: "api-1",
            labels: &BTreeMap::new(),
        };
        let source = Source::Verified(&who);
        let ask = Ask::Inbound(Inbound {
            source,
            destination,
            port: 8080,
        });
        judge(&policy, &ask).is_allowed()
    }

    #[test]
    fn a_rule_is_about_the_workload_where_the_directory_selects() {
        assert!(lets_in(true));
        assert!(!lets_in(false));
    }
}
