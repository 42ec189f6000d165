//! Runs real programs through pairs of sidecars, in network namespaces of each test's own.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod crowds;
mod downgrade;
mod egress;
mod failing;
mod ordinary;
mod peers;
mod places;
mod ports;
mod programs;
mod replicas;
mod restarts;
mod wire;
