//! A shop of three programs that call one another over plain HTTP, with an intruder among them.
//!
//! The programs know nothing of the mesh, as programs should: threads, sockets, HTTP/1.1. [`MESH`] is the file that
//! describes them to `ferrule up`.

mod api;
mod call;
mod intruder;
mod page;
mod serve;
mod store;
mod web;

pub use api::api;
pub use call::{CallError, Target};
pub use intruder::intruder;
pub use store::store;
pub use web::web;

use std::io::{self, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener};

/// The mesh file of the shop.
pub const MESH: &str = include_str!("../mesh.yaml");

/// Why a program of the shop ended.
#[derive(Debug, thiserror::Error)]
pub enum ShopError {
    /// Its port cannot be opened.
    #[error("cannot listen on port {port}")]
    Listen {
        /// The port.
        port: u16,
        /// The system's answer.
        source: io::Error,
    },
    /// Nobody takes what it prints.
    #[error("cannot write to standard output")]
    Print {
        /// The system's answer.
        source: io::Error,
    },
    /// It cannot take connections any more.
    #[error("cannot accept a connection")]
    Accept {
        /// The system's answer.
        source: io::Error,
    },
}

/// Listens at `port` of `host`, left out: at every address that the machine has; and prints where.
fn listen(host: Option<IpAddr>, port: u16) -> Result<TcpListener, ShopError> {
    let everywhere = [[0_u16; 8].into(), [0_u8; 4].into()];
    let hosts: Vec<IpAddr> = host.map_or_else(|| everywhere.to_vec(), |host| vec![host]);
    let addresses: Vec<SocketAddr> = hosts.into_iter().map(|host| (host, port).into()).collect();
    let listener =
        TcpListener::bind(addresses.as_slice()).map_err(|source| ShopError::Listen { port, source })?;
    let at = listener
        .local_addr()
        .map_err(|source| ShopError::Listen { port, source })?;
    writeln!(io::stdout(), "listening on {at}").map_err(|source| ShopError::Print { source })?;
    Ok(listener)
}
