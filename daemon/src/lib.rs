//! What every long-running program of Ferrule needs, and nothing of the domain.

pub mod admin;
pub mod again;
pub mod backoff;
mod caught;
pub mod clock;
pub mod command;
pub mod dial;
pub mod drain;
pub mod folder;
pub mod grpc;
pub mod https;
pub mod logging;
pub mod metrics;
pub mod ready;
pub mod settings;
pub mod signals;
pub mod stop;
pub mod tasks;
