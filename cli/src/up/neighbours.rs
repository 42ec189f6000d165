//! Keeps the names of services on other hosts of the mesh in the files that workloads find names in.

use std::fs;
use std::io;
use std::net::IpAddr;

use ferrule_daemon::clock::Clock;
use ferrule_directory::announced::Announced;
use ferrule_identity::{Timestamp, TrustDomain};
use ferrule_policy::{PlaceDocument, Stack};

use super::control::Places;
use super::plan::Plan;
use super::render;

/// A service of the mesh, wherever it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Known {
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) addresses: Vec<IpAddr>,
}

/// What is known of other hosts.
#[derive(Debug, Default)]
pub(super) struct Neighbours {
    services: Vec<Known>,
    seen: Vec<(String, Vec<u8>)>,
}

impl Neighbours {
    /// On the first host: looks at what the others have told its directory.
    ///
    /// # Errors
    /// When a file of names cannot be written.
    pub(super) fn look(&mut self, plan: &Plan, places: &Places) -> io::Result<()> {
        if plan.host.is_none() || plan.join.is_some() {
            return Ok(());
        }
        let Ok(trust_domain) = TrustDomain::parse(&plan.trust_domain) else {
            return Ok(());
        };
        let announced = Announced::new(places.announced(), trust_domain.clone());
        let live = announced.live(Timestamp::from_unix(Clock::system().unix()));
        if live == self.seen {
            return Ok(());
        }
        // What cannot be read is told of by the directory, in its log.
        let stacks = live
            .iter()
            .filter_map(|(name, text)| Stack::read([(name.as_str(), text.as_slice())], &trust_domain).ok());
        let is_own = |known: &Known| {
            let mut own = plan.workloads.iter();
            own.any(|workload| workload.namespace == known.namespace && workload.name == known.name)
        };
        let services = stacks
            .flat_map(|stack| stack.places)
            .filter_map(|place| match place {
                PlaceDocument::Service(service) => Some(Known {
                    namespace: service.name.namespace.to_string(),
                    name: service.name.name.to_string(),
                    addresses: service.addresses,
                }),
                PlaceDocument::Workload(_) => None,
            })
            // The first word about a service counts, and that is this host's.
            .filter(|known| !is_own(known))
            .collect();
        self.seen = live;
        self.take(services, plan, places)
    }

    /// Takes the services that there are, in place of those of the last time.
    ///
    /// # Errors
    /// When a file of names cannot be written.
    pub(super) fn take(&mut self, services: Vec<Known>, plan: &Plan, places: &Places) -> io::Result<()> {
        if services == self.services {
            return Ok(());
        }
        self.services = services;
        let machine = fs::read_to_string("/etc/hosts").unwrap_or_default();
        for namespace in plan.namespaces() {
            let text = render::hosts(plan, namespace, &machine, &self.services);
            // In place: each workload has this very file mounted over its own.
            fs::write(render::hosts_file(places, namespace), text)?;
        }
        Ok(())
    }
}
