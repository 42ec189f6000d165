//! The sidecar: wraps a workload's connections in mutual TLS, with a permit for every byte.

pub mod buffer;
pub mod forward;
pub mod net;
pub mod redirect;
pub mod tls;
