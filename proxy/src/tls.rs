//! Speaks TLS: records without sockets, handshakes with a limit, verified peers.

pub mod handshake;
pub mod material;
pub mod record;
pub mod session;
