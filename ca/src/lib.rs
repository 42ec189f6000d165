//! The certificate authority for short-lived workload certificates, useful on its own.
//!
//! How a request goes through: `api` takes it from the network, [`attest`] says who asks, [`issue`] decides, signs
//! and records, with the certificates of [`authority`] and in the [`ledger`]. [`instance`] opens what a CA's folder
//! holds, [`app`] serves it, `commands` is the program's face.

pub mod acknowledged;
pub mod api;
pub mod app;
pub mod attest;
pub mod authority;
pub mod commands;
pub mod config;
pub mod crypto;
pub mod folder;
mod gauges;
pub mod instance;
pub mod issue;
pub mod keystore;
#[cfg(test)]
mod lab;
pub mod ledger;
pub mod overview;
pub mod publish;
pub mod revoke;
pub mod revoking;
mod x509;
