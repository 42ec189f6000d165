//! Runs real programs through pairs of sidecars, in network namespaces of each test's own.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod bursts;
mod crowds;
mod downgrade;
mod egress;
mod failing;
mod ordinary;
mod pair;
mod peers;
mod places;
mod ports;
mod programs;
mod replicas;
mod restarts;
mod shortage;
mod vanished;
mod wire;
