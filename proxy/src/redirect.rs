//! Sends a workload's connections through the proxy: the rules as a pure function, the programs that load them.

pub mod apply;
pub mod plan;
pub mod rules;
