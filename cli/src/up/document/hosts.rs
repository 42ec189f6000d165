//! Reads what a mesh file says about its CA, and about the other hosts of the mesh.

use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::time::Duration;

use ferrule_document::{Fields, Item};
use serde::{Deserialize, Serialize};

/// What the CA is told beside what it always is; what is left out stays as the CA has it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct AuthorityDocument {
    /// How long a certificate lasts.
    pub(crate) leaf_lifetime: Option<Duration>,
    /// How often clients look for a new trust bundle; a new root signs after five of them.
    pub(crate) refresh_hint: Option<Duration>,
}

/// Where other hosts reach this one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct HostDocument {
    /// An address of this machine.
    pub(crate) address: IpAddr,
    /// The first port that leads to a workload; each port of each copy has the next one.
    pub(crate) ports: u16,
    /// Which share of the mesh's addresses this host's workloads have.
    pub(crate) block: u8,
}

pub(super) fn authority(fields: &mut Fields<'_>) -> Option<AuthorityDocument> {
    let leaf = fields.optional("leafLifetime", |item| item.duration_in(LEAF));
    let hint = fields.optional("refreshHint", |item| item.duration_in(HINT));
    Some(AuthorityDocument {
        leaf_lifetime: leaf?,
        refresh_hint: hint?,
    })
}

pub(super) fn host(fields: &mut Fields<'_>) -> Option<HostDocument> {
    let address = fields.required("address", address);
    let ports = fields.default("ports", "20000", |item| item.port());
    let block = fields.default("block", "0", |item| item.integer(BLOCKS));
    Some(HostDocument {
        address: address?,
        ports: ports?,
        block: block?,
    })
}

fn address(item: Item<'_>) -> Option<IpAddr> {
    let address: IpAddr = item.parsed()?;
    if address.is_unspecified() || address.is_multicast() || address.is_loopback() {
        return item.fail(format!("{address} is no address that other hosts reach"));
    }
    Some(address.to_canonical())
}

/// The directory of the first host, with or without its port.
pub(super) fn join(item: Item<'_>) -> Option<SocketAddr> {
    item.checked(|text| {
        let alone = text
            .parse()
            .map(|address: IpAddr| SocketAddr::new(address, DIRECTORY));
        alone
            .or_else(|_| text.parse())
            .map_err(|_| "is no address of a host, with or without a port")
    })
}

/// What the parts of a mesh file on several hosts demand of each other; a sentence where they do not fit.
pub(super) fn fault(host: Option<&HostDocument>, join: Option<&SocketAddr>) -> Option<&'static str> {
    match (host, join) {
        (None, Some(_)) => Some("`join` needs `host`: the address at which the others reach this host"),
        (Some(host), Some(_)) if host.block == 0 => {
            Some("`host.block` is 0, which is the share of the first host: give this one another, such as 1")
        }
        (Some(host), None) if host.block != 0 => {
            Some("`host.block` is for hosts that join another; without `join` this is the first one")
        }
        _ => None,
    }
}

/// Where a directory listens.
const DIRECTORY: u16 = 15012;

const LEAF: RangeInclusive<Duration> = Duration::from_secs(60)..=Duration::from_secs(7 * 86_400);

const HINT: RangeInclusive<Duration> = Duration::from_secs(10)..=Duration::from_secs(86_400);

/// The shares of the mesh's addresses.
const BLOCKS: RangeInclusive<u8> = 0..=31;
