//! The certificate authority for short-lived workload certificates, useful on its own.

pub mod api;
pub mod attest;
pub mod authority;
pub mod config;
pub mod crypto;
pub mod ledger;
