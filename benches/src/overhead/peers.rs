//! What may lie between the two ends: nothing, our own programs, and those of others that are found here.

pub(crate) mod beyond;
mod envoy;
mod ferrule;
mod haproxy;
mod nginx;
mod stunnel;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use super::place::Place;
use super::subject::{Part, Subject};
use crate::programs::installed;

/// Programs that were named, by the names of their subjects.
pub(crate) type Named = BTreeMap<String, PathBuf>;

/// All subjects that there can be, those first that all others are compared with.
pub(crate) const NAMES: [&str; 9] = [
    DIRECT,
    PLAIN,
    FERRULE,
    "envoy",
    "haproxy",
    "nginx",
    "nginx-plain",
    "stunnel",
    "ztunnel",
];

pub(crate) const DIRECT: &str = "direct";
pub(crate) const PLAIN: &str = "plain";
pub(crate) const FERRULE: &str = "ferrule";

/// Those of the way beyond the mesh.
pub(crate) const BEYOND: [&str; 4] = [DIRECT, PLAIN_SINGLE, PLAIN, PASSTHROUGH];

const PLAIN_SINGLE: &str = "plain-single";
const PASSTHROUGH: &str = "passthrough";

/// Sets `name` up at `place`; why not, where its program is not here.
pub(crate) fn prepare(name: &str, place: &Place, named: &Named) -> anyhow::Result<Result<Subject, String>> {
    let peer =
        |program: &'static str, make: Make| match named.get(name).cloned().or_else(|| installed(program)) {
            Some(program) => make(place, &program).map(Ok),
            None => Ok(Err(format!(
                "no program {program} here; name one with --program {name}=FILE"
            ))),
        };
    match name {
        DIRECT => Ok(Ok(direct(place))),
        PLAIN => plain(place, &own(named)?).map(Ok),
        PLAIN_SINGLE => plain_single(place, &own(named)?).map(Ok),
        PASSTHROUGH => {
            let program = named.get(FERRULE).context("ferrule-proxy was not built")?;
            beyond::prepare(place, program).map(Ok)
        }
        FERRULE => {
            let program = named.get(FERRULE).context("ferrule-proxy was not built")?;
            ferrule::prepare(place, program).map(Ok)
        }
        "envoy" => peer("envoy", envoy::prepare),
        "haproxy" => peer("haproxy", haproxy::prepare),
        "nginx" => peer("nginx", nginx::sealed),
        "nginx-plain" => peer("nginx", nginx::plain),
        "stunnel" => peer("stunnel", stunnel::prepare),
        "ztunnel" => Ok(Err(ZTUNNEL.to_owned())),
        _ => anyhow::bail!("there is no subject {name}; there are {}", NAMES.join(", ")),
    }
}

type Make = fn(&Place, &Path) -> anyhow::Result<Subject>;

fn direct(place: &Place) -> Subject {
    Subject {
        name: DIRECT,
        title: "no proxy",
        about: "the two ends of the load, with nothing between them".to_owned(),
        version: None,
        parts: Vec::new(),
        entry: place.server,
    }
}

/// This program, or another build of it that was named.
fn own(named: &Named) -> anyhow::Result<PathBuf> {
    match named.get(PLAIN) {
        Some(program) => Ok(program.clone()),
        None => std::env::current_exe().context("cannot find this program"),
    }
}

/// A program of ours that only carries bytes.
fn relay(own: &Path, listen: SocketAddr, to: SocketAddr) -> Part {
    let arguments = ["relay", "--listen", &listen.to_string(), "--to", &to.to_string()];
    Part::new(own, arguments, listen)
}

fn plain_single(place: &Place, own: &Path) -> anyhow::Result<Subject> {
    Ok(Subject {
        name: PLAIN_SINGLE,
        title: "plain single proxy",
        about: "one program of this project that only carries bytes, with Ferrule's buffers".to_owned(),
        version: None,
        parts: vec![relay(own, place.near, place.server)],
        entry: place.near,
    })
}

fn plain(place: &Place, own: &Path) -> anyhow::Result<Subject> {
    Ok(Subject {
        name: PLAIN,
        title: "plain double proxy",
        about:
            "two programs of this project that only carry bytes, with Ferrule's buffers; nothing is encrypted"
                .to_owned(),
        version: None,
        parts: vec![
            relay(own, place.far, place.server),
            relay(own, place.near, place.far),
        ],
        entry: place.near,
    })
}

/// Why ztunnel is not among them, wherever its program is.
const ZTUNNEL: &str = "ztunnel takes no certificate from a file: it wants a CA, a control plane and redirected connections \
                       in a network namespace for each side; measure it in a cluster, with `ferrule bench`";

/// What is said of every program that speaks mutual TLS here.
const MUTUAL: &str =
    "mutual TLS 1.3 with P-256 certificates, no resumption, one worker in each of two processes";
