//! Touches sockets: addresses by their role, original destinations, options, listeners, connections.

pub mod accept;
pub mod address;
pub mod dial;
pub mod listener;
pub mod original;
pub mod pace;
pub mod socket;
