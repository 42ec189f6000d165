//! Takes connections from the workload.

pub mod connection;
pub mod mesh;
pub mod route;
