//! Speaks TLS: records without sockets, handshakes with a limit, verified peers.

pub mod session;
