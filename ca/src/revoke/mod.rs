//! Tells verifiers outside the mesh what is revoked: one signed list for each issuer.

pub mod crl;
mod list;

pub use crl::{CrlError, RevocationLists};
