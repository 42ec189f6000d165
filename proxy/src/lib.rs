//! The sidecar: wraps a workload's connections in mutual TLS, with a permit for every byte.
//!
//! Reading order: [`inbound::connection`] with [`outbound::connection`] (what happens to a connection, from its
//! acceptance to its end), [`authz`] (who may), [`tls`] (who is it), [`forward`] (bytes), [`framing`] (streams over TLS), [`knowledge`] (who lives
//! where), [`worker`] with [`app`] (how it all runs), [`redirect`] (how connections come here).

pub mod app;
pub mod authz;
pub mod balance;
pub mod buffer;
pub mod closed;
pub mod commands;
pub mod config;
pub mod control;
pub mod egress;
pub mod forward;
pub mod framing;
pub mod inbound;
pub mod kit;
pub mod knowledge;
pub mod maps;
pub mod net;
pub mod observe;
pub mod outbound;
pub mod probes;
pub mod proof;
pub mod redirect;
pub mod sniff;
pub mod tls;
pub mod worker;
pub mod workload_api;
