//! The certificate authority for short-lived workload certificates, useful on its own.

pub mod attest;
pub mod authority;
pub mod ledger;
