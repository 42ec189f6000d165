//! Asks the application what the kubelet's probes would ask it, for callers who have no certificate.
//!
//! Under strict mode a probe from the node is a stranger in clear. It is led here instead, and answered for exactly the
//! probes that the pod declares: what is asked of the application comes from the settings, and nothing from the caller
//! but the name of the probe.

mod ask;

use std::net::IpAddr;
use std::sync::Arc;

use ferrule_daemon::clock::Clock;
use ferrule_daemon::drain::Drain;
use ferrule_daemon::https::{self, Limits, ListenError, Reply, Request, Server, ServerMetrics, reply};
use ferrule_daemon::logging::Chain;
use http::{Method, StatusCode};
use tokio::net::TcpListener;
use tracing::debug;

use crate::config::{Probe, ProbesConfig};

/// The probes of one pod, ready to be served.
pub struct Probes {
    listener: TcpListener,
    server: Server,
    declared: Arc<Declared>,
}

struct Declared {
    probes: Vec<Probe>,
    application: IpAddr,
}

impl Probes {
    /// Opens the port of `config`. The application is at `application`, the pod's own address.
    ///
    /// # Errors
    /// When the port is taken.
    ///
    /// # Panics
    /// Outside a tokio runtime with I/O.
    pub fn open(
        config: &ProbesConfig,
        application: IpAddr,
        clock: Clock,
        drain: Drain,
        counters: &ServerMetrics,
    ) -> Result<Self, ListenError> {
        let listener = https::listen(config.listen)?;
        Ok(Self {
            listener,
            server: Server::new("probes", LIMITS, clock, drain, counters),
            declared: Arc::new(Declared {
                probes: config.declared.clone(),
                application,
            }),
        })
    }

    /// Serves until the drain closes.
    pub async fn serve(self) {
        let declared = self.declared;
        let handler = move |request: Request| {
            let declared = Arc::clone(&declared);
            async move { declared.answer(&request).await }
        };
        self.server.serve_plain(self.listener, Arc::new(handler)).await;
    }
}

impl Declared {
    async fn answer(&self, request: &Request) -> Reply {
        if request.method() != Method::GET {
            return plain(
                StatusCode::METHOD_NOT_ALLOWED,
                "probes are asked with GET\n".to_owned(),
            );
        }
        let name = request.uri().path().strip_prefix(PATH).unwrap_or_default();
        let Some(probe) = self.probes.iter().find(|probe| probe.name == name) else {
            return plain(StatusCode::NOT_FOUND, "no such probe is declared\n".to_owned());
        };
        match ask::ask(probe, self.application).await {
            Ok(()) => plain(StatusCode::OK, "ok\n".to_owned()),
            Err(error) => {
                let why = Chain(&error).to_string();
                debug!(probe = probe.name, %why, "a probe failed");
                plain(StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n"))
            }
        }
    }
}

fn plain(status: StatusCode, text: String) -> Reply {
    reply(status, "text/plain; charset=utf-8", text)
}

/// Everything before the probe's name.
const PATH: &str = "/probe/";

/// The kubelet asks a few times a second at most; whoever else does is kept from more.
const LIMITS: Limits = Limits {
    header_bytes: 8 * 1024,
    header_count: 32,
    header_time: std::time::Duration::from_secs(5),
    body_bytes: 1024,
    body_time: std::time::Duration::from_secs(5),
    request_time: std::time::Duration::from_secs(310),
    write_stall_time: std::time::Duration::from_secs(10),
    idle_time: std::time::Duration::from_secs(30),
    handshake_time: std::time::Duration::from_secs(5),
    connections: 64,
    handshakes: 1,
    connections_per_address: None,
};

#[cfg(test)]
mod tests;
