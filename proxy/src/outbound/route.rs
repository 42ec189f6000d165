//! Decides where a connection from the workload leads, and who has to be there.

use std::net::SocketAddr;

use ferrule_identity::SpiffeId;
use ferrule_policy::ServiceName;
use ferrule_wire::directory::address::{address_name, service_name};
use tokio::net::lookup_host;
use tokio::time::timeout;

use super::mesh::TRIES;
use crate::balance::Load;
use crate::closed::{CloseReason, Closed};
use crate::config::{Upstream, UpstreamTarget};
use crate::kit::Kit;
use crate::knowledge::map::{Endpoint, Place};
use crate::net::address::{ClientAddr, OriginalDst, UpstreamAddr};

/// Where a connection leads.
#[derive(Debug)]
pub enum Route {
    /// To workloads of the mesh, each as good as the others, in the order of trying.
    Mesh {
        /// The service that was called.
        service: Option<ServiceName>,
        /// Whom to dial.
        endpoints: Vec<Endpoint>,
    },
    /// To the workload itself.
    Itself {
        /// Where it listens.
        target: UpstreamAddr,
        /// What it counts as, where it is one endpoint of a service.
        load: Option<Load>,
    },
    /// Beyond the mesh, in clear if rules allow it.
    Beyond {
        /// Where.
        target: UpstreamAddr,
        /// The unmeshed service there.
        service: Option<ServiceName>,
    },
}

/// The route of a captured connection from `client` that was going to `original`.
///
/// # Errors
/// When nobody may be led there, or nobody is known where only the mesh may be.
pub async fn captured(original: OriginalDst, client: ClientAddr, kit: &Kit) -> Result<Route, Closed> {
    let is_own = kit.is_own_address(original.ip()) || original.ip() == client.ip();
    if is_own {
        if kit.is_own_port(original.port()) {
            return Err(Closed {
                reason: CloseReason::UnknownDestination,
                detail: format!("{original} is the proxy itself"),
            });
        }
        let target = original.upstream();
        let load = None;
        return Ok(Route::Itself { target, load });
    }
    let target = original.upstream();
    let mut place = kit.map.borrow().at(original);
    if place == Place::Unknown && kit.gate.is_in_mesh_ranges(original.ip()) {
        ask(address_name(original.ip()), kit).await;
        place = kit.map.borrow().at(original);
    }
    match place {
        Place::Mesh { service, endpoints } => mesh(service, endpoints, kit),
        Place::Unmeshed { service } => {
            let service = Some(service);
            Ok(Route::Beyond { target, service })
        }
        Place::NoSuchPort { service } => Err(Closed {
            reason: CloseReason::UnknownDestination,
            detail: format!("the service {service} has no port {}", original.port()),
        }),
        Place::Unknown if kit.gate.is_in_mesh_ranges(original.ip()) => Err(Closed {
            reason: CloseReason::UnknownDestination,
            detail: format!("{original} lies within the mesh's ranges, and nobody is known there"),
        }),
        Place::Unknown => Ok(Route::Beyond {
            target,
            service: None,
        }),
    }
}

/// The route of a connection to an explicit port.
///
/// # Errors
/// When nobody is known behind the service, or the name has no address.
pub async fn explicit(upstream: &Upstream, kit: &Kit) -> Result<Route, Closed> {
    match &upstream.to {
        UpstreamTarget::Service { name, port } => {
            let mut place = kit.map.borrow().behind(name, *port);
            if place == Place::Unknown {
                ask(service_name(name), kit).await;
                place = kit.map.borrow().behind(name, *port);
            }
            match place {
                Place::Mesh { service, endpoints } => mesh(service, endpoints, kit),
                _ => Err(Closed {
                    reason: CloseReason::UnknownDestination,
                    detail: format!("nobody of the mesh is known behind port {port} of the service {name}"),
                }),
            }
        }
        UpstreamTarget::Address { host, port, id } => {
            let found = lookup(host, *port, kit).await?;
            let endpoints = found.into_iter().map(|address| endpoint(address, id));
            let endpoints = endpoints.collect();
            let service = None;
            Ok(Route::Mesh { service, endpoints })
        }
    }
}

/// Asks the directory, where there is one, about somebody of whom it has not told.
async fn ask(name: String, kit: &Kit) {
    if let Some(directory) = &kit.config.directory {
        // Where no answer comes, nobody is known: that is judged by whoever asks.
        let _ = kit.asker.ask(name, directory.ask).await;
    }
}

fn endpoint(address: SocketAddr, id: &SpiffeId) -> Endpoint {
    Endpoint::at(UpstreamAddr::new(address), id.clone())
}

async fn lookup(host: &str, port: u16, kit: &Kit) -> Result<Vec<SocketAddr>, Closed> {
    if let Ok(address) = host.parse() {
        return Ok(vec![SocketAddr::new(address, port)]);
    }
    let unreachable = |detail: String| Closed {
        reason: CloseReason::Unreachable,
        detail: format!("cannot find the address of {host}: {detail}"),
    };
    match timeout(kit.config.limits.connect, lookup_host((host, port))).await {
        Err(_) => Err(unreachable("no answer in time".to_owned())),
        Ok(Err(error)) => Err(unreachable(error.to_string())),
        Ok(Ok(found)) => Ok(found.collect()),
    }
}

/// Puts the endpoints into the order of trying.
fn mesh(service: Option<ServiceName>, endpoints: Vec<Endpoint>, kit: &Kit) -> Result<Route, Closed> {
    if endpoints.is_empty() {
        let whom = service.map_or_else(
            || "the address".to_owned(),
            |service| format!("the service {service}"),
        );
        return Err(Closed {
            reason: CloseReason::Unreachable,
            detail: format!("no workload of the mesh lives behind {whom} now"),
        });
    }
    if kit.config.own.zone.is_empty() {
        // A pod does not know its zone; the directory knows its machine's.
        let map = kit.map.borrow();
        let own = kit.config.own.addresses.first();
        let own = own.and_then(|address| map.workload(*address));
        kit.balancer
            .settle_in(own.and_then(|own| own.zone.as_deref()).unwrap_or_default());
    }
    let mut endpoints = kit.balancer.order(&endpoints, TRIES);
    match endpoints.first() {
        // The workload's own turn: it does not leave.
        Some(own) if kit.is_own_address(own.address.ip()) => Ok(Route::Itself {
            target: own.address,
            load: Some(kit.balancer.begin(own)),
        }),
        _ => {
            endpoints.retain(|endpoint| !kit.is_own_address(endpoint.address.ip()));
            Ok(Route::Mesh { service, endpoints })
        }
    }
}
