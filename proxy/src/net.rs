//! Touches sockets: addresses by their role, original destinations, options, listeners, connections, what comes.

pub mod accept;
pub mod address;
pub mod dial;
pub mod listener;
pub mod original;
pub mod pace;
pub mod read;
pub mod socket;
pub mod write;
