//! The sidecars that a command asks: those that were named by their sockets, or all of the mesh that is meant.

use std::collections::BTreeSet;
use std::path::PathBuf;

use ferrule_daemon::logging::Chain;
use futures::stream::{self, StreamExt as _};
use serde_json::Value;

use crate::cluster::arguments::OfCluster;
use crate::context::Context;
use crate::failure::Failure;
use crate::sidecar::{Socket, SocketError};

/// A sidecar to ask.
#[derive(Debug, Clone)]
pub(crate) struct Sidecar {
    /// `web.shop`, or the path of its socket.
    pub(crate) title: String,
    pub(crate) socket: Socket,
}

/// Some sidecars, with the mesh that they are of.
#[derive(Debug, Clone)]
pub(crate) struct Sidecars {
    pub(crate) all: Vec<Sidecar>,
    /// How identities of the mesh's own workloads begin, where that is known: `spiffe://shop.local/ns/`.
    prefix: Option<String>,
    /// The namespaces whose sidecars are asked; all, where none is named.
    namespaces: BTreeSet<String>,
}

impl Sidecars {
    /// Those with these sockets; without any, all of the mesh that is meant.
    pub(crate) fn of(sockets: &[PathBuf], cluster: &OfCluster, context: &Context) -> Result<Self, Failure> {
        if !sockets.is_empty() {
            let named = sockets.iter().map(|path| Sidecar {
                title: path.display().to_string(),
                socket: Socket::new(path),
            });
            return Ok(Self {
                all: named.collect(),
                prefix: None,
                namespaces: BTreeSet::new(),
            });
        }
        let meant = context.meant(cluster)?;
        let sidecars = meant.replicas()?.into_iter().map(|replica| Sidecar {
            title: replica.title,
            socket: replica.socket,
        });
        Ok(Self {
            all: sidecars.collect(),
            prefix: Some(meant.prefix()?),
            namespaces: cluster.namespaces.iter().cloned().collect(),
        })
    }

    /// Whether nothing is known of the others of their mesh, so that each line may be the only one about a connection.
    pub(crate) const fn are_alone(&self) -> bool {
        self.prefix.is_none()
    }

    /// Whether a line is to be shown: of a connection whose both ends are asked there are two.
    pub(crate) fn show(&self, line: &Value) -> bool {
        let Some(prefix) = &self.prefix else {
            return true;
        };
        let called = line["dst_id"].as_str().and_then(|id| id.strip_prefix(prefix));
        let namespace = called.and_then(|rest| rest.split('/').next());
        let is_elsewhere = namespace
            .is_some_and(|namespace| !self.namespaces.is_empty() && !self.namespaces.contains(namespace));
        is_elsewhere || is_of_record(line)
    }

    /// `web.shop` for an identity of the mesh; otherwise the identity, or the address beside it.
    pub(crate) fn name(&self, id: &str, address: &str) -> String {
        let own = self.prefix.as_ref().and_then(|prefix| {
            let (namespace, account) = id.strip_prefix(prefix)?.split_once("/sa/")?;
            Some(format!("{account}.{namespace}"))
        });
        match (own, id) {
            (Some(own), _) => own,
            (None, "") => address.to_owned(),
            (None, id) => id.to_owned(),
        }
    }

    /// What each of them answers to `GET path`; who does not answer is told of, and counted.
    pub(crate) async fn ask(&self, path: &'static str, context: &Context) -> (Vec<(&Sidecar, Value)>, usize) {
        let asked = self.all.iter().map(|sidecar| &sidecar.socket);
        let mut answers = Vec::new();
        let mut silent = 0;
        for (sidecar, answer) in self.all.iter().zip(ask_all(asked, path).await) {
            match answer {
                Ok(answer) => answers.push((sidecar, answer)),
                Err(error) => {
                    silent += 1;
                    tell_silent(&sidecar.title, &error, context);
                }
            }
        }
        (answers, silent)
    }
}

/// What each of these answers to `GET path`, in their order; some are asked at a time.
pub(crate) async fn ask_all<'s>(
    sockets: impl Iterator<Item = &'s Socket>,
    path: &'static str,
) -> Vec<Result<Value, SocketError>> {
    at_once(sockets.map(|socket| socket.get(path))).await
}

/// What comes of all of these, in their order; some are done at a time.
pub(crate) async fn at_once<T, F: Future<Output = T>>(all: impl Iterator<Item = F>) -> Vec<T> {
    stream::iter(all).buffered(AT_ONCE).collect().await
}

pub(crate) fn tell_silent(title: &str, error: &SocketError, context: &Context) {
    context.printer.tell(&format!("{title}: {}", Chain(error)));
}

/// Of the two lines of a connection within the mesh, whether this is the one to show: the server's; the client's
/// where the server has seen nothing that it could tell.
fn is_of_record(line: &Value) -> bool {
    let silent = ["refused_by_peer", "upstream_reset"];
    line["direction"] == "inbound"
        || (line["tls"] != "mutual"
            && line["reason"]
                .as_str()
                .is_none_or(|reason| !silent.contains(&reason)))
}

/// How many sidecars are asked at a time: in a cluster, each of them by a program of its own.
const AT_ONCE: usize = 8;
