//! The rules in force, arranged for judging.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use ferrule_identity::TrustDomain;

use crate::ask::Workload;
use crate::cidr::{Cidr, behind_nat64, is_metadata};
use crate::document::Mode;
use crate::index::{PortMap, RuleId, SourceIndex, TargetIndex};
use crate::rule::{PolicyName, Rule};
use crate::scope::Scoped;

/// The rules in force, arranged so that a question looks at the few that may matter. Made by
/// [`compile()`](crate::compile()), asked through [`judge()`](crate::judge()).
#[derive(Debug)]
pub struct Policy {
    pub(crate) mesh: Mesh,
    /// Ordered by name.
    pub(crate) rules: Vec<Arc<Rule>>,
    pub(crate) access: Scoped<AccessGroup>,
    pub(crate) egress: Scoped<EgressGroup>,
    pub(crate) modes: Scoped<ModeGroup>,
}

/// What is known of the mesh besides its rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mesh {
    /// Our own trust domain, which `namespaces` in rules belong to.
    pub trust_domain: TrustDomain,
    /// The addresses of the mesh's own workloads; no range and no host of a rule ever opens them.
    pub ranges: Vec<Cidr>,
    /// What may always be reached: the resolvers, the API server.
    pub built_in: Vec<BuiltIn>,
}

/// A destination without which nothing works.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuiltIn {
    /// What it is, for logs and sentences, such as `resolver`.
    pub name: Arc<str>,
    /// Its address.
    pub address: IpAddr,
    /// Its port.
    pub port: u16,
}

impl Mesh {
    /// A mesh that nothing but its name is known of.
    pub fn named(trust_domain: TrustDomain) -> Self {
        Self {
            trust_domain,
            ranges: Vec::new(),
            built_in: Vec::new(),
        }
    }
}

/// The AccessPolicies with one selector.
#[derive(Debug, Default)]
pub(crate) struct AccessGroup {
    pub(crate) sources: SourceIndex,
    pub(crate) summary: Summary,
}

/// The EgressPolicies with one selector.
#[derive(Debug, Default)]
pub(crate) struct EgressGroup {
    pub(crate) targets: TargetIndex,
    pub(crate) summary: Summary,
    /// Ports with rules about hosts.
    pub(crate) host_ports: PortMap,
    /// Ports with rules about addresses or services.
    pub(crate) address_ports: PortMap,
}

/// What a group says without looking at the other side.
#[derive(Debug, Default)]
pub(crate) struct Summary {
    /// Whether a policy that allows is enforced.
    pub(crate) enforced: bool,
    /// The first policy that allows and is only audited.
    pub(crate) audited: Option<PolicyName>,
    /// Ports that an enforced rule allows to somebody.
    pub(crate) enforced_ports: PortMap,
    /// Ports that any rule allows to somebody.
    pub(crate) ports: PortMap,
    /// The first rule that allows.
    pub(crate) first: Option<RuleId>,
}

/// The MeshPolicies with one selector. Where they disagree, the strictest wins.
#[derive(Debug, Default)]
pub(crate) struct ModeGroup {
    /// The mode of all ports that are not named.
    pub(crate) others: Option<(Mode, PolicyName)>,
    pub(crate) ports: BTreeMap<u16, (Mode, PolicyName)>,
}

/// How much is demanded of a connection, and by which policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Demand<'p> {
    pub(crate) mode: Mode,
    pub(crate) by: Option<&'p PolicyName>,
}

impl Policy {
    /// How many rules there are.
    pub fn rule_count(&self) -> usize {
        self.rules.len()
    }

    /// The rules, ordered by name.
    pub fn rules(&self) -> impl Iterator<Item = &Arc<Rule>> {
        self.rules.iter()
    }

    /// Our own trust domain.
    pub fn trust_domain(&self) -> &TrustDomain {
        &self.mesh.trust_domain
    }

    /// The mode in which the workload takes connections to its own `port`.
    pub fn inbound_mode(&self, workload: &Workload<'_>, port: u16) -> Mode {
        self.inbound_demand(workload, port).mode
    }

    /// The mode in which the workload sends.
    pub fn outbound_mode(&self, workload: &Workload<'_>) -> Mode {
        self.outbound_demand(workload).mode
    }

    /// Whether `address` lies within the mesh's own ranges, also through NAT64.
    pub fn is_in_mesh_ranges(&self, address: IpAddr) -> bool {
        let address = behind_nat64(address);
        self.mesh.ranges.iter().any(|range| range.contains(address))
    }

    /// Whether the workload's connection to `port` must wait for the host that the client names: the port has
    /// rules about hosts and no others.
    pub fn waits_for_host(&self, workload: &Workload<'_>, port: u16) -> bool {
        let covers = |ports: &PortMap| ports.find(port).is_some();
        self.egress.about(workload).any(|group| covers(&group.host_ports))
            && !self
                .egress
                .about(workload)
                .any(|group| covers(&group.address_ports))
    }

    /// Whether there are rules about hosts for the workload's connections to `port`, beside others or alone.
    pub fn has_host_rules(&self, workload: &Workload<'_>, port: u16) -> bool {
        self.egress
            .about(workload)
            .any(|group| group.host_ports.find(port).is_some())
    }

    /// Judges an address that the name of an allowed host was resolved to. Whoever owns the name chooses the
    /// address, so nothing private is ever reached by a name.
    ///
    /// # Errors
    /// Says why the address must not be dialled.
    pub fn judge_resolved(&self, address: IpAddr) -> Result<(), ResolvedError> {
        let real = behind_nat64(address);
        let local = match real {
            IpAddr::V4(v4) => {
                v4.is_loopback()
                    || v4.is_link_local()
                    || v4.is_multicast()
                    || v4.octets()[0] == 0
                    || v4.is_broadcast()
            }
            IpAddr::V6(v6) => {
                v6.is_loopback() || v6.is_unspecified() || v6.is_multicast() || v6.is_unicast_link_local()
            }
        };
        if is_metadata(real) {
            Err(ResolvedError::Metadata { address })
        } else if self.is_in_mesh_ranges(real) {
            Err(ResolvedError::MeshRange { address })
        } else if local {
            Err(ResolvedError::Local { address })
        } else {
            Ok(())
        }
    }

    /// What labels say goes before what is said of the whole namespace; of several, the strictest wins.
    pub(crate) fn inbound_demand<'p>(&'p self, workload: &Workload<'p>, port: u16) -> Demand<'p> {
        self.demand(workload, |group| group.ports.get(&port).or(group.others.as_ref()))
    }

    pub(crate) fn outbound_demand<'p>(&'p self, workload: &Workload<'p>) -> Demand<'p> {
        self.demand(workload, |group| group.others.as_ref())
    }

    fn demand<'p>(
        &'p self,
        workload: &Workload<'p>,
        look: impl Fn(&'p ModeGroup) -> Option<&'p (Mode, PolicyName)>,
    ) -> Demand<'p> {
        let (all, labelled) = self.modes.split(workload);
        match labelled.filter_map(&look).min().or_else(|| all.and_then(&look)) {
            Some((mode, by)) => Demand {
                mode: *mode,
                by: Some(by),
            },
            None => Demand {
                mode: Mode::Strict,
                by: None,
            },
        }
    }
}

/// Why an address that a name was resolved to must not be dialled.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ResolvedError {
    /// An address of the mesh, which is reached by its own identity alone.
    #[error("the name leads to {address}, within the mesh's own ranges")]
    MeshRange {
        /// The address.
        address: IpAddr,
    },
    /// A cloud's metadata service, which hands out credentials.
    #[error("the name leads to {address}, a cloud's metadata service")]
    Metadata {
        /// The address.
        address: IpAddr,
    },
    /// Loopback, link-local, multicast or no address at all.
    #[error("the name leads to {address}, which is local to this machine or its link")]
    Local {
        /// The address.
        address: IpAddr,
    },
}
