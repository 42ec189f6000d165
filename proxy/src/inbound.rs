//! Takes connections to the workload.

pub mod connection;
pub mod idle;
pub mod plaintext;
