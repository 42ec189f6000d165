//! The sidecars that a command asks: those that were named by their sockets, or all of the mesh that runs.

use std::path::PathBuf;
use std::pin::Pin;
use std::task::Poll;

use ferrule_daemon::logging::Chain;
use serde_json::Value;

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
}

impl Sidecars {
    /// Those with these sockets; without any, all of the mesh that is meant.
    pub(crate) fn of(sockets: &[PathBuf], context: &Context) -> Result<Self, Failure> {
        if !sockets.is_empty() {
            let named = sockets.iter().map(|path| Sidecar {
                title: path.display().to_string(),
                socket: Socket::new(path),
            });
            return Ok(Self {
                all: named.collect(),
                prefix: None,
            });
        }
        let mesh = context.running()?.mesh;
        let sidecars = mesh.workloads.iter().map(|workload| Sidecar {
            title: workload.title(),
            socket: Socket::new(&workload.control),
        });
        Ok(Self {
            all: sidecars.collect(),
            prefix: Some(format!("spiffe://{}/ns/", mesh.trust_domain)),
        })
    }

    /// Whether both ends of a connection within the mesh are asked, so that it has two lines.
    pub(crate) fn is_whole_mesh(&self) -> bool {
        self.prefix.is_some()
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
        let mut answers = Vec::new();
        let mut silent = 0;
        for sidecar in &self.all {
            match sidecar.socket.get(path).await {
                Ok(answer) => answers.push((sidecar, answer)),
                Err(error) => {
                    silent += 1;
                    tell_silent(sidecar, &error, context);
                }
            }
        }
        (answers, silent)
    }
}

pub(crate) fn tell_silent(sidecar: &Sidecar, error: &SocketError, context: &Context) {
    context
        .printer
        .tell(&format!("{}: {}", sidecar.title, Chain(error)));
}

/// Of the two lines of a connection within the mesh, whether this is the one to show: the server's; the client's
/// where the server has seen nothing that it could tell.
pub(crate) fn is_of_record(line: &Value) -> bool {
    let silent = ["refused_by_peer", "upstream_reset"];
    line["direction"] == "inbound"
        || (line["tls"] != "mutual"
            && line["reason"]
                .as_str()
                .is_none_or(|reason| !silent.contains(&reason)))
}

/// Something to be done, which may fail.
pub(crate) type Work<'f> = Pin<Box<dyn Future<Output = Result<(), Failure>> + 'f>>;

/// Does all of these at once, on this task; ends with the first failure, or when all have ended.
pub(crate) async fn together(mut all: Vec<Work<'_>>) -> Result<(), Failure> {
    std::future::poll_fn(move |cx| {
        let mut at = 0;
        while let Some(future) = all.get_mut(at) {
            match future.as_mut().poll(cx) {
                Poll::Ready(Ok(())) => drop(all.swap_remove(at)),
                Poll::Ready(Err(failure)) => return Poll::Ready(Err(failure)),
                Poll::Pending => at += 1,
            }
        }
        if all.is_empty() {
            Poll::Ready(Ok(()))
        } else {
            Poll::Pending
        }
    })
    .await
}
