//! Runs pairs of sidecars on loopback, with explicit listeners, certificate files and a folder of rules.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod balancing;
mod carrying;
mod openssl;
mod permissive;
mod program;
mod reference;
mod refusing;
mod reusing;
mod sidecar;
mod trials;
mod watching;
mod workload_api;
