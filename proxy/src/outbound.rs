//! Takes connections from the workload.

pub mod connection;
pub mod route;
